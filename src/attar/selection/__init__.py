"""Which examples of a set stand best for all of it: features, and methods that choose by them."""
