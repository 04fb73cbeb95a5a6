"""Images that may differ: small integers for each, and an integer network in the file that makes pixels of them."""
