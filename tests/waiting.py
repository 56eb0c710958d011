"""Waiting for a condition instead of for a time."""

from __future__ import annotations

import time


def wait_until(condition, seconds=20):
    """Ask again and again until it holds; AssertionError if it does not in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return value
