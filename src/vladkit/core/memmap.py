"""Arrays that are files mapped into memory: recognised, and their pages given back."""

from __future__ import annotations

import mmap
from typing import Final

import numpy as np

from vladkit.core.arrays import AnyArray

__all__ = ["BLOCK_BYTES", "is_mapped", "release"]

BLOCK_BYTES: Final = 2**26
"""Bytes of a mapped file resident at a time: 64 MB read a file of 1 GB as fast as 256 MB."""


def _mapping(array: AnyArray) -> mmap.mmap | None:
    """Mapping that the array is a view of, if it is a file and not changed in memory alone."""
    base: object = array
    is_shared = False
    while isinstance(base, np.ndarray):
        # a private map ("c") keeps what was written to it in the pages, and there alone
        is_shared |= isinstance(base, np.memmap) and getattr(base, "mode", "c") != "c"
        base = base.base
    return base if is_shared and isinstance(base, mmap.mmap) else None


def is_mapped(array: AnyArray) -> bool:
    """Tell whether an array is a view of a file that `numpy.memmap` or `numpy.load` mapped.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryFile() as file:
    ...     _ = file.write(bytes(64))
    ...     local_Nf = np.memmap(file, np.float32, "r+", shape=(4, 4))
    ...     is_mapped(local_Nf[1:, ::2]), is_mapped(local_Nf.copy())
    (True, False)
    """
    return _mapping(array) is not None


def release(array: AnyArray) -> None:
    """Give the pages of an array's file back to the system; they are mapped again when used.

    Otherwise the pages of a file that was read once count as resident until memory is short.
    Does nothing for other arrays, and on systems that have no ``madvise``.
    """
    mapping = _mapping(array)
    advice = getattr(mmap, "MADV_DONTNEED", None)
    if mapping is not None and advice is not None:
        mapping.madvise(advice)
