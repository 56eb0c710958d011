"""Approximate search in a collection of Lance: an inverted file with codes of RaBitQ.

Lance builds it from the data and keeps it with the images. What is added later is not in it, and is
compared exactly until `vladkit.store.lance.store.LanceStore.freshen` takes it in, so that nothing
is missed. What it finds is scored again by the stored vectors. Why this kind: it is smaller, is
built in less time, and finds more than product codes do (docs/how-to/scale.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from vladkit.core.arrays import AnyArray, Float32Array, Int64Array
from vladkit.errors import InputError
from vladkit.store.ann import AnnReport, Truth
from vladkit.store.exact import widen
from vladkit.store.lance.place import imported, place_of, translated
from vladkit.store.lance.rows import vectors_of

__all__ = ["COLUMN", "LEAST", "LanceAnn", "build_index", "measured"]

COLUMN: Final = "vector"

LEAST: Final = 1000
"""Fewest vectors that an index is made of."""

_BITS: Final = 4
"""Bits of the code of a dimension. With 3 a search of ten million holds 1.4 GB, with Lance's own 5
2.1 GB; but of a million vectors without any structure 3 find 0.951 of the nearest 10 among 50
candidates, 4 find 0.989, 5 find 0.996."""

_SAMPLED: Final = 100
_CANDIDATES: Final = 100
_TARGET_RECALL: Final = 0.99
_CACHED: Final = 2**28
"""Bytes of cells that stay in memory while the recall is measured. Lance's own cache would hold all
of them, 1.3 GB of ten million vectors, and takes as long: a query looks into its cells once."""

_SPARE: Final = 2
"""Times that the cells are doubled once they are enough for stored vectors."""


class LanceAnn:
    """Index of one version of the images, which looks into `report.n_probes` cells."""

    def __init__(self, images: Any, report: AnnReport, place: Path) -> None:
        self._images, self._place = images, place
        self.report = report
        self.near: dict[int, AnyArray] = {}
        """Vectors that the last search has read."""

    def search(self, query_qD: Float32Array, n: int) -> tuple[Int64Array, Float32Array]:
        """The n likeliest images for each query; see `vladkit.store.ann.AnnIndex.search`.

        Scores are inner products with the stored vectors.
        """
        id_qn = np.full((len(query_qD), n), -1, np.int64)
        score_qn = np.full((len(query_qD), n), -np.inf, np.float32)
        self.near = {}
        for q, query_D in enumerate(query_qD):
            nearest = {
                "column": COLUMN,
                "q": query_D,
                "k": n,
                "metric": "dot",
                "minimum_nprobes": self.report.n_probes,
                "maximum_nprobes": self.report.n_probes,
                "refine_factor": 1,
            }
            columns = ["image_id", COLUMN, "_distance"]
            with translated(self._place, "search"):
                table = self._images.to_table(columns=columns, nearest=nearest)
            m = len(table)
            id_qn[q, :m] = table["image_id"].to_numpy()
            score_qn[q, :m] = 1 - table["_distance"].to_numpy()
            vector_nD = vectors_of(table[COLUMN].combine_chunks())
            self.near |= dict(zip(id_qn[q, :m].tolist(), vector_nD, strict=True))
        return id_qn, score_qn


def build_index(images: Any, n: int) -> int:
    """Make the indexes of a dataset of n vectors, also of keys; returns the number of cells.

    Raises
    ------
    InputError
        If there are too few vectors, or of a length that codes are not made for.
    """
    d = images.schema.field(COLUMN).type.list_size
    if n < LEAST or d % 8:
        raise InputError(
            f"{n} vectors of {d} dimensions: an index is made of {LEAST} and more, whose "
            "dimensions are a multiple of 8: search without one, which is exact"
        )
    images.create_scalar_index("image_id", "BTREE", name="key", replace=True)
    images.checkout_latest()
    n_cells = math.isqrt(n)
    images.create_index(
        COLUMN,
        "IVF_RQ",
        name=COLUMN,
        metric="dot",
        num_partitions=n_cells,
        num_bits=_BITS,
        replace=True,
    )
    return n_cells


def measured(
    images: Any,
    blocks: Callable[[], Iterable[tuple[Int64Array, AnyArray]]],
    n: int,
    n_cells: int,
    seed: int,
) -> AnnReport:
    """Size and recall of the index, with as many cells to look into as the recall wants.

    Four times as many as find .99 of the nearest 10 of 100 stored vectors among 100 candidates:
    queries that are not stored lie nearer to the borders of cells. Of ten million they found .978
    with twice as many, .993 with these.
    """
    rng = np.random.default_rng(seed)
    place_s = np.sort(rng.choice(n, min(n, _SAMPLED), replace=False))
    ids, vectors, begin = [], [], 0
    for image_id_n, vector_nD in blocks():
        end = begin + len(image_id_n)
        here_s = place_s[(place_s >= begin) & (place_s < end)] - begin
        ids.append(image_id_n[here_s])
        vectors.append(widen(vector_nD[here_s]))
        begin = end
    truth = Truth(np.concatenate(ids), np.concatenate(vectors))
    for image_id_n, vector_nD in blocks():
        truth.add(image_id_n, widen(vector_nD))
    truth.settle()
    lance = imported()
    images = lance.dataset(images.uri, version=images.version, index_cache_size_bytes=_CACHED)

    def report(n_probes: int) -> AnnReport:
        n_sampled, d = truth.query_qD.shape
        return AnnReport(n, d, n_cells, n_probes, math.nan, n_sampled, n_probes / n_cells)

    n_probes, n_spare = 1, 0
    while True:
        found = LanceAnn(images, report(n_probes), place_of(images.uri))
        recall = truth.recall(found.search(truth.query_qD, _CANDIDATES + 1)[0])
        if n_spare == _SPARE or n_probes == n_cells:
            return replace(found.report, recall=recall)
        n_spare += n_spare > 0 or not recall < _TARGET_RECALL
        n_probes = min(2 * n_probes, n_cells)
