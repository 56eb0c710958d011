"""`DescriptorQuantizer`: descriptors that a collection keeps, in some bytes each.

Axes: ``l`` descriptors of one image, ``f`` their dimension, ``b`` bytes of a code, one for each
piece of a descriptor, ``p`` dimensions of a piece.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import AnyArray, FloatArray
from vladkit.core.threads import faiss_threads
from vladkit.features import Extractor

__all__ = ["DescriptorQuantizer"]

_LEAST_SAMPLE: Final = 8192
"""Descriptors from which it is learned: 32 for each of 256 pieces."""

_PIECES_SEEN: Final = 2**17
"""Values of each piece that k-means sees: 32,768 rows of 4. faiss takes ten times as long for
fewer, and more do not help: cosines of descriptors with what is kept of them are 0.9926 on average,
of images that it has not seen 0.9922."""

_N_ITER: Final = 8

_SHIPPED: Final = "rootsift_pieces.npy"
"""Pieces of RootSIFT in 32 bytes, which benchmarks/pieces.py learns from scikit-image's photos.
They lose 0.0166 of the squared lengths of other images, pieces of their own 0.0156, and a small
collection need not spend half a second on learning them."""

_SHIPPED_SIZE: Final = (32, 128)

_SUM: Final = 2048
"""Sum of a SIFT descriptor as it is given back: about that of OpenCV's. With 1024 rounding costs
0.001 of the cosine, with 4096 it gains 0.0002, but peaks would exceed 255."""

_MOST_LOST: Final = 0.1
"""Share of an image's squared lengths from which its descriptors are kept as they are. SIFT in 32
bytes loses 0.015, in 16 bytes 0.043."""


class DescriptorQuantizer:
    """Product quantizer (Jegou, Douze and Schmid 2011): each piece becomes the nearest of 256.

    Parameters
    ----------
    piece_bkp : array (b, 256, p)
        Pieces as they are given back, f = b p: uint8 where descriptors are compared as RootSIFT,
        so that `Extractor.metric` makes of them what was learned; else float32.
    extractor : Extractor
        Whose descriptors these are.

    Raises
    ------
    ValueError
        If the pieces are not those of the extractor.

    References
    ----------
    Jegou, Douze and Schmid, *Product quantization for nearest neighbor search*, PAMI 2011.
    """

    def __init__(self, piece_bkp: AnyArray, extractor: Extractor) -> None:
        dtype = np.dtype(np.uint8 if _is_rooted(extractor) else "<f4")
        b, k, p = piece_bkp.shape
        if (piece_bkp.dtype, k, b * p) != (dtype, 256, extractor.n_dimensions):
            raise ValueError(f"pieces of descriptors are {piece_bkp.dtype} {piece_bkp.shape}")
        self.piece_bkp = piece_bkp
        self._extractor = extractor
        whole = np.dtype((np.void, p * dtype.itemsize))  # taken as one: ten times as fast
        self._piece_K = np.ascontiguousarray(piece_bkp).view(whole).ravel()
        self._first_b = np.arange(0, 256 * b, 256)

    @classmethod
    def shipped(cls, n_bytes: int, extractor: Extractor) -> Self | None:
        """That of SIFT in 32 bytes, which comes with the package; None for other descriptors."""
        if (n_bytes, extractor.n_dimensions) != _SHIPPED_SIZE or not _is_rooted(extractor):
            return None
        with (files("vladkit.collection") / _SHIPPED).open("rb") as file:
            return cls(np.load(file, allow_pickle=False), extractor)

    @classmethod
    def fit(
        cls, local_Nf: FloatArray, n_bytes: int, extractor: Extractor, *, seed: int
    ) -> Self | None:
        """Learn from a sample; None if it is too small.

        Parameters
        ----------
        local_Nf : float32 array (N, f)
            As `Extractor.metric` makes them.
        n_bytes : int
            Bytes of a descriptor; fewer where they do not divide f.
        extractor : Extractor
        seed : int
        """
        import faiss

        n, f = local_Nf.shape
        if n < _LEAST_SAMPLE or not n_bytes:
            return None
        b = max(b for b in range(1, min(n_bytes, f) + 1) if f % b == 0)
        n_rows = _PIECES_SEEN * b // f
        row_Nf = local_Nf[np.linspace(0, n - 1, n_rows).astype(int)]
        quantizer = faiss.ProductQuantizer(f, b, 8)
        quantizer.cp.seed = seed % 2**31  # faiss takes an int
        quantizer.cp.niter = _N_ITER
        quantizer.cp.max_points_per_centroid = n_rows
        with faiss_threads(1):  # the other cores extract
            quantizer.train(np.ascontiguousarray(row_Nf, np.float32))
        piece_bkp = faiss.vector_to_array(quantizer.centroids).reshape(b, 256, f // b)
        if _is_rooted(extractor):
            piece_bkp = np.rint(_SUM * np.maximum(piece_bkp, 0) ** 2).clip(0, 255).astype(np.uint8)
        return cls(piece_bkp, extractor)

    def encode(self, descriptor_lf: AnyArray) -> npt.NDArray[np.uint8] | None:
        """Codes (l, b); None if these would lose too much, or save nothing."""
        import faiss

        b, _, p = self.piece_bkp.shape
        if descriptor_lf.nbytes <= b * len(descriptor_lf):
            return None
        local_lf = self._extractor.metric(descriptor_lf)
        quantizer: Any = faiss.ProductQuantizer(b * p, b, 8)
        faiss.copy_array_to_vector(self._compared().ravel(), quantizer.centroids)
        with faiss_threads(1):
            code_lb: npt.NDArray[np.uint8] = quantizer.compute_codes(np.ascontiguousarray(local_lf))
        lost = np.sum((self._extractor.metric(self.decode(code_lb)) - local_lf) ** 2)
        return code_lb if lost <= _MOST_LOST * np.sum(local_lf**2) else None  # NaN is too much

    def decode(self, code_lb: npt.NDArray[np.uint8]) -> AnyArray:
        """Descriptors (l, f), near those that were encoded."""
        l, b = code_lb.shape
        piece_lb = self._piece_K.take(code_lb + self._first_b)
        return piece_lb.view(self.piece_bkp.dtype).reshape(l, b * self.piece_bkp.shape[2])

    def _compared(self) -> npt.NDArray[np.float32]:
        """Pieces as descriptors are compared."""
        if self.piece_bkp.dtype != np.uint8:
            return self.piece_bkp
        return np.sqrt(self.piece_bkp / np.float32(_SUM))


def _is_rooted(extractor: Extractor) -> bool:
    return "rootsift" in extractor.parameters().values()
