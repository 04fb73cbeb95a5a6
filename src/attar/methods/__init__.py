"""One file for each way of compressing a layer; pure numpy."""
