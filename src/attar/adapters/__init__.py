"""One folder for each framework behind one protocol (base.py)."""
