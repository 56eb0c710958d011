"""Fields of a recipe whose vectors are given, by a network or a file, and not aggregated."""

from __future__ import annotations

import json
from typing import Any, Final

from vladkit.errors import ParameterError

__all__ = ["WITHOUT_CODEBOOK", "WITHOUT_LOCAL", "is_vector", "with_vectors", "without_codebook"]

WITHOUT_CODEBOOK: Final[dict[str, Any]] = {
    "n_clusters": 1,
    "n_vocabularies": 1,
    "rotation": 0,
    "position": 0.0,
    "n_components": 0,
    "keep_sums": False,
}
"""Values of fields that nothing follows from where vectors are not aggregated."""

WITHOUT_LOCAL: Final[dict[str, Any]] = {
    "orientation": 0.0,
    "n_words": 0,
    "keep_features": 0,
    "keep_bytes": 0,
    "compare": "",
}
"""Values of fields that nothing follows from where there are no local features."""

_WHY: Final = {
    "n_components": "vectors that are given are kept whole: leave it out, and `vladkit whiten` the "
    "collection when all images are in it"
} | dict.fromkeys(
    WITHOUT_LOCAL,
    "an image has one vector here and no local features: leave it out, or give the vectors beside "
    "local features (--features sift --vectors ...)",
)


def is_vector(given: dict[str, Any]) -> bool:
    """Whether features are one vector of an image, by a network or of hloc."""
    if given.get("features") == "hloc-global":
        return True
    network = given.get("network")
    if not network:
        return False
    try:
        return bool(json.loads(network)["description"]["output"].get("kind") == "vector")
    except (ValueError, TypeError, KeyError, AttributeError):
        return False  # of a damaged file: whoever reads the description says so


def with_vectors(given: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Fields with those of `vectors` beside local features: the network or file is looked at.

    `asked` are the fields that people gave; the norm of a description of local features is not one.

    Raises
    ------
    ParameterError
        If it is no network of one vector, and no file of hloc.
    VladkitError
        See `vladkit.features.readers.open_vectors` and `vladkit.features.onnx.load.load_network`.
    """
    vectors, norm = str(given["vectors"]), asked.get("norm", "l2")
    if vectors.startswith("onnx:"):
        from vladkit.features.onnx.load import load_network

        found = load_network(vectors.removeprefix("onnx:"))
        if found.has_local:
            raise ParameterError(
                f"vectors={vectors!r}: this network gives local features, not one vector: give it "
                "as features"
            )
        norm = asked.get("norm", found.description.recipe.get("norm", norm))
        return given | {"vectors": found.name, "vector_network": found.network, "norm": norm}
    from vladkit.features.readers import open_vectors

    with open_vectors(vectors) as reader:
        held = reader.info()
    found_here = {"vectors": held.features, "vector_dimensions": held.dimensions}
    return given | found_here | {"norm": norm}


def without_codebook(
    given: dict[str, Any], asked: dict[str, Any], *, alone: bool
) -> dict[str, Any]:
    """Fields of a recipe of vectors that are given; `alone` without local features.

    Raises
    ------
    ParameterError
        If a field that people gave has no use, or the norm has a step for cells of a codebook.
    """
    from vladkit.aggregation.normalize import resolve_steps

    unused = WITHOUT_CODEBOOK | (WITHOUT_LOCAL if alone else {})
    for name, neutral in unused.items():
        if name in asked and asked[name] != neutral:
            reason = _WHY.get(name, "vectors are given, and no codebook makes them: leave it out")
            raise ParameterError(f"{name}={asked[name]!r}: {reason}")
    given = {"norm": "l2"} | given | unused
    for step in resolve_steps(given["norm"]):
        if step in ("mass", "intra"):
            raise ParameterError(f"norm has a step {step!r}: that is for the cells of a codebook")
    return given
