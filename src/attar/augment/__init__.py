"""Label-preserving changes of examples: what there is, how they are drawn, and sets written with them."""
