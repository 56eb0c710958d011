"""`Recipe`: how vectors are made. Light to import: the command reads its defaults here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Self

from vladkit.errors import ParameterError

if TYPE_CHECKING:
    from vladkit.estimators import VLAD
    from vladkit.features import Extractor

__all__ = ["Recipe"]

_N_ITER: Final = 10
"""Iterations of k-means."""

_MIN_PER_CLUSTER: Final = 10
"""With fewer descriptors than this for each cluster a smaller codebook is trained."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How vectors are made: everything that has to be the same for two to be compared.

    Parameters
    ----------
    features : str
        Name of the extractor.
    max_features, max_side, contrast_threshold
        Of the extractor, see `vladkit.features.Sift`.
    n_clusters : int
        Size of the codebook; a collection with very few descriptors gets a smaller one.
    norm : tuple of str
        Normalisation steps, see `vladkit.normalize`.
    rotate : bool
        Whether residuals are rotated to the descriptors' principal axes before the norm.
    seed : int
        Of the sample and of k-means.
    dtype : {"float16", "float32"}
        Of stored vectors.
    """

    features: str = "sift"
    max_features: int = 2000
    max_side: int = 640
    contrast_threshold: float = 0.02
    n_clusters: int = 256
    norm: tuple[str, ...] = ("ssr", "l2")
    rotate: bool = True
    seed: int = 0
    dtype: str = "float16"

    @classmethod
    def make(cls, given: dict[str, Any]) -> Self:
        """A recipe from some of its fields, checked; the rest are defaults.

        Raises
        ------
        ParameterError
            If a field does not exist or a value does not fit.
        """
        from vladkit.normalize import resolve_steps

        names = [f.name for f in fields(cls)]
        for name in given:
            if name not in names:
                raise ParameterError(f"{name!r} is not part of a recipe: use {', '.join(names)}")
        if "norm" in given:
            given = given | {"norm": resolve_steps(given["norm"])}
        recipe = cls(**given)
        recipe.extractor()  # checks what is the extractor's
        recipe.vlad(n_local=2, n_dimensions=1).check_parameters()
        if recipe.dtype not in ("float16", "float32"):
            raise ParameterError(f"dtype={recipe.dtype!r}: use 'float16' or 'float32'")
        return recipe

    def as_json(self) -> dict[str, Any]:
        """As `make` reads it."""
        return asdict(self)

    def extractor(self) -> Extractor:
        """The extractor that it names."""
        from vladkit.features import make_extractor

        return make_extractor(
            self.features,
            max_features=self.max_features,
            max_side=self.max_side,
            contrast_threshold=self.contrast_threshold,
        )

    def vlad(self, n_local: int, n_dimensions: int) -> VLAD:
        """The estimator to be trained on `n_local` descriptors."""
        from vladkit.estimators import VLAD

        return VLAD(
            min(self.n_clusters, max(1, n_local // _MIN_PER_CLUSTER)),
            norm=self.norm,
            rotation=n_dimensions if self.rotate and n_local > 1 else None,
            sample_size=n_local,
            random_state=self.seed,
            n_iter=_N_ITER,
        )
