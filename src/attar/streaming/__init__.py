"""Compression of language models that are larger than memory, block by block."""
