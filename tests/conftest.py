"""What all tests share."""

from __future__ import annotations

import pytest

from attar import registry


@pytest.fixture
def numpy_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers the numpy network of tests/fakes.py: a new framework is one line."""
    monkeypatch.setitem(registry.REGISTRY["adapter"], "numpy", "fakes:NumpyNet")
