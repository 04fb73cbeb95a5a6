"""What can go wrong, one class per exit code; every message names place, rule, received value and remedy."""

from __future__ import annotations


class AttarError(Exception):
    """Base of all errors that attar raises on purpose; `exit_code` is what the command line returns."""

    exit_code = 1


class UsageError(AttarError):
    """An argument or a recipe that cannot be right whatever the model is."""

    exit_code = 2


class DataError(AttarError):
    """Data that do not fit the model, the metric or the splits."""

    exit_code = 2


class FormatError(AttarError):
    """A file that is not what it claims to be: truncated, altered, or of an unknown version."""


class ModelError(AttarError):
    """A model that attar cannot take, or in which nothing can be compressed."""

    exit_code = 4


class OutputError(AttarError):
    """An output place that exists, is read-only or is full."""


class BudgetNotMet(AttarError):
    """No candidate stayed within the drop; the best file was written and is named."""

    exit_code = 3
