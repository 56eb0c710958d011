"""`Recipe`: how vectors are made. Light to import: the command reads its options from here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, Self

from vladkit.collection.given_vectors import is_vector, with_vectors, without_codebook
from vladkit.core.params import Interval, StrOptions, check_parameters, option
from vladkit.errors import ParameterError

if TYPE_CHECKING:
    from vladkit.aggregation.asmk import ASMK
    from vladkit.aggregation.multi import MultiVLAD
    from vladkit.aggregation.vlad import VLAD
    from vladkit.core.arrays import FloatArray
    from vladkit.features import Extractor, Features

__all__ = ["ROWS_PER_WORD", "Recipe"]

_N_ITER: Final = 8
"""Iterations of k-means; from 8 to 25 the inertia falls by 1 %, and mAP does not move."""

_MIN_PER_CLUSTER: Final = 50
_FEW_CLUSTERS: Final = 16
"""With fewer than 50 descriptors for each cluster a smaller codebook is trained, down to 16
clusters: 6 images with 9.9k descriptors ranked perfectly with k = 16 (mAP 1.00), not with
k = 256 (0.78); 20 images with 40k descriptors were best at k = 256."""


ROWS_PER_WORD: Final = 10
"""Descriptors that words of match codes are learned from, for each of them."""

_BITS: Final = 128
_N_ASSIGN: Final = 5
"""Size of a match code, and words of a query's descriptor (figures: docs/results/quality.md)."""


def _with_network(given: dict[str, Any]) -> dict[str, Any]:
    """Fields of a network's recipe: its description, and its defaults for what is not given."""
    from vladkit.features.onnx.load import load_network

    if "contrast_threshold" in given:
        raise ParameterError("contrast_threshold is SIFT's: a network has [output] threshold")
    found = load_network(given["features"].removeprefix("onnx:"))
    if given.get("orientation") and not found.has_directions:
        raise ParameterError(
            f"orientation={given['orientation']}: this network's features have no direction: leave "
            "it out"
        )
    fixed = {"features": found.name, "network": found.network}
    return _NETWORK_DEFAULTS | found.description.recipe | given | fixed


_NETWORK_DEFAULTS: Final = {"orientation": 0.0}
"""Defaults that differ from SIFT's: a network's features have no direction."""

_WITH_SUMS: Final = {"n_vocabularies": 1, "n_components": 0}
"""Defaults where sums are kept: the codebook that they belong to can be adapted."""

_OLDER: Final = {"lift_below": 0, "keep_bytes": 0, "n_words": 0, "n_components": 0}
"""Values of fields that files made before the field lack: they stay as they were made."""

_WEIGHT: Final = Interval(float, 0, 10)
"""Weight of four more dimensions beside a descriptor of length 1; at 10 nothing else counts."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How vectors are made: everything that two vectors must share to be comparable.

    Each field's ``metadata`` holds its constraint, and flag and help of the command's option, see
    `vladkit.core.params.option`.

    Parameters
    ----------
    features : str
        Name of the extractor; "onnx:" and the path of a network, see docs/how-to/networks.md; or
        the name of features that another program found, see
        `vladkit.collection.import_recipe.recipe_for`.
    max_features, max_side, enlarge_to, contrast_threshold, lift_below
        Parameters of the extractor, see `vladkit.features.Sift`; `lift_below` is SIFT's alone,
        0 for others, and 0 in files that were made before it.
    orientation, position : float
        Weights of a feature's direction and place: ``w cos(angle), w sin(angle)`` and
        ``p x, p y`` (from the centre, in halves of the longest side) become four more
        dimensions of its descriptor, so that features which match in the same direction and
        about the same place count for more, as they do in photographs of one thing held
        upright. 0 and 0 leave them out (docs/results/defaults.md has the measurements).
    n_clusters : int
        Size of the codebook; a collection with very few descriptors gets a smaller one.
    n_vocabularies : int
        Number of codebooks of that size, whose vectors are concatenated.
    rotation : int
        Most principal axes of the descriptors that residuals are rotated to before the norm; 0
        leaves residuals as they are.
    norm : tuple of str
        Normalisation steps, see `vladkit.aggregation.normalize`.
    seed : int
        Random seed of the sample and of k-means.
    dtype : {"float16", "float32"}
        Type of the stored vectors.
    n_components : int
        Dimensions of stored vectors, by PCA, once a collection has 64 images: at most a third as
        many as those. 0 stores whole vectors, as files do that were made before it.
    n_words : int
        Most words of match codes (`vladkit.ASMK`), by which the images that vectors find are
        ranked; a collection with few descriptors gets fewer. 0 ranks by vectors alone, as do
        files that were made before it.
    keep_features : int
        Strongest features of each image that are kept in the file for re-ranking; 0 keeps none.
    keep_bytes : int
        Bytes of a kept descriptor, see `vladkit.collection.descriptor_quantizer`; positions and
        the rest take 8 more. 0 keeps features exactly as they were extracted, as do files that
        were made before this field, and collections with fewer than 8,192 descriptors to learn
        from.
    keep_sums : bool
        Keep each image's sums and counts (k, f), so that the codebook can be adapted to the
        images later.
    dimensions, compare
        For features that another program found: dimension f of their descriptors, and how these
        are compared, see `vladkit.features.imported.Imported`; else 0 and "".
    network : str
        For a network: its sha256 and its description, from which everything but the features of
        a new image follows. `make` finds it; people do not give it.
    vectors : str
        Beside local features: "onnx:" and the path of a network that gives one vector of an image,
        or ``hloc:global.h5``. That vector is compared first, and local features rank what it
        finds. A network that gives one vector may also be `features`: there is nothing else then.
        Such vectors are normalised by `norm`, "l2" by default, and kept whole; fields of the
        codebook have no use.
    vector_network, vector_dimensions
        As `network` and `dimensions`, of `vectors`.
    """

    features: str = option(
        "sift",
        "Feature extractor: sift, or onnx:MODEL.onnx for a network.",
        flag="--features",
        constraint=str,
    )
    max_features: int = option(
        2000, "Most features of an image; the strongest are kept.", flag="--max-features"
    )
    max_side: int = option(640, "Longest side in px at which images are read.", flag="--max-side")
    enlarge_to: int = option(
        320, "Enlarge images whose longest side in px is shorter than this.", flag="--enlarge-to"
    )
    contrast_threshold: float = option(
        0.02, "Drop SIFT features with lower contrast.", flag="--contrast-threshold"
    )
    lift_below: int = option(
        20,
        "Images with fewer SIFT features get another try, with more contrast.",
        flag="--lift-below",
    )
    orientation: float = option(
        0.25,
        "Weight of the features' direction in their descriptors.",
        flag="--orientation",
        constraint=_WEIGHT,
    )
    position: float = option(
        0.1,
        "Weight of the features' place in their descriptors.",
        flag="--position",
        constraint=_WEIGHT,
    )
    n_clusters: int = option(
        256,
        "Size of the codebook: number of visual words.",
        flag="--n-clusters",
        constraint=Interval(int, 1),
    )
    n_vocabularies: int = option(
        2,
        "Number of codebooks; their vectors are concatenated.",
        flag="--n-vocabularies",
        constraint=Interval(int, 1),
    )
    rotation: int = option(
        64,
        "Most principal axes to which residuals are rotated; 0: no rotation.",
        flag="--rotation",
        constraint=Interval(int, 0),
    )
    norm: tuple[str, ...] = option(
        ("power:0.3", "l2"),
        "Normalisation: a preset, or steps separated by commas.",
        flag="--norm",
    )
    seed: int = option(
        0,
        "Random seed for sampling and k-means.",
        flag="--seed",
        constraint=Interval(int, 0),
    )
    dtype: str = option(
        "float16",
        "Type of the stored vectors: float16 or float32.",
        flag="--dtype",
        constraint=StrOptions("float16", "float32"),
    )
    n_components: int = option(
        256,
        "Dimensions of stored vectors (PCA); 0: whole vectors.",
        flag="--n-components",
        constraint=Interval(int, 0),
    )
    n_words: int = option(
        16_384,
        "Words of match codes, which rank what vectors find; 0: none.",
        flag="--n-words",
        constraint=Interval(int, 0, 65_536),
    )
    keep_features: int = option(
        1000,
        "Features of each image to keep for re-ranking; 0: none.",
        flag="--keep-features",
        constraint=Interval(int, 0),
    )
    keep_bytes: int = option(
        32,
        "Bytes of a kept feature's descriptor; 0: exactly as it was extracted.",
        flag="--keep-bytes",
        constraint=Interval(int, 0),
    )
    keep_sums: bool = option(
        False,
        "Keep the sums of each image, for vladkit adapt.",
        flag="--keep-sums",
        constraint=bool,
    )
    dimensions: int = option(0, constraint=Interval(int, 0))
    compare: str = option(
        "",
        "Normalisation of imported descriptors: as-is, unit or rootsift.",
        flag="--compare",
        constraint=str,
    )
    network: str = option("", constraint=str)
    vectors: str = option(
        "",
        "One vector of an image, to find by: onnx:MODEL.onnx or hloc:global.h5.",
        flag="--vectors",
        constraint=str,
    )
    vector_network: str = option("", constraint=str)
    vector_dimensions: int = option(0, constraint=Interval(int, 0))

    @classmethod
    def make(cls, given: dict[str, Any]) -> Self:
        """Make a recipe from some of its fields, checked; the rest are defaults.

        Raises
        ------
        ParameterError
            If a field does not exist or a value does not fit.
        ModelError
            If it names a network that is missing or does not do what its description says.
        """
        names = [f.name for f in fields(cls)]
        for name in given:
            if name not in names:
                raise ParameterError(f"{name!r} is not part of a recipe: use {', '.join(names)}")
        asked = dict(given)
        if str(given.get("features", "")).startswith("onnx:") and "network" not in given:
            given = _with_network(given)
        alone = is_vector(given)
        if alone and given.get("vectors"):
            raise ParameterError(
                f"vectors={given['vectors']!r}: {given['features']} gives one vector already: "
                "leave one of them out"
            )
        if given.get("vectors") and not given.keys() & {"vector_network", "vector_dimensions"}:
            given = with_vectors(given, asked)
        if given.get("vector_network") and given.get("dimensions"):
            raise ParameterError(
                f"vectors={given['vectors']!r}: no image is read where features are another "
                "program's, so that no network sees any: give vectors=hloc:global.h5"
            )
        if alone or given.get("vectors"):
            given = without_codebook(given, asked, alone=alone)
        from vladkit.aggregation.normalize import resolve_steps

        if "norm" in given:
            given = given | {"norm": resolve_steps(given["norm"])}
        if given.get("keep_sums"):
            given = _WITH_SUMS | given
        recipe = cls(**given)
        extractor = recipe.extractor()  # checks the parameters that are its own
        limits = {f.name: f.metadata["constraint"] for f in fields(cls)}
        local = getattr(extractor, "local", extractor)
        theirs = {name: value for name, value in vars(local).items() if name in limits}
        if "lift_below" not in theirs:
            if given.get("lift_below"):
                raise ParameterError(f"lift_below is SIFT's: {recipe.features} has no second try")
            theirs["lift_below"] = 0
        recipe = replace(recipe, **(check_parameters(recipe, limits) | theirs))
        if recipe.norm[-1:] != ("l2",):
            raise ParameterError(
                f"norm={','.join(recipe.norm)!r}: images are compared by cosine, so the last "
                "step has to be l2"
            )
        if recipe.keep_sums and (recipe.n_vocabularies > 1 or recipe.n_components):
            raise ParameterError(
                "keep_sums goes with one vocabulary and whole vectors: n_vocabularies=1, "
                "n_components=0"
            )
        return recipe

    def as_json(self) -> dict[str, Any]:
        """Fields as a dict that `make` reads; those of other features than SIFT only if set."""
        of_others = (
            *("dimensions", "compare", "network"),
            *("vectors", "vector_network", "vector_dimensions"),
        )
        value = asdict(self) | {"norm": list(self.norm)}
        return {name: v for name, v in value.items() if v or name not in of_others}

    def is_stored_as(self, value: object) -> bool:
        """Whether JSON that was read from a file is that of this recipe."""
        return isinstance(value, dict) and _OLDER | value == self.as_json()

    @classmethod
    def stored(cls, value: dict[str, Any]) -> Self:
        """Make the recipe whose `as_json` was read from a file, also an older one."""
        return cls.make(_OLDER | value)

    def extractor(self) -> Extractor:
        """Make the extractor that the recipe names."""
        from vladkit.features import make_extractor

        if not self.vectors:
            return self._extractor()
        from vladkit.features.vectors import WithVectors

        chosen: dict[str, Any] = {"dimensions": self.vector_dimensions}
        if self.vector_network:
            chosen = {"network": self.vector_network, "max_side": self.max_side}
            chosen["enlarge_to"] = self.enlarge_to
        return WithVectors(self._extractor(), make_extractor(self.vectors, **chosen))

    def _extractor(self) -> Extractor:
        from vladkit.features import make_extractor

        if self.is_alone and self.dimensions:
            return make_extractor(self.features, dimensions=self.dimensions)
        chosen: dict[str, Any] = {
            "max_features": self.max_features,
            "max_side": self.max_side,
            "enlarge_to": self.enlarge_to,
        }
        if self.network:
            chosen["network"] = self.network
        else:
            chosen["contrast_threshold"] = self.contrast_threshold
        if self.features == "sift":
            chosen["lift_below"] = self.lift_below
        if self.dimensions:
            chosen |= {"dimensions": self.dimensions, "compare": self.compare}
        return make_extractor(self.features, **chosen)

    def networks(self) -> dict[str, str]:
        """Networks in the form of `network`, by the fields that name their files."""
        both = {"features": self.network, "vectors": self.vector_network}
        return {name: network for name, network in both.items() if network}

    @property
    def is_alone(self) -> bool:
        """Whether an image has one vector, and no local features."""
        return is_vector({"features": self.features, "network": self.network})

    @property
    def vectors_from(self) -> str:
        """Name of what gives an image's one vector; "" where it is aggregated of local features."""
        return self.features if self.is_alone else self.vectors

    @property
    def is_directional(self) -> bool:
        """Whether a rotated image gets another vector."""
        return bool(self.orientation or self.position)

    def local(self, extractor: Extractor, features: Features, turns: int = 0) -> FloatArray:
        """Local descriptors (l, f) of an image as they are aggregated, float32.

        Parameters
        ----------
        extractor : Extractor
        features : Features
        turns : int
            Quarter turns clockwise by which the image is rotated before.
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

    def clusters_for(self, n_local: int) -> int:
        """Number of clusters of a codebook that is trained on `n_local` descriptors."""
        return min(self.n_clusters, n_local, max(_FEW_CLUSTERS, n_local // _MIN_PER_CLUSTER))

    def words_for(self, n_local: int) -> int:
        """Number of words of match codes that are trained on `n_local` descriptors."""
        return min(self.n_words, n_local, max(_FEW_CLUSTERS, n_local // ROWS_PER_WORD))

    def asmk(self, n_local: int) -> ASMK:
        """Make the estimator of match codes that is to be trained on `n_local` descriptors."""
        from vladkit.aggregation.asmk import ASMK

        return ASMK(
            self.words_for(n_local),
            n_bits=_BITS,
            n_assign=_N_ASSIGN,
            sample_size=n_local,
            random_state=self.seed,
            n_iter=_N_ITER,
            n_jobs=1,
        )

    def vlad(self, n_local: int, n_dimensions: int) -> VLAD | MultiVLAD:
        """Make the estimator that is to be trained on `n_local` descriptors."""
        from vladkit.aggregation.multi import MultiVLAD
        from vladkit.aggregation.vlad import VLAD

        vlad = VLAD(
            self.clusters_for(n_local),
            norm=self.norm,
            rotation=min(self.rotation, n_dimensions) if self.rotation and n_local > 1 else None,
            sample_size=n_local,
            random_state=self.seed,
            n_iter=_N_ITER,
            n_jobs=1,  # the other cores extract; and the codebook is the same on any machine size
        )
        return vlad if self.n_vocabularies == 1 else MultiVLAD(vlad, self.n_vocabularies)
