"""`Journal`: the images in hand, by name, in a file that outlives the process.

Decoders are compiled code: a damaged image may end the process, or never come to an end, and
nothing would say which image it was. So each thread notes the image that it begins in a small file
beside the collection. A process that ends as it should removes the file. Where one is left behind,
the next run first decodes the images in it in a process apart, and skips those that end that
process, or that do not come to an end, by name. It costs 11 us for each image.
"""

from __future__ import annotations

import glob
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO, Final, Self

from vladkit.core.files import is_special_file
from vladkit.errors import ImageError, StorageError
from vladkit.features import Extractor, wants_color
from vladkit.images import decode_image, read_bytes

if sys.platform != "win32":
    import fcntl

__all__ = ["Journal", "LeftBehind", "reason_against"]

_MIDDLE: Final = "-hand-"
"""Between the name of the collection and the rest of the journal's."""

_SLOT_BYTES: Final = 8192
"""Room for a name; Linux allows 4,096 bytes."""

_WAIT_SECONDS: Final = 2.0
"""Longest time in s that an interrupted run waits for the images in hand."""

_TRIAL_SECONDS: Final = 20.0
"""Longest time in s for which an image is decoded apart; 200 million px of PNG take 4."""


class Journal:
    """Journal of one run; `kept` makes it."""

    def __init__(self, collection: Path, n_slots: int) -> None:
        try:
            handle, name = tempfile.mkstemp(
                dir=collection.parent, prefix=f"{collection.name}{_MIDDLE}"
            )
            self._path = Path(name)
            self._file = open(handle, "r+b", buffering=0)  # noqa: SIM115  (closed by `close`)
            with suppress(OSError):  # a file system without locks: nobody will act on the journal
                _lock(self._file, wait=True)
            self._file.write(bytes(n_slots * _SLOT_BYTES))  # now, so that no disk is full later
        except OSError as error:
            if hasattr(self, "_file"):
                self._file.close()
                self._path.unlink()
            raise StorageError(f"cannot write beside {collection}: {error.strerror}") from error
        self._write_lock = threading.Lock()
        self._n_slots = n_slots
        self._free: SimpleQueue[int] = SimpleQueue()
        for slot in range(n_slots):
            self._free.put(slot)

    @classmethod
    @contextmanager
    def kept(cls, collection: Path, n_slots: int) -> Iterator[Self]:
        """Keep a journal beside a collection, for at most `n_slots` images at once.

        It is left behind if an image is still in hand 2 s after the block has ended.
        """
        journal = cls(collection, n_slots)
        try:
            yield journal
        finally:
            journal.close()

    def close(self) -> None:
        """Remove the file, unless an image stays in hand."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while self._free.qsize() < self._n_slots and time.monotonic() < deadline:
            time.sleep(0.005)
        if self._free.qsize() == self._n_slots:
            self._file.close()
            self._path.unlink(missing_ok=True)

    @contextmanager
    def hand(self, file: str) -> Iterator[None]:
        """Note an image as in hand until the block ends."""
        slot = self._free.get()
        name = os.fsencode(file)[: _SLOT_BYTES - 4]
        self._write(slot, len(name).to_bytes(4, "little") + name)
        try:
            yield
        finally:
            self._write(slot, bytes(4))
            self._free.put(slot)

    def _write(self, slot: int, data: bytes) -> None:
        with self._write_lock:
            self._file.seek(slot * _SLOT_BYTES)
            self._file.write(data)


class LeftBehind:
    """Journals of runs that did not end as they should.

    Parameters
    ----------
    collection : Path

    Attributes
    ----------
    files : list of str
        Images that were in hand.
    """

    def __init__(self, collection: Path) -> None:
        self._paths: list[str] = []
        self.files: list[str] = []
        for path in sorted(glob.glob(f"{glob.escape(str(collection))}{_MIDDLE}*")):
            if is_special_file(path):
                continue
            with suppress(OSError), open(path, "r+b") as file:  # OSError: that run goes on
                _lock(file, wait=False)
                data = file.read()
                self._paths.append(path)
                for at in range(0, len(data) - 4, _SLOT_BYTES):
                    n = int.from_bytes(data[at : at + 4], "little")
                    if n:
                        self.files.append(os.fsdecode(data[at + 4 : at + 4 + n]))

    def remove(self) -> None:
        """Remove the files: what they said has been acted on."""
        for path in self._paths:
            with suppress(OSError), open(path, "r+b") as file:  # OSError: see above, or it is gone
                _lock(file, wait=False)
                os.unlink(path)


def _lock(file: BinaryIO, *, wait: bool) -> None:
    """Lock a journal until it is closed or the process ends; OSError if another one has it."""
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    # Windows: an open file cannot be removed, which is all that a run that goes on needs.


def reason_against(extractor: Extractor, file: str) -> str | None:
    """Decode an image in a process apart: a reason not to do it here, or None.

    Notes
    -----
    On Linux the process is forked, which takes some ms; elsewhere Python starts first.
    """
    start = _forked if sys.platform == "linux" else _started
    try:
        data = read_bytes(file)  # here: a process that is forked has no threads that read URLs
    except ImageError:  # said in its turn
        return None
    code = start(data, extractor.max_side, wants_color(extractor))
    if code is None:
        return f"decoding it does not end within {_TRIAL_SECONDS:.0f} s"
    if code < 0:
        return f"decoding it ends the process ({signal.Signals(-code).name})"
    return None if code == 0 else f"decoding it ends the process (exit code {code})"


def _forked(data: bytes, max_side: int | None, color: bool) -> int | None:
    """Exit code of a forked process that decodes an image; None if it does not end."""
    process = multiprocessing.get_context("fork").Process(
        target=_decode, args=(data, max_side, color), daemon=True
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forks beside threads: it decodes, and takes no lock
        process.start()
    process.join(_TRIAL_SECONDS)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    process.close()
    return code


def _started(data: bytes, max_side: int | None, color: bool) -> int | None:
    """Exit code of a Python that is started to decode an image; None if it does not end.

    Not by multiprocessing, which would run the caller's main module in it once more.
    """
    arguments = json.dumps([max_side, color])
    try:
        code = subprocess.run(
            [sys.executable, "-c", _PROGRAM, arguments],
            input=data,
            capture_output=True,
            timeout=_TRIAL_SECONDS,
        ).returncode
    except subprocess.TimeoutExpired:
        return None
    return 0 if code == 1 else code  # 1: Python could not begin, which is not the image's fault


_PROGRAM: Final = """
import json, sys
from vladkit.collection.journal import _decode
_decode(sys.stdin.buffer.read(), *json.loads(sys.argv[1]))
"""


def _decode(data: bytes, max_side: int | None, color: bool) -> None:
    with suppress(Exception):  # said in its turn
        decode_image(data, max_side=max_side, color=color)
