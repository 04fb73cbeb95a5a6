"""Training after compression: codes move on their grid until the model answers like the original again."""
