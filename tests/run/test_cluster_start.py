"""A Ray cluster is begun before anything else goes on."""

from __future__ import annotations

import threading

import pytest

from attar.run.cluster import Cluster

pytest.importorskip("ray")


def test_nothing_runs_beside_the_start(monkeypatch):
    """Ray forks as it starts: with products on other threads OpenBLAS would hang."""
    begun = []
    monkeypatch.setattr(Cluster, "_connect", lambda self, address: begun.append((address, threading.get_ident())))
    before = threading.active_count()
    Cluster(jobs=1)
    assert begun == [(None, threading.get_ident())]
    assert threading.active_count() == before
