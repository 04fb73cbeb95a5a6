"""Keras 3 and TensorFlow models."""
