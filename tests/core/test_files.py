"""Files that are written whole or not at all."""

from __future__ import annotations

import os

import pytest

from vladkit.core.files import replace_file
from vladkit.errors import StorageError


class TestReplaceFile:
    def test_rights_are_those_of_any_new_file(self, tmp_path, monkeypatch):
        """To ask for the umask was to change it: files of other threads got mode 666 meanwhile."""
        monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("of the whole process"))
        (tmp_path / "other").write_bytes(b"")
        with replace_file(tmp_path / "new") as file:
            file.write(b"new")
        assert (tmp_path / "new").stat().st_mode == (tmp_path / "other").stat().st_mode
        assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "other"]

    def test_an_error_leaves_what_was_there(self, tmp_path):
        (tmp_path / "a").write_bytes(b"old")
        with pytest.raises(ZeroDivisionError), replace_file(tmp_path / "a") as file:
            file.write(b"new"[1 // 0 :])
        assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]
        with pytest.raises(StorageError, match="cannot write"), replace_file(tmp_path / "b" / "c"):
            pass
