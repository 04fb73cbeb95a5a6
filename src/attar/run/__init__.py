"""Executor, ledger and progress."""
