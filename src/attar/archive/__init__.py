"""The .attar file."""
