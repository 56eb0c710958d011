"""`Codes`: words and codes of images, stacked; what `ASMK` makes of descriptors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import AnyArray, Int64Array, as_array
from vladkit.core.ragged import checked_start
from vladkit.errors import InputError, ParameterError, ShapeError

__all__ = ["Codes"]


class Codes:
    """Words of images with a code each, sparse: a row for each word that an image has.

    Parameters
    ----------
    start_T : (t + 1,) integers
        Fence posts: image ``i`` owns rows ``start_T[i]`` to ``start_T[i + 1]``; the first is 0, the
        last N. Equal neighbours are an image without words.
    word_N : (N,) integers from 0
        Words of each image, rising.
    code_Nb : (N, b) uint8, b a multiple of 8; or (N, d) float32 or float16
        Bits of the code, packed, the first one highest, with zeros after the last; or numbers.
    angle_N : (N,) uint8 or None
        Mean direction of the word's features, in 256ths of a turn.

    Attributes
    ----------
    start_T, word_N, code_Nb, angle_N : arrays
        The four, as int64, int32, as given, uint8; they may be read only.
    n_words : int
        One more than the highest word.

    Raises
    ------
    ShapeError
        If the arrays do not fit together.
    InputError
        If words do not rise within an image, or a dtype is another one.

    Notes
    -----
    A binary code of 128 bits takes 21 bytes with its word and its angle: 20 KB for an image of
    1,000 words.

    Examples
    --------
    >>> import numpy as np
    >>> codes = Codes([0, 2, 2, 3], [4, 7, 4], np.zeros((3, 16), np.uint8))
    >>> codes, codes[0].word_N.tolist(), codes.image_N.tolist()
    (Codes(3 images, 3 words, 128 bits), [4, 7], [0, 0, 2])
    """

    __slots__ = (
        "_lists", "_n_queries", "_origin", "angle_N", "code_Nb", "n_words", "start_T", "word_N",
    )  # fmt: skip

    start_T: Int64Array
    word_N: npt.NDArray[np.int32]
    code_Nb: AnyArray
    angle_N: npt.NDArray[np.uint8] | None
    n_words: int
    _lists: Any
    _n_queries: int
    _origin: bytes | None

    def __init__(
        self,
        start_T: npt.ArrayLike,
        word_N: npt.ArrayLike,
        code_Nb: npt.ArrayLike,
        angle_N: npt.ArrayLike | None = None,
    ) -> None:
        word, code = as_array(word_N), as_array(code_Nb)
        angle = None if angle_N is None else as_array(angle_N)
        shapes = [word.shape, code.shape[:1]] + ([] if angle is None else [angle.shape])
        if code.ndim != 2 or 0 in code.shape[1:] or any(s != shapes[1] for s in shapes):
            shown = ", ".join(str(s) for s in [word.shape, code.shape, *shapes[2:]])
            raise ShapeError(
                f"words, codes and angles have shapes {shown}: wanted (N,), (N, b), (N,)"
            )
        self.start_T = _read_only(checked_start(start_T, len(word)), np.dtype(np.int64))
        if len(word) and (word.dtype.kind not in "iu" or word.min() < 0 or word.max() >= 2**31 - 1):
            raise InputError(f"words are {word.dtype}, wanted integers from 0, below 2^31 - 1")
        self.word_N = _read_only(word, np.dtype(np.int32))
        if not _rises(self.word_N, self.start_T):
            raise InputError("words do not rise within an image: sort its rows by word, each once")
        if code.dtype not in (np.uint8, np.float32, np.float16):
            raise InputError(f"codes are {code.dtype}, wanted uint8, float32 or float16")
        if code.dtype == np.uint8 and code.shape[1] % 8:
            raise ShapeError(
                f"codes have {code.shape[1]} bytes: wanted a multiple of 8, with zeros"
            )
        self.code_Nb = _read_only(code, code.dtype)
        if angle is not None and angle.dtype != np.uint8:
            raise InputError(f"angles are {angle.dtype}, wanted uint8: 256ths of a turn")
        self.angle_N = None if angle is None else _read_only(angle, angle.dtype)
        self.n_words = int(self.word_N.max(initial=-1)) + 1
        self._lists = None  # rows by word, which vladkit.kernels.selective makes for many queries
        self._n_queries = 0
        self._origin = None  # digest of the codebook, where an ASMK has made them

    def __reduce__(self) -> tuple[Any, ...]:
        given = self.start_T, self.word_N, self.code_Nb, self.angle_N
        return Codes, given, (None, {"_origin": self._origin})

    def __array__(self, *_: object, **__: object) -> AnyArray:
        raise InputError(f"got {self!r}, wanted an array: codes are for ASMK, which compares them")

    @classmethod
    def concatenate(cls, several: Sequence[Codes]) -> Codes:
        """Join the images of several, one at least, in order.

        Raises
        ------
        ParameterError
            If there are none, or they are of different kinds: bits or numbers, how many, with or
            without angles, of which codebook.
        """
        if not several:
            raise ParameterError("got no codes, wanted at least those of one batch")
        first = several[0]
        for each in several:
            first.check_kind(each)
        angle = [each.angle_N for each in several if each.angle_N is not None]
        lengths = np.concatenate([np.diff(each.start_T) for each in several])
        joined = cls(
            np.append(0, np.cumsum(lengths)),
            np.concatenate([each.word_N for each in several]),
            np.concatenate([each.code_Nb for each in several]),
            np.concatenate(angle) if angle else None,
        )
        if all(each._origin == first._origin for each in several):
            joined._origin = first._origin
        return joined

    def check_kind(self, other: Codes) -> None:
        """Raise ParameterError if codes of the two cannot be compared."""
        mine, theirs = self._kind(), other._kind()
        if mine != theirs:
            raise ParameterError(
                f"codes of {mine} and of {theirs} do not fit: make both in one way"
            )
        if None not in (self._origin, other._origin) and self._origin != other._origin:
            raise ParameterError("codes of two codebooks do not fit: make both with one ASMK")

    def _kind(self) -> str:
        b, kind = self.code_Nb.shape[1], self.code_Nb.dtype
        size = f"{8 * b} bits" if kind == np.uint8 else f"{b} {kind}"
        return size if self.angle_N is None else f"{size} with angles"

    def __len__(self) -> int:
        return len(self.start_T) - 1

    @property
    def shape(self) -> tuple[int]:
        """Number of images, (t,)."""
        return (len(self),)

    @property
    def image_N(self) -> Int64Array:
        """Image of each row, (N,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.start_T))

    def __getitem__(self, key: Any) -> Codes:
        """Codes of one image or of several, as NumPy's index of an axis of t; still `Codes`.

        Raises
        ------
        IndexError
            If an image does not exist.
        """
        image_M = np.atleast_1d(np.arange(len(self))[key])
        row, length = rows_of(self.start_T, image_M)
        angle = None if self.angle_N is None else self.angle_N[row]
        start_T = np.append(0, np.cumsum(length))
        some = Codes(start_T, self.word_N[row], self.code_Nb[row], angle)
        some._origin = self._origin
        return some

    def __iter__(self) -> Iterator[Codes]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Codes({len(self)} images, {len(self.word_N)} words, {self._kind()})"


def rows_of(start_T: Int64Array, image_M: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Rows of some images, one image after the other, and how many each has."""
    length_M = start_T[image_M + 1] - start_T[image_M]
    end_M = np.cumsum(length_M)
    row = np.arange(end_M[-1] if len(end_M) else 0)
    return row + np.repeat(start_T[image_M] - end_M + length_M, length_M), length_M


def _read_only(array: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    """The array as compiled loops read it: one kind of array, whether the given one is writable."""
    view = np.require(array, dtype, ["C", "A"]).view()
    view.flags.writeable = False
    return view


def _rises(word_N: AnyArray, start_T: Int64Array) -> bool:
    falls = word_N[1:] <= word_N[:-1]
    first_T = start_T[1:-1]
    falls[first_T[(first_T > 0) & (first_T < len(word_N))] - 1] = False
    return not falls.any()
