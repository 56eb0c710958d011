"""One vector an image of vladkit's own SIFT features, aggregated by others' programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np

from vladkit.errors import ImageError
from vladkit.features import make_extractor
from vladkit.images import read_image

SAMPLE = 200_000
"""Descriptors that are learned from."""


class Aggregated:
    """Base: SIFT, a vector an image, an exact index of faiss."""

    n_dimensions: int

    def index(self, files: Sequence[str], folder: Path) -> None:
        """Extract features, learn, aggregate, index."""
        self.files, self.extractor = list(files), make_extractor("sift")
        local_tlf = [self._local(file) for file in files]
        local_Nf = np.concatenate(local_tlf)
        rng = np.random.default_rng(0)
        chosen_N = rng.permutation(len(local_Nf))[:SAMPLE]
        self.learn(local_Nf[chosen_N])
        vector_tD = np.stack([self._vector(local_lf) for local_lf in local_tlf])
        self.flat = faiss.IndexFlatIP(vector_tD.shape[1])
        self.flat.add(vector_tD)
        self.path = folder / "flat.faiss"
        faiss.write_index(self.flat, str(self.path))

    def _local(self, file: str) -> np.ndarray:
        try:
            features = self.extractor.extract(read_image(file, max_side=640))
        except ImageError:  # a blank image: it has no features, and a vector of zeros
            return np.zeros((0, self.extractor.n_dimensions), np.float32)
        return np.ascontiguousarray(features.descriptor_lf, np.float32)

    def _vector(self, local_lf: np.ndarray) -> np.ndarray:
        if not len(local_lf):
            return np.zeros(self.n_dimensions, np.float32)
        vector_D = self.aggregate(local_lf).astype(np.float32)
        return vector_D / max(float(np.linalg.norm(vector_D)), 1e-12)

    def learn(self, local_Nf: np.ndarray) -> None:
        """Learn from descriptors."""
        raise NotImplementedError

    def aggregate(self, local_lf: np.ndarray) -> np.ndarray:
        """Vector of one image."""
        raise NotImplementedError

    def n_bytes(self) -> int:
        """Size of the index on disk."""
        return self.path.stat().st_size

    def rank(self, query: str) -> list[str]:
        """Files, the most similar first."""
        vector_D = self._vector(self._local(query))
        _, place_qn = self.flat.search(vector_D[None], len(self.files))
        return [self.files[i] for i in place_qn[0]]


class AnyLoc(Aggregated):
    """VLAD by AnyLoc's recipe: k-means, hard assignment, each cluster's sum to unit length.

    AnyLoc takes it of DINOv2's patches with 32 clusters; here it gets SIFT, and faiss' k-means.
    """

    n_clusters = 32
    n_dimensions = 32 * 128

    def learn(self, local_Nf: np.ndarray) -> None:
        """Learn centroids."""
        self.kmeans = faiss.Kmeans(local_Nf.shape[1], self.n_clusters, seed=1, niter=25)
        self.kmeans.train(local_Nf)

    def aggregate(self, local_lf: np.ndarray) -> np.ndarray:
        """Sums of residuals, one cluster after another."""
        centroid_kf = self.kmeans.centroids
        label_l = self.kmeans.index.search(local_lf, 1)[1][:, 0]
        residual_kf = np.zeros_like(centroid_kf)
        for k in range(self.n_clusters):
            residual_f = (local_lf[label_l == k] - centroid_kf[k]).sum(axis=0)
            residual_kf[k] = residual_f / max(float(np.linalg.norm(residual_f)), 1e-12)
        return residual_kf.ravel()


class Fisher(Aggregated):
    """scikit-image's improved Fisher vectors, of 16 Gaussians over 64 principal axes."""

    n_modes, n_axes, sample = 16, 64, 50_000
    n_dimensions = 2 * 16 * 64 + 16

    def learn(self, local_Nf: np.ndarray) -> None:
        """Learn axes and the mixture."""
        from skimage.feature import learn_gmm

        self.pca = faiss.PCAMatrix(local_Nf.shape[1], self.n_axes)
        self.pca.train(local_Nf)
        axis_Nf = self.pca.apply(local_Nf[: self.sample])
        self.gmm = learn_gmm(
            axis_Nf,
            n_modes=self.n_modes,
            gm_args={"covariance_type": "diag", "random_state": 0, "max_iter": 50},
        )

    def aggregate(self, local_lf: np.ndarray) -> np.ndarray:
        """Fisher vector with power and L2."""
        from skimage.feature import fisher_vector

        return fisher_vector(self.pca.apply(local_lf), self.gmm, improved=True)
