"""No test of features sees the models of whoever runs it."""

from __future__ import annotations

import pytest

from remembered import detect
from vladkit.features import Sift


@pytest.fixture(autouse=True)
def _nothing_kept(tmp_path, monkeypatch):
    """No test sees the models of whoever runs it, nor their network."""
    monkeypatch.setenv("VLADKIT_MODELS", str(tmp_path / "kept"))
    monkeypatch.delenv("VLADKIT_MODEL", raising=False)


@pytest.fixture(autouse=True)
def _points_found_each_time(monkeypatch):
    monkeypatch.setattr(Sift, "_detect", detect)
