"""TFLite / LiteRT models."""
