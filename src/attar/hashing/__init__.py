"""Feature hashing: tables of any width as vectors of a fixed length, a block of rows at a time."""
