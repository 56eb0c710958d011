"""Settings of the process as a whole. The library makes none: its process is somebody else's."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["leave_cores_to_threads"]

_M_TOP_PAD = -2  # of <malloc.h>


def leave_cores_to_threads() -> None:
    """Leave the cores to the threads that extract; before NumPy is imported.

    OpenBLAS: one thread. Its threads spin for some 30 ms after each product and take the cores
    from SIFT (274 images, two threads: 30.9 s of processor time, with this 28.4) and from
    re-ranking, where every thread has products of its own (50 images when others used the
    machine: 4.7 s, with this 0.8). Nothing here needs them: the encoding is not BLAS, and exact
    search multiplies pieces too small to be shared.

    glibc: 64 MB of freed memory are kept for each thread instead of being returned at once.
    SIFT allocates and frees some 50 MB for each image, and the features that stay behind keep
    the allocator from reusing it: 1.4 million page faults, with this 0.1 (20 s, with this 16).
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # another C library has none
        if mallopt is not None:
            mallopt(_M_TOP_PAD, 64 << 20)
