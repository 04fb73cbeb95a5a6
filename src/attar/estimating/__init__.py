"""What a compression would take: shapes of a model, speeds of this machine's kernels, and how often each is used."""
