"""Data sets without loss: what their arrays have in common is told once for all of them."""
