"""Extractors by name: SIFT, networks, and features that another program found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any, Final

from vladkit.core.params import listed
from vladkit.errors import ParameterError
from vladkit.features.types import Extractor, Parameter

__all__ = ["extractor_names", "make_extractor"]

_NAMES: Final = ("sift",)

_IMPORTED: Final = ("colmap", "hloc", "npz", "parquet", "fvecs", "bvecs", "siftgeo")
"""Kinds of `vladkit.features.readers`, which come before a colon or alone; see `Imported`."""

_FACTS: Final = frozenset(
    {"decoder", "decoder_version", "exif_orientation", "metric", "runtime", "provider"}
)
"""Keys of `Extractor.parameters` that state a fact, and cannot be chosen."""


def extractor_names() -> list[str]:
    """Names that `make_extractor` knows, sorted."""
    return sorted(_NAMES)


def make_extractor(name: str, **parameters: Parameter) -> Extractor:
    """Make an extractor by name.

    Parameters
    ----------
    name : str
        One of `extractor_names`; "onnx:" and the path of a network, or the name of a known one; or
        the name of features that another program found, see
        `vladkit.features.readers.SourceInfo`.
    **parameters : int, float, str, bool or None
        Arguments of that extractor, or its `Extractor.parameters`; facts among them
        (``decoder_version``, ...) are ignored. Networks also take ``device`` ("cpu", "cuda",
        "coreml", "directml", "openvino" or "auto") and ``batch``, images of a run.

    Returns
    -------
    Extractor

    Raises
    ------
    ParameterError
        The name or a parameter is not known, or a value does not fit.

    Examples
    --------
    >>> make_extractor("sift", max_features=500).n_dimensions
    128
    >>> make_extractor("surf")
    Traceback (most recent call last):
    ...
    vladkit.errors.ParameterError: no extractor is called 'surf': use 'sift' or 'onnx:MODEL'
    """
    chosen = {key: value for key, value in parameters.items() if key not in _FACTS}
    make, accepted = _factory(name)
    for key in chosen:
        if key not in accepted:
            raise ParameterError(
                f"features {name!r} have no parameter {key!r}: use {listed(accepted)}"
            )
    return make(**chosen)


def _factory(name: str) -> tuple[Callable[..., Extractor], list[str]]:
    """Function that makes an extractor, and its parameters; imports what this one needs."""
    if name.partition(":")[0] in _IMPORTED:
        from vladkit.features.imported import ColmapSift, Imported

        cls = ColmapSift if name == "colmap:sift" else Imported
        return partial(cls, name), [f.name for f in fields(cls)][1:]
    if name == "hloc-global":
        from vladkit.features.vectors import ImportedVectors

        return partial(ImportedVectors, name), ["dimensions"]
    if name.startswith("onnx:"):
        from vladkit.features.onnx.extractor import OnnxNetwork

        path = name.removeprefix("onnx:")
        return partial(_network, path), [f.name for f in fields(OnnxNetwork)][1:]
    if name in _NAMES:
        from vladkit.features.sift import Sift

        return Sift, [f.name for f in fields(Sift)]
    known = ", ".join(map(repr, extractor_names()))
    raise ParameterError(f"no extractor is called {name!r}: use {known} or 'onnx:MODEL'")


def _network(
    path: str,
    network: str = "",
    device: str | None = None,
    batch: int | None = None,
    **parameters: Any,
) -> Extractor:
    """Make the described network, or without a description the model at `path`."""
    from vladkit.features.onnx.extractor import OnnxNetwork
    from vladkit.features.onnx.load import load_network

    make = partial(OnnxNetwork, path, network) if network else partial(load_network, path)
    return make(**parameters).placed(device, batch)
