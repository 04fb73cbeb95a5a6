"""Files of weights without a framework."""
