"""`VLAD`: codebook, encoding and normalisation as one scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt

from vladkit.aggregation.aggregate import Aggregate, adapted_centroids
from vladkit.aggregation.codebook import Reservoir, principal_axes, train_codebook
from vladkit.aggregation.encode import METHOD, aggregate, aggregate_unit, check_assign
from vladkit.aggregation.normalize import PRESETS, Norm, normalize, resolve_steps
from vladkit.aggregation.partitions import Moments, is_partitioned, transformed
from vladkit.aggregation.trained import Trained
from vladkit.core.arrays import AnyArray, FloatArray, Int64Array, as_array
from vladkit.core.backends import as_sets, on_host
from vladkit.core.linalg import unit_rows
from vladkit.core.params import Constraints, Interval, StrOptions, check_parameter
from vladkit.core.ragged import Ragged, as_centroids, float_dtype_for
from vladkit.core.threads import resolve_n_jobs
from vladkit.errors import FileFormatError, InputError, NonFiniteError, ParameterError, ShapeError
from vladkit.kernels.nearest import nearest

__all__ = ["VLAD"]

_BLOCK_VALUES: Final = 2**23
"""Values of descriptors that are copied at a time, to bound memory: 32 MB of float32."""

_PRESETS: Final[dict[str, dict[str, Any]]] = {
    "vlfeat": {"norm": PRESETS["vlfeat"]},
    "jegou2010": {"norm": PRESETS["jegou2010"]},
    "jegou2012": {"rotation": 64, "norm": PRESETS["jegou2012"]},
    "all-about-vlad": {"n_clusters": 256, "norm": PRESETS["all-about-vlad"]},
    "delhumeau2013": {"residual": "unit", "rotation": "cell", "norm": ("power:0.2", "l2")},
    "anyloc": {"n_clusters": 32, "metric": "cosine", "norm": PRESETS["anyloc"]},
}


class VLAD(Trained):
    """One vector for each set of local descriptors, by a codebook learned from them.

    Parameters
    ----------
    n_clusters : int, default 64
        Number of centroids ("visual words"), k.
    norm : str or sequence of str, default ("ssr", "l2")
        Normalisation: a preset's name ("vlfeat", "jegou2012", "all-about-vlad", "anyloc",
        "none", ...) or steps in order, see `vladkit.aggregation.normalize`.
    rotation : int, "cell" or None, default None
        An int is d, the number of principal axes of the descriptors that residuals are rotated
        to before normalisation; f is a rotation without loss. "cell" rotates the residuals of
        each cell to the f principal axes of that cell's residuals (LCS). Labels are found before.
    metric : {"euclidean", "cosine"}, default "euclidean"
        Cosine: descriptors are brought to unit length first and belong to the centroid of largest
        cosine, in training too (spherical k-means); centroids are the means of their cells, so a
        little shorter than 1. A descriptor of zeros stays zero, and belongs to the first centroid,
        as all its cosines are 0; training leaves it out.
    residual : {"plain", "unit"}, default "plain"
        Unit: each descriptor's residual is brought to unit length before it is summed (RN); one
        of zero length stays zero.
    sample_size : int or None, default None
        Number of descriptors that training uses, a uniform random sample of all that `fit` is
        given. None is 256 for each cluster.
    n_iter : int, default 25
        Number of k-means iterations.
    assign, alpha, method, n_jobs
        Parameters of `vladkit.encode`: hard or soft assignment, the method, threads.
    random_state : int or None, default 0
        Random seed of sample and k-means: the same data give the same codebook. With None each
        training draws a seed from NumPy's global generator (`numpy.random.seed`), as in
        scikit-learn.

    Attributes
    ----------
    centroids_ : (k, f)
        Centroids that residuals are taken to.
    label_centroids_ : (k, f) or None
        Centroids that labels are found with, if others: those before `adapt`.
    rotation_ : (f, d), (k, f, f) or None
        Orthonormal columns; with ``rotation="cell"`` a matrix for each cell.
    inertia_ : float
        Mean squared L2 distance of the sample's descriptors to their centroid.
    n_features_in_ : int
        Dimension of the descriptors, f.

    Notes
    -----
    ``X`` is a (t, l, f) array, a list of (l_i, f) arrays, or a `vladkit.Ragged`; one element
    is one image, and gives one row of the result. torch's tensors on the CPU and JAX's arrays are
    read where they are, without their gradient: the result is NumPy's (`vladkit.encode` gives
    tensors with gradients). A file mapped by `numpy.load` or `vladkit.features.readers.map_vecs` is
    read in pieces, of which none stays in memory. An image without descriptors gives a row
    of zeros. `partial_fit` adds to the sample, in memory bounded by `sample_size`, and the
    codebook is trained again when it is next needed.

    References
    ----------
    Jégou, Douze, Schmid, Pérez, CVPR 2010; rotation and power law: Jégou et al., PAMI 2012;
    unit residuals and rotations of cells: Delhumeau, Gosselin, Jégou, Pérez, "Revisiting the VLAD
    image representation", ACM Multimedia 2013; adaptation: Arandjelović, Zisserman, "All about
    VLAD", CVPR 2013; cosine: Keetha et al., "AnyLoc", RA-L 2023.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> images = [rng.normal(size=(n, 8)) for n in (50, 0, 70)]
    >>> vlad = VLAD(n_clusters=4).fit(images)
    >>> vector_tD = vlad.transform(images)
    >>> vector_tD.shape, np.linalg.norm(vector_tD, axis=1).round(6).tolist()
    ((3, 32), [1.0, 0.0, 1.0])
    """

    centroids_: FloatArray
    label_centroids_: FloatArray | None
    rotation_: FloatArray | None
    inertia_: float
    n_features_in_: int

    _constraints: ClassVar[dict[str, Constraints]] = {
        "n_clusters": Interval(int, 1),
        "rotation": (Interval(int, 1), StrOptions("cell"), None),
        "metric": StrOptions("euclidean", "cosine"),
        "residual": StrOptions("plain", "unit"),
        "sample_size": (Interval(int, 1), None),
        "n_iter": Interval(int, 1, 2**31 - 1),
        "method": METHOD,
        "random_state": (Interval(int, 0), None),
    }
    _kind: ClassVar[str] = "vladkit codebook"
    _learned: ClassVar[tuple[str, ...]] = (
        "centroids_", "label_centroids_", "rotation_", "inertia_",
    )  # fmt: skip

    def __init__(
        self,
        n_clusters: int = 64,
        *,
        norm: Norm = ("ssr", "l2"),
        rotation: int | str | None = None,
        metric: str = "euclidean",
        residual: str = "plain",
        sample_size: int | None = None,
        n_iter: int = 25,
        assign: str = "hard",
        alpha: float | None = None,
        method: str = "auto",
        n_jobs: int | None = None,
        random_state: int | None = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.norm = norm
        self.rotation = rotation
        self.metric = metric
        self.residual = residual
        self.sample_size = sample_size
        self.n_iter = n_iter
        self.assign = assign
        self.alpha = alpha
        self.method = method
        self.n_jobs = n_jobs
        self.random_state = random_state

    @classmethod
    def preset(cls, name: str = "", **parameters: Any) -> Self:
        """Make the estimator of a published method; `parameters` override the preset's.

        ==================  ==================================================================
        name                method, from the residual sums on
        ==================  ==================================================================
        ``vlfeat``          L2, the default flags of ``vl_vlad_encode``. The flags are steps of
                            ``norm`` in this order: mass, ssr, intra, l2 (left out with
                            ``UNNORMALIZED``)
        ``jegou2010``       L2
        ``jegou2012``       rotated to 64 principal axes, ssr, L2; for the paper's last step put
                            a `vladkit.Whitening` behind it. (The paper reduces descriptors
                            before k-means; here labels are found in all dimensions.)
        ``all-about-vlad``  k = 256, intra, L2; with a codebook of other images, call `adapt`
        ``delhumeau2013``   residuals of unit length before they are summed, rotated cell by
                            cell, power 0.2, L2
        ``anyloc``          k = 32, descriptors of unit length, labels by cosine, intra, L2
        ==================  ==================================================================

        Raises
        ------
        ParameterError
            If there is no such preset, or no name is given; lists the names.

        Examples
        --------
        >>> VLAD.preset("anyloc", n_clusters=8)
        VLAD(n_clusters=8, norm=('intra', 'l2'), metric='cosine')
        """
        check_parameter("preset", name, StrOptions(*_PRESETS))
        return cls(**(_PRESETS[name] | parameters))

    # -- training ---------------------------------------------------------------------

    @classmethod
    def from_centroids(
        cls, centroids: npt.ArrayLike, *, rotation: npt.ArrayLike | None = None, **parameters: Any
    ) -> Self:
        """Make a fitted estimator from a codebook made elsewhere.

        Parameters
        ----------
        centroids : (k, f) array_like
        rotation : (f, d) array_like, (k, f, f) for one to each cell, or None
        **parameters
            Parameters of the constructor, besides `n_clusters` and `rotation`.
        """
        centroid = as_array(on_host(centroids))
        if centroid.ndim != 2:
            raise ShapeError(f"centroids have shape {centroid.shape}, wanted (k, f)")
        k, f = centroid.shape
        dtype = float_dtype_for(centroid.dtype)
        centroid_kf = as_centroids(centroid, f, dtype)
        rotated = None
        if rotation is not None:
            given = as_array(on_host(rotation))
            if given.dtype.kind not in "fiu":
                raise InputError(f"rotation is {given.dtype}, wanted real numbers")
            rotated = np.ascontiguousarray(given, dtype=dtype)
            shape = rotated.shape
            if shape != (k, f, f) and not (rotated.ndim == 2 and shape[0] == f and shape[1] > 0):
                raise ShapeError(
                    f"rotation has shape {shape}, wanted (f, d) or (k, f, f) with f = {f}, k = {k}"
                )
            if not np.isfinite(rotated).all():
                raise NonFiniteError("rotation holds NaN or infinity")
        self = cls(n_clusters=k, rotation=_kind_of_rotation(rotated), **parameters)
        self.check_parameters()
        self._set_fitted(centroid_kf, rotated, float("nan"))
        return self

    def _train(self, reservoir: Reservoir) -> Self:
        fitted = train_codebook(
            reservoir.rows(),
            int(self.n_clusters),
            seed=self._seed(),
            n_iter=int(self.n_iter),
            n_jobs=self.n_jobs,
            cosine=self.metric == "cosine",
            rotation=self.rotation if isinstance(self.rotation, str | None) else int(self.rotation),
            unit=self.residual == "unit",
        )
        self._set_fitted(*fitted)
        return self

    def _fit_partitions(self, X: Any, *, cosine: bool = False) -> Moments:
        if isinstance(self.rotation, str):
            raise ParameterError(
                f"rotation={self.rotation!r} is learned from descriptors, which Dask's partitions "
                "do not give: use a number, or None"
            )
        moments = super()._fit_partitions(X, cosine=self.metric == "cosine")
        if self.rotation is not None:
            axis_fd = principal_axes(moments.scatter_ff, int(self.rotation))
            self.rotation_ = axis_fd.astype(self.centroids_.dtype)
        return moments

    def _move(self, centroid_kf: FloatArray, inertia: float) -> None:
        self._set_fitted(centroid_kf, self.rotation_, inertia)

    def _set_fitted(
        self,
        centroid_kf: FloatArray,
        rotation: FloatArray | None,
        inertia: float,
        label_kf: FloatArray | None = None,
    ) -> None:
        self.centroids_ = centroid_kf
        self.label_centroids_ = label_kf
        self.rotation_ = rotation
        self.inertia_ = inertia
        self.n_features_in_ = centroid_kf.shape[1]

    def check_parameters(self) -> None:
        """Raise ParameterError if a parameter is out of range, or does not fit the others."""
        super().check_parameters()
        resolve_steps(self.norm)
        resolve_n_jobs(self.n_jobs)
        is_hard = check_assign(self.assign, self.alpha, self.method) is None
        if self.residual == "unit" and not (is_hard and self.method == "auto"):
            raise ParameterError(
                "residual='unit' is computed in one way and for hard assignment: use "
                f"method='auto', assign='hard', not {self.method!r}, {self.assign!r}"
            )

    # -- encoding ---------------------------------------------------------------------

    def transform(self, X: Any) -> Any:
        """Compute one vector for each image.

        Returns
        -------
        vlad_tD : (t, D), D = n_clusters * d
            float64 if the descriptors are (or are 32-bit integers), else float32; a pandas
            or polars frame after ``set_output``. Of a Dask array or bag a Dask array, not yet
            computed.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InputError
            As `vladkit.encode`.
        """
        if is_partitioned(X):
            self._check_fitted()
            dtype = float_dtype_for(X.dtype) if hasattr(X, "dtype") else self.centroids_.dtype
            return transformed(self, X, dtype)
        return self._in_container(self._encode(X), X)

    def _encode(self, X: Any, **way: Any) -> FloatArray:
        """Vectors (t, D); `method` and `n_jobs` in `way` replace those of the estimator."""
        self._check_fitted()
        residual_tkf, count_tk = self._sums(
            as_sets(X), self._label_centroids(), self.centroids_, way
        )
        return self._finish(residual_tkf, count_tk)

    def words(self, local: Any) -> Int64Array:
        """Find the centroid that each descriptor of one image belongs to.

        Parameters
        ----------
        local : (l, f) array
            Descriptors like an element of `X`: as the codebook was learned from, not as stored.

        Returns
        -------
        label_l : (l,) int64
            0 to ``n_clusters - 1``; with soft assignment the centroid of the largest weight. Ties
            go to the lowest.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InputError
            As `vladkit.encode`.

        Notes
        -----
        O(l k f) time; at most about 70 MB besides the descriptors, for any number of them.

        Examples
        --------
        >>> import numpy as np
        >>> vlad = VLAD.from_centroids([[0.0, 0], [10, 0]])
        >>> vlad.words(np.array([[1.0, 1], [9, 0], [3, 1]]))
        array([0, 1, 0])
        """
        self._check_fitted()
        local_lf = as_array(on_host(local))
        batch = Ragged(local_lf, [0, *local_lf.shape[:1]])
        label_kf = as_centroids(self._label_centroids(), batch.n_features, batch.float_dtype)
        batch.check_finite()
        label_l = np.empty(batch.n_local, np.int64)
        step = max(1, _BLOCK_VALUES // batch.n_features)
        for begin in range(0, len(label_l), step):
            some_lf = batch.floats(0, 1, begin, begin + step)
            if self.metric == "cosine":
                some_lf = unit_rows(some_lf)
            label = nearest(some_lf, label_kf)
            if self.metric == "cosine":
                label[~some_lf.any(axis=1)] = 0
            label_l[begin : begin + step] = label
        return label_l

    def aggregate(self, X: Any) -> Aggregate:
        """Sum residuals and count descriptors of each image, for vectors of any centroids.

        Sums of the same images add up (``+``), and give their vectors for moved centroids
        (`adapt`, `transform_aggregate`) without the descriptors. Raises as `transform`, and
        ParameterError with ``residual="unit"``, whose sums cannot be moved.
        """
        return self._aggregate(X)

    def _aggregate(self, X: Any, **way: Any) -> Aggregate:
        """Sums and counts; `method` and `n_jobs` in `way` replace those of the estimator."""
        self._check_fitted()
        self._check_can_move()
        label_kf = self._label_centroids()
        residual_tkf, count_tk = self._sums(as_sets(X), label_kf, label_kf, way)
        return Aggregate(residual_tkf, count_tk, label_kf)

    def transform_aggregate(self, aggregate: Aggregate) -> Any:
        """Compute the vectors (t, D) of images that were aggregated, as `transform` would.

        Raises
        ------
        ParameterError
            If the sums were made with other centroids than this estimator finds labels with, or
            with ``residual="unit"``; InputError if they are no `Aggregate`.
        """
        self._check_fitted()
        self._check_can_move()
        self._check_made_here(aggregate)
        residual_tkf = aggregate.residual(self.centroids_)
        return self._in_container(self._finish(residual_tkf, aggregate.count_tk))

    def adapt(self, aggregates: Aggregate | Iterable[Aggregate]) -> Self:
        """Make a copy whose centroids are the means of the descriptors that were aggregated.

        For a codebook learned from other images than those it is used on: labels are still
        found with the centroids before, residuals taken to the new ones. A cell without
        descriptors keeps its centroid.

        Parameters
        ----------
        aggregates : Aggregate or iterable of them
            Sums by this estimator; read once, one after the other.

        Raises
        ------
        ParameterError
            As `transform_aggregate`, or if there is no aggregate at all.

        Examples
        --------
        >>> import numpy as np
        >>> vlad = VLAD.from_centroids([[0.0, 0], [10, 0]], norm="none")
        >>> sums = vlad.aggregate([np.array([[1.0, 1], [3, 1], [9, 0]])])
        >>> adapted = vlad.adapt(sums)
        >>> adapted.centroids_.tolist(), adapted.transform_aggregate(sums).tolist()
        ([[2.0, 1.0], [9.0, 0.0]], [[0.0, 0.0, 0.0, 0.0]])
        """
        self._check_fitted()
        self._check_can_move()
        several = [aggregates] if isinstance(aggregates, Aggregate) else aggregates
        mean_kf = adapted_centroids(map(self._check_made_here, several), self.centroids_)
        adapted = type(self)(**self.get_params(deep=False))
        adapted.set_output(**self.__dict__.get("_sklearn_output_config", {}))
        adapted._set_fitted(mean_kf, self.rotation_, float("nan"), self._own_label_centroids())
        return adapted

    def _own_label_centroids(self) -> FloatArray:
        """Centroids that labels are found by, with the lengths that they were learned with."""
        return self.centroids_ if self.label_centroids_ is None else self.label_centroids_

    def _label_centroids(self) -> FloatArray:
        label_kf = self._own_label_centroids()
        # of unit length, the nearest centroid is the one of largest cosine
        return unit_rows(label_kf) if self.metric == "cosine" else label_kf

    def _sums(
        self, batch: Ragged, label_kf: FloatArray, to_kf: FloatArray, way: dict[str, Any]
    ) -> tuple[FloatArray, AnyArray]:
        """Sums of residuals to the centroids `to_kf`, and counts; labels by `label_kf`."""
        part = [self._sums_of(*some, label_kf, to_kf, way) for some in self._prepared(batch)]
        if len(part) == 1:
            return part[0]
        residual, count = zip(*part, strict=True)
        return np.concatenate(residual), np.concatenate(count)

    def _sums_of(
        self,
        batch: Ragged,
        n_zero_t: Int64Array,
        label_kf: FloatArray,
        to_kf: FloatArray,
        way: dict[str, Any],
    ) -> tuple[FloatArray, AnyArray]:
        if self.residual == "unit":
            residual_tkf, count_tk = aggregate_unit(batch, label_kf, to_kf)
            first_f = unit_rows(to_kf[:1])[0]
        else:
            way = {"method": self.method, "n_jobs": self.n_jobs} | way
            residual_tkf, count_tk = aggregate(
                batch, label_kf, assign=self.assign, alpha=self.alpha, **way
            )
            first_f = label_kf[0]
        if n_zero_t.any():
            residual_tkf[:, 0] -= n_zero_t[:, None] * first_f
            count_tk[:, 0] += n_zero_t
        if to_kf is not label_kf and self.residual != "unit":
            residual_tkf = Aggregate(residual_tkf, count_tk, label_kf).residual(to_kf)
        return residual_tkf, count_tk

    def _prepared(self, batch: Ragged) -> Iterator[tuple[Ragged, Int64Array]]:
        """Batch itself; for cosine some images at a time, with descriptors of unit length.

        With hard assignment those of zeros are left out, and their number is given: their cosines
        are all 0, but their distances to centroids of unit length are equal to rounding only.
        """
        if self.metric != "cosine" or not len(batch):
            yield batch, np.zeros(len(batch), np.int64)
            return
        batch.check_finite()
        for _, some in batch.blocks(_BLOCK_VALUES * batch.float_dtype.itemsize):
            unit_Nf, start_T = unit_rows(some.floats(0, len(some))), some.start_T
            filled_N = unit_Nf.any(axis=1)
            if self.assign == "hard" and not filled_N.all():
                unit_Nf, start_T = unit_Nf[filled_N], np.append(0, np.cumsum(filled_N))[start_T]
            yield Ragged(unit_Nf, start_T), np.diff(some.start_T - start_T)

    def _finish(self, residual_tkf: FloatArray, count_tk: AnyArray) -> FloatArray:
        """Rotate and normalise residual sums; `residual_tkf` may be overwritten."""
        if self.rotation_ is not None:
            rotation = self.rotation_.astype(residual_tkf.dtype, copy=False)
            if rotation.ndim == 3:
                # A product for each image and cell, whose bits do not depend on the other images
                # (power 0.2 would make 0.001 of them). All images of a cell at once take half the
                # time: 0.05 ms for an image, k = 64 and f = 128.
                residual_tkf = (residual_tkf[:, :, None] @ rotation)[:, :, 0]
            else:
                # Residual sums are linear: rotating k sums is rotating every descriptor.
                residual_tkf = residual_tkf @ rotation
        return normalize(residual_tkf, count_tk, self.norm)

    def _check_can_move(self) -> None:
        if self.residual == "unit":
            raise ParameterError(
                "sums of residuals of unit length cannot be moved to other centroids: use "
                "residual='plain'"
            )

    def _check_made_here(self, aggregate: Aggregate) -> Aggregate:
        if not isinstance(aggregate, Aggregate):
            raise InputError(
                f"got an object of type {type(aggregate).__name__}, wanted sums, as `aggregate` "
                "makes them of images"
            )
        label_kf = self._label_centroids()
        theirs_kf = aggregate.centroid_kf
        if theirs_kf.shape != label_kf.shape or not np.array_equal(theirs_kf, label_kf):
            raise ParameterError(
                "the sums were made with other centroids than those of this estimator: aggregate "
                "with it, or with the one it was adapted from"
            )
        return aggregate

    @property
    def n_features_out(self) -> int:
        """Number of columns of the vectors that `transform` gives: k times d."""
        rotation = self.rotation_
        d = self.n_features_in_ if rotation is None else rotation.shape[-1]
        return len(self.centroids_) * d

    # -- keeping ----------------------------------------------------------------------

    def _state(self) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        about = self._plain_params()
        # what was learned, whatever set_params said since
        about["norm"] = list(resolve_steps(self.norm))
        about["n_clusters"] = len(self.centroids_)
        about["rotation"] = _kind_of_rotation(self.rotation_)
        about["inertia"] = None if np.isnan(self.inertia_) else self.inertia_
        arrays: dict[str, AnyArray] = {"centroids": self.centroids_}
        if self.rotation_ is not None:
            arrays["rotation"] = self.rotation_
        if self.label_centroids_ is not None:
            arrays["label_centroids"] = self.label_centroids_
        return about, arrays

    @classmethod
    def _from_state(cls, about: dict[str, Any], arrays: dict[str, AnyArray]) -> Self:
        inertia = about.pop("inertia", None)
        about["norm"] = tuple(about["norm"])
        self = cls.from_centroids(
            arrays["centroids"],
            rotation=arrays.get("rotation"),
            **{n: v for n, v in about.items() if n not in ("n_clusters", "rotation")},
        )
        label = arrays.get("label_centroids")
        if label is not None:
            label_kf = as_centroids(label, self.n_features_in_, self.centroids_.dtype)
            if label_kf.shape != self.centroids_.shape:
                raise ShapeError(f"label_centroids have shape {label.shape}")
            self.label_centroids_ = label_kf
        if self.n_clusters != about["n_clusters"] or self.rotation != about["rotation"]:
            raise FileFormatError(
                f"damaged {cls._kind}: its arrays hold {self.n_clusters} clusters and rotation "
                f"{self.rotation}, its header says {about['n_clusters']} and {about['rotation']}"
            )
        self.inertia_ = float("nan") if inertia is None else inertia
        return self


def _kind_of_rotation(rotation: FloatArray | None) -> int | str | None:
    if rotation is None:
        return None
    return "cell" if rotation.ndim == 3 else rotation.shape[1]
