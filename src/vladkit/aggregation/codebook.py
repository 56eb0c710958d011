"""Training: a bounded sample of descriptors, k-means (faiss) and the descriptor rotation (PCA)."""

from __future__ import annotations

from typing import Any

import numpy as np

from vladkit.core.arrays import AnyArray, FloatArray, Int64Array
from vladkit.core.linalg import unit_for, unit_rows
from vladkit.core.ragged import Ragged
from vladkit.core.seeds import seed_of_31_bits
from vladkit.core.threads import faiss_threads
from vladkit.errors import InputError, NonFiniteError, ParameterError
from vladkit.kernels.nearest import nearest

__all__ = [
    "Reservoir",
    "mean_of_cells",
    "principal_axes",
    "train_cell_rotations",
    "train_centroids",
    "train_codebook",
    "train_rotation",
    "train_words",
]

_CHUNK_BYTES = 2**26
"""Size of the rows read at a time, which bounds memory; the sample does not depend on it."""


class Reservoir:
    """A uniform random sample of at most `size` rows of all that is ever added.

    Every row draws a random key; the rows with the lowest keys stay. Memory is that of the
    sample, however much is added, and in whatever pieces.

    Parameters
    ----------
    size : int
        Number of rows to keep, at least 1.
    seed : int
        Two reservoirs with the same seed, given the same rows in the same order, hold the
        same sample (also when the rows came in other pieces).

    Examples
    --------
    >>> import numpy as np
    >>> reservoir = Reservoir(3, seed=0)
    >>> reservoir.add(Ragged(np.arange(20.0).reshape(10, 2), [0, 10]))
    >>> reservoir.rows().shape, reservoir.n_seen
    ((3, 2), 10)
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.n_seen = 0
        self._random = np.random.default_rng(seed)
        self._limit = np.inf  # rows with a higher key cannot be among the lowest any more
        self._key: list[FloatArray] = []
        self._row: list[AnyArray] = []
        self._n_kept = 0

    def add(self, batch: Ragged, random: np.random.Generator | None = None) -> None:
        """Draw from all descriptors of the batch too; rows that stay are copied.

        With `random` by the keys of that generator instead of the reservoir's.
        """
        random = random or self._random
        batch.check_finite()
        step = max(1, _CHUNK_BYTES // (batch.n_features * batch.dtype.itemsize))
        n_read = 0
        for rows_lf in batch:
            for begin in range(0, len(rows_lf), step):
                chunk_lf = rows_lf[begin : begin + step]
                n_read += len(chunk_lf)
                if n_read >= step:  # what was read before this chunk
                    batch.release()
                    n_read = 0
                key_l = random.random(len(chunk_lf))
                chosen = np.flatnonzero(key_l < self._limit)
                self.n_seen += len(chunk_lf)
                if not len(chosen):
                    continue
                self._key.append(key_l[chosen])
                self._row.append(chunk_lf[chosen].astype(batch.float_dtype, copy=False))
                self._n_kept += len(chosen)
                if self._n_kept > 2 * self.size:
                    self._drop_surplus()
        batch.release()

    def _drop_surplus(self) -> None:
        key_s, row_sf = np.concatenate(self._key), np.concatenate(self._row)
        if len(key_s) > self.size:
            kept = np.sort(np.argpartition(key_s, self.size - 1)[: self.size])
            key_s, row_sf = key_s[kept], row_sf[kept]
            self._limit = key_s.max()
        self._key, self._row, self._n_kept = [key_s], [row_sf], len(key_s)

    def rows(self) -> FloatArray:
        """Sample, (s, f) with s <= size, in the order in which its rows were added."""
        if not self._key:
            raise InputError("no descriptors to train on: add a batch that has some")
        self._drop_surplus()
        return self._row[0]


def train_codebook(
    row_sf: FloatArray,
    n_clusters: int,
    *,
    seed: int,
    n_iter: int,
    n_jobs: int | None,
    cosine: bool,
    rotation: int | str | None,
    unit: bool,
) -> tuple[FloatArray, FloatArray | None, float]:
    """Train centroids and rotation on a sample of descriptors; see `VLAD` for the parameters.

    Returns
    -------
    centroid_kf : (k, f)
    rotation : (f, d), (k, f, f) or None
    inertia : float
        Mean squared L2 distance of a row to its centroid.

    Raises
    ------
    ParameterError
        If `rotation` is larger than f; InputError as `train_centroids` and `train_rotation`.
    """
    if cosine:
        row_sf = unit_rows(row_sf[row_sf.any(axis=1)])
    centroid_kf, inertia = train_centroids(
        row_sf, n_clusters, seed=seed, n_iter=n_iter, n_jobs=n_jobs, spherical=cosine
    )
    if cosine:
        centroid_kf, inertia = mean_of_cells(row_sf, centroid_kf)
    if rotation is None:
        return centroid_kf, None, inertia
    if isinstance(rotation, str):
        label_kf = unit_rows(centroid_kf) if cosine else centroid_kf
        rotation_kff = train_cell_rotations(row_sf, label_kf, centroid_kf, unit=unit)
        return centroid_kf, rotation_kff, inertia
    if rotation > row_sf.shape[1]:
        raise ParameterError(
            f"rotation={rotation}: wanted at most {row_sf.shape[1]}, the dimension of the "
            "descriptors"
        )
    return centroid_kf, train_rotation(row_sf, rotation), inertia


def train_centroids(
    local_Nf: FloatArray,
    n_clusters: int,
    *,
    seed: int,
    n_iter: int,
    n_jobs: int | None = None,
    spherical: bool = False,
) -> tuple[FloatArray, float]:
    """Train a codebook by faiss's k-means with a k-means++ start, on all rows.

    Parameters
    ----------
    local_Nf : (N, f) float, N >= n_clusters, finite
    n_clusters : int
    seed : int
    n_iter : int
        Number of Lloyd iterations.
    n_jobs : int or None
        Threads, see `vladkit.core.threads.resolve_n_jobs`.
    spherical : bool
        Bring centroids to unit length after each iteration; for rows of unit length that is
        k-means by cosine.

    Returns
    -------
    centroid_kf : (k, f), dtype of the input (computed in float32, which is what faiss has)
    inertia : float
        Mean squared L2 distance of a row to its centroid at the last iteration.

    Raises
    ------
    InputError
        If there are fewer rows than clusters; NonFiniteError if differences of rows overflow.
    """
    import faiss

    n, f = local_Nf.shape
    if n < n_clusters:
        raise InputError(
            f"got {n} descriptors for {n_clusters} clusters, wanted at least one for each: "
            "give more images, or ask for fewer clusters"
        )
    clustering = faiss.Clustering(f, n_clusters)
    clustering.seed = seed_of_31_bits(seed)  # faiss takes an int
    clustering.niter = n_iter
    # faiss would take a sample of 256 rows a centroid by itself, and warn below 39
    clustering.max_points_per_centroid = n
    clustering.min_points_per_centroid = 1
    clustering.init_method = faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS
    clustering.spherical = spherical
    # From their mean: faiss has float32 only, in which values far from 0 lose their digits.
    mean_f = local_Nf.mean(axis=0, dtype=np.float64) * (not spherical)
    with np.errstate(over="ignore", invalid="ignore"):
        centered_Nf = local_Nf - mean_f.astype(local_Nf.dtype)
    unit = _unit(centered_Nf)
    row_Nf = np.ascontiguousarray(centered_Nf / centered_Nf.dtype.type(unit), dtype=np.float32)
    with faiss_threads(n_jobs):
        clustering.train(row_Nf, faiss.IndexFlatL2(f))
    exact_kf = faiss.vector_to_array(clustering.centroids).reshape(n_clusters, f).astype(np.float64)
    centroid_kf = exact_kf * unit + mean_f
    # faiss stops early when nothing moves, and at once when every row is a centroid
    stats: Any = clustering.iteration_stats
    inertia = stats.at(stats.size() - 1).obj / n if stats.size() else 0.0
    return centroid_kf.astype(local_Nf.dtype), float(inertia) * unit * unit


def train_words(
    local_Nf: FloatArray,
    n_words: int,
    n_cells: int,
    *,
    seed: int,
    n_iter: int,
    n_jobs: int | None = None,
) -> tuple[FloatArray, FloatArray, Int64Array, float]:
    """Train a large codebook in two levels: cells, then the words of each, for as many of its rows.

    Parameters
    ----------
    n_words, n_cells : int
        k and c; c = 1 is one k-means. A cell too small for a word is given up.
    local_Nf, seed, n_iter, n_jobs
        Parameters of `train_centroids`.

    Returns
    -------
    centroid_kf : (k, f)
    cell_cf : (c, f)
    cell_k : (k,) int64
        Cell of each word, rising.
    inertia : float
        Mean squared L2 distance of a row to the nearest word of its cell.

    Raises
    ------
    InputError
        As `train_centroids`.
    """
    options: dict[str, Any] = {"seed": seed, "n_iter": n_iter, "n_jobs": n_jobs}
    n = len(local_Nf)
    if n_cells == 1 or n < n_words:
        centroid_kf, inertia = train_centroids(local_Nf, n_words, **options)
        mean_f = centroid_kf.mean(axis=0, keepdims=True)
        return centroid_kf, mean_f, np.zeros(n_words, np.int64), inertia
    step = max(1, n // (256 * n_cells))  # rows of a sample: each is as good as another
    cell_cf, _ = train_centroids(local_Nf[::step], n_cells, **options)
    cell_N = nearest(local_Nf, cell_cf)
    count_c = np.bincount(cell_N, minlength=n_cells)
    share_c = count_c * (n_words / n)
    n_words_c = share_c.astype(np.int64)
    missing = n_words - int(n_words_c.sum())
    n_words_c[np.argsort(n_words_c - share_c, kind="stable")[:missing]] += 1
    used = np.flatnonzero(n_words_c)
    parts, total = [], 0.0
    for cell in used:
        row_nf = local_Nf[cell_N == cell]
        # one thread: for 5,000 rows two gain little, and take 20 times as long on a busy machine
        part_kf, inertia = train_centroids(row_nf, int(n_words_c[cell]), **options | {"n_jobs": 1})
        parts.append(part_kf)
        total += inertia * len(row_nf)
    cell_k = np.repeat(np.arange(len(used)), n_words_c[used])
    return np.concatenate(parts), cell_cf[used], cell_k, total / int(count_c[used].sum())


def _unit(centered_Nf: FloatArray) -> float:
    """Unit in which float32 holds the squares of these numbers, see `unit_for`."""
    peak = float(np.abs(centered_Nf).max(initial=0))
    if not np.isfinite(peak):
        raise NonFiniteError(
            f"differences of descriptors overflow {centered_Nf.dtype}: scale the descriptors, or "
            "pass float64"
        )
    return unit_for(peak)


def train_rotation(local_Nf: FloatArray, n_components: int) -> FloatArray:
    """Find the principal axes of the descriptors, the strongest first.

    Returns
    -------
    rotation_fd : (f, d), orthonormal columns, dtype of the input
        ``local_Nf @ rotation_fd`` are the rotated descriptors. The sign of each axis makes its
        largest component positive, to be the same on every machine.

    Raises
    ------
    InputError
        If there is only one descriptor.

    References
    ----------
    Jégou et al., "Aggregating local image descriptors into compact codes", PAMI 2012,
    section 3.2: rotated descriptors make the power law act on decorrelated components.
    """
    if len(local_Nf) < 2:
        raise InputError(f"got {len(local_Nf)} descriptor, wanted at least 2 to find an axis")
    center_Nf = local_Nf - local_Nf.mean(axis=0, dtype=np.float64).astype(local_Nf.dtype)
    center_Nf /= center_Nf.dtype.type(_unit(center_Nf))
    covariance_ff = (center_Nf.T @ center_Nf).astype(np.float64)
    return principal_axes(covariance_ff, n_components).astype(local_Nf.dtype)


def principal_axes(covariance_ff: FloatArray, n_components: int) -> FloatArray:
    """Principal axes (f, d) of a float64 covariance, or a multiple of it, the strongest first."""
    _, axis_ff = np.linalg.eigh(covariance_ff)
    rotation_fd = axis_ff[:, ::-1][:, :n_components]
    peak_d = np.argmax(np.abs(rotation_fd), axis=0)
    sign_d: Any = np.sign(rotation_fd[peak_d, np.arange(n_components)])
    axis_fd: FloatArray = rotation_fd * sign_d
    return axis_fd


def mean_of_cells(local_Nf: FloatArray, centroid_kf: FloatArray) -> tuple[FloatArray, float]:
    """Mean of the rows nearest to each centroid, and their mean squared distance to it.

    An empty cell keeps its centroid.
    """
    label_N = nearest(local_Nf, centroid_kf)
    mean_kf = centroid_kf.copy()
    for i in np.unique(label_N):
        mean_kf[i] = local_Nf[label_N == i].mean(axis=0, dtype=np.float64)
    residual_Nf = local_Nf - mean_kf[label_N]
    square = np.einsum("Nf,Nf->", residual_Nf, residual_Nf, dtype=np.float64)
    return mean_kf, float(square) / len(local_Nf)


def train_cell_rotations(
    local_Nf: FloatArray, label_kf: FloatArray, centroid_kf: FloatArray, *, unit: bool
) -> FloatArray:
    """Find the principal axes of the residuals of each cell, the strongest first.

    Parameters
    ----------
    local_Nf : (N, f)
    label_kf : (k, f)
        Centroids that labels are found with.
    centroid_kf : (k, f)
        Centroids that residuals are taken to.
    unit : bool
        Whether residuals are brought to unit length.

    Returns
    -------
    rotation_kff : (k, f, f), orthonormal columns
        The identity for a cell with fewer than 2 rows. Axes beyond the rank of a cell's
        residuals are whatever completes the basis.

    References
    ----------
    Delhumeau, Gosselin, Jégou, Pérez, "Revisiting the VLAD image representation", ACM Multimedia
    2013, section 3.2 (local coordinate systems).
    """
    k, f = centroid_kf.shape
    label_N = nearest(local_Nf, label_kf)
    rotation_kff = np.tile(np.eye(f, dtype=local_Nf.dtype), (k, 1, 1))
    for i in range(k):
        residual_lf = local_Nf[label_N == i] - centroid_kf[i]
        if len(residual_lf) > 1:
            rotation_kff[i] = train_rotation(unit_rows(residual_lf) if unit else residual_lf, f)
    return rotation_kff
