"""Small videos, written by OpenCV; and MP4 files whose headers are changed."""

from __future__ import annotations

import struct

import cv2


def write_video(path, frames, fps=10):
    """Frames, gray or BGR, as a video; the suffix decides the container."""
    codec = {".avi": "MJPG", ".mp4": "mp4v"}[path.suffix]
    size = frames[0].shape[1::-1]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), fps, size)
    assert writer.isOpened()
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) if frame.ndim == 2 else frame)
    writer.release()


def rotated(data, width):
    """An MP4 that is to be shown rotated by a quarter turn, as phones record it."""
    at = data.index(b"tkhd") + 44
    matrix = 0, 1 << 16, 0, -1 << 16, 0, 0, width << 16, 0, 1 << 30
    return data[:at] + struct.pack(">9i", *matrix) + data[at + 36 :]


def of_two_rates(data, first):
    """An MP4 whose frames follow each other twice as fast after the `first`."""
    at = data.index(b"stts") - 4
    n, ticks = struct.unpack(">II", data[at + 16 : at + 24])
    table = struct.pack(">I4s6I", 32, b"stts", 0, 2, first, ticks, n - first, ticks // 2)
    data = bytearray(data[:at] + table + data[at + 24 :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):  # they hold it
        at = data.index(box) - 4
        data[at : at + 4] = struct.pack(">I", struct.unpack(">I", data[at : at + 4])[0] + 8)
    return bytes(data)


def faster(data, times):
    """An AVI of which that many times as many frames follow each other in a second."""
    at = data.index(b"strh") + 32  # after fccType, handler, flags, priority, start and scale
    (rate,) = struct.unpack("<I", data[at : at + 4])
    return data[:at] + struct.pack("<I", rate * times) + data[at + 4 :]


def trimmed(data, share):
    """An MP4 whose edit list shows the first part of it only."""
    at = data.index(b"elst") + 12
    ticks = int(struct.unpack(">I", data[at : at + 4])[0] * share)
    return data[:at] + struct.pack(">I", ticks) + data[at + 4 :]
