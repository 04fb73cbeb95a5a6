"""Rate-distortion curves to choices."""
