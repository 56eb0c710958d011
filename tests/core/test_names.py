"""Names that lead to one file: links, and letters that are composed or not."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata

import pytest

from vladkit.core.names import composed, identity, on_disk

NFC, NFD = (unicodedata.normalize(form, "Café Ångström") for form in ("NFC", "NFD"))


def test_all_names_of_a_file_have_its_identity(tmp_path):
    real = tmp_path / "real"
    real.write_text("x")
    os.link(real, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(real)
    shutil.copy2(real, tmp_path / "copy")  # of the same size and time
    wanted = identity(real)
    assert wanted is not None
    assert identity(tmp_path / "hard") == identity(tmp_path / "soft") == wanted
    assert identity(tmp_path / "copy") != wanted


@pytest.mark.parametrize("name", ["none", "none/none", "null\0byte"])
def test_no_file(tmp_path, name):
    assert identity(str(tmp_path / name)) is None


def test_a_file_system_without_numbers(tmp_path, monkeypatch):
    status = list(os.stat(tmp_path))
    status[1] = 0
    monkeypatch.setattr(os, "stat", lambda path: os.stat_result(status))
    assert identity(tmp_path) is None


def test_spellings_are_equal_when_composed():
    assert NFC != NFD
    assert composed(NFC) == composed(NFD) == NFC
    assert composed("\udcff") == "\udcff"  # a byte that is no text


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems know all spellings")
def test_the_spelling_that_is_there(tmp_path):
    mixed = tmp_path / NFD / f"{NFC}.png"
    mixed.parent.mkdir()
    mixed.write_text("x")
    for folder in (NFC, NFD):
        for name in (NFC, NFD):
            assert on_disk(str(tmp_path / folder / f"{name}.png")) == str(mixed)
    (tmp_path / NFC).mkdir()  # both are there: each is what it says
    (tmp_path / NFC / "a").write_text("x")
    assert on_disk(str(tmp_path / NFC / "a")) == str(tmp_path / NFC / "a")
    for missing in ("none", f"none/{NFC}", f"{NFC}/{NFD}é"):
        assert on_disk(str(tmp_path / missing)) == str(tmp_path / missing)
