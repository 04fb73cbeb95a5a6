"""Metrics, scores and certificates."""
