"""Where tensors lie in the files of plain formats: readers that believe no length before it is checked."""
