"""imagededup: its perceptual hash, and its network where its weights can be had."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

OPERATORS: list[object] = []
"""Declared ones, for as long as the process lasts."""


def load_torchvision() -> None:
    """Import it also where it was built for another torch, so that its own operators are missing:
    here nobody uses them.
    """
    from torch import library

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        missing = library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            missing.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        OPERATORS.append(missing)


class Hash:
    """PHash; images are ranked by the bits in which hashes differ."""

    def index(self, files: Sequence[str], folder: Path) -> None:
        """Hash images."""
        load_torchvision()
        from imagededup.methods import PHash

        self.files, self.method = list(files), PHash(verbose=False)
        self.path = folder / "hashes.npy"
        self.bit_nb = np.array([self._bits(file) for file in files])
        np.save(self.path, np.packbits(self.bit_nb, axis=1))

    def _bits(self, file: str) -> np.ndarray:
        text = self.method.encode_image(image_file=file)
        return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))

    def n_bytes(self) -> int:
        """Size of the index on disk."""
        return self.path.stat().st_size

    def rank(self, query: str) -> list[str]:
        """Files, the most similar first."""
        distance_n = (self.bit_nb != self._bits(query)).sum(axis=1)
        return [self.files[i] for i in np.argsort(distance_n, kind="stable")]


class Network:
    """CNN: MobileNetV3, one vector an image, by cosine."""

    def index(self, files: Sequence[str], folder: Path) -> None:
        """Encode images."""
        load_torchvision()
        from imagededup.methods import CNN

        try:
            self.files, self.method = list(files), CNN(verbose=False)
        except OSError as error:  # of urllib, too
            raise SystemExit(f"its weights cannot be had: {error}") from error
        self.path = folder / "vectors.npy"
        self.vector_nD = np.stack([self._vector(file) for file in files])
        np.save(self.path, self.vector_nD)

    def _vector(self, file: str) -> np.ndarray:
        vector_D = self.method.encode_image(image_file=file)[0].astype(np.float32)
        return vector_D / np.linalg.norm(vector_D)

    def n_bytes(self) -> int:
        """Size of the index on disk."""
        return self.path.stat().st_size

    def rank(self, query: str) -> list[str]:
        """Files, the most similar first."""
        score_n = self.vector_nD @ self._vector(query)
        return [self.files[i] for i in np.argsort(-score_n, kind="stable")]
