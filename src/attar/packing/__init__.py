"""Lossless checkpoints: files in, a smaller .attar out, every byte back; tensors read one at a time."""
