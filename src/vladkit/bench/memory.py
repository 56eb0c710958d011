"""Peaks of resident memory. Linux keeps one for each process, and lets it be reset."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

__all__ = ["extra_bytes", "reset_peak", "status_bytes"]


def status_bytes(field: str) -> int:
    """``VmRSS`` (resident now) or ``VmHWM`` (its peak) of this process; OSError where unknown."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next((x for x in lines if x.startswith(field)), None)
    if line is None:
        raise OSError(f"/proc/self/status has no {field}")
    return int(line.split()[1]) * 1024


def reset_peak() -> None:
    """From here on, ``VmHWM`` is the peak since now; OSError where that cannot be done."""
    Path("/proc/self/clear_refs").write_text("5")


def extra_bytes(call: Callable[[], object]) -> int | None:
    """How far a call drives resident memory above what the process holds before it.

    So it counts the result and everything in between, but not the input. The call must have run
    before: its libraries' own buffers and compiled code are not meant. What the allocator has
    kept from earlier calls is given back first, as it would be used again unseen. To about .3 MB,
    which is how exactly Linux counts. None on other systems.
    """
    try:
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
        if trim is not None:
            trim(0)
        before = status_bytes("VmRSS")
        reset_peak()
    except (OSError, TypeError):
        return None
    call()
    return max(0, status_bytes("VmHWM") - before)
