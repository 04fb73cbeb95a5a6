"""Exported programs that PyTorch runs."""
