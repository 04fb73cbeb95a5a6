"""Files that LiteRT runs."""
