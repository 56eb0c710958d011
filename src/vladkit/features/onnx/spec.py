"""`Network`: the description of a model's input and output.

Read from a small TOML file beside the model, or from one of those in ``networks/``
(docs/how-to/networks.md has the reference).
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from typing import Any, ClassVar, Final, Self

from vladkit.core.params import Constraints, Interval, StrOptions, check_parameter, listed
from vladkit.errors import ModelError, ParameterError
from vladkit.features.types import MatchRule

__all__ = ["InputSpec", "KnownFile", "Network", "OutputSpec", "known_networks"]

_OUTPUTS: Final = ("descriptors", "logits", "heatmap", "reliability", "keypoints", "scores")

_RECIPE_KEYS: Final = (
    *("max_features", "max_side", "enlarge_to", "position", "n_clusters", "n_vocabularies"),
    *("rotation", "norm", "keep_features", "keep_bytes"),
)


class _Numbers:
    """Lists (or dicts, of values) of finite numbers, as a constraint."""

    def __init__(self, kind: type[list[Any]] | type[dict[Any, Any]], noun: str) -> None:
        self._kind = kind
        self._noun = noun

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, self._kind):
            return False
        numbers = value.values() if isinstance(value, dict) else value
        return all(each in Interval(float) for each in numbers)

    def __str__(self) -> str:
        return self._noun


# Upper bounds are far beyond any network that is known.
_PX: Final = Interval(int, 0, 16384)
_MOST: Final = 1e30  # float32, in which they are computed with, has them and their reciprocals
_CHANNELS: Final = _Numbers(list, "a list of numbers, one for each channel")


@dataclass(frozen=True, slots=True)
class InputSpec:
    """Format in which a network takes an image.

    Parameters
    ----------
    name : str
        Name of the model's input; "" is its only one.
    color : {"gray", "rgb"}
    layout : {"nchw", "nhwc"}
        Order of the axes: batch (of one), channels, rows, columns.
    width, height : int
        Size in px, for a model of one fixed size; 0: the model's own, or any.
    multiple : int
        For any other model: both sides have to be multiples of this; 0 only with a fixed size.
    fit : {"letterbox", "tiles", "stretch", "pad", "crop"}
        How an image gets such a size. Fixed: reduced until it fits, the rest filled with its edge
        (the default); in overlapping tiles, each as large as the model takes; or, for one vector,
        stretched to it (the default there), or its middle where the shorter side fits. Any:
        stretched to the multiples below (the default), or its edges continued to the next
        multiples.
    overlap : int
        px that neighbouring tiles share.
    divide_by : float
        Gray levels 0 to 255 are divided by this first.
    mean, std : list of float
        For each channel the number that is then subtracted, and the one that divides the rest.
    constants : dict of str to number
        Other inputs of the model, and their values.
    """

    name: str = ""
    color: str = "rgb"
    layout: str = "nchw"
    width: int = 0
    height: int = 0
    multiple: int = 0
    fit: str = ""
    overlap: int = 64
    divide_by: float = 255.0
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    constants: dict[str, float] = field(default_factory=dict)

    _constraints: ClassVar[dict[str, Constraints]] = {
        "name": str,
        "color": StrOptions("gray", "rgb"),
        "layout": StrOptions("nchw", "nhwc"),
        "width": _PX,
        "height": _PX,
        "multiple": Interval(int, 0, 1024),
        "fit": StrOptions("", "letterbox", "tiles", "stretch", "pad", "crop"),
        "overlap": Interval(int, 0, 4096),
        "divide_by": Interval(float, 1e-6, 1e6),
        "mean": _CHANNELS,
        "std": _CHANNELS,
        "constants": _Numbers(dict, "a table of numbers, by input"),
    }

    @property
    def n_channels(self) -> int:
        """Number of channels, 1 or 3."""
        return 3 if self.color == "rgb" else 1


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """Outputs of a network, and how points and descriptors are read from them.

    Parameters
    ----------
    kind : {"map", "tokens", "keypoints", "vector"}
        A map of descriptors (1, f, h, w); or one for each patch, (1, n, f), row by row; or
        keypoints with descriptors; or one vector of the whole image, (1, D).
    descriptors : str
        Output with the descriptors; for "keypoints" (1, n, f), for "vector" (1, D), where "" is
        its only one.
    stride : int
        Size in px of the input of a cell of the map, or of a patch.
    skip : int
        Tokens before the patches (class, registers).
    logits : str
        For a map: the output (1, c * c + 1, h, w) from whose softmax the points are chosen: one
        channel for each px of a cell of c x c px, row by row, and one for none (SuperPoint, XFeat).
        "" and no `heatmap`: every cell is a point.
    heatmap : str
        Instead: the output (1, 1, height, width), or a part of that size, with a score for each px.
    reliability : str
        An output (1, 1, h, w) that scores are multiplied by.
    keypoints, scores : str
        For "keypoints": outputs (1, n, 2), x and y, and (1, n).
    coordinates : {"px", "normalized"}
        Unit of keypoints: px of the input, the origin at the centre of the first; or -1 to 1 from
        the centre of the first to the centre of the last.
    threshold : float
        Points need a score above this.
    radius : int
        Distance in px, along x and y, within which only the strongest point counts.
    border : int
        Points nearer to the edge of the input than this, in px, are dropped.
    """

    kind: str = ""
    descriptors: str = ""
    stride: int = 0
    skip: int = 0
    logits: str = ""
    heatmap: str = ""
    reliability: str = ""
    keypoints: str = ""
    scores: str = ""
    coordinates: str = "px"
    threshold: float = 0.0
    radius: int = 2
    border: int = 0

    _constraints: ClassVar[dict[str, Constraints]] = {
        "kind": StrOptions("", "map", "tokens", "keypoints", "vector"),
        "coordinates": StrOptions("px", "normalized"),
        "stride": Interval(int, 0, 1024),
        "skip": Interval(int, 0, 64),
        "threshold": Interval(float),
        "radius": Interval(int, 1, 64),
        "border": Interval(int, 0, 1024),
        **dict.fromkeys(_OUTPUTS, str),
    }

    def names(self) -> dict[str, str]:
        """Names of the outputs that are needed, by their role."""
        return {key: getattr(self, key) for key in _OUTPUTS if getattr(self, key)}


@dataclass(frozen=True, slots=True)
class Network:
    r"""Description of a model: input, output, how descriptors match, and a recipe's defaults.

    Examples
    --------
    >>> tables = {"output": {"kind": "tokens", "descriptors": "x", "stride": 14}}
    >>> network = Network.from_dict(tables, "a.toml")
    >>> network.output.stride, Network.from_dict(network.as_dict(), "again") == network
    (14, True)
    >>> Network.parse("[match]\nratoi = 1", "a.toml")
    Traceback (most recent call last):
    ...
    vladkit.errors.ModelError: a.toml: [match] has no key 'ratoi': use ratio or min_cosine
    """

    input: InputSpec
    output: OutputSpec
    match: MatchRule
    recipe: dict[str, Any]

    @classmethod
    def parse(cls, text: str, where: str) -> Self:
        """Read a description from the text of a TOML file.

        Raises
        ------
        ModelError
            If it is not TOML, or a key or value does not exist or does not fit; names `where`.
        """
        return cls.from_dict(_toml(text, where), where)

    @classmethod
    def from_dict(cls, tables: dict[str, Any], where: str) -> Self:
        """Make a description from tables of a TOML file, or of `as_dict`; raises as `parse`."""
        for name, table in tables.items():
            if name not in ("input", "output", "match", "recipe"):
                raise ModelError(
                    f"{where}: no table is called [{name}]: use [input], [output], [match] and "
                    "[recipe]"
                )
            if not isinstance(table, dict):
                raise ModelError(f"{where}: {name!r} has to be a table, [{name}]")
        recipe = tables.get("recipe", {})
        for key in recipe:
            if key not in _RECIPE_KEYS:
                raise ModelError(
                    f"{where}: [recipe] has no key {key!r}: use {listed(_RECIPE_KEYS)}"
                )
        network = cls(
            _read(InputSpec, tables.get("input", {}), f"{where}: [input]"),
            _read(OutputSpec, tables.get("output", {}), f"{where}: [output]"),
            _read(MatchRule, tables.get("match", {}), f"{where}: [match]"),
            recipe,
        )
        _check_output(network.output, f"{where}: [output]")
        _check_input(network.input, f"{where}: [input]", network.output.kind == "vector")
        return network

    def as_dict(self) -> dict[str, Any]:
        """Tables for `from_dict`, JSON-able; values equal to the defaults are left out."""
        return {
            "input": _differing(self.input),
            "output": _differing(self.output),
            "match": _differing(self.match),
            "recipe": self.recipe,
        }

    def as_json(self) -> str:
        """Tables of `as_dict` in one line; equal for equal descriptions."""
        return json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A model file that `vladkit models` lists.

    Parameters
    ----------
    name : str
    title, page, licence : str
        Name, home page and terms of use, for people.
    network : Network
    sha256 : str
        Empty for a description of models that others export in files of their own.
    n_bytes : int
    url : str
        Address to fetch it from; empty where none is known that gives this very file.
    stems : tuple of str
        Beginnings of the names of files that it describes, whatever their inputs are called.
    """

    name: str
    title: str
    page: str
    licence: str
    network: Network
    sha256: str = ""
    n_bytes: int = 0
    url: str = ""
    stems: tuple[str, ...] = ()

    def is_called(self, stem: str) -> bool:
        """Whether a file of that name, of small letters and digits alone, may be one of these."""
        return any(stem.startswith(each) for each in self.stems)


def known_networks() -> Iterator[KnownFile]:
    """Models that vladkit ships descriptions of; a description without files has its own name."""
    folder = resources.files("vladkit.features.onnx") / "networks"
    for path in sorted(folder.iterdir(), key=lambda each: each.name):
        if not path.name.endswith(".toml"):
            continue
        tables = _toml(path.read_text("utf-8"), path.name)
        network = Network.from_dict(tables["network"], path.name)
        about = tables["title"], tables["page"], tables["licence"], network
        for each in tables.get("files", ()):
            held = each["sha256"], each["bytes"], each.get("url", "")
            yield KnownFile(each["name"], *about, *held)
        if "files" not in tables:
            stems = tuple(tables.get("stems", ()))
            yield KnownFile(path.name.removesuffix(".toml"), *about, stems=stems)


def _toml(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: a number of thousands of digits
        raise ModelError(f"{where} is not TOML: {error}") from None


def _read(cls: type[Any], table: dict[str, Any], where: str) -> Any:
    names = [f.name for f in fields(cls)]
    values = {}
    for key, value in table.items():
        if key not in names:
            raise ModelError(f"{where} has no key {key!r}: use {listed(names)}")
        try:
            values[key] = check_parameter(key, value, cls._constraints[key])
        except ParameterError as error:
            raise ModelError(f"{where} {error}") from None
    return cls(**values)


def _check_input(spec: InputSpec, where: str, is_vector: bool) -> None:
    fixed = spec.width or spec.height
    if fixed and not (spec.width and spec.height):
        raise ModelError(f"{where} needs width and height, or neither")
    if fixed and spec.multiple:
        raise ModelError(
            f"{where} has width, height and multiple: a size is fixed, or any multiple"
        )
    if is_vector and spec.fit == "tiles":
        raise ModelError(f"{where} fit='tiles': one vector is of the whole image, not of tiles")
    if is_vector and fixed and spec.fit == "pad":
        raise ModelError(f"{where} fit='pad': with a fixed size use stretch, crop or letterbox")
    if not is_vector and spec.fit == "crop":
        raise ModelError(
            f"{where} fit='crop' is for one vector of an image, [output] kind 'vector'"
        )
    if spec.fit in ("stretch", "pad") and fixed and not is_vector:
        raise ModelError(f"{where} fit={spec.fit!r}: with a fixed size use letterbox or tiles")
    if spec.fit in ("letterbox", "tiles", "crop") and spec.multiple:
        raise ModelError(f"{where} fit={spec.fit!r}: with a multiple use stretch or pad")
    if fixed and spec.fit == "tiles" and 2 * spec.overlap > min(spec.width, spec.height):
        raise ModelError(
            f"{where} overlap={spec.overlap}: wanted at most half of {spec.width}x{spec.height} px"
        )
    for key in ("mean", "std"):
        values = getattr(spec, key)
        if values and len(values) != spec.n_channels:
            raise ModelError(
                f"{where} {key} has {len(values)} numbers: an image in {spec.color} has "
                f"{spec.n_channels} channels"
            )
        if any(abs(value) > _MOST for value in values):
            raise ModelError(f"{where} {key}={values}: wanted numbers of at most {_MOST:g}")
    if any(abs(value) < 1 / _MOST for value in spec.std):
        raise ModelError(f"{where} std has a 0, or as good as: it is divided by")


def _check_output(spec: OutputSpec, where: str) -> None:
    if not spec.kind:
        raise ModelError(f"{where} needs a kind: use 'map', 'tokens', 'keypoints', 'vector'")
    needed = {
        "map": ("descriptors", "stride"),
        "tokens": ("descriptors", "stride"),
        "keypoints": ("descriptors", "keypoints", "scores"),
        "vector": (),
    }[spec.kind]
    for key in needed:
        if not getattr(spec, key):
            raise ModelError(f"{where} of kind {spec.kind!r} needs {key}")
    unused: tuple[str, ...] = {
        "map": ("keypoints", "scores"),
        "keypoints": ("stride", "skip"),
        "vector": ("stride", "skip", "keypoints", "scores", "threshold", "border"),
    }.get(spec.kind, ())
    if spec.kind != "map":
        unused = (*unused, "logits", "heatmap", "reliability")
    for key in unused:
        if getattr(spec, key):
            raise ModelError(f"{where} of kind {spec.kind!r} has no use for {key}")
    if spec.logits and spec.heatmap:
        raise ModelError(f"{where} has logits and heatmap: points are chosen by one of them")


def _differing(spec: Any) -> dict[str, Any]:
    plain = asdict(spec)
    default = asdict(type(spec)())
    return {key: value for key, value in plain.items() if value != default[key]}
