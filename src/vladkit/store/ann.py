"""Approximate search for big collections: an inverted file of 8 bit codes (faiss), in a cache file.

The vectors are divided into cells around the centroids of a k-means; a query looks only into the
nearest few. What comes back are candidates, to be scored again from the stored vectors: codes of
8 bits rank nearly as the vectors do, not exactly. The file can always be made again from the
collection and holds nothing else.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import numpy as np

from vladkit.core.arrays import AnyArray, Float32Array, Int64Array
from vladkit.core.files import is_special_file, replace_file
from vladkit.core.seeds import seed_of_31_bits
from vladkit.core.threads import faiss_threads
from vladkit.errors import FileFormatError, InputError
from vladkit.store.exact import widen

__all__ = [
    "WORTH_FROM_VALUES",
    "AnnIndex",
    "AnnReport",
    "Truth",
    "ann_path",
    "build_ann",
    "open_ann",
]

WORTH_FROM_VALUES: Final = 2**27
"""Values (vectors x dimensions) from which the index makes a search in a new process faster.

524,288 vectors of 256 dimensions cost 89 ms of one core to search exactly; importing faiss (60 to
90 ms), opening the index and scoring its candidates again cost as much. A process that keeps the
index open gains from about 2^23 on, 32,768 such vectors: 6 ms (`benchmarks/million.py`).
"""

Blocks = Callable[[], Iterable[tuple[Int64Array, AnyArray]]]

_FORMAT: Final = 1
_MAGIC: Final = b"VLADann1"

# Training sees this many vectors for each cell, in float32 at most 256 MB of them in all; fewer
# cells where that leaves fewer than _ROWS_LEAST for each (faiss warns below 39).
_ROWS_PER_CELL: Final = 64
_ROWS_LEAST: Final = 40
_TRAINING_BYTES: Final = 2**28

# Recall is that of the best 10 among 100 candidates, over 100 stored vectors.
_SAMPLED: Final = 100
_CANDIDATES: Final = 100
_TOP: Final = 10
_TIE: Final = 1e-6  # what float32 makes of equal scores in different places of a product


@dataclass(frozen=True, slots=True)
class AnnReport:
    """Size and recall of an index.

    ``recall`` is the share of the 10 exactly nearest vectors that are among 100 candidates, mean
    over ``n_sampled`` stored vectors, themselves left out; NaN if there is nothing to tell apart.
    An image that is not stored finds somewhat less (`benchmarks/million.py`). ``scanned`` is the
    mean share of all vectors that a search looks at: near 1, it is no faster than an exact one.
    """

    n: int
    n_dimensions: int
    n_cells: int
    n_probes: int
    recall: float
    n_sampled: int
    scanned: float

    @classmethod
    def stored(cls, values: Any) -> Self:
        """Report of its values by name, from JSON; TypeError if these are of none."""
        report = cls(**values)
        if not all(
            type(v) in (int, float) and not abs(v) >= 2**31 for v in asdict(report).values()
        ):
            raise TypeError("a report holds what is no number")
        return report


class AnnIndex:
    """Index opened by `open_ann`: for reading only, mapped from its file."""

    def __init__(self, index: Any, report: AnnReport) -> None:
        self._index = index
        self.report = report

    def search(
        self, query_qD: Float32Array, n: int, allowed_n: Int64Array | None = None
    ) -> tuple[Int64Array, Float32Array]:
        """The n likeliest images for each query, highest score first.

        Parameters
        ----------
        query_qD : (q, D) float32
            Vectors of unit length.
        n : int
            Number of candidates: 100 for the best 10.
        allowed_n : (n,) int64 or None
            Images that are looked for; more cells are looked into where they are fewer.

        Returns
        -------
        image_id_qn : (q, n) int64
            -1 where the cells looked into hold fewer than n. Leave out those that are not
            stored: damage to the ids in the file is not noticed.
        score_qn : (q, n) float32
            Inner products with the coded vectors, about 0.005 from the exact ones; -inf for -1.
        """
        if allowed_n is None:
            return _search(self._index, query_qD, n)
        import faiss as untyped

        faiss: Any = untyped
        bits = np.zeros(int(allowed_n.max(initial=0)) + 1, bool)
        bits[allowed_n] = True
        packed = np.packbits(bits, bitorder="little")
        share = max(1, self.report.n) / max(1, len(allowed_n))
        parameters = faiss.SearchParametersIVF(
            sel=faiss.IDSelectorBitmap(len(packed), faiss.swig_ptr(packed)),
            nprobe=min(self._index.nlist, math.ceil(share * self._index.nprobe)),
        )
        return _search(self._index, query_qD, n, parameters)


def ann_path(path: Path) -> Path:
    """The index file of a collection file."""
    return Path(f"{path}.ann")


def build_ann(
    blocks: Blocks,
    n: int,
    n_dimensions: int,
    path: str | os.PathLike[str],
    *,
    stamp: str,
    seed: int = 0,
    target_recall: float = 0.98,
) -> AnnReport:
    """Make an index and write it to a file, whole or not at all.

    Parameters
    ----------
    blocks : callable, gives an iterable of (image_id_n, vector_nD)
        Called twice; has to give the same both times. float16 or float32, unit length or zero.
    n, n_dimensions : int
        Number of vectors in the blocks, and their dimension.
    path : path
        The index file; an older one is replaced.
    stamp : str
        Name of the collection's state, see `Store.stamp`: `open_ann` wants the same.
    seed : int
        Random seed. Same vectors, same seed, same faiss and processor: same file.
    target_recall : float
        A search looks into twice as many cells as give this recall (see `AnnReport`).

    Returns
    -------
    AnnReport

    Raises
    ------
    InputError
        If there is no vector, or another number of them than `n`.
    StorageError
        If the file cannot be written.

    Notes
    -----
    Memory: n x (D + 8) bytes of codes and ids, up to twice that while they are added, and up to
    512 MB for training: 436 MB for a million vectors of 256 dimensions. Time: 2 n x cells x D
    operations, cells = sqrt(n). One thread: a second one makes faiss several times slower whenever
    somebody else uses the core.
    """
    if n == 0:
        raise InputError("no vectors to make an index of: add images first")
    with faiss_threads(1):
        rng = np.random.default_rng(seed)
        n_cells, n_training = _sizes(n, n_dimensions)
        sampled_s = np.sort(rng.choice(n, min(n, _SAMPLED), replace=False))
        training_s = np.sort(rng.choice(n, n_training, replace=False))
        (sample_id_q, sample_qD), (_, training_nD) = _rows(blocks(), n, [sampled_s, training_s])
        index = _trained(training_nD, n_cells, seed)
        del training_nD
        truth = Truth(sample_id_q, sample_qD)
        for image_id_n, vector_nD in blocks():
            wide_nD = widen(vector_nD)
            index.add_with_ids(wide_nD, image_id_n)
            truth.add(image_id_n, wide_nD)
        truth.settle()
        recall = _choose_n_probes(index, truth, target_recall)
        report = AnnReport(
            n=n,
            n_dimensions=n_dimensions,
            n_cells=n_cells,
            n_probes=index.nprobe,
            recall=recall,
            n_sampled=len(truth.query_qD),
            scanned=_scanned(index, sample_qD),
        )
        _write(index, report, stamp, path)
    return report


def open_ann(path: str | os.PathLike[str], stamp: str) -> AnnIndex | None:
    """Open the index at `path`; None if there is none, or none that can be used.

    It cannot if it was made for another `stamp` or by another version of faiss or of this
    module, or is damaged: then make it again.
    """
    if is_special_file(path):
        return None
    try:
        about = _read_about(Path(path))
    except OSError:
        return None
    if about.get("stamp") != stamp:
        return None
    import faiss

    if about.get("faiss") != faiss.__version__:
        return None
    try:
        report = AnnReport.stored(about.get("report"))
        # Mapped: 2 to 16 ms and 8 MB to open a million vectors, 400 ms and 260 MB to load them.
        # faiss ends the process when somebody adds to such an index; nothing here does.
        index = faiss.read_index(os.fspath(path), faiss.IO_FLAG_MMAP_IFC)
    except (RuntimeError, MemoryError, TypeError):
        return None
    if (index.ntotal, index.d) != (report.n, report.n_dimensions):
        return None
    return AnnIndex(index, report)


def _sizes(n: int, n_dimensions: int) -> tuple[int, int]:
    """Numbers of cells and of vectors to train with."""
    most = min(n, max(1, _TRAINING_BYTES // (4 * n_dimensions)))
    n_cells = max(1, min(math.isqrt(n), most // _ROWS_LEAST))
    return n_cells, min(most, n_cells * _ROWS_PER_CELL)


def _rows(
    blocks: Iterable[tuple[Int64Array, AnyArray]], n: int, wanted: list[Int64Array]
) -> list[tuple[Int64Array, Float32Array]]:
    """Vectors at some positions (ascending): (image_id_s, vector_sD) for each list of positions.

    Raises
    ------
    InputError
        If the blocks do not have n vectors.
    """
    ids: list[list[Int64Array]] = [[] for _ in wanted]
    vectors: list[list[Float32Array]] = [[] for _ in wanted]
    begin = 0
    for image_id_n, vector_nD in blocks:
        end = begin + len(image_id_n)
        for i, position_s in enumerate(wanted):
            low, high = np.searchsorted(position_s, [begin, end])
            here_s = position_s[low:high] - begin
            ids[i].append(image_id_n[here_s])
            vectors[i].append(widen(vector_nD[here_s]))
        begin = end
    if begin != n:
        raise InputError(f"got {begin} vectors, wanted the {n} that were announced: try again")
    return [(np.concatenate(i), np.concatenate(v)) for i, v in zip(ids, vectors, strict=True)]


def _trained(training_nD: Float32Array, n_cells: int, seed: int) -> Any:
    """An empty inverted file with its cells (spherical k-means) and the ranges of its codes."""
    import faiss

    n, n_dimensions = training_nD.shape
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(n_dimensions),
        n_dimensions,
        n_cells,
        faiss.ScalarQuantizer.QT_8bit,
        faiss.METRIC_INNER_PRODUCT,
    )
    index.cp.seed = seed_of_31_bits(seed)  # faiss takes an int
    # 10 iterations from random vectors: a k-means++ start finds no more (a million vectors, 8 cells
    # looked into: recall 0.933 both), though it does where cells are few, as in a codebook.
    index.cp.niter = 10
    index.cp.max_points_per_centroid = n
    index.cp.min_points_per_centroid = 1
    with faiss_threads(None):
        index.train(training_nD)
    return index


class Truth:
    """The exactly nearest neighbours of a few stored vectors, found while all are read once."""

    def __init__(self, own_id_q: Int64Array, query_qD: Float32Array) -> None:
        self.query_qD = query_qD
        self._own_id_q = own_id_q
        # More than the 10 that count, for those that tie with the last of them.
        shape = (len(query_qD), _CANDIDATES)
        self._id_qr: Int64Array = np.full(shape, -1, np.int64)
        self._score_qr: Float32Array = np.full(shape, -np.inf, np.float32)

    def add(self, image_id_n: Int64Array, vector_nD: Float32Array) -> None:
        """Compare the few with one block."""
        q, r = self._score_qr.shape
        score_qn = self.query_qD @ vector_nD.T
        score_qn[self._own_id_q[:, np.newaxis] == image_id_n] = -np.inf
        id_qn = np.broadcast_to(image_id_n, (q, len(image_id_n)))
        id_qm = np.concatenate([self._id_qr, id_qn], axis=1)
        score_qm = np.concatenate([self._score_qr, score_qn], axis=1)
        chosen_qr = np.argpartition(-score_qm, r - 1, axis=1)[:, :r]
        self._id_qr = np.take_along_axis(id_qm, chosen_qr, axis=1)
        self._score_qr = np.take_along_axis(score_qm, chosen_qr, axis=1)

    def settle(self) -> None:
        """Sort, and drop the queries whose nearest neighbours tie: recall cannot tell them apart.

        Such are zero vectors, and those of which more than 90 copies are stored.
        """
        order_qr = np.argsort(-self._score_qr, axis=1, kind="stable")
        self._id_qr = np.take_along_axis(self._id_qr, order_qr, axis=1)
        self._score_qr = np.take_along_axis(self._score_qr, order_qr, axis=1)
        last_q, tenth_q = self._score_qr[:, -1], self._score_qr[:, _TOP - 1]
        keep_q = (last_q < tenth_q - _TIE) | np.isneginf(last_q)
        keep_q &= ~np.isneginf(self._score_qr[:, 0])  # there is no other
        self.query_qD, self._own_id_q = self.query_qD[keep_q], self._own_id_q[keep_q]
        self._id_qr, self._score_qr = self._id_qr[keep_q], self._score_qr[keep_q]

    def recall(self, found_qn: Int64Array) -> float:
        """Share of the nearest 10 that are among `found_qn`; NaN without a query.

        A vector that ties with the tenth counts as one of them.
        """
        shares = []
        for id_r, score_r, found_n in zip(self._id_qr, self._score_qr, found_qn, strict=True):
            wanted = min(_TOP, int(np.count_nonzero(score_r > -np.inf)))
            good_r = id_r[score_r >= score_r[wanted - 1] - _TIE]
            shares.append(min(wanted, np.isin(good_r, found_n).sum()) / wanted)
        return float(np.mean(shares)) if shares else math.nan


def _choose_n_probes(index: Any, truth: Truth, target: float) -> float:
    """Set how many cells a search looks into; returns the recall that it then has.

    Twice as many as reach the target for stored vectors: those of other images lie nearer to
    the borders of cells (a million vectors: 0.980 of stored ones' nearest, 0.952 of others').
    """
    index.nprobe = 1
    while True:
        recall = truth.recall(_search(index, truth.query_qD, _CANDIDATES + 1)[0])
        reached = not recall < target
        if index.nprobe == index.nlist:
            return recall
        index.nprobe = min(2 * index.nprobe, index.nlist)
        if reached:
            return truth.recall(_search(index, truth.query_qD, _CANDIDATES + 1)[0])


def _scanned(index: Any, query_qD: Float32Array) -> float:
    size_k = np.array([index.get_list_size(k) for k in range(index.nlist)])
    _, cell_qk = index.quantizer.search(query_qD, index.nprobe)
    return float(size_k[cell_qk].sum(axis=1).mean() / index.ntotal)


def _search(
    index: Any, query_qD: Float32Array, n: int, parameters: Any = None
) -> tuple[Int64Array, Float32Array]:
    query_qD = np.ascontiguousarray(query_qD, np.float32)
    with faiss_threads(1):
        score_qn, image_id_qn = index.search(query_qD, n, params=parameters)
    score_qn[image_id_qn < 0] = -np.inf
    return image_id_qn, score_qn


# -- the file: faiss's own format, then JSON about it, its length (8 bytes, little-endian), _MAGIC


def _write(index: Any, report: AnnReport, stamp: str, path: str | os.PathLike[str]) -> None:
    import faiss

    with replace_file(path) as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
        n_bytes = file.tell()
        # All but the codes and ids of the vectors: damage there could end the process, while in
        # a code it costs a candidate. To read all 260 MB would take longer than an exact search.
        n_checked = n_bytes - index.ntotal * (index.code_size + 8)
        file.flush()
        with open(file.fileno(), "rb", closefd=False) as written:
            written.seek(0)
            checksum = zlib.crc32(written.read(n_checked))
        file.seek(n_bytes)
        about = {
            "format": _FORMAT,
            "stamp": stamp,
            "faiss": faiss.__version__,
            "n_bytes": n_bytes,
            "n_checked": n_checked,
            "checksum": checksum,
            "report": asdict(report),
        }
        data = json.dumps(about).encode()
        file.write(data + len(data).to_bytes(8, "little") + _MAGIC)


def _read_about(path: Path) -> dict[str, Any]:
    """Read the JSON that is written behind the index, if the file is whole.

    Raises
    ------
    OSError
        If it cannot be read; FileFormatError if it is something else, or damaged.
    """
    with open(path, "rb") as file:
        try:
            return _checked(file)
        except (ValueError, KeyError, TypeError) as error:
            raise FileFormatError(f"{path} is not an index of this version, or damaged") from error


def _checked(file: BinaryIO) -> dict[str, Any]:
    end = len(_MAGIC) + 8
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - end))
    tail = file.read()
    if tail[8:] != _MAGIC:
        raise ValueError("no end mark")
    begin = size - end - int.from_bytes(tail[:8], "little")
    file.seek(begin)  # ValueError where it is negative
    about: dict[str, Any] = json.loads(file.read(size - end - begin))
    if about["format"] != _FORMAT or about["n_bytes"] != begin:
        raise ValueError("another format, or bytes are missing")
    file.seek(0)
    if zlib.crc32(file.read(about["n_checked"])) != about["checksum"]:
        raise ValueError("wrong checksum")
    return about
