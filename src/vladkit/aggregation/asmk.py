"""`ASMK`: selective match kernels, codes of the words of images and their similarity."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from vladkit.aggregation.codebook import Reservoir, train_centroids, train_words
from vladkit.aggregation.coding import (
    as_angles,
    bytes_of,
    numbers,
    packed,
    random_rotation,
    sums_of_words,
)
from vladkit.aggregation.partitions import refuse_partitions
from vladkit.aggregation.trained import Trained
from vladkit.core.arrays import AnyArray, FloatArray, Int64Array, as_array
from vladkit.core.backends import as_sets, on_host
from vladkit.core.codes import Codes
from vladkit.core.params import Constraints, Interval, StrOptions, check_parameter
from vladkit.core.ragged import Ragged, as_centroids, float_dtype_for
from vladkit.core.threads import for_each, resolve_n_jobs
from vladkit.errors import FileFormatError, ParameterError, ShapeError
from vladkit.kernels import reduce
from vladkit.kernels.nearest import nearest
from vladkit.kernels.selective import (
    Selectivity,
    best_turn,
    fence_of_blocks,
    lists_for,
    sums_of_common,
)
from vladkit.kernels.words import WordSearch

__all__ = ["ASMK"]


class ASMK(Trained):
    """Selective match kernel of aggregated descriptors: which words two images share, and how well.

    The residual sum of each word of an image, as `VLAD` has it for a small codebook, becomes a
    code of its own. Two images are as similar as the codes of the words that they share:

        K(X, Y) = sum over common words of s(u) / sqrt(n_X n_Y),    s(u) = u^alpha for u >= tau

    with u the cosine of the two sums, or ``1 - 2 h / B`` of their B bits, which differ in h, and n
    the number of words of an image.

    Parameters
    ----------
    n_clusters : int, default 16384
        Number of words, k.
    binary : bool, default True
        Codes are signs of the rotated sums; else sums of unit length.
    n_bits : int or None, default None
        Bits of a code, B; None is f.
    rotation : {"random"} or None, default "random"
        Rotation before signs are taken. None is for descriptors that have been rotated, as by PCA.
    code_dtype : {"float32", "float16"}, default "float32"
        Type of codes that are not binary.
    alpha : float, default 3
        Exponent: the higher, the more a good match counts against many weak ones.
    tau : float, default 0
        Least similarity of codes that counts.
    n_assign : int, default 1
        Number of words that a query's descriptor is assigned to; 5 find more, in twice the time.
        Images that are searched have one.
    idf : bool, default False
        Weigh a word by ``log(images / images that have it) ^ 2``; `fit` counts.
    rotated : bool, default False
        Similarity of the best of four quarter turns of a query, which needs angles of features.
    n_cells : int or None, default None
        Cells of the codebook's first level; None is the root of k from 1,024 words on, else 1.
    n_probes : int or None, default 8
        Number of cells nearest to a descriptor in which its word is looked for; None compares
        all words.
    sample_size : int or None, default None
        Number of descriptors that training uses, a uniform random sample of all that `fit` is
        given. None is 40 for each word.
    n_iter : int, default 15
        Number of k-means iterations of each level.
    n_jobs : int or None, default None
        Threads of training and of similarities. (Words are found by products of NumPy.)
    random_state : int or None, default 0
        Random seed of sample, k-means and rotation; see `VLAD`.

    Attributes
    ----------
    centroids_ : (k, f)
        Words.
    cells_ : (c, f)
        Centres of the cells.
    cell_of_word_ : (k,) int64
        Cell of each word.
    rotation_ : (f, B) float32 or None
        Orthonormal columns; rows if B > f.
    idf_ : (k,) float64 or None
        Weights of words; 1 for those that no image has.
    inertia_ : float
        Mean squared L2 distance of the sample's descriptors to the nearest word of their cell.
    codes_ : Codes or None
        Images of `add`.
    n_features_in_ : int
        Dimension of the descriptors, f.

    Notes
    -----
    ``X`` is given as to `VLAD`, or as `Codes` that `transform` made. Directions of features, in
    degrees, go beside it as ``angle``: a number for each descriptor, in an array (N,) or (t, l) or
    a list of (l_i,). A code then has their mean in one byte, and a pair counts
    ``exp(cos(difference) - 1)`` times, with the difference in steps of 22.5 degrees.

    An image has similarity 1 with itself, and one without descriptors 0 with all; so has, with
    `idf`, one whose words are in every image that `fit_idf` was given. Where the
    residuals of a word sum to 0, its binary code is all zeros; as numbers it matches nothing, but
    counts in n.

    References
    ----------
    Tolias, Avrithis, Jégou: "To aggregate or not to aggregate: selective match kernels for image
    search", ICCV 2013; "Image search with selective match kernels: aggregation across single and
    multiple images", IJCV 2016. As in the code of Jenicek and Tolias (github.com/jenicek/asmk)
    u = tau counts, and n is a number of words; its binary codes have no rotation.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> images = [rng.normal(size=(n, 64)) for n in (50, 0, 70)]
    >>> asmk = ASMK(n_clusters=30).fit(images)
    >>> codes = asmk.transform(images)
    >>> codes[1:]
    Codes(2 images, 24 words, 64 bits)
    >>> asmk.similarity(codes).diagonal().tolist()
    [1.0, 0.0, 1.0]
    """

    centroids_: FloatArray
    cells_: FloatArray
    cell_of_word_: Int64Array
    rotation_: FloatArray | None
    idf_: FloatArray | None
    inertia_: float
    codes_: Codes | None

    _constraints: ClassVar[dict[str, Constraints]] = {
        "n_clusters": Interval(int, 1, 2**31 - 2),
        "binary": bool,
        "n_bits": (Interval(int, 1, 2**16), None),
        "rotation": (StrOptions("random"), None),
        "code_dtype": StrOptions("float32", "float16"),
        "alpha": Interval(float, 0),
        "tau": Interval(float, 0, 1),
        "n_assign": Interval(int, 1),
        "idf": bool,
        "rotated": bool,
        "n_cells": (Interval(int, 1), None),
        "n_probes": (Interval(int, 1), None),
        "sample_size": (Interval(int, 1), None),
        "n_iter": Interval(int, 1, 2**31 - 1),
        "random_state": (Interval(int, 0), None),
    }
    _kind: ClassVar[str] = "vladkit ASMK"
    _learned: ClassVar[tuple[str, ...]] = (
        "centroids_", "cells_", "cell_of_word_", "rotation_", "idf_", "inertia_", "codes_",
    )  # fmt: skip
    _rows_per_cluster: ClassVar[int] = 40
    _word_search: WordSearch

    def __init__(
        self,
        n_clusters: int = 16_384,
        *,
        binary: bool = True,
        n_bits: int | None = None,
        rotation: str | None = "random",
        code_dtype: str = "float32",
        alpha: float = 3.0,
        tau: float = 0.0,
        n_assign: int = 1,
        idf: bool = False,
        rotated: bool = False,
        n_cells: int | None = None,
        n_probes: int | None = 8,
        sample_size: int | None = None,
        n_iter: int = 15,
        n_jobs: int | None = None,
        random_state: int | None = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.binary = binary
        self.n_bits = n_bits
        self.rotation = rotation
        self.code_dtype = code_dtype
        self.alpha = alpha
        self.tau = tau
        self.n_assign = n_assign
        self.idf = idf
        self.rotated = rotated
        self.n_cells = n_cells
        self.n_probes = n_probes
        self.sample_size = sample_size
        self.n_iter = n_iter
        self.n_jobs = n_jobs
        self.random_state = random_state

    # -- training ---------------------------------------------------------------------

    def fit(self, X: Any, y: object = None) -> Self:
        """Learn the codebook from all images of `X`, and with `idf` their weights of words.

        Raises
        ------
        InputError, ParameterError
            As `VLAD.fit`.
        """
        if self.idf:
            refuse_partitions(X, "idf=True needs the images themselves")
        super().fit(X)
        return self.fit_idf(X) if self.idf else self

    def fit_idf(self, X: Any) -> Self:
        """Learn weights of words from images, as of a collection that is searched.

        Parameters
        ----------
        X : images, or Codes of them

        Notes
        -----
        After `partial_fit`, which keeps no images, the weights have to be learned by this.
        """
        codes = self._as_codes(X)
        count_k = np.bincount(codes.word_N, minlength=len(self.centroids_))
        n = max(len(codes), 1)
        self.idf_ = np.where(count_k, np.log(n / np.maximum(count_k, 1)) ** 2, 1.0)
        return self

    def check_parameters(self) -> None:
        """Raise ParameterError if a parameter is out of range, or does not fit the others."""
        super().check_parameters()
        resolve_n_jobs(self.n_jobs)

    @classmethod
    def from_centroids(cls, centroids: npt.ArrayLike, **parameters: Any) -> Self:
        """Make a fitted estimator from a codebook made elsewhere; cells are found among its words.

        Parameters
        ----------
        centroids : (k, f) array_like
        **parameters
            Parameters of the constructor, besides `n_clusters`.

        Examples
        --------
        >>> asmk = ASMK.from_centroids([[0.0, 0], [10, 0]], rotation=None)
        >>> asmk.words([[1.0, 1], [9, 0], [3, 1]])
        array([0, 1, 0])
        """
        centroid = as_array(on_host(centroids))
        f = centroid.shape[1] if centroid.ndim == 2 else 0
        centroid_kf = as_centroids(centroid, f, float_dtype_for(centroid.dtype))
        self = cls(n_clusters=len(centroid_kf), **parameters)
        self.check_parameters()
        cell_cf = centroid_kf.mean(axis=0, keepdims=True)
        cell_k = np.zeros(len(centroid_kf), np.int64)
        n_cells = self._n_cells_wanted(len(centroid_kf))
        if n_cells > 1:
            cell_cf, _ = train_centroids(centroid_kf, n_cells, **self._k_means_options())
            cell_k = nearest(centroid_kf, cell_cf)
        self._set_fitted(centroid_kf, cell_cf, cell_k, self._rotation(f), float("nan"))
        return self

    def _k_means_options(self) -> dict[str, Any]:
        return {"seed": self._seed(), "n_iter": int(self.n_iter), "n_jobs": self.n_jobs}

    def _n_cells_wanted(self, k: int) -> int:
        root = round(k**0.5) if k >= 1024 else 1
        return min(k, root if self.n_cells is None else int(self.n_cells))

    def _rotation(self, f: int) -> FloatArray | None:
        n_bits = f if self.n_bits is None else int(self.n_bits)
        if self.rotation is not None:
            return random_rotation(f, n_bits, self._seed())
        if n_bits != f:
            raise ParameterError(
                f"n_bits={n_bits} with rotation=None: wanted {f}, the dimension of the "
                "descriptors, or rotation='random'"
            )
        return None

    def _train(self, reservoir: Reservoir) -> Self:
        return self._train_on(reservoir.rows())

    def _train_on(self, row_sf: FloatArray) -> Self:
        """Learn from these rows, all of them, without the copy that a sample is."""
        k = int(self.n_clusters)
        rotation = self._rotation(row_sf.shape[1])
        words = train_words(row_sf, k, self._n_cells_wanted(k), **self._k_means_options())
        self._set_fitted(*words[:3], rotation, words[3])
        return self

    def _move(self, centroid_kf: FloatArray, inertia: float) -> None:
        found = self.cells_, self.cell_of_word_, self.rotation_
        self._set_fitted(centroid_kf, *found, inertia)

    def _set_fitted(
        self,
        centroid_kf: FloatArray,
        cell_cf: FloatArray,
        cell_k: Int64Array,
        rotation: FloatArray | None,
        inertia: float,
    ) -> None:
        self.centroids_ = centroid_kf
        self.cells_, self.cell_of_word_ = cell_cf, cell_k
        self.rotation_ = rotation
        self.inertia_ = inertia
        self.idf_ = None
        self.codes_ = None
        self.n_features_in_ = centroid_kf.shape[1]
        self._word_search = WordSearch(centroid_kf, cell_cf, cell_k)

    # -- codes ------------------------------------------------------------------------

    def transform(self, X: Any, angle: Any = None) -> Codes:
        """Compute the codes of images, with one word for each descriptor.

        Parameters
        ----------
        X : images
        angle : (N,) or (t, l) array, list of (l_i,), or None
            Directions of the features in degrees, as `vladkit.features.Features.angle_l`.

        Returns
        -------
        codes : Codes
            Sparse: a row for each image and word. Scoring reads it; nothing else has to.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InputError
            As `vladkit.encode`; ShapeError if there is not an angle for each descriptor.
        """
        return self._encode(X, angle, 1)

    def transform_queries(self, X: Any, angle: Any = None) -> Codes:
        """Compute the codes of queries: as `transform`, but `n_assign` words for a descriptor."""
        return self._encode(X, angle, int(self.n_assign))

    def _encode(self, X: Any, angle: Any, n_assign: int) -> Codes:
        self._check_fitted()
        self.check_parameters()
        batch = as_sets(X)
        angle_N = as_angles(angle, batch)
        n_assign = min(n_assign, len(self.centroids_))
        as_centroids(self.centroids_[:1], batch.n_features, batch.float_dtype)
        centroid_kf = self.centroids_.astype(batch.float_dtype, copy=False)
        words: list[AnyArray] = [np.zeros(0, np.int32)]
        codes: list[AnyArray] = [self._code(centroid_kf[:0])]
        angles: list[AnyArray] = [np.zeros(0, np.uint8)]
        length_t = np.zeros(len(batch), np.int64)
        for begin, some in batch.blocks():
            some.check_finite()
            for i in range(len(some)):
                local_lf = some.floats(i, i + 1)
                row = int(batch.start_T[begin + i])
                angle_l = None if angle_N is None else angle_N[row : row + len(local_lf)]
                word_la = self._word_search.nearest(local_lf, n_assign, self.n_probes)
                word_s, code_sb, angle_s = self._rows(local_lf, angle_l, word_la, centroid_kf)
                words.append(word_s)
                codes.append(code_sb)
                length_t[begin + i] = len(word_s)
                if angle_s is not None:
                    angles.append(angle_s)
        made = Codes(
            np.append(0, np.cumsum(length_t)),
            np.concatenate(words),
            np.concatenate(codes),
            None if angle_N is None else np.concatenate(angles),
        )
        made._origin = self._origin()
        return made

    def _query(self, local_lf: FloatArray, angle_l: AnyArray | None) -> tuple[Codes, Codes]:
        """Codes of one image by `transform_queries` and by `transform`, from one search of words.

        Descriptors and angles are checked by the caller: floating, finite, of the right size.
        """
        n_assign = min(int(self.n_assign), len(self.centroids_))
        word_la = self._word_search.nearest(local_lf, n_assign, self.n_probes)
        centroid_kf = self.centroids_.astype(local_lf.dtype, copy=False)
        many, one = (
            self._rows(local_lf, angle_l, word_la[:, :n], centroid_kf) for n in (n_assign, 1)
        )
        return Codes([0, len(many[0])], *many), Codes([0, len(one[0])], *one)

    def _rows(
        self,
        local_lf: FloatArray,
        angle_l: AnyArray | None,
        word_la: Int64Array,
        centroid_kf: FloatArray,
    ) -> tuple[Int64Array, AnyArray, AnyArray | None]:
        """Words of an image, with the code and the direction of each."""
        word_s, residual_sf, angle_s = sums_of_words(local_lf, angle_l, word_la, centroid_kf)
        return word_s, self._code(residual_sf), angle_s

    def _code(self, residual_sf: FloatArray) -> AnyArray:
        if self.binary:
            return packed(residual_sf, self.rotation_)
        return numbers(residual_sf, self.code_dtype)

    def words(self, local: Any) -> Int64Array:
        """Find the word of each descriptor of one image (l, f): (l,) int64; see `VLAD.words`."""
        self._check_fitted()
        self.check_parameters()
        local_lf = as_array(on_host(local))
        batch = Ragged(local_lf, [0, *local_lf.shape[:1]])
        as_centroids(self.centroids_[:1], batch.n_features, batch.float_dtype)
        batch.check_finite()
        return self._word_search.nearest(batch.floats(0, 1), 1, self.n_probes)[:, 0]

    def _as_codes(self, X: Any, angle: Any = None, n_assign: int = 1) -> Codes:
        """Codes as they are, of which only the kind is checked; or those of images."""
        if not isinstance(X, Codes):
            return self._encode(X, angle, n_assign)
        self._check_fitted()
        self.check_parameters()
        if angle is not None:
            raise ParameterError("angles are given with descriptors: these are codes already")
        b = bytes_of(self._n_bits) if X.code_Nb.dtype == np.uint8 else self.n_features_in_
        if X.n_words > len(self.centroids_) or X.code_Nb.shape[1] != b:
            raise ParameterError(
                f"{X!r} has words up to {X.n_words - 1}, this ASMK {len(self.centroids_)} words "
                f"and {self._n_bits} bits: use the one that made the codes"
            )
        if X._origin is not None and X._origin != self._origin():
            raise ParameterError(f"{X!r} is of another codebook: use the ASMK that made the codes")
        return X

    def _origin(self) -> bytes:
        """Digest of the words and the rotation that codes are made with."""
        rotation = b"" if self.rotation_ is None else np.ascontiguousarray(self.rotation_).data
        return hashlib.blake2b(rotation, digest_size=16, key=self._word_search.digest).digest()

    @property
    def _n_bits(self) -> int:
        rotation = self.rotation_
        return int(self.n_features_in_ if rotation is None else rotation.shape[1])

    # -- similarity -------------------------------------------------------------------

    def similarity(
        self,
        X: Any,
        Y: Any = None,
        *,
        images: Any = None,
        angle_X: Any = None,
        angle_Y: Any = None,
    ) -> FloatArray:
        """Compute the similarity of queries and images.

        Parameters
        ----------
        X : images or Codes
            Queries; images are given `n_assign` words for each descriptor if there is a `Y`.
        Y : images, Codes or None
            Images that are searched; None is `X`.
        images : index of an axis of images, or None
            Images of `Y` to compare with, such as a shortlist; None is all.
        angle_X, angle_Y : array, list or None
            Directions of features, if `X` and `Y` are images.

        Returns
        -------
        similarity_qn : (n_queries, n_images) float64, 0 to 1 and, of numbers, their rounding
            The same bits on any number of threads, and for an image alone or among others.

        Raises
        ------
        NotFittedError, InputError
            As `transform`.
        ParameterError
            If codes do not fit each other or this estimator, or lack angles that `rotated` needs.
        IndexError
            If an image of `images` does not exist.

        Notes
        -----
        Time is O(words of all images), some 3 ns for each with binary codes of 128 bits.

        Examples
        --------
        >>> import numpy as np
        >>> asmk = ASMK.from_centroids([[0.0, 0], [10, 0]], rotation=None)
        >>> database = asmk.transform([[[1.0, 1], [9, 1]], [[1.0, -1]]])
        >>> asmk.similarity([[[2.0, 3.0]]], database).round(3).tolist()
        [[0.707, 0.0]]
        """
        x = self._as_codes(X, angle_X, 1 if Y is None else int(self.n_assign))
        y = x if Y is None else self._as_codes(Y, angle_Y)
        return self._similarity(x, y, images)

    def _similarity(self, x: Codes, y: Codes, images: Any = None, **way: Any) -> FloatArray:
        """Similarity of checked codes; `rotated` and `n_jobs` in `way` replace the estimator's.

        `weight` in it is that of the similarity of a rotated query, 1 if it is not given.
        """
        way = {"rotated": self.rotated, "n_jobs": self.n_jobs, "weight": 1.0} | way
        x.check_kind(y)
        if way["rotated"] and x.angle_N is None:
            raise ParameterError("rotated=True needs codes with angles: give angles with X and Y")
        image_M = np.arange(len(y))
        image_M = image_M if images is None else np.atleast_1d(image_M[images])
        if image_M.ndim > 1:
            raise IndexError(f"images of shape {image_M.shape}: wanted one axis")
        weight_k = self._weights()
        size_q, size_M = self._sizes(x, np.arange(len(x))), self._sizes(y, image_M)
        selectivity = Selectivity(float(self.alpha), float(self.tau), self._n_bits)
        queries = list(x)
        lists = lists_for(y, len(x)) if images is None else None
        fence = fence_of_blocks(y.start_T, image_M) if lists is None else [0, len(y)]
        n_blocks = len(fence) - 1
        similarity_qM = np.zeros((len(x), len(image_M)))

        def run(i: int) -> None:
            q, block = i // n_blocks, slice(*fence[i % n_blocks : i % n_blocks + 2])
            total_MB = sums_of_common(queries[q], y, image_M[block], weight_k, selectivity, lists)
            total_M = best_turn(total_MB, rotated=way["rotated"], weight=way["weight"])
            size = np.sqrt(size_q[q] * size_M[block])
            np.divide(total_M, size, out=similarity_qM[q, block], where=size > 0)

        for_each(run, len(queries) * n_blocks, resolve_n_jobs(way["n_jobs"]))
        return similarity_qM

    def _weights(self) -> FloatArray:
        if not self.idf:
            return np.ones(len(self.centroids_))
        if self.idf_ is None:
            raise ParameterError("idf=True, but no weights were learned: call fit_idf")
        return self.idf_

    def _sizes(self, codes: Codes, image_M: Int64Array) -> FloatArray:
        """Similarity of each image with itself before it is divided: words, or their weights."""
        if not self.idf:
            return np.diff(codes.start_T)[image_M].astype(np.float64)
        some = codes if len(image_M) == len(codes) else codes[image_M]
        weight_N1 = self._weights()[some.word_N, None]
        image_N = np.repeat(np.arange(len(some)), np.diff(some.start_T))
        return reduce.sums(weight_N1, image_N, len(some), weight_N1.dtype)[:, 0]

    def add(self, X: Any, angle: Any = None) -> Self:
        """Add images (or Codes) to those that `search` ranks, `codes_`; raises as `similarity`."""
        codes = self._as_codes(X, angle)
        self.codes_ = codes if self.codes_ is None else Codes.concatenate([self.codes_, codes])
        return self

    def search(self, X: Any, top: int = 10, angle: Any = None) -> tuple[Int64Array, FloatArray]:
        """Rank the images of `add` for each query.

        Parameters
        ----------
        X : images or Codes
            Queries.
        top : int
            Number of results, r; 0 ranks all.
        angle
            See `transform`.

        Returns
        -------
        image_qr : (q, r) int64
            Most similar first, of equals the one that was added first.
        similarity_qr : (q, r) float64

        Raises
        ------
        ParameterError
            If nothing was added; others as `similarity`.

        Examples
        --------
        >>> import numpy as np
        >>> images = np.random.default_rng(0).normal(size=(3, 20, 16))
        >>> asmk = ASMK(n_clusters=8).fit(images).add(images)
        >>> image_qr, similarity_qr = asmk.search(images, top=1)
        >>> image_qr.ravel().tolist()
        [0, 1, 2]
        """
        most = check_parameter("top", top, Interval(int, 0))
        self._check_fitted()
        if self.codes_ is None:
            raise ParameterError("there are no images to search: add some first")
        similarity_qn = self.similarity(X, self.codes_, angle_X=angle)
        image_qr = np.argsort(-similarity_qn, axis=1, kind="stable")[:, : most or None]
        return image_qr, np.take_along_axis(similarity_qn, image_qr, axis=1)

    @property
    def n_features_out(self) -> int:
        """Number of words, k."""
        return len(self.centroids_)

    def set_output(self, *, transform: str | None = None) -> Self:
        """Accept "default" alone: codes are sparse, and no table.

        Raises
        ------
        ParameterError
            For another container.
        """
        check_parameter("transform", transform, (StrOptions("default"), None))
        return self

    # -- keeping ----------------------------------------------------------------------

    def _state(self) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        about = self._plain_params()
        # what was learned, whatever set_params said since
        about["n_clusters"] = len(self.centroids_)
        about["rotation"] = None if self.rotation_ is None else "random"
        about["n_bits"] = self._n_bits
        about["inertia"] = None if np.isnan(self.inertia_) else self.inertia_
        arrays: dict[str, AnyArray | None] = {
            "centroids": self.centroids_,
            "cells": self.cells_,
            "cell_of_word": self.cell_of_word_.astype(np.int32),
            "rotation": self.rotation_,
            "idf": self.idf_,
        }
        if self.codes_ is not None:
            for name in ("start_T", "word_N", "code_Nb", "angle_N"):
                arrays[name] = getattr(self.codes_, name)
        return about, {name: array for name, array in arrays.items() if array is not None}

    @classmethod
    def _from_state(cls, about: dict[str, Any], arrays: dict[str, AnyArray]) -> Self:
        inertia = about.pop("inertia", None)
        self = cls(**about)
        self.check_parameters()
        f = arrays["centroids"].shape[-1]
        dtype = float_dtype_for(arrays["centroids"].dtype)
        centroid_kf, cell_cf = (as_centroids(arrays[n], f, dtype) for n in ("centroids", "cells"))
        k, c, cell_k = len(centroid_kf), len(cell_cf), arrays["cell_of_word"]
        if cell_k.shape != (k,) or cell_k.dtype.kind not in "iu":
            raise ShapeError(f"cell_of_word has shape {cell_k.shape}")
        if cell_k.min() < 0 or cell_k.max() >= c or self.n_clusters != k:
            raise FileFormatError(f"damaged {cls._kind}: {k} words, cells up to {cell_k.max()}")
        rotation, idf = arrays.get("rotation"), arrays.get("idf")
        if rotation is not None:
            rotation = as_centroids(rotation, self.n_bits or f, np.dtype(np.float32))
            is_right = self.rotation is not None and len(rotation) == f
        else:
            is_right = self.rotation is None
        if not is_right:
            raise ShapeError("rotation does not fit the parameters")
        self._set_fitted(
            centroid_kf, cell_cf, cell_k.astype(np.int64), rotation,
            float("nan") if inertia is None else inertia,
        )  # fmt: skip
        if idf is not None:
            self.idf_ = as_centroids(idf[None], k, np.dtype(np.float64))[0]
        if "start_T" in arrays:
            names = "start_T", "word_N", "code_Nb", "angle_N"
            self.add(Codes(*(arrays.get(name) for name in names)))  # type: ignore[arg-type]
        return self
