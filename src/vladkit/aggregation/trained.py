"""`Trained`: an estimator that learns from a bounded sample of the descriptors of images."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Self

from vladkit.aggregation.base import Estimator
from vladkit.aggregation.codebook import Reservoir
from vladkit.aggregation.partitions import (
    Moments,
    check_enough,
    descriptors,
    is_partitioned,
    lloyd_steps,
    moments_of,
    refuse_partitions,
    sample_of,
)
from vladkit.core.arrays import FloatArray
from vladkit.core.backends import as_sets
from vladkit.core.ragged import Ragged
from vladkit.errors import ShapeError

__all__ = ["Trained"]


class Trained(Estimator):
    """Base of estimators of descriptors: one sample for `fit` and `partial_fit`.

    A subclass has parameters `n_clusters` (or as `_number` names it), `sample_size` and
    `random_state`, the names of what is learned, the first of which says whether it has been, and
    `_train`.
    """

    sample_size: int | None
    n_iter: int
    n_features_in_: int

    _learned: ClassVar[tuple[str, ...]]
    _number: ClassVar[str] = "n_clusters"
    _rows_per_cluster: ClassVar[int] = 256
    _accepts_3d: ClassVar[bool] = True

    def fit(self, X: Any, y: object = None) -> Self:
        """Learn the codebook from all images of `X`.

        From a Dask array (t, l, f), or a bag of (l, f) arrays, `n_iter` Lloyd steps over all
        descriptors follow: partitions give sums and counts, and a sample to begin with.

        Raises
        ------
        InputError
            If `X` cannot be read as sets of descriptors (`vladkit.encode` lists the cases),
            or has fewer descriptors than clusters.
        ParameterError
            If a parameter of the constructor is out of range.
        """
        self._forget()
        if is_partitioned(X):
            try:
                self._fit_partitions(X)
            except BaseException:
                self._forget()  # a codebook between two Lloyd steps is none
                raise
            return self
        return self._train(self._add(X))

    def partial_fit(self, X: Any, y: object = None) -> Self:
        """Add the images of `X` to the sample of descriptors; call it batch after batch.

        After ``partial_fit`` on the batches of a collection the codebook is the same as after
        ``fit`` on all of it. Raises as `fit`; too few descriptors for a codebook are an error
        only once it is needed. After `fit` or `load`, which keep no sample, it starts over.
        """
        refuse_partitions(X, "partial_fit keeps a sample here")
        reservoir = self._add(X)
        for name in self._learned:
            self.__dict__.pop(name, None)
        self._reservoir = reservoir
        return self

    def _add(self, X: Any) -> Reservoir:
        self.check_parameters()
        batch = as_sets(X)
        reservoir: Reservoir | None = self.__dict__.get("_reservoir")
        if reservoir is None:
            n_words = int(getattr(self, self._number))
            size = self.sample_size or self._rows_per_cluster * n_words
            reservoir = Reservoir(size, self._seed())
        elif batch.n_features != self.n_features_in_:
            raise ShapeError(
                f"X has {batch.n_features} dimensions, the batches before it "
                f"{self.n_features_in_}: use one extractor for all"
            )
        reservoir.add(batch)
        self.n_features_in_ = batch.n_features  # once nothing can be refused
        return reservoir

    def _train(self, reservoir: Reservoir) -> Self:
        raise NotImplementedError

    def _fit_partitions(self, X: Any, *, cosine: bool = False) -> Moments:
        """Learn from a Dask array or bag; moments of the descriptors, for what else follows."""
        self.check_parameters()
        k = int(self.n_clusters)
        moments = check_enough(moments_of(X, partial(descriptors, cosine=cosine)), k)
        seed, size = self._seed(), self.sample_size or self._rows_per_cluster * k
        row_sf = sample_of(X, moments.n, size, seed)
        reservoir = Reservoir(len(row_sf), seed)
        reservoir.add(Ragged(row_sf, [0, len(row_sf)]))
        self._train(reservoir)
        lloyd_steps(self, X, int(self.n_iter), cosine=cosine)
        return moments

    def _move(self, centroid_kf: FloatArray, inertia: float) -> None:
        """Replace the centroids, as a Lloyd step does."""
        raise NotImplementedError

    def _forget(self) -> None:
        for name in (*self._learned, "n_features_in_", "_reservoir"):
            self.__dict__.pop(name, None)

    def __getattr__(self, name: str) -> Any:
        # Reached only for what is not there: the codebook after partial_fit is made on demand.
        if name in self._learned and "_reservoir" in self.__dict__:
            self._train(self._reservoir)
            return self.__dict__[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __sklearn_is_fitted__(self) -> bool:
        return self._learned[0] in self.__dict__ or "_reservoir" in self.__dict__
