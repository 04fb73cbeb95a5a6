"""Channel groups: whole channels, neurons and heads removed for real, which leaves a smaller normal model."""
