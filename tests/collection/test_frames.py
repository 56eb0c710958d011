"""Frames of a video: a camera that moves over photographs, out of focus at times."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from commands import run
from images import textured
from photos import photo
from videos import faster, of_two_rates, rotated, trimmed, write_video
from vladkit.collection import frames
from vladkit.collection.frames import extract_frames
from vladkit.errors import ImageError, ParameterError, StorageError
from vladkit.images.video import Video

SIDE = 160


def pan():
    """Two seconds of each of four photographs, at 10 frames a second, of which one is at rest.

    Within a half second all frames but the fourth are out of focus.
    """
    for name in ("astronaut", "coffee", "camera", "rocket"):
        image = cv2.resize(photo(name), (400, 260))
        for i in range(20):
            x = 0 if name == "coffee" else 10 * i
            frame = image[40 : 40 + SIDE, x : x + 200]
            yield frame if i % 5 == 3 else cv2.GaussianBlur(frame, (0, 0), 3)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """pan.mp4."""
    home = tmp_path_factory.mktemp("video")
    write_video(home / "pan.mp4", list(pan()))
    return home


@pytest.fixture(scope="module")
def found(home):
    return extract_frames(home / "pan.mp4", home / "frames", new=0.7)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_sharp_ones_that_are_new(home, found):
    assert (found.read, found.stated, found.plain) == (80, 80, 0)
    seconds = [each.seconds for each in found.frames]
    assert all(round(10 * each) % 5 == 3 for each in seconds), (
        "the one in focus of each half second"
    )
    per_photo = [sum(2 * i <= each < 2 * i + 2 for each in seconds) for i in range(4)]
    assert min(per_photo) >= 1
    assert per_photo[1] == 1, "the camera is at rest"
    assert max(per_photo) >= 2
    assert [each.new >= 0.7 for each in found.frames] == [True] * len(seconds)
    files = sorted(path.name for path in (home / "frames").iterdir())
    assert files == [each.name for each in found.frames] + ["frames.csv"]
    with open(home / "frames" / "frames.csv") as table:
        rows = list(csv.DictReader(table))
    assert [float(each["seconds"]) for each in rows] == seconds
    assert cv2.imread(str(home / "frames" / files[0])).shape == (SIDE, 200, 3)


def test_a_run_that_was_interrupted_goes_on_to_the_same_result(home, found, tmp_path, monkeypatch):
    written = []

    def killed(self, frame, data, write=frames._Run._write):
        if len(written) == 2:
            (self._partial / frame.name).write_bytes(data[:100])
            raise KeyboardInterrupt
        written.append(frame.name)
        write(self, frame, data)

    with monkeypatch.context() as patch:
        patch.setattr(frames._Run, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            extract_frames(home / "pan.mp4", tmp_path / "f", new=0.7)
    assert not (tmp_path / "f").exists()
    with pytest.raises(ParameterError, match="of another video or other options"):
        extract_frames(home / "pan.mp4", tmp_path / "f", new=0.5)
    looked = []
    sharp = frames.sharpness
    monkeypatch.setattr(frames, "sharpness", lambda image: looked.append(1) or sharp(image))
    again = extract_frames(home / "pan.mp4", tmp_path / "f", new=0.7)
    assert again.frames == found.frames
    assert content(tmp_path / "f") == content(home / "frames")
    assert not (tmp_path / "f.partial").exists()
    assert len(looked) < 80 - 5, "what is kept is not looked at again"


def test_nothing_is_overwritten_and_nothing_left_where_nothing_is_found(home, found, tmp_path):
    with pytest.raises(ParameterError, match="is there already"):
        extract_frames(home / "pan.mp4", home / "frames")
    write_video(tmp_path / "black.avi", [np.zeros((48, 64, 3), np.uint8)] * 3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="none of its 3 frames"):
        extract_frames(tmp_path / "black.avi", tmp_path / "empty")
    assert not (tmp_path / "empty.partial").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        extract_frames(home / "pan.mp4", tmp_path / "file" / "f")
    with pytest.raises(StorageError, match=r"cannot write .*name too long"):
        extract_frames(home / "pan.mp4", tmp_path / ("f" * 300))
    with pytest.raises(ParameterError, match="new=2"):
        extract_frames(home / "pan.mp4", tmp_path / "f", new=2)
    (tmp_path / "f.partial").mkdir()
    (tmp_path / "f.partial" / "run.json").write_text("of another program")
    with pytest.raises(ParameterError, match="of another video or other options"):
        extract_frames(home / "pan.mp4", tmp_path / "f")


def test_a_folder_that_is_taken_meanwhile_costs_nothing(home, found, tmp_path, monkeypatch):
    """What was done stays, and the same call ends it once the folder is free."""
    target, rename = tmp_path / "out", os.rename

    def taken(source, where):
        Path(where).mkdir(exist_ok=True)
        (Path(where) / ".DS_Store").write_bytes(b"")
        rename(source, where)

    monkeypatch.setattr(os, "rename", taken)
    with pytest.raises(StorageError, match="cannot write"):
        extract_frames(home / "pan.mp4", target, new=0.7)
    monkeypatch.setattr(os, "rename", rename)
    (target / ".DS_Store").unlink()
    again = extract_frames(home / "pan.mp4", target, new=0.7)
    assert again.frames == found.frames
    assert {p.name for p in target.iterdir()} == {f.name for f in again.frames} | {"frames.csv"}


def test_an_empty_partial_folder_and_a_mounted_one(home, found, tmp_path, monkeypatch):
    (tmp_path / "out.partial").mkdir()  # a disk was full before its first file
    assert extract_frames(home / "pan.mp4", tmp_path / "out", new=0.7).frames == found.frames
    (tmp_path / "volume").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: os.fspath(path).endswith("volume"))
    with pytest.raises(StorageError, match=r"volume is a mounted folder.* such as .*volume.frames"):
        extract_frames(home / "pan.mp4", tmp_path / "volume")


def test_times_and_rotation_are_the_containers(home, tmp_path):
    data = (home / "pan.mp4").read_bytes()
    (tmp_path / "two.mp4").write_bytes(of_two_rates(data, 40))
    with Video(tmp_path / "two.mp4") as video:
        seconds = list(video.times())
    steps = np.diff(seconds)
    assert np.allclose(steps[:39], 0.1)
    assert np.allclose(steps[40:], 0.05)
    (tmp_path / "turned.mp4").write_bytes(rotated(data, SIDE))
    with Video(tmp_path / "turned.mp4") as turned, Video(home / "pan.mp4") as video:
        next(turned.times()), next(video.times())
        upright = cv2.rotate(video.frame(), cv2.ROTATE_90_CLOCKWISE).astype(int)
        assert np.abs(turned.frame().astype(int) - upright).mean() < 3


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n", "no video: neither MP4"),
        (b"ffconcat version 1.0\nfile pan.mp4\n", "no video: neither MP4"),
        (b"", "empty file"),
        (b"\0\0\0\x1cftypheic" + bytes(200), r"but an image \(HEIC\): give it to vladkit index"),
        (b"\0\0\0\x1cftypmif1" + bytes(200), r"but an image \(HEIC\): give it to vladkit index"),
        (b"\0\0\0\x1cftypavif" + bytes(200), r"but an image \(AVIF\): give it to vladkit index"),
        (b"\xff\xd8\xff\xe0" + bytes(200), r"but an image \(JPEG\): give it to vladkit index"),
        (b"\0\0\0\x18ftypmp42" + bytes(200), "damaged, or lacks its end"),
        (b"RIFF\xff\xff\xff\xffAVI " + bytes(200), "damaged, or lacks its end"),
    ],
)
def test_files_that_are_no_videos(tmp_path, data, reason):
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(ImageError, match=reason):
        Video(tmp_path / "a.mp4")


def test_frames_that_cannot_be_decoded(home, tmp_path, monkeypatch):
    monkeypatch.setattr(Video, "times", lambda video: iter(()))  # as of AV1 without a decoder
    with pytest.raises(ImageError, match=r"none of its frames can be decoded: .* such as AV1"):
        extract_frames(home / "pan.mp4", tmp_path / "out")
    assert not [*tmp_path.iterdir()]


def test_no_regular_file_and_frames_too_large(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.mp4")
    for name, reason in (
        ("pipe.mp4", "not a regular file"),
        ("gone", "no such file"),
        ("", "is a"),
    ):
        with pytest.raises(ImageError, match=reason):
            Video(tmp_path / name)
    write_video(tmp_path / "a.avi", [textured(64, 48, seed=1)])
    monkeypatch.setattr("vladkit.images.video.MAX_PIXELS", 1000)
    with pytest.raises(ImageError, match="64 x 48 px"):
        Video(tmp_path / "a.avi")


def test_command_says_what_is_cut_off_and_index_takes_the_folder(home, tmp_path):
    data = (home / "pan.mp4").read_bytes()
    write_video(tmp_path / "pan.avi", list(pan())[:30])
    whole = (tmp_path / "pan.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) * 2 // 3])
    done = run("frames", "cut.avi", "-o", "f", "--json", cwd=tmp_path)
    about = json.loads(done.stdout)
    assert len(about["frames"]) == len(list((tmp_path / "f").glob("*.jpg")))
    assert f"by its header 30 frames, {about['read']} could be read: it may be cut" in done.stderr
    run("index", "f", "-o", "f.vlad", "--n-clusters", 4, "--n-vocabularies", 1, cwd=tmp_path)
    names = run("pairs", "f.vlad", "--top", 0, "--sequential", 1, cwd=tmp_path).stdout.split()
    assert names[:2] == [each["name"] for each in about["frames"][:2]]
    (tmp_path / "bad.mp4").write_bytes(data[: len(data) // 2])
    command = [sys.executable, "-m", "vladkit", "frames", "bad.mp4", "-o", "g"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    reason = "no video that can be read: it is damaged, or lacks its end"
    assert (done.returncode, done.stderr) == (1, f"vladkit: bad.mp4: {reason}\n"), (
        "FFmpeg is silent"
    )
    assert not (tmp_path / "g.partial").exists()


def test_two_frames_of_one_millisecond_have_two_names(tmp_path):
    """At 2,400 frames a second: the last frame of a window of 1 ms and the first of the next.

    Their times, 1.667 and 2.083 ms, are both rounded to 2 ms.
    """
    image = cv2.resize(photo("coffee"), (320, 240))
    blurred = cv2.GaussianBlur(image, (0, 0), 3)
    images = [image if i in (4, 5) else blurred for i in range(12)]
    write_video(tmp_path / "fast.avi", images, fps=24)
    (tmp_path / "fast.avi").write_bytes(faster((tmp_path / "fast.avi").read_bytes(), 100))
    found = extract_frames(tmp_path / "fast.avi", tmp_path / "f", new=0, window=0.001)
    names = [each.name for each in found.frames]
    assert [each.seconds for each in found.frames][1:3] == [0.001667, 0.002083]
    assert len({*names}) == len(names) == 5
    assert names == sorted(names)
    assert {path.name for path in (tmp_path / "f").glob("*.jpg")} == {*names}
    for each in found.frames:
        assert abs(float(each.name.removesuffix("s.jpg")) - each.seconds) <= 0.0015


def test_a_video_that_was_trimmed_is_not_called_damaged(home, tmp_path):
    """An edit list shows the first 2 of 8 s; all 80 frames are there."""
    (tmp_path / "trimmed.mp4").write_bytes(trimmed((home / "pan.mp4").read_bytes(), 0.25))
    done = run("frames", "trimmed.mp4", "-o", "f", cwd=tmp_path)
    assert "cannot be read" not in done.stderr
    assert "one that was trimmed, or begins late, may well be whole" in done.stderr
