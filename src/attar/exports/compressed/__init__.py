"""Folders in the layout of compressed-tensors."""
