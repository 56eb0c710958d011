"""`MultiVLAD`: vectors of several codebooks, concatenated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from vladkit.aggregation.base import Estimator
from vladkit.aggregation.vlad import VLAD
from vladkit.core.arrays import AnyArray, FloatArray
from vladkit.core.backends import as_sets
from vladkit.core.linalg import to_unit_length
from vladkit.core.params import Constraints, Interval
from vladkit.errors import ParameterError
from vladkit.kernels.loading import as_one_call

__all__ = ["MultiVLAD"]


class MultiVLAD(Estimator):
    """Vectors of several codebooks of the same kind, concatenated and brought to unit length.

    Codebooks differ by their seed only, so each divides the space of descriptors elsewhere:
    descriptors that one cell boundary separates, the others keep together. (*All about VLAD* means
    something else by "MultiVLAD": VLADs of tiles of the image, with one codebook.)

    Parameters
    ----------
    vlad : VLAD or None, default None
        Template; codebook i has its parameters, and ``random_state + i`` or None. No template is
        ``VLAD()``.
    n_vocabularies : int, default 2
        Number of codebooks.

    Attributes
    ----------
    vlads_ : list of VLAD
        Fitted codebooks.
    n_features_in_ : int
        Dimension of the descriptors, f.

    Notes
    -----
    Each codebook's vector is normalised by its own steps, then the whole one to unit length. It is
    `n_vocabularies` times as long, and takes as much longer; a `vladkit.Whitening` behind
    brings it down to any length, which is how the paper uses it.

    References
    ----------
    Jégou, Chum: "Negative evidences and co-occurrences in image retrieval: the benefit of PCA and
    whitening", ECCV 2012, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> images = [rng.normal(size=(n, 8)) for n in (50, 0, 70)]
    >>> vector_tD = MultiVLAD(VLAD(n_clusters=4), n_vocabularies=3).fit_transform(images)
    >>> vector_tD.shape, np.linalg.norm(vector_tD, axis=1).round(6).tolist()
    ((3, 96), [1.0, 0.0, 1.0])
    """

    vlads_: list[VLAD]
    n_features_in_: int

    _constraints: ClassVar[dict[str, Constraints]] = {"n_vocabularies": Interval(int, 1)}
    _kind: ClassVar[str] = "vladkit codebooks"
    _accepts_3d: ClassVar[bool] = True

    def __init__(self, vlad: VLAD | None = None, n_vocabularies: int = 2) -> None:
        self.vlad = vlad
        self.n_vocabularies = n_vocabularies

    @classmethod
    def from_vlads(cls, vlads: Sequence[VLAD]) -> Self:
        """Join fitted VLADs of any parameters; ParameterError if their inputs differ."""
        if not isinstance(vlads, Iterable):
            raise ParameterError(f"got {vlads!r:.100}, wanted a list of fitted VLADs")
        vlads = list(vlads)
        if not vlads:
            raise ParameterError("got no estimators, wanted at least one")
        for each in vlads:
            if not isinstance(each, VLAD):
                raise ParameterError(f"got {each!r} among the estimators, wanted a VLAD")
            each._check_fitted()
        sizes = {each.n_features_in_ for each in vlads}
        if len(sizes) > 1:
            raise ParameterError(
                f"estimators for descriptors of {sorted(sizes)} dimensions: use one extractor"
            )
        self = cls(VLAD(**vlads[0].get_params()), len(vlads))
        self.vlads_ = vlads
        self.n_features_in_ = vlads[0].n_features_in_
        return self

    def fit(self, X: Any, y: object = None) -> Self:
        """Learn every codebook from all images of `X`; raises as `VLAD.fit`."""
        batch = as_sets(X)
        self.vlads_ = [each.fit(batch) for each in self._unfitted()]
        self.n_features_in_ = batch.n_features
        return self

    def partial_fit(self, X: Any, y: object = None) -> Self:
        """Add the images of `X` to the sample of every codebook; see `VLAD.partial_fit`."""
        batch = as_sets(X)
        vlads = self.__dict__.get("vlads_") or self._unfitted()
        for each in vlads:
            each.partial_fit(batch)
        self.vlads_ = vlads
        self.n_features_in_ = batch.n_features
        return self

    def _unfitted(self) -> list[VLAD]:
        self.check_parameters()
        kind = VLAD() if self.vlad is None else self.vlad
        if not isinstance(kind, VLAD):
            raise ParameterError(f"vlad={kind!r}: wanted a VLAD or None")
        kind.check_parameters()
        vlads = [VLAD(**kind.get_params()) for _ in range(int(self.n_vocabularies))]
        for i, each in enumerate(vlads):
            if kind.random_state is not None:
                each.random_state = int(kind.random_state) + i
        return vlads

    def transform(self, X: Any) -> Any:
        """Compute one vector for each image, (t, sum of the codebooks' D); see `VLAD.transform`."""
        return self._in_container(self._encode(X), X)

    def _encode(self, X: Any, **way: Any) -> FloatArray:
        """Vectors (t, D); `method` and `n_jobs` in `way` replace those of the codebooks."""
        self._check_fitted()
        batch = as_sets(X)
        with as_one_call():
            vlad_tD = np.concatenate([each._encode(batch, **way) for each in self.vlads_], axis=1)
        to_unit_length(vlad_tD)
        return vlad_tD

    @property
    def n_features_out(self) -> int:
        """Number of columns of the vectors that `transform` gives, of all codebooks."""
        return sum(each.n_features_out for each in self.vlads_)

    def __sklearn_is_fitted__(self) -> bool:
        return "vlads_" in self.__dict__

    def _state(self) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        states = [each.to_state() for each in self.vlads_]
        arrays = {f"{i}.{n}": a for i, (_, own) in enumerate(states) for n, a in own.items()}
        return {"vlads": [about for about, _ in states]}, arrays

    @classmethod
    def _from_state(cls, about: dict[str, Any], arrays: dict[str, AnyArray]) -> Self:
        vlads = []
        for i, each in enumerate(about["vlads"]):
            prefix = f"{i}."
            own = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
            vlads.append(VLAD.from_state(each, own))
        return cls.from_vlads(vlads)
