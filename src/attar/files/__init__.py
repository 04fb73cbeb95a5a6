"""Data sets as they lie on disk: tables, arrays, folders of images, recordings and texts."""
