"""Sources by name."""

from __future__ import annotations

import pytest

from vladkit.errors import (
    ParameterError,
)
from vladkit.features.readers import is_source, open_reader


def test_sources_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_source("colmap:x")
    assert not is_source("photos")
    assert not is_source("colmap:")
    (tmp_path / "colmap:x").mkdir()
    assert not is_source("colmap:x")  # a folder of that name
    with pytest.raises(ParameterError, match="colmap:PATH"):
        open_reader("lance:x")
