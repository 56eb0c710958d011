"""`Collection`: images in, ranked images out. The one package that knows all the others.

What it does is done by `indexing`, `searching` and the modules of `collection/`; here they meet.
Its methods are in a file for each purpose: `opened`, `changing`, `finding`, `comparing`.
"""

from __future__ import annotations

from vladkit.collection.changing import Changing
from vladkit.collection.comparing import Comparing
from vladkit.collection.finding import Finding
from vladkit.collection.indexing import AddReport, Progress
from vladkit.collection.searching import Hit

__all__ = ["AddReport", "Collection", "Hit", "Progress"]


class Collection(Changing, Finding, Comparing):
    """Images with their vectors in one file, to be searched with an image.

    Make one with `create`, open it with `open`; use it as a context manager or `close` it.

    Examples
    --------
    >>> import tempfile, cv2, numpy as np
    >>> folder = tempfile.mkdtemp()
    >>> rng = np.random.default_rng(0)
    >>> for i in range(3):
    ...     _ = cv2.imwrite(f"{folder}/{i}.png", rng.integers(0, 256, (96, 96), dtype=np.uint8))
    >>> with Collection.create(f"{folder}/all.vlad", n_clusters=8) as collection:
    ...     report = collection.add([folder])
    ...     hits = collection.search(f"{folder}/1.png", top=2)
    >>> report.indexed, hits[0].path, round(hits[0].score, 2)
    (3, '1.png', 1.0)
    """
