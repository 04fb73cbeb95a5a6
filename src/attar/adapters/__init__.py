"""One file for each framework behind one protocol."""
