"""`Whitening`: PCA of vectors, with the variances of its axes evened out in part or whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt

from vladkit.aggregation.base import Estimator
from vladkit.aggregation.partitions import is_partitioned, moments_of, transformed
from vladkit.core.arrays import AnyArray, Float32Array, FloatArray, as_array, is_made_by
from vladkit.core.backends import on_host
from vladkit.core.linalg import row_lengths, to_unit_length
from vladkit.core.params import Constraints, Interval
from vladkit.errors import FileFormatError, InputError, NonFiniteError, ParameterError, ShapeError

__all__ = ["Whitening"]

_BLOCK_VALUES: Final = 2**23
"""Values widened or centred at a time, to bound memory: 32 MB of float32, 64 MB of float64."""

_STEPS: Final = 2.0**25
_WIDENED: Final = 1024
"""Dimensions of axes that are widened to float64 together, so that they stay in the cache."""


class Whitening(Estimator):
    """PCA of vectors of unit length, to shorter ones of unit length, with optional whitening.

    Component i of the result is, before it is brought to unit length::

        z_i = sign(y_i) |y_i| ^ power,   y_i = u_i . (x - m) / variance_i ^ (exponent / 2)

    with m the mean of the training vectors, u_i their i-th principal axis and variance_i the
    variance along it.

    Parameters
    ----------
    n_components : int or None, default None
        d, the length of the result; None is as many as the training vectors have axes, one
        less than there are vectors, or D.
    exponent : float, 0 to 1, default 0
        Strength of whitening: 0 is PCA alone, with 1 all axes count the same. Axes of a small
        collection are its own groups of similar images, which whitening takes apart again. May be
        set after `fit`.
    power : float, above 0 to 1, default 0.8
        Power of the components after that; below 1 the few large ones of each vector count for
        less, 1 leaves them as they are. May be set after `fit`.
    sample_size : int, default 4096
        Most vectors that training uses, a uniform random sample, where they are longer than
        this; also the size of the largest matrix that is solved. Vectors that are shorter are
        all used.
    random_state : int or None, default 0
        Random seed of that sample; None draws one from NumPy's global generator.

    Attributes
    ----------
    mean_ : (D,) float32
    components_ : (d, D) float32
        Orthonormal rows, zeros where there is no variance; the sign is such that the largest value
        is positive.
    explained_variance_ : (d,) float64
        Variance of the training vectors along each axis, falling; divided by n - 1, as
        scikit-learn's.
    n_samples_ : int
        Number of training vectors that are not all zero.
    n_features_in_ : int
        Dimension of the training vectors, D.
    feature_names_in_ : (D,) object
        Names of the columns, where `fit` was given a frame whose names are text; `transform`
        refuses a frame with others.

    Notes
    -----
    A row's result does not depend on the other rows, but its last bits on how many there are: of a
    product of NumPy, about 2e-7 with the default `power` and 1e-5 with 0.2.

    Rows that are all zero are images without descriptors: they take no part in training, and stay
    zero. Vectors should have unit length, but nothing breaks if they have not.

    d axes need more than d vectors: n vectors less their mean span n - 1 dimensions at most, and
    `fit` refuses more: they would mean nothing. Equal vectors span less, which is no reason to
    fail; axes without variance are then zeros, and so are their components. The last of n - 1
    axes are chance, and no harm with exponent 0; but a third as many as there are vectors did
    better on every set that was measured.

    Vectors that the axes were not learned from have less along them. Brought to unit length, they
    are more similar to every query than those that they were learned from: where both are ranked
    together, these come too late (docs/results/defaults.md has figures). Learn from vectors that
    are not ranked, or from all that are.

    Training never holds a D x D matrix when n < D: the axes follow from the n x n matrix of
    inner products, U S^2 U' = C C', components = S^-1 U' C. Beyond `sample_size` vectors it takes
    a sample, or, where D is not above `sample_size`, adds up D x D moments of all of them. Memory
    is sample_size x D in the widest dtype of the blocks, and the matrix; time
    O(min(n, sample_size)^2 D). The solver is LAPACK's, through SciPy.

    References
    ----------
    Jégou, Chum: "Negative evidences and co-occurrences in image retrieval: the benefit of PCA and
    whitening", ECCV 2012 (exponent 1, power 1). docs/results/defaults.md has the measurements
    behind the defaults.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> vector_tD = rng.normal(size=(50, 400)).astype(np.float32)
    >>> vector_tD[7] = 0
    >>> short_td = Whitening(16).fit(vector_tD).transform(vector_tD)
    >>> short_td.shape, np.linalg.norm(short_td, axis=1).round(6)[[0, 7]].tolist()
    ((50, 16), [1.0, 0.0])
    """

    mean_: Float32Array
    components_: Float32Array
    explained_variance_: FloatArray
    n_samples_: int
    n_features_in_: int
    feature_names_in_: npt.NDArray[np.object_]

    _kind: ClassVar[str] = "vladkit whitening"
    _preserves_dtype: ClassVar[tuple[str, ...]] = ("float32",)

    def __init__(
        self,
        n_components: int | None = None,
        *,
        exponent: float = 0.0,
        power: float = 0.8,
        sample_size: int = 4096,
        random_state: int | None = 0,
    ) -> None:
        self.n_components = n_components
        self.exponent = exponent
        self.power = power
        self.sample_size = sample_size
        self.random_state = random_state

    _constraints: ClassVar[dict[str, Constraints]] = {
        "n_components": (Interval(int, 1), None),
        "exponent": Interval(float, 0, 1),
        "power": Interval(float, 0, 1, closed="right"),
        "sample_size": Interval(int, 2),
        "random_state": (Interval(int, 0), None),
    }

    # -- training ---------------------------------------------------------------------

    def fit(self, X: Any, y: object = None) -> Self:
        """Learn mean and axes.

        Parameters
        ----------
        X : (n, D) array, or an iterable of (n_i, D) blocks, float16, float32 or float64
            Blocks are read once, one after the other, and not all kept. Of a Dask array, or a bag
            of blocks, D x D moments of each partition are added up.

        Raises
        ------
        ParameterError
            If there are not more vectors (without those all zero) than `n_components`, or a
            parameter is out of range.
        InputError
            If fewer than 2 vectors are not zero, all are the same, or one is too small for float32;
            ShapeError, NonFiniteError for blocks that are not real (n, D) or hold NaN or infinity.
        """
        self._fit(X)
        return self

    def _fit(self, X: Any) -> FloatArray | None:
        """Fit, and give the inner products (n, n) of all vectors less their mean.

        None where these were not needed: of few dimensions, or more vectors than are learned from.
        """
        self.check_parameters()
        training = self._of_partitions(X) if is_partitioned(X) else None
        for block_nD in () if is_partitioned(X) else _blocks(X):
            if training is None:
                D = block_nD.shape[1]
                training = _Training(D, block_nD.dtype, int(self.sample_size), self._seed())
            training.add(_without_zero_rows(block_nD))
        if training is None or training.n_seen < 2:
            n = 0 if training is None else training.n_seen
            raise InputError(
                f"got {n} vectors that are not zero, wanted at least 2 to find an axis"
            )
        n, D = training.n_used, training.n_features
        most = min(n - 1, D)
        d = most if self.n_components is None else int(self.n_components)
        if d > most:
            raise ParameterError(
                f"n_components={d}, but {n} vectors of {D} dimensions have {most} axes: "
                f"n_components={most} at most, or fit on more vectors"
            )
        variance_d, component_dD = training.axes(d)
        # what rounding leaves of none: of an axis beside others, and of the mean of equal vectors
        mean_error = n * np.finfo(np.float64).eps * float(np.linalg.norm(training.mean_D))
        has_variance_d = variance_d > max(variance_d[0] * 1e-12, mean_error**2)
        if not has_variance_d.any():
            raise InputError(f"all {n} vectors are the same: there is no axis to find")
        variance_d[~has_variance_d] = 0
        component_dD[~has_variance_d] = 0
        if self.n_components is None:
            d = int(has_variance_d.sum())
        self.mean_ = training.mean_D.astype(np.float32)
        self.components_ = component_dD[:d]
        self.explained_variance_ = variance_d[:d]
        self.n_samples_ = training.n_seen
        self.n_features_in_ = D
        self._set_names(_column_names(X))
        return training.gram_nn if training.n_used == training.n_seen else None

    def _set_names(self, names: AnyArray | None) -> None:
        self.__dict__.pop("feature_names_in_", None)
        if names is not None:
            self.feature_names_in_ = names

    def _of_partitions(self, X: Any) -> _Training | None:
        found = moments_of(X, _filled_blocks)
        if found is None:
            return None
        D = len(found.mean_f)
        training = _Training(D, np.dtype(np.float64), D, 0)
        training.n_seen, training.mean_D = found.n, found.mean_f
        training._scatter_DD = found.scatter_ff
        return training

    # -- use --------------------------------------------------------------------------

    def transform(self, X: Any) -> Any:
        """Shorten vectors (n, D) to (n, d) of unit length; zero rows stay zero.

        Parameters
        ----------
        X : (n, D) array, float16, float32 or float64
            Widened to float32 a block of rows at a time.

        Returns
        -------
        short_nd : (n, d) float32
            Or a frame after ``set_output``; of a Dask array or bag a Dask array.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ShapeError, NonFiniteError
            If X is not (n, D), or holds NaN, infinity or values so large that products overflow.
        InputError
            If X is a frame with other columns than that of `fit`, or in another order; or a vector
            is too small for float32.
        """
        self._check_fitted()
        if is_partitioned(X):
            return transformed(self, X, np.float32)
        self._check_names(_column_names(X))
        return self._in_container(self._project(_checked(X))[0], X)

    def _check_names(self, names: AnyArray | None) -> None:
        own: AnyArray | None = self.__dict__.get("feature_names_in_")
        if own is None or names is None or np.array_equal(own, names):
            return
        for i, (name, wanted) in enumerate(zip(names, own, strict=False)):
            if name != wanted:
                raise InputError(
                    f"column {i} of X is {name!r}, that of fit was {wanted!r}: give the same "
                    "columns in the same order"
                )

    def _transform_alone(self, vector_nD: AnyArray) -> Float32Array:
        """Shorten vectors as `transform` does, each as if it were alone, to the last bit.

        Sums are exact, in whatever order BLAS adds them: values are rounded to multiples of 2^-25,
        and axes of float16 digits are multiples of 2^-24. Products are multiples of 2^-49, and of
        vectors of length 2 no sum reaches 2^4: float64 holds that. Takes 2.5 times as long.
        """
        return self._project(_checked(vector_nD), _exact_product)[0]

    def transform_views(self, view_qvD: AnyArray) -> Float32Array:
        """Shorten views (q, v, D) of images, as rotated ones, to (q, v, d) with one scale each.

        The longest view of an image gets unit length, and the others keep their length relative to
        it. A view that has little along the axes stays short. Brought to unit length on its own,
        as by `transform`, its chance similarities would grow with it: on images that were
        themselves indexed (Holidays) rotated views then push the right results out, mAP 0.72
        instead of 0.85.

        Raises
        ------
        NotFittedError, ShapeError, NonFiniteError
            As `transform`.

        Examples
        --------
        >>> import numpy as np
        >>> vector_tD = np.random.default_rng(0).normal(size=(50, 400))
        >>> whitening = Whitening(16).fit(vector_tD)
        >>> short_qvd = whitening.transform_views(np.stack([vector_tD, vector_tD[::-1]], axis=1))
        >>> np.linalg.norm(short_qvd, axis=2).max(axis=1).round(6).tolist() == [1.0] * 50
        True
        """
        view_qvD = as_array(on_host(view_qvD))
        if view_qvD.ndim != 3:
            raise ShapeError(f"got views of shape {view_qvD.shape}, wanted (q, v, D)")
        q, v, D = view_qvD.shape
        short_nd, length_n = self._project(_checked(view_qvD.reshape(q * v, D)))
        length_qv = length_n.reshape(q, v)
        longest_q1 = length_qv.max(axis=1, keepdims=True, initial=0)
        length_qv /= np.where(longest_q1 > 0, longest_q1, 1)
        short_qvd: Float32Array = short_nd.reshape(q, v, short_nd.shape[1])
        short_qvd *= length_qv[:, :, None]
        return short_qvd

    def _project(
        self,
        vector_nD: AnyArray,
        product: Callable[[FloatArray, FloatArray], FloatArray] = np.matmul,
    ) -> tuple[Float32Array, Float32Array]:
        """Short vectors of unit length, and the lengths of their unscaled projections."""
        self._check_fitted()
        self.check_parameters()
        if vector_nD.shape[1] != self.n_features_in_:
            raise ShapeError(
                f"X has {vector_nD.shape[1]} dimensions, the whitening was fitted on "
                f"{self.n_features_in_}: use vectors of the same codebook"
            )
        # relative to the strongest axis: the scale of all does not matter
        variance_d = self.explained_variance_ / self.explained_variance_[0]
        variance_d[variance_d == 0] = 1  # an axis of zeros
        scale_d = (variance_d ** (-self.exponent / 2)).astype(np.float32)
        short_nd = np.empty((len(vector_nD), len(self.components_)), np.float32)
        length_n = np.empty(len(vector_nD), np.float32)
        begin = 0
        for block_nD in _slices(vector_nD):
            wide_nD = block_nD.astype(np.float32)
            filled_n: Any = wide_nD.any(axis=1, keepdims=True)
            rows = slice(begin, begin + len(block_nD))
            short = short_nd[rows]
            with np.errstate(over="ignore", invalid="ignore"):
                wide_nD -= self.mean_
                short[...] = product(wide_nD, self.components_.T)
            if not np.isfinite(short).all():
                row = begin + int(np.argmin(np.isfinite(short).all(axis=1)))
                raise NonFiniteError(
                    f"vector {row} holds values whose products with the axes overflow float32: "
                    "scale all vectors"
                )
            short *= filled_n
            length_n[rows] = row_lengths(short)
            short *= scale_d
            if self.power != 1:
                np.copysign(np.abs(short) ** np.float32(self.power), short, out=short)
            to_unit_length(short)
            begin += len(block_nD)
        return short_nd, length_n

    @property
    def n_features_out(self) -> int:
        """Number of columns of the vectors that `transform` gives: d."""
        return len(self.components_)

    def __sklearn_is_fitted__(self) -> bool:
        return "components_" in self.__dict__

    # -- keeping ----------------------------------------------------------------------

    def _state(self) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        about = self._plain_params()
        about["n_components"] = len(self.components_)
        about["n_samples"] = self.n_samples_
        arrays: dict[str, AnyArray] = {
            "mean": self.mean_,
            "components": self.components_,
            "explained_variance": self.explained_variance_,
        }
        if "feature_names_in_" in self.__dict__:
            arrays["feature_names"] = self.feature_names_in_.astype(str)  # objects are pickled
        return about, arrays

    @classmethod
    def _from_state(cls, about: dict[str, Any], arrays: dict[str, AnyArray]) -> Self:
        n_samples = int(about.pop("n_samples"))
        self = cls(**about)
        self.check_parameters()
        mean_D = np.ascontiguousarray(arrays["mean"], np.float32)
        component_dD = np.ascontiguousarray(arrays["components"], np.float32)
        variance_d = np.ascontiguousarray(arrays["explained_variance"], np.float64)
        (D,), (d,) = mean_D.shape, variance_d.shape
        if component_dD.shape != (d, D) or d != self.n_components:
            raise FileFormatError(
                f"damaged {cls._kind}: components {component_dD.shape}, variances {d}, mean {D}, "
                f"n_components={self.n_components}"
            )
        finite = all(np.isfinite(a).all() for a in (mean_D, component_dD, variance_d))
        if not finite or not d or variance_d[0] <= 0 or not (variance_d >= 0).all():
            raise FileFormatError(f"damaged {cls._kind}: values not finite, or negative variance")
        self.mean_, self.components_, self.explained_variance_ = mean_D, component_dD, variance_d
        self.n_samples_, self.n_features_in_ = n_samples, D
        names = arrays.get("feature_names")
        if names is not None and (names.shape != (D,) or names.dtype.kind != "U"):
            raise FileFormatError(f"damaged {cls._kind}: feature_names are no {D} texts")
        self._set_names(None if names is None else names.astype(object))
        return self


def _column_names(X: Any) -> AnyArray | None:
    """Names of a frame's columns, if all are text, as scikit-learn takes them."""
    if not any(is_made_by(library, "DataFrame", X) for library in ("pandas", "polars")):
        return None
    names = list(X.columns)
    if not names or not all(isinstance(name, str) for name in names):
        return None
    return np.array(names, object)


def _exact_product(wide_nD: FloatArray, axis_Dd: FloatArray) -> FloatArray:
    """Product of rows and axes in float64, see `Whitening._transform_alone`."""
    step_nD = np.rint(wide_nD * np.float32(_STEPS)).astype(np.float64)
    total_nd = np.zeros((len(wide_nD), axis_Dd.shape[1]))
    for begin in range(0, len(axis_Dd), _WIDENED):
        part = slice(begin, begin + _WIDENED)
        total_nd += step_nD[:, part] @ axis_Dd[part].astype(np.float64)
    total_nd /= _STEPS
    return total_nd


class _Training:
    """Data that the axes follow from: the rows, a sample of them, or their D x D moments.

    Rows are kept while there are few. When there are more than `sample_size`, each new one
    replaces a kept one by chance (Vitter's algorithm R), so that the kept ones are a uniform
    sample however the rows were cut into blocks. Rows no longer than `sample_size` are instead
    added up into moments once there are more rows than dimensions: nothing is then left out.
    """

    def __init__(self, n_features: int, dtype: np.dtype[Any], sample_size: int, seed: int) -> None:
        self.n_features = n_features
        self.n_seen = 0
        self.mean_D: FloatArray = np.zeros(n_features)
        self._sums_up = n_features <= sample_size
        self._capacity = n_features if self._sums_up else sample_size
        # not touched, so not in memory, before it is filled
        self._row_sD = np.empty((self._capacity, n_features), dtype)
        self._n_kept = 0
        self._scatter_DD: FloatArray | None = None
        self.gram_nn: FloatArray | None = None
        self._random = np.random.default_rng(seed)

    @property
    def n_used(self) -> int:
        """Number of rows that the axes follow from."""
        return self.n_seen if self._scatter_DD is not None else self._n_kept

    def add(self, block_nD: AnyArray) -> None:
        """Add rows that are finite and not zero."""
        D = self.n_features
        if block_nD.shape[1] != D:
            raise ShapeError(f"a block has {block_nD.shape[1]} dimensions, those before it {D}")
        room = self._capacity - self._n_kept if self._scatter_DD is None else 0
        some_nD, rest_nD = block_nD[:room], block_nD[room:]
        dtype = np.result_type(self._row_sD, block_nD)
        if dtype != self._row_sD.dtype:
            kept_sD, self._row_sD = self._row_sD, np.empty(self._row_sD.shape, dtype)
            self._row_sD[: self._n_kept] = kept_sD[: self._n_kept]
        self._row_sD[self._n_kept : self._n_kept + len(some_nD)] = some_nD
        self._n_kept += len(some_nD)
        n_before = self.n_seen + len(some_nD)
        self.n_seen += len(block_nD)
        if len(rest_nD) and self._sums_up:
            if self._scatter_DD is None:
                self._scatter_DD = np.zeros((D, D))
                self._sum_up(self._row_sD[: self._n_kept], 0)
                self._row_sD = self._row_sD[:0]
                self._n_kept = 0
            self._sum_up(rest_nD, n_before)
        elif len(rest_nD):
            rank_n = np.arange(n_before + 1, self.n_seen + 1)
            place_n = (self._random.random(len(rest_nD)) * rank_n).astype(np.int64)
            for i in np.flatnonzero(place_n < self._capacity):
                self._row_sD[place_n[i]] = rest_nD[i]

    def _sum_up(self, rows_nD: AnyArray, n_before: int) -> None:
        """Merge mean and scatter of new rows with those of the rows before (Chan et al. 1979)."""
        scatter_DD = self._scatter_DD
        assert scatter_DD is not None
        for block_nD in _slices(rows_nD):
            wide_nD = block_nD.astype(np.float64)
            n = len(wide_nD)
            mean_D = wide_nD.mean(axis=0)
            wide_nD -= mean_D
            scatter_DD += wide_nD.T @ wide_nD
            step_D = mean_D - self.mean_D
            scatter_DD += np.outer(step_D, step_D * (n * n_before / (n + n_before)))
            self.mean_D += step_D * (n / (n + n_before))
            n_before += n

    def axes(self, d: int) -> tuple[FloatArray, Float32Array]:
        """Variance (d,) and direction (d, D) of the strongest axes.

        Sets `mean_D` and, where the rows are kept, `gram_nn`: their inner products less the mean.
        """
        if self._scatter_DD is not None:
            square_d, axis_Dd = strongest_axes(self._scatter_DD, d)
            component_dD = axis_Dd.T.astype(np.float32)
        else:
            row_sD = self._row_sD[: self._n_kept]
            gram_ss = np.zeros((len(row_sD), len(row_sD)))
            step = max(1, _BLOCK_VALUES // len(row_sD))
            columns = [slice(i, i + step) for i in range(0, self.n_features, step)]
            for some in columns:
                wide_sD = row_sD[:, some].astype(np.float64)
                self.mean_D[some] = wide_sD.mean(axis=0)
                wide_sD -= self.mean_D[some]
                gram_ss += wide_sD @ wide_sD.T
            self.gram_nn = gram_ss
            square_d, axis_sd = strongest_axes(gram_ss, d)
            component_dD = np.empty((d, self.n_features), np.float32)
            axis_sd /= np.sqrt(np.maximum(square_d, square_d[0] * 1e-15 or 1.0))
            for some in columns:
                wide_sD = row_sD[:, some].astype(np.float64) - self.mean_D[some]
                component_dD[:, some] = axis_sd.T @ wide_sD
        peak_d = np.argmax(np.abs(component_dD), axis=1)
        component_dD *= np.sign(component_dD[np.arange(d), peak_d])[:, None]
        return square_d / (self.n_used - 1), component_dD


def strongest_axes(matrix_nn: FloatArray, d: int) -> tuple[FloatArray, FloatArray]:
    """Largest d eigenvalues, falling, none below 0, and their vectors as columns."""
    from scipy.linalg import eigh

    n = len(matrix_nn)
    value_d, vector_nd = eigh(matrix_nn, subset_by_index=[n - d, n - 1])
    return np.maximum(value_d[::-1], 0), vector_nd[:, ::-1].copy()


def _blocks(X: Any) -> Iterator[AnyArray]:
    """Checked blocks of bounded size, of an array or of an iterable of blocks."""
    if hasattr(X, "__array__"):
        yield from _slices(_checked(X))
        return
    if not isinstance(X, Iterable):
        raise InputError(f"got {type(X).__name__}, wanted an (n, D) array or an iterable of them")
    for i, block in enumerate(X):
        yield from _slices(_checked(block), f" of block {i}")


def _filled_blocks(part: Any) -> Iterator[AnyArray]:
    """Vectors of a partition that are not zero, some at a time; of a bag each item is a block."""
    return map(_without_zero_rows, _blocks(part))


def _slices(vector_nD: AnyArray, where: str = "") -> Iterator[AnyArray]:
    """Blocks of bounded size; `where` says what the rows are of, for messages."""
    step = max(1, _BLOCK_VALUES // vector_nD.shape[1])
    for begin in range(0, len(vector_nD), step):
        block_nD = vector_nD[begin : begin + step]
        with np.errstate(over="ignore", under="ignore"):
            single_nD = block_nD.astype(np.float32, copy=False)
        finite_nD = np.isfinite(single_nD)
        if not finite_nD.all():
            row = begin + int(np.argmin(finite_nD.all(axis=1)))
            raise NonFiniteError(
                f"vector {row}{where} holds NaN, infinity or a value too large for float32: drop "
                "or fix it"
            )
        if single_nD is not block_nD:
            zero_n = np.flatnonzero(~single_nD.any(axis=1))
            small_n = zero_n[block_nD[zero_n].any(axis=1)]
            if len(small_n):
                raise InputError(
                    f"vector {begin + int(small_n[0])}{where} is 0 in float32, which whitening "
                    "computes in: scale all vectors"
                )
        yield block_nD


def _checked(vectors: Any) -> AnyArray:
    vector_nD = as_array(on_host(vectors))
    if vector_nD.ndim != 2 or vector_nD.shape[1] == 0:
        raise ShapeError(
            f"got an array of shape {vector_nD.shape}, wanted (n, D): one row per vector"
        )
    if vector_nD.dtype.kind not in "fiu":
        raise InputError(f"vectors are {vector_nD.dtype}, wanted real numbers")
    if vector_nD.dtype.kind != "f":
        return vector_nD.astype(np.float64)
    return vector_nD


def _without_zero_rows(block_nD: AnyArray) -> AnyArray:
    filled_n = block_nD.any(axis=1)
    return block_nD if filled_n.all() else block_nD[filled_n]
