"""Settings of the process as a whole. The library makes none that last: see `core.settings`."""

from __future__ import annotations

import os

from vladkit.core.allocator import keep_freed_memory

__all__ = ["leave_cores_to_threads"]


def leave_cores_to_threads() -> None:
    """Leave the cores to the threads that extract; before NumPy is imported.

    OpenBLAS: one thread. Its threads spin for some 30 ms after each product and take the cores
    from SIFT (274 images, two threads: 30.9 s of processor time, with this 28.4) and from
    re-ranking, where every thread has products of its own (50 images when others used the
    machine: 4.7 s, with this 0.8). Nothing here needs them: the encoding is not BLAS, and exact
    search multiplies pieces too small to be shared.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    keep_freed_memory()
