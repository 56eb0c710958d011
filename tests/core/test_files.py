"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import stat

import pytest

from vladkit.core import remote
from vladkit.core.files import check_writable, is_special_file, replace_file
from vladkit.errors import StorageError


def test_special_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"")
    for name, target in {"device": os.devnull, "to pipe": "pipe", "to file": "file"}.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "dangling").symlink_to("nothing")
    special = [path.name for path in tmp_path.iterdir() if is_special_file(path)]
    assert sorted(special) == ["device", "pipe", "to pipe"]
    assert not any(map(is_special_file, (tmp_path, tmp_path / "none", "a\0b", "x" * 5000)))


@pytest.mark.parametrize("year", [1901, 1970, 2261, 2300, 9999])
def test_times_of_servers_fit_into_64_bits(year):
    """A number of 65 bits cannot be stored; those of two times differ all the same."""
    months = ("Jan", "Feb")
    times = [f"Mon, 01 {month} {year} 00:00:00 GMT" for month in months]
    found = [remote._status({"size": 1, "Last-Modified": each})[1] for each in times]
    assert all(-(2**63) <= ns < 2**63 for ns in found)
    assert found[0] != found[1]


class TestReplaceFile:
    def test_rights_are_those_of_any_new_file(self, tmp_path, monkeypatch):
        """To ask for the umask was to change it: files of other threads got mode 666 meanwhile."""
        monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("of the whole process"))
        (tmp_path / "other").write_bytes(b"")
        with replace_file(tmp_path / "new") as file:
            file.write(b"new")
        assert (tmp_path / "new").stat().st_mode == (tmp_path / "other").stat().st_mode
        assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "other"]

    def test_a_file_that_is_replaced_keeps_its_rights(self, tmp_path):
        """A report that its owner had closed to others was open to them when written again."""
        old = tmp_path / "old"
        old.write_bytes(b"old")
        old.chmod(0o640)
        with replace_file(old) as file:
            (beside,) = set(tmp_path.iterdir()) - {old}
            assert stat.S_IMODE(beside.stat().st_mode) == 0o600
            file.write(b"new")
        assert (stat.S_IMODE(old.stat().st_mode), old.read_bytes()) == (0o640, b"new")

    @pytest.mark.parametrize("link", [False, True])
    @pytest.mark.parametrize("kind", ["pipe", "folder"])
    def test_what_is_no_file_is_never_replaced(self, tmp_path, kind, link):
        """`vladkit pairs -o /dev/null` of root put a file in the place of the device."""
        target = tmp_path / "a"
        os.mkfifo(target) if kind == "pipe" else target.mkdir()
        if link:
            target = tmp_path / "b"
            target.symlink_to("a")
        before = sorted(tmp_path.iterdir()), (tmp_path / "a").stat()
        said = f"cannot write {target}: it is"
        with pytest.raises(StorageError, match=said):
            check_writable(target)
        with pytest.raises(StorageError, match=said), replace_file(target) as file:
            file.write(b"new")
        assert (sorted(tmp_path.iterdir()), (tmp_path / "a").stat()) == before

    def test_an_error_leaves_what_was_there(self, tmp_path):
        (tmp_path / "a").write_bytes(b"old")
        with pytest.raises(ZeroDivisionError), replace_file(tmp_path / "a") as file:
            file.write(b"new"[1 // 0 :])
        assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]
        with pytest.raises(StorageError, match="cannot write"), replace_file(tmp_path / "b" / "c"):
            pass


@pytest.mark.parametrize("changed", ["0", "yesterday", "Mon, 99 Foo 2020 99:00:00 GMT"])
def test_a_time_that_is_none_ends_nothing(changed):
    size, ns = remote._status({"size": 7, "Last-Modified": changed, "ETag": "x"})
    assert size == 7
    assert ns == remote._status({"size": 7, "ETag": "x"})[1]
