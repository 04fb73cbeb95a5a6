"""Arrays to bytes and back, lossless."""
