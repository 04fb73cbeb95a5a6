"""A run's ledger as one HTML page that needs nothing but a browser."""

from attar.report.compare import render_comparison, write_comparison
from attar.report.page import render, write_report
from attar.report.picture import picture

__all__ = ["picture", "render", "render_comparison", "write_comparison", "write_report"]
