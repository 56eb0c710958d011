"""OpenCV's settings: held while any block runs, then as they were."""

from __future__ import annotations

from typing import Any

import cv2

from vladkit.images.opencv import is_out_of_memory, silent_opencv


def test_opencv_running_out_of_memory_is_recognised() -> None:
    error = cv2.error("made up")
    error.code = cv2.Error.StsNoMem
    assert is_out_of_memory(error)
    error.code = cv2.Error.StsAssert
    assert not is_out_of_memory(error)


def test_overlapping_silences_end_with_the_last() -> None:
    logging: Any = getattr(cv2.utils, "logging", cv2)
    before = logging.getLogLevel()
    assert before != 0
    first, second = silent_opencv(), silent_opencv()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert logging.getLogLevel() == 0
    second.__exit__(None, None, None)
    assert logging.getLogLevel() == before
