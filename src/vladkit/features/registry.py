"""Extractors by name: SIFT, networks, and features that another program found."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

from vladkit.errors import ParameterError
from vladkit.features.types import Extractor, Parameter

__all__ = ["extractor_names", "make_extractor"]


def _onnx(path: str, parameters: dict[str, Any]) -> Extractor:
    """The network that parameters hold, or if they hold none what is at `path`."""
    from vladkit.features.onnx.extractor import OnnxNetwork
    from vladkit.features.onnx.load import load_network

    if parameters.get("network"):
        return OnnxNetwork(path, **parameters)
    parameters.pop("network", None)
    return load_network(path, **parameters)


def _sift() -> Callable[..., Extractor]:
    from vladkit.features.sift import Sift

    return Sift


# Loaders, so that naming an extractor does not import what the others need.
_EXTRACTORS: Final[dict[str, Callable[[], Callable[..., Extractor]]]] = {"sift": _sift}

_IMPORTED: Final = ("colmap", "hloc", "npz", "parquet", "fvecs", "bvecs", "siftgeo")
"""Features that `vladkit.features.readers` read, with "colmap:sift" and such; see `Imported`."""

# Keys of `Extractor.parameters` that state what is, and cannot be chosen.
_FACTS: Final = frozenset({"decoder", "decoder_version", "exif_orientation", "metric", "runtime"})

_OF_NETWORKS: Final = ("network", "max_features", "max_side", "enlarge_to")


def extractor_names() -> list[str]:
    """The names that `make_extractor` knows, sorted."""
    return sorted(_EXTRACTORS)


def make_extractor(name: str, **parameters: Parameter) -> Extractor:
    """Make an extractor by name.

    Parameters
    ----------
    name : str
        One of `extractor_names`; "onnx:" and the path of a network, or the name of a known one; or
        what `vladkit.features.readers.Held` calls features that another program found.
    **parameters : int, float, str, bool or None
        Arguments of that extractor, or what its `Extractor.parameters` gave; facts among them
        (``decoder_version``, ...) are ignored.

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
    if name.partition(":")[0] in _IMPORTED:
        from vladkit.features.imported import make_imported

        return make_imported(name, chosen)
    if name.startswith("onnx:"):
        for key in chosen:
            if key not in _OF_NETWORKS:
                raise ParameterError(
                    f"a network has no parameter {key!r}: it has {', '.join(_OF_NETWORKS)}"
                )
        return _onnx(name.removeprefix("onnx:"), chosen)
    if name not in _EXTRACTORS:
        known = ", ".join(repr(each) for each in extractor_names())
        raise ParameterError(f"no extractor is called {name!r}: use {known} or 'onnx:MODEL'")
    cls = _EXTRACTORS[name]()
    accepted = inspect.signature(cls).parameters
    for key in chosen:
        if key not in accepted:
            raise ParameterError(
                f"extractor {name!r} has no parameter {key!r}: it has {', '.join(accepted)}"
            )
    return cls(**chosen)
