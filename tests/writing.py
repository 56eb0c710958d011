"""Records that no image is behind; as a script, a process that writes them to a collection.

    python writing.py COLLECTION BEGIN END

Ten records in a commit; it prints how many are in by its own account.
"""

from __future__ import annotations

import sys

import numpy as np

from vladkit.store.blocks import Layout
from vladkit.store.opening import create_store
from vladkit.store.rows import ImageRow, KeptFeatures, Record

LAYOUT = Layout(np.dtype(np.float16), 16)


def record(source_id, i, *, vector_D=None, path=None):
    half_D = np.full(16, 0.25, np.float16) if vector_D is None else vector_D
    kept = KeptFeatures(np.full((2, 4), i, np.float32), np.ones((2, 5), np.float32), 9, 9)
    return Record(ImageRow(source_id, path or f"{i:04}.png", i, i, 9, 9, 2), half_D, kept)


def write(path, begin, end):
    with create_store(path, recipe={}) as store:
        store.layout = LAYOUT
        with store.writing():
            source_id = store.add_source("/nowhere", "nowhere").source_id
        for i in range(begin, end, 10):
            with store.writing():
                store.put([record(source_id, j) for j in range(i, i + 10)])
            print(i + 10, flush=True)


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
