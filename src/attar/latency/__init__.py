"""Milliseconds as a goal: candidates planned by measured costs, timed as whole files, certified in their runtime."""
