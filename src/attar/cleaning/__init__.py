"""Looking at data sets and cleaning them."""
