"""Artefacts that other runtimes execute, each with a certificate of its own."""
