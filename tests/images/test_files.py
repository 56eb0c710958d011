"""Files of images: their names, and every way in which they cannot be read."""

from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from images import scene, to_bytes
from vladkit.errors import ImageError, VladkitError
from vladkit.images import MAX_BYTES, is_image_name, read_image
from vladkit.images import files as module

PNG = to_bytes(scene(), "PNG")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", True),
        ("folder.d/a.JPeG", True),
        ("a.tif", True),
        ("Ünï cødé.webp", True),
        ("a.gif", True),
        ("IMG_1.AVIF", True),
        ("DSC_1.NEF", True),
        ("a.mpo", True),
        ("a.txt", False),
        ("jpg", False),
        (".jpg", False),
        ("folder/._a.jpg", False),
        (".hidden/a.jpg", True),
        ("a.jpg.part", False),
    ],
)
def test_image_names(name: str, expected: bool) -> None:
    assert is_image_name(name) is expected
    assert is_image_name(Path(name)) is expected


@pytest.mark.parametrize("name", ["Ünï cødé 图.png", "with space.png", "line\nbreak.png"])
def test_any_file_name_will_do(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(PNG)
    assert read_image(path).width == 320
    assert read_image(str(path)).width == 320


def test_a_missing_file_may_come_back(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file") as caught:
        read_image(tmp_path / "gone.jpg")
    assert caught.value.transient
    assert str(tmp_path) not in str(caught.value)
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, VladkitError)


@pytest.mark.parametrize(
    ("code", "reason", "transient"),
    [
        (errno.EACCES, "permission denied", True),
        (errno.EIO, "input/output error", True),
        (errno.ELOOP, "too many levels", False),
    ],
)
def test_what_the_system_says_is_passed_on(
    code: int, reason: str, transient: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    path = tmp_path / "a.jpg"
    path.write_bytes(PNG)
    monkeypatch.setattr(module.os, "open", refuse)  # root may read everything: chmod would not do
    with pytest.raises(ImageError, match=reason) as caught:
        read_image(path)
    assert caught.value.transient is transient


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a directory") as caught:
        read_image(tmp_path)
    assert not caught.value.transient
    with pytest.raises(ImageError, match="not a file name"):
        read_image("nul\0.jpg")
    if os.path.exists(os.devnull):
        with pytest.raises(ImageError, match="not a regular file"):
            read_image(os.devnull)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no such sockets")
def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a short path: sockets have no longer ones
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("a.jpg")
        with pytest.raises(ImageError, match="not a regular file") as caught:
            read_image("a.jpg")
    assert not caught.value.transient


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_fifo_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe.jpg"
    os.mkfifo(path)
    caught: list[Exception] = []

    def read() -> None:
        try:
            read_image(path)
        except ImageError as error:
            caught.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert "not a regular file" in str(caught[0])


def test_empty_and_huge_files_are_refused(tmp_path: Path) -> None:
    empty, huge = tmp_path / "empty.jpg", tmp_path / "huge.jpg"
    empty.touch()
    with pytest.raises(ImageError, match="empty file"):
        read_image(empty)
    huge.touch()
    os.truncate(huge, MAX_BYTES + 1)  # sparse: takes no room
    with pytest.raises(ImageError, match="file too large: 1,074 MB, at most 1,074 MB"):
        read_image(huge)
