"""Equal and nearly equal examples."""
