"""How a batch is cut into pieces: by sizes alone, so that sums do not depend on threads."""

from __future__ import annotations

import numpy as np

from vladkit.core.arrays import Int64Array

__all__ = [
    "PIECE_BYTES",
    "fence_of_parts",
    "is_for_one_thread",
    "most_rows_of",
    "pieces_of",
    "rows_of_long",
]

PIECE_BYTES = 2**20
"""Bytes of descriptors converted at a time, so that the copy is still in cache: 1 MB."""

_LONG = 8
"""Pieces beyond which an image is cut, and its parts are summed by several threads."""

_LITTLE = 10_000_000
"""Multiply-adds below which one thread does all, in 0.2 ms or less: another wakes up 0.05 to
0.2 ms later. (8 images of 100 x 128, k = 64: 0.19 ms on one thread, 0.21 to 0.34 on two, on a busy
machine. 4 of 500: 0.37, and 0.28 to 0.44.)"""

_SUM = 16
"""Centroids whose scores take as long as the sum of a descriptor: 6 to 22 were measured."""


def is_for_one_thread(n_local: int, k: int, f: int) -> bool:
    """Whether the labels and sums of N descriptors are too little work for two threads."""
    return n_local * f * (k + _SUM) < _LITTLE


def most_rows_of(row_bytes: int) -> int:
    """Rows of a piece, if a row has `row_bytes`."""
    return max(1024, PIECE_BYTES // row_bytes)


def rows_of_long(most_rows: int) -> int:
    """Rows of an image beyond which it is cut, and of its parts."""
    return _LONG * most_rows


def pieces_of(start_T: Int64Array, most_rows: int) -> list[tuple[int, int, int, int | None]]:
    """Cut a batch into (first image, end image, first row, end row) pieces.

    Whole images together (rows: 0, None) up to `most_rows`; a very large image is cut by rows.
    Only sizes decide where an image is cut, so that an image's sum is the same in a batch,
    alone, and on any number of threads.
    """
    pieces: list[tuple[int, int, int, int | None]] = []
    i, t = 0, len(start_T) - 1
    long = rows_of_long(most_rows)
    while i < t:
        length = int(start_T[i + 1] - start_T[i])
        if length > long:
            pieces += [(i, i + 1, a, min(a + long, length)) for a in range(0, length, long)]
            i += 1
            continue
        end = int(np.searchsorted(start_T, start_T[i] + most_rows, side="right")) - 1
        pieces.append((i, max(i + 1, end), 0, None))
        i = max(i + 1, end)
    return pieces


def fence_of_parts(start_T: Int64Array, row_bytes: int) -> tuple[Int64Array, Int64Array]:
    """Where each image, or part of a large one, starts (p + 1), and the image of each (p,)."""
    long = rows_of_long(most_rows_of(row_bytes))
    length_t = np.diff(start_T)
    n_parts_t = np.maximum(1, -(-length_t // long))
    image_p = np.repeat(np.arange(len(length_t)), n_parts_t)
    part_p = np.arange(len(image_p)) - np.repeat(np.cumsum(n_parts_t) - n_parts_t, n_parts_t)
    return np.append(start_T[image_p] + part_p * long, start_T[-1]), image_p
