"""Files that ONNX Runtime runs."""
