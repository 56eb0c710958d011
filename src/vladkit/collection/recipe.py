"""`Recipe`: how vectors are made. Light to import: the command reads its defaults here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Self

from vladkit.errors import ParameterError

if TYPE_CHECKING:
    from vladkit.aggregation.multi import MultiVLAD
    from vladkit.aggregation.vlad import VLAD
    from vladkit.core.arrays import FloatArray
    from vladkit.features import Extractor, Features

__all__ = ["Recipe"]

_N_ITER: Final = 8
"""Iterations of k-means; from 8 to 25 the inertia falls by 1 %, and mAP does not move."""

_MIN_PER_CLUSTER: Final = 50
_FEW_CLUSTERS: Final = 16
"""With fewer than 50 descriptors for each cluster a smaller codebook is trained, down to 16
clusters: 6 images with 9.9k descriptors ranked perfectly with k = 16 (mAP 1.00), not with
k = 256 (.78); 20 images with 40k descriptors were best at k = 256."""


_LEAST: Final = {
    "n_clusters": 1,
    "n_vocabularies": 1,
    "rotation": 0,
    "seed": 0,
    "keep_features": 0,
}


def _with_network(given: dict[str, Any]) -> dict[str, Any]:
    """The recipe of a network: what it is, and its defaults for what is not given."""
    from vladkit.features.onnx.load import load_network

    if "contrast_threshold" in given:
        raise ParameterError("contrast_threshold is SIFT's: a network has [output] threshold")
    found = load_network(given["features"].removeprefix("onnx:"))
    if given.get("orientation") and not found.has_directions:
        raise ParameterError(
            f"orientation={given['orientation']}: this network's features have no direction, leave "
            "it out"
        )
    fixed = {"features": found.name, "network": found.network}
    return _OF_NETWORKS | found.description.recipe | given | fixed


_OF_NETWORKS: Final = {"orientation": 0.0}
"""Defaults that differ from SIFT's: there are no angles."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How vectors are made: everything that has to be the same for two to be compared.

    Parameters
    ----------
    features : str
        Name of the extractor; "onnx:" and the path of a network, see docs/networks.md; or of
        features that another program found, see `vladkit.collection.import_recipe.recipe_for`.
    dimensions, compare
        Of such features: f of their descriptors, and how these are compared, see
        `vladkit.features.imported.Imported`; else 0 and "".
    network : str
        Of a network: its sha256 and its description, from which everything but the features of
        a new image can be had. Found by `make`; not for people to give.
    max_features, max_side, enlarge_to, contrast_threshold
        Of the extractor, see `vladkit.features.Sift`.
    orientation, position : float
        Weights of a feature's direction and place: ``w cos(angle), w sin(angle)`` and
        ``p x, p y`` (from the centre, in halves of the longest side) become four more
        dimensions of its descriptor, so that features which match in the same direction and
        about the same place count for more, as they do in photographs of one thing held
        upright. 0 and 0 leave them out (docs/quality.md has the measurements).
    n_clusters : int
        Size of the codebook; a collection with very few descriptors gets a smaller one.
    n_vocabularies : int
        Codebooks of that size, whose vectors are put one after the other.
    rotation : int
        Principal axes of the descriptors that residuals are rotated to before the norm, at
        most so many; 0 leaves residuals as they are.
    norm : tuple of str
        Normalisation steps, see `vladkit.aggregation.normalize`.
    seed : int
        Of the sample and of k-means.
    dtype : {"float16", "float32"}
        Of stored vectors.
    keep_features : int
        Strongest features of each image that are kept in the file for re-ranking; 0 keeps none.
    keep_sums : bool
        Keep each image's sums and counts (k, f), so that the codebook can be adapted to the
        images later.
    """

    features: str = "sift"
    max_features: int = 2000
    max_side: int = 640
    enlarge_to: int = 320
    contrast_threshold: float = 0.02
    orientation: float = 0.25
    position: float = 0.1
    n_clusters: int = 256
    n_vocabularies: int = 1
    rotation: int = 128
    norm: tuple[str, ...] = ("power:0.3", "l2")
    seed: int = 0
    dtype: str = "float16"
    keep_features: int = 1000
    keep_sums: bool = False
    dimensions: int = 0
    compare: str = ""
    network: str = ""

    @classmethod
    def make(cls, given: dict[str, Any]) -> Self:
        """A recipe from some of its fields, checked; the rest are defaults.

        Raises
        ------
        ParameterError
            If a field does not exist or a value does not fit.
        ModelError
            If it names a network that is missing or not as it should be.
        """
        from vladkit.aggregation.normalize import resolve_steps

        names = [f.name for f in fields(cls)]
        for name in given:
            if name not in names:
                raise ParameterError(f"{name!r} is not part of a recipe: use {', '.join(names)}")
        if str(given.get("features", "")).startswith("onnx:") and "network" not in given:
            given = _with_network(given)
        if "norm" in given:
            given = given | {"norm": resolve_steps(given["norm"])}
        recipe = cls(**given)
        recipe.extractor()  # checks what is the extractor's
        for name, least in _LEAST.items():
            value = getattr(recipe, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ParameterError(f"{name}={value!r}, wanted an integer from {least}")
        for name in ("orientation", "position"):
            weight = getattr(recipe, name)
            if not isinstance(weight, (int, float)) or not 0 <= weight <= 10:
                raise ParameterError(f"{name}={weight!r}, wanted a weight from 0 to 10")
        if recipe.norm[-1:] != ("l2",):
            raise ParameterError(
                f"norm={','.join(recipe.norm)!r}: images are compared by cosine, so the last "
                "step has to be l2"
            )
        if not isinstance(recipe.keep_sums, bool):
            raise ParameterError(f"keep_sums={recipe.keep_sums!r}, wanted True or False")
        if recipe.keep_sums and recipe.n_vocabularies > 1:
            raise ParameterError("keep_sums goes with one vocabulary: n_vocabularies=1")
        if recipe.dtype not in ("float16", "float32"):
            raise ParameterError(f"dtype={recipe.dtype!r}: use 'float16' or 'float32'")
        return recipe

    def as_json(self) -> dict[str, Any]:
        """As `make` reads it; SIFT's without what is others' alone, as in files before those."""
        of_others = ("dimensions", "compare", "network")
        return {name: v for name, v in asdict(self).items() if v or name not in of_others}

    def extractor(self) -> Extractor:
        """The extractor that it names."""
        from vladkit.features import make_extractor

        chosen: dict[str, Any] = {
            "max_features": self.max_features,
            "max_side": self.max_side,
            "enlarge_to": self.enlarge_to,
        }
        if self.network:
            chosen["network"] = self.network
        else:
            chosen["contrast_threshold"] = self.contrast_threshold
        if self.dimensions:
            chosen |= {"dimensions": self.dimensions, "compare": self.compare}
        return make_extractor(self.features, **chosen)

    @property
    def is_directional(self) -> bool:
        """Whether a turned image gets another vector."""
        return bool(self.orientation or self.position)

    def local(self, extractor: Extractor, features: Features, turns: int = 0) -> FloatArray:
        """The local descriptors (l, f) of an image that are aggregated, float32.

        As if the image had been turned clockwise by `turns` quarter turns.
        """
        import numpy as np

        metric_lf = extractor.metric(features.descriptor_lf)
        if not self.is_directional:
            return metric_lf
        radian_l = np.deg2rad(features.angle_l + np.float32(90 * turns))
        direction_l2 = np.stack([np.cos(radian_l), np.sin(radian_l)], axis=1)
        size_2 = np.array([features.width, features.height], np.float32)
        place_l2 = (features.xy_l2 + 0.5 - size_2 / 2) / (size_2.max() / 2)
        for _ in range(turns % 4):
            place_l2 = np.stack([-place_l2[:, 1], place_l2[:, 0]], axis=1)
        weights = np.float32(self.orientation), np.float32(self.position)
        return np.hstack([metric_lf, weights[0] * direction_l2, weights[1] * place_l2])

    def vlad(self, n_local: int, n_dimensions: int) -> VLAD | MultiVLAD:
        """The estimator to be trained on `n_local` descriptors."""
        from vladkit.aggregation.multi import MultiVLAD
        from vladkit.aggregation.vlad import VLAD

        vlad = VLAD(
            min(self.n_clusters, n_local, max(_FEW_CLUSTERS, n_local // _MIN_PER_CLUSTER)),
            norm=self.norm,
            rotation=min(self.rotation, n_dimensions) if self.rotation and n_local > 1 else None,
            sample_size=n_local,
            random_state=self.seed,
            n_iter=_N_ITER,
            n_jobs=1,  # the other cores extract; and the codebook is the same on any machine size
        )
        return vlad if self.n_vocabularies == 1 else MultiVLAD(vlad, self.n_vocabularies)
