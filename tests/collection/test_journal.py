"""An image that ends the process: the next run skips it by name, and no other."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys

import cv2
import pytest

from images import textured
from small import make
from vladkit import Collection
from vladkit.collection import journal
from vladkit.collection.journal import Journal, LeftBehind, reason_against
from vladkit.errors import StorageError
from vladkit.features import Sift
from waiting import wait_until

# One image, by its bytes, does to the decoder what compiled code may do.
DEADLY = """
import os, sys, time
import cv2
from vladkit.collection import journal
from vladkit.cli import main
journal._TRIAL_SECONDS = 1.0
real = cv2.imdecode
def imdecode(data, flag):
    if data.tobytes().endswith(b"DEADLY"):
        how = os.environ["HOW"]
        if how == "exit":
            os._exit(3)
        if how != "hang":
            os.kill(os.getpid(), int(how))  # any thread may end by it: this one does not go on
        time.sleep(1000)
    return real(data, flag)
cv2.imdecode = imdecode
main()
"""

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="a process started anew has no fault")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(8):
        cv2.imwrite(str(folder / f"{i}.jpg"), textured(64, 48, seed=i))
    with open(folder / "5.jpg", "ab") as file:
        file.write(b"DEADLY")
    return folder


def index(folder, how):
    words = ["index", folder, "-o", folder.parent / "c.vlad", "-j", "2"]
    return subprocess.Popen(
        [sys.executable, "-c", DEADLY, *words, "--n-clusters", "8", "--enlarge-to", "0"],
        env=os.environ | {"HOW": str(how)},
        stderr=subprocess.DEVNULL,
    )


def beside(folder):
    return sorted(p.name for p in folder.parent.iterdir() if "hand" in p.name)


@LINUX
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (signal.SIGSEGV.value, "decoding it ends the process (SIGSEGV)"),
        ("exit", "decoding it ends the process (exit code 3)"),
        ("hang", "decoding it does not end within 1 s"),
    ],
)
def test_the_next_run_skips_it(folder, how, reason):
    process = index(folder, how)
    if how == "hang":
        wait_until(lambda: _in_hand(folder) == ["5.jpg"], 60)
        process.kill()
    assert process.wait(60) != 0
    assert len(beside(folder)) == 1

    assert index(folder, how).wait(60) == 0
    assert beside(folder) == []
    with Collection.open(folder.parent / "c.vlad") as collection:
        assert len(collection) == 7
        assert [(row.path, row.skipped) for row in collection.skipped()] == [("5.jpg", reason)]

    if how == signal.SIGSEGV.value:
        make(folder.parent / "c.vlad", folder)  # it stays skipped, until it is another file
        with Collection.open(folder.parent / "c.vlad") as collection:
            assert [row.path for row in collection.skipped()] == ["5.jpg"]
        cv2.imwrite(str(folder / "5.jpg"), textured(64, 48, seed=5))
        make(folder.parent / "c.vlad", folder)
        with Collection.open(folder.parent / "c.vlad") as collection:
            assert len(collection) == 8


def _in_hand(folder):
    """Names in the journal of a run that goes on."""
    names = []
    for name in beside(folder):
        data = (folder.parent / name).read_bytes()
        for at in range(0, len(data), 8192):
            n = int.from_bytes(data[at : at + 4], "little")
            if n:
                names.append(os.path.basename(data[at + 4 : at + 4 + n].decode()))
    return names


def test_those_beside_it_are_indexed(folder, tmp_path):
    """A run that was killed for another reason had good images in hand."""
    (folder / "5.jpg").unlink()
    journal = Journal(tmp_path / "c.vlad", 2)
    with journal.hand(str(folder / "1.jpg")), journal.hand(str(folder / "2.jpg")):
        journal._file.close()  # as when the process ends
        steps = []
        with Collection.create(tmp_path / "c.vlad", n_clusters=8, enlarge_to=0) as collection:
            report = collection.add([folder], progress=lambda *step: steps.append(step))
        assert (report.indexed, report.skipped) == (7, [])
        assert steps[:2] == [("try apart", 1, 2), ("try apart", 2, 2)]
        assert beside(folder) == []
        journal._file = io.BytesIO()  # for the end of the blocks


class TestJournal:
    def test_of_a_run_that_goes_on_is_left_alone(self, tmp_path):
        with Journal.kept(tmp_path / "c.vlad", 2) as journal, journal.hand("a.jpg"):
            left = LeftBehind(tmp_path / "c.vlad")
            assert left.files == []
            left.remove()
            assert len(list(tmp_path.iterdir())) == 1
        assert list(tmp_path.iterdir()) == []

    def test_stays_if_an_image_stays_in_hand(self, tmp_path, monkeypatch):
        monkeypatch.setattr("vladkit.collection.journal._WAIT_SECONDS", 0.01)
        name = str(tmp_path / os.fsdecode(b"\xff\xfe [1] \xc3\xa9.jpg"))
        with Journal.kept(tmp_path / "c.vlad", 2) as journal:
            hand = journal.hand(name)
            hand.__enter__()
            with journal.hand("other.jpg"):
                pass
        journal._file.close()
        journal._file = io.BytesIO()
        hand.__exit__(None, None, None)
        left = LeftBehind(tmp_path / "c.vlad")
        assert left.files == [name]
        assert LeftBehind(tmp_path / "d.vlad").files == []
        left.remove()
        assert list(tmp_path.iterdir()) == []

    def test_a_device_of_such_a_name_is_none(self, tmp_path):
        device = tmp_path / f"c.vlad{journal._MIDDLE}x"
        device.symlink_to(os.devnull)
        left = LeftBehind(tmp_path / "c.vlad")
        left.remove()
        assert (left.files, device.is_symlink()) == ([], True)

    def test_is_removed_after_an_error(self, tmp_path):
        with (
            pytest.raises(ValueError, match="inside"),
            Journal.kept(tmp_path / "c.vlad", 1) as journal,
            journal.hand("a.jpg"),
        ):
            raise ValueError("inside")
        assert list(tmp_path.iterdir()) == []

    def test_what_is_no_journal_is_passed_over(self, folder, tmp_path):
        (tmp_path / "c.vlad-hand-x").write_bytes(b"\xff" * 100)
        (tmp_path / "c.vlad-hand-y").write_bytes(b"")
        (folder / "5.jpg").unlink()
        assert make(tmp_path / "c.vlad", folder).indexed == 7
        assert beside(folder) == []

    def test_goes_when_there_is_nothing_to_do(self, folder, tmp_path):
        (folder / "5.jpg").unlink()
        make(tmp_path / "c.vlad", folder)
        (tmp_path / "c.vlad-hand-x").write_bytes(b"")
        assert make(tmp_path / "c.vlad", folder).unchanged == 7
        assert beside(folder) == []

    def test_where_it_cannot_be_written(self, tmp_path):
        with pytest.raises(StorageError, match="cannot write beside"):
            Journal(tmp_path / "none" / "c.vlad", 1)


class TestWhereNothingIsForked:
    @pytest.fixture(autouse=True)
    def started(self, monkeypatch):
        monkeypatch.setattr(journal, "_forked", journal._started)

    @pytest.mark.parametrize("name", ["0.jpg", "none.jpg"])
    def test_a_good_image_or_none(self, folder, name):
        assert reason_against(Sift(enlarge_to=0), str(folder / name)) is None

    @pytest.mark.parametrize(
        ("program", "reason"),
        [
            ("import os; os.abort()", "decoding it ends the process (SIGABRT)"),
            ("import time; time.sleep(100)", "decoding it does not end within 1 s"),
            ("import nothing_of_that_name", None),
        ],
    )
    def test_how_it_ends(self, folder, monkeypatch, program, reason):
        monkeypatch.setattr(journal, "_PROGRAM", program)
        monkeypatch.setattr(journal, "_TRIAL_SECONDS", 1.0)
        assert reason_against(Sift(), str(folder / "0.jpg")) == reason
