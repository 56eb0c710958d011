"""`Ragged`: the form that all descriptors are brought to, and the door that validates them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import AnyArray, FloatArray, Int64Array, as_array
from vladkit.core.memmap import BLOCK_BYTES, is_mapped, release
from vladkit.errors import InputError, NonFiniteError, ShapeError

__all__ = [
    "Ragged",
    "as_centroids",
    "as_ragged",
    "checked_shape",
    "checked_start",
    "element_error",
    "float_dtype_for",
]

_RELEASE = 64
"""Blocks (of 1 MB) of `Ragged.check_finite` after which memory of a mapped file is given back."""

_ACCEPTED = "a (t, l, f) array, a list of (l_i, f) arrays, or a Ragged"
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


class Ragged:
    """Sets of local descriptors of any size each: all rows stacked, and where each set starts.

    Parameters
    ----------
    local_Nf : array_like, (N, f), any real number dtype
        The descriptors of all images, image after image. Not copied.
    start_T : array_like, (t + 1,), integer
        Fence posts: image ``i`` owns rows ``start_T[i]`` to ``start_T[i + 1]``.
        The first is 0, the last N; equal neighbours are an image without descriptors.

    Attributes
    ----------
    start_T : (t + 1,), int64
        Fence posts.
    n_features : int
        Dimension of a descriptor, f.
    dtype : numpy.dtype
        Type in which the descriptors are kept.
    float_dtype : numpy.dtype
        Type in which sums over them are computed and returned: float64 for float64 and for
        integers of 32 bits and more, else float32.

    Raises
    ------
    ShapeError
        If `local_Nf` is not 2-D with f >= 1, or `start_T` is not a rising sequence
        from 0 to N.
    InputError
        If the descriptors are not real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> batch = Ragged(np.arange(10.0).reshape(5, 2), [0, 2, 2, 5])
    >>> len(batch), batch.n_features, batch[1].shape
    (3, 2, (0, 2))
    >>> batch[[2, 0]]
    Ragged(2 images, 5 descriptors, 2 dimensions, float64)
    """

    __slots__ = ("_first", "_local_Nf", "_part", "dtype", "float_dtype", "n_features", "start_T")

    start_T: Int64Array
    n_features: int
    dtype: np.dtype[Any]
    float_dtype: np.dtype[Any]

    def __init__(self, local_Nf: npt.ArrayLike, start_T: npt.ArrayLike) -> None:
        local = as_array(local_Nf)
        if local.ndim != 2 or local.shape[1] == 0:
            raise ShapeError(
                f"local_Nf has shape {local.shape}, wanted (N, f) with f >= 1: "
                "one row per descriptor"
            )
        self._part: list[AnyArray] | None = None
        self._local_Nf: AnyArray | None = local
        self.start_T = checked_start(start_T, len(local))
        self._set_dtype(local.dtype, local.shape[1])

    @classmethod
    def from_list(cls, list_of_lf: Sequence[npt.ArrayLike | None]) -> Ragged:
        """Make a batch from one (l_i, f) array per image; the arrays are kept, not stacked.

        None and arrays of size 0 are images without descriptors (OpenCV gives None for a
        blank image), as long as one other image has f columns.

        Raises
        ------
        ShapeError
            If the list is empty or holds no descriptor dimension at all, an array is not
            2-D, or two arrays differ in dimension.

        Examples
        --------
        >>> import numpy as np
        >>> Ragged.from_list([np.ones((3, 4)), None, np.ones((1, 4))]).start_T
        array([0, 3, 3, 4])
        """
        part, f = _checked_parts(list_of_lf)
        dtype = np.result_type(*{p.dtype for p in part if p.size} or {p.dtype for p in part})
        return cls._from_parts(part, f, dtype)

    @classmethod
    def _uniform(cls, local_Nf: AnyArray, t: int, l: int) -> Ragged:
        self = object.__new__(cls)
        self._part = None
        self._local_Nf = local_Nf
        self.start_T = np.arange(0, t * l + 1, l) if l else np.zeros(t + 1, np.int64)
        self._set_dtype(local_Nf.dtype, local_Nf.shape[1])
        return self

    @classmethod
    def _from_parts(cls, part: list[AnyArray], f: int, dtype: np.dtype[Any]) -> Ragged:
        self = object.__new__(cls)
        self._part = part
        self._local_Nf = None
        self.start_T = np.zeros(len(part) + 1, np.int64)
        np.cumsum([len(p) for p in part], out=self.start_T[1:])
        self._set_dtype(dtype, f)
        return self

    def _set_dtype(self, dtype: np.dtype[Any], f: int) -> None:
        self._first = 0  # number of the first image of a block, for messages
        self.dtype = dtype
        self.float_dtype = float_dtype_for(dtype)
        self.n_features = f

    def __len__(self) -> int:
        return len(self.start_T) - 1

    def __repr__(self) -> str:
        return (
            f"Ragged({len(self)} images, {self.n_local} descriptors, "
            f"{self.n_features} dimensions, {self.dtype})"
        )

    @property
    def shape(self) -> tuple[int]:
        """Number of images, (t,): what scikit-learn's cross-validation counts."""
        return (len(self),)

    def __getitem__(self, key: Any) -> Any:
        """Descriptors (l, f) of one image, or a `Ragged` of several, without copies.

        Parameters
        ----------
        key : int, slice, array of int or of bool
            Images to take, as NumPy's index of an axis of t; scikit-learn's ``key, ...`` too.

        Raises
        ------
        IndexError
            If an image does not exist.
        """
        index = np.arange(len(self))[key]
        if not index.ndim:
            return self.image(int(index))
        if index.ndim > 1:
            raise IndexError(f"index of shape {index.shape}: wanted one axis of images")
        if len(index) and (np.diff(index) == 1).all():
            return self._between(int(index[0]), int(index[-1]) + 1)
        parts = [self.image(i) for i in index]
        return Ragged._from_parts(parts, self.n_features, self.dtype)

    def _between(self, begin: int, end: int) -> Ragged:
        """Batch of images `begin` to `end`, stacked if this one is."""
        if self._part is not None:
            some = Ragged._from_parts(self._part[begin:end], self.n_features, self.dtype)
        else:
            start_T = self.start_T[begin : end + 1]
            some = Ragged(self.local_Nf[start_T[0] : start_T[-1]], start_T - start_T[0])
        return some

    @property
    def n_local(self) -> int:
        """Number of descriptors of all images, N."""
        return int(self.start_T[-1])

    @property
    def local_Nf(self) -> AnyArray:
        """All descriptors in one array, (N, f); a list is stacked on first use."""
        if self._local_Nf is None:
            self._local_Nf = _stack(self._part or [], self.n_features, self.dtype)
            self._part = None
        return self._local_Nf

    def image(self, i: int) -> AnyArray:
        """Descriptors (l, f) of image `i`, in the type that they are kept in.

        Numbers below 0 count from the end; IndexError if the image does not exist.
        """
        if self._part is not None:
            return self._part[i]
        if i < 0:
            i = range(len(self))[i]
        return self.local_Nf[self.start_T[i] : self.start_T[i + 1]]

    def __iter__(self) -> Iterator[AnyArray]:
        return (self.image(i) for i in range(len(self)))

    def is_ready(self) -> bool:
        """Whether `floats` gives views: stacked, C-contiguous, native `float_dtype`."""
        local = self._local_Nf
        return local is not None and local.dtype == self.float_dtype and local.flags.c_contiguous

    def floats(
        self, start: int, stop: int, row_start: int = 0, row_stop: int | None = None
    ) -> FloatArray:
        """Descriptors of images `start` to `stop` in `float_dtype`; a view if `is_ready`.

        C-contiguous. With one image (``stop == start + 1``) its rows `row_start` to `row_stop`
        only.
        """
        if self._part is not None:
            chosen = self._part[start:stop]
            if stop == start + 1:
                chosen = [chosen[0][row_start:row_stop]]
            return _stack(chosen, self.n_features, self.float_dtype)
        first, last = int(self.start_T[start]), int(self.start_T[stop])
        if row_stop is not None:
            last = first + row_stop
        rows = self.local_Nf[first + row_start : last]
        return np.ascontiguousarray(rows, dtype=self.float_dtype)

    def is_mapped(self) -> bool:
        """Whether the descriptors are a file mapped into memory."""
        return self._local_Nf is not None and is_mapped(self._local_Nf)

    def release(self) -> None:
        """Give back the memory of pages of a mapped file; nothing for other batches."""
        if self._local_Nf is not None:
            release(self._local_Nf)

    def blocks(self, most_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, Ragged]]:
        """Images in order, some at a time: (number of the first, a batch without copies).

        As many as have at most `most_bytes` of descriptors as floats, and at least one. The
        memory of a mapped file is given back after each block.
        """
        t, start_T = len(self), self.start_T
        most_rows = max(1, most_bytes // (self.n_features * self.float_dtype.itemsize))
        begin = 0
        while begin < t:
            end = int(np.searchsorted(start_T, start_T[begin] + most_rows, side="right")) - 1
            end = min(max(end, begin + 1), t)
            some = self._between(begin, end)
            some._first = self._first + begin
            yield begin, some
            self.release()
            begin = end

    def check_finite(self) -> None:
        """Raise NonFiniteError at the first NaN or infinity, naming image and row.

        Reads everything once, in blocks; integers are not read.
        """
        if self.dtype.kind != "f":
            return
        step = max(1, 2**18 // self.n_features)  # blocks of about 1 MB of float32
        for i in range(len(self)) if self._part is not None else (-1,):
            rows_Nf = self.local_Nf if i < 0 else self.image(i)
            for begin in range(0, len(rows_Nf), step):
                finite = np.isfinite(rows_Nf[begin : begin + step])
                if not finite.all():
                    row = begin + int(np.argmin(finite.all(axis=1)))
                    self.raise_not_finite(row if i < 0 else row + int(self.start_T[i]))
                if i < 0 and begin % (step * _RELEASE) == 0:
                    self.release()
        self.release()

    def raise_not_finite(self, row_N: int) -> None:
        """Raise NonFiniteError for the descriptor in row `row_N` of all rows, or its image."""
        i = int(np.searchsorted(self.start_T, row_N, side="right")) - 1
        row = row_N - int(self.start_T[i])
        local_lf = self.image(i)
        local_f = local_lf[row]
        if np.isfinite(local_f).all():
            raise NonFiniteError(
                f"image {self._first + i} holds values up to {np.abs(local_lf).max():.3g}, whose "
                f"sums or products overflow {self.float_dtype}: scale the descriptors, or pass "
                "float64"
            )
        where = f"descriptor {row} of image {self._first + i}"
        column = int(np.argmin(np.isfinite(local_f)))
        raise NonFiniteError(
            f"{where} holds {local_f[column]} in dimension {column}: "
            "drop such descriptors, or fix them (numpy.nan_to_num), before encoding"
        )


def float_dtype_for(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Native dtype in which descriptors of `dtype` are summed (see `Ragged`)."""
    if dtype.kind not in "fiu":
        raise InputError(f"descriptors are {dtype}, wanted real numbers: float, or int as uint8")
    wide = dtype.itemsize >= (8 if dtype.kind == "f" else 4)
    return _FLOAT64 if wide else _FLOAT32


def as_ragged(local: Any) -> Ragged:
    """Check a user's `local` or `X` of any accepted form, as a `Ragged`.

    Raises
    ------
    ShapeError, InputError
        If it has no accepted form. NaN and infinity are not looked for here but where the
        values are read (`Ragged.check_finite`, or the kernel itself), so that a large batch
        is not read twice.
    """
    if isinstance(local, Ragged):
        return local
    if isinstance(local, (list, tuple)):
        return Ragged.from_list(local)
    array = as_array(local)
    if array.dtype == object and array.ndim == 1:
        return Ragged.from_list(list(array))
    if array.dtype == object and array.ndim == 0:
        fix = ": give list(x)" if hasattr(local, "__next__") else ""
        fix = ": give list(x.values())" if isinstance(local, Mapping) else fix
        got = "None" if local is None else f"an object of type {type(local).__name__}"
        raise InputError(f"got {got}, wanted {_ACCEPTED}{fix}")
    t, l, f = checked_shape(array.shape)
    if array.flags.c_contiguous:
        return Ragged._uniform(array.reshape(t * l, f), t, l)
    return Ragged._from_parts(list(array), f, array.dtype)


def checked_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """Shape (t, l, f) of an array of any library; ShapeError says how to reach it from another."""
    if len(shape) != 3:
        hint = {
            1: "one descriptor of one image is x[None, None, :]",
            2: "one image is x[None]; images of different sizes are a list of (l_i, f)",
            4: "maps (t, h, w, f) of a network are x.reshape(t, h * w, f), maps (t, f, h, w) are "
            "x.reshape(t, f, h * w).swapaxes(1, 2)",
        }.get(len(shape), "the axes are images, descriptors, dimensions")
        raise ShapeError(f"got an array of shape {tuple(shape)}, wanted {_ACCEPTED}: {hint}")
    t, l, f = shape
    if f == 0:
        raise ShapeError(f"got an array of shape {tuple(shape)}: descriptors have 0 dimensions")
    return t, l, f


def element_error(i: int, shape: Sequence[int]) -> ShapeError:
    """Error for element `i` of a list, which is not (l, f)."""
    hint = "one row per descriptor"
    if len(shape) == 3:
        hint = (
            "a map (h, w, f) of a network is x.reshape(h * w, f), a map (f, h, w) is "
            "x.reshape(f, h * w).T"
        )
    return ShapeError(f"element {i} of the list has shape {tuple(shape)}, wanted (l, f): {hint}")


def as_centroids(centroids: npt.ArrayLike, n_features: int, dtype: np.dtype[Any]) -> FloatArray:
    """Check centroids against the descriptors' dimension; C-contiguous, in `dtype`.

    Raises
    ------
    ShapeError
        If they are not (k, f) with k >= 1 and f = `n_features`.
    NonFiniteError
        If they hold NaN or infinity (also: a value too large for `dtype`).
    """
    centroid = as_array(centroids)
    if centroid.ndim != 2 or 0 in centroid.shape:
        raise ShapeError(
            f"centroids have shape {centroid.shape}, wanted (k, f) with k >= 1 and f = {n_features}"
        )
    if centroid.dtype.kind not in "fiu":
        raise InputError(f"centroids are {centroid.dtype}, wanted real numbers")
    if centroid.shape[1] != n_features:
        raise ShapeError(
            f"centroids have {centroid.shape[1]} dimensions, descriptors {n_features}: "
            "use one extractor for both"
        )
    if centroid.dtype == dtype:
        centroid_kf: FloatArray = np.ascontiguousarray(centroid)
    else:
        with np.errstate(over="ignore"):
            centroid_kf = np.ascontiguousarray(centroid, dtype=dtype)
    finite_kf = np.isfinite(centroid_kf)
    if not finite_kf.all():
        bad = int(np.argmin(finite_kf.all(axis=1)))
        raise NonFiniteError(
            f"centroid {bad} holds NaN, infinity or a value too large for "
            f"{dtype}: train the codebook again on finite descriptors"
        )
    return centroid_kf


def checked_start(start_T: npt.ArrayLike, n: int) -> Int64Array:
    """Check fence posts against the number of rows; ShapeError if they do not rise from 0 to n."""
    start = as_array(start_T)
    if start.ndim != 1 or len(start) == 0 or start.dtype.kind not in "iu":
        raise ShapeError(
            f"start_T has shape {start.shape} and dtype {start.dtype}, wanted t + 1 integers: "
            "0, then where each next image starts, last the number of rows"
        )
    start = start.astype(np.int64)
    if start[0] != 0 or start[-1] != n or (np.diff(start) < 0).any():
        raise ShapeError(
            f"start_T runs from {start[0]} to {start[-1]}, wanted a rising sequence from 0 to "
            f"the number of rows, {n}: numpy.concatenate([[0], numpy.cumsum(lengths)])"
        )
    return start


def _checked_parts(list_of_lf: Sequence[npt.ArrayLike | None]) -> tuple[list[AnyArray], int]:
    if not hasattr(list_of_lf, "__len__"):
        raise InputError(f"got an object of type {type(list_of_lf).__name__}, wanted a list")
    if len(list_of_lf) == 0:
        raise ShapeError(f"got an empty list, wanted {_ACCEPTED} with at least one image")
    array = [np.empty((0, 0), np.uint8) if p is None else as_array(p) for p in list_of_lf]
    f = 0
    for i, part_lf in enumerate(array):
        if part_lf.ndim == 2 and part_lf.shape[1] > 0:
            if f and part_lf.shape[1] != f:
                raise ShapeError(
                    f"image {i} has descriptors of {part_lf.shape[1]} dimensions, those before "
                    f"it {f}: use one extractor for all images"
                )
            f = part_lf.shape[1]
            float_dtype_for(part_lf.dtype)
        elif part_lf.size or part_lf.ndim == 0:
            raise element_error(i, part_lf.shape)
    if f == 0:
        raise ShapeError(
            f"none of the {len(array)} images has a descriptor, so their dimension is unknown: "
            "pass empty images as arrays of shape (0, f)"
        )
    empty = np.empty((0, f), next(p for p in array if p.ndim == 2 and p.shape[1]).dtype)
    return [part_lf if part_lf.size else empty for part_lf in array], f


def _stack(part: list[AnyArray], f: int, dtype: np.dtype[Any]) -> AnyArray:
    out_Nf = np.empty((sum(map(len, part)), f), dtype)
    if part:
        np.concatenate(part, out=out_Nf, casting="unsafe")
    return out_Nf
