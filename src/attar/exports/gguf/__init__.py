"""Language models as GGUF files, in llama.cpp's block formats."""
