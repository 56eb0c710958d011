"""Features of a neural network, run by ONNX Runtime; no torch.

Axes: ``l`` features of one image, ``f`` descriptor dimension, ``2`` is x, y.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import Float32Array
from vladkit.core.linalg import unit_rows
from vladkit.core.params import Constraints, store_checked
from vladkit.errors import ImageError, ModelError, ParameterError
from vladkit.features.onnx.maps import Maps, Points, decode, spread_scores
from vladkit.features.onnx.session import first_line, runtime_version, session_of
from vladkit.features.onnx.spec import InputSpec, Network
from vladkit.features.onnx.tiling import Canvas, canvases, enlarged
from vladkit.features.onnx.zoo import find_model
from vladkit.features.types import IMAGE_PARAMETERS, MIN_SIDE, Features, MatchRule, Parameter
from vladkit.images import Image, decoder_facts

__all__ = ["CONSTANT_TYPES", "TYPES", "OnnxNetwork", "same_features"]

TYPES: Final[dict[str, Any]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
CONSTANT_TYPES: Final[dict[str, Any]] = {
    **TYPES,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(double)": np.float64,
}


@dataclass(frozen=True)
class OnnxNetwork:
    """Features of a network in an ONNX file; `vladkit.features.onnx.load.load_network` makes one.

    Parameters
    ----------
    path : str
        Path of the model when the collection was made; see
        `vladkit.features.onnx.zoo.find_model`.
    network : str
        JSON: ``sha256`` and ``bytes`` of the model, ``f``, the dimension of its descriptors, and
        its ``description``, a `Network`. Enough for all but `extract`.
    max_features, max_side, enlarge_to
        Parameters of images, see `vladkit.features.Sift`.
    in_place : bool
        Whether the model may be read at `path`: that of somebody else's collection may not.

    Raises
    ------
    ParameterError
        A value is out of range.

    Notes
    -----
    Descriptors are stored as float16 of length 1: 2 f bytes each. Features have no direction and
    no size: ``angle_l`` is 0 and ``size_l`` 1 for all.

    One session of ONNX Runtime for a model in a process, used by all threads, each run on the
    thread that asks for it: with two cores two images at a time take 24 ms each (XFeat,
    640x480), one at a time on two threads 28 ms. So the sums, and the features, do not depend on
    the number of cores. It runs on the CPU.
    """

    path: str
    network: str
    max_features: int = 2000
    max_side: int | None = 640
    enlarge_to: int = 320
    in_place: bool = True

    has_directions: ClassVar[bool] = False

    _constraints: ClassVar[dict[str, Constraints]] = IMAGE_PARAMETERS

    def __post_init__(self) -> None:
        store_checked(self, self._constraints)

    # -- description --------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name for `vladkit.features.make_extractor`."""
        return f"onnx:{self.path}"

    @cached_property
    def about(self) -> dict[str, Any]:
        """Content of `network`."""
        about: dict[str, Any] = json.loads(self.network)
        return about

    @cached_property
    def description(self) -> Network:
        """Description of the model's input and output."""
        return Network.from_dict(self.about["description"], self.path)

    @property
    def n_dimensions(self) -> int:
        """Dimension of a descriptor, ``f``."""
        return int(self.about["f"])

    @property
    def wants_color(self) -> bool:
        """Whether the network reads colour images."""
        return self.description.input.color == "rgb"

    @property
    def match_rule(self) -> MatchRule:
        """Rule by which descriptors match."""
        return self.description.match

    def parameters(self) -> dict[str, Parameter]:
        """Everything that changes the output; see `Extractor.parameters`."""
        return {
            "network": self.network,
            "max_features": self.max_features,
            "max_side": self.max_side,
            "enlarge_to": self.enlarge_to,
            "metric": "cosine",
            "runtime": runtime_version(),
            **decoder_facts(),
        }

    def __getstate__(self) -> dict[str, Any]:
        kept = ("path", "network", "max_features", "max_side", "enlarge_to", "in_place")
        return {key: getattr(self, key) for key in kept}

    # -- extraction ---------------------------------------------------------------------

    def extract(self, image: Image) -> Features:
        """Find and describe the features of one image.

        Parameters
        ----------
        image : Image
            In colour where `wants_color`.

        Raises
        ------
        ImageError
            A side is shorter than 16 px; nothing was found; the network gives NaN; or memory ran
            out (``transient=True``).
        ModelError
            The model is missing, is another one, or does not do what its description says.
        MissingDependencyError
            ONNX Runtime is not installed.
        """
        if self.wants_color and not image.is_color:
            raise ParameterError("this network takes colour: read the image with color=True")
        pixels = image.rgb_yx3 if self.wants_color else image.gray_yx
        h, w = pixels.shape[:2]
        if min(h, w, image.width, image.height) < MIN_SIDE:
            raise ImageError(
                f"too small: {image.width}x{image.height} px, read as {w}x{h} px, at least "
                f"{MIN_SIDE}x{MIN_SIDE} needed"
            )
        large = enlarged(pixels, self.enlarge_to)
        xy_l2, local_lf, score_l = self._points(large)
        if not len(xy_l2):
            raise ImageError("no features found: the image is blank or has no texture")
        # Rows and columns break ties, so that the order is the same on every run.
        order_l = np.lexsort((xy_l2[:, 0], xy_l2[:, 1], -score_l))[: self.max_features]
        scale_2 = np.array([image.scale_x * w / large.shape[1], image.scale_y * h / large.shape[0]])
        l = len(order_l)
        return Features(
            local_lf[order_l].astype(np.float16),
            ((xy_l2[order_l] + 0.5) * scale_2 - 0.5).astype(np.float32),
            np.ones(l, np.float32),
            np.zeros(l, np.float32),
            score_l[order_l].astype(np.float32),
            width=image.width,
            height=image.height,
            region=image.region,
        )

    def metric(self, descriptor_lf: npt.NDArray[Any]) -> Float32Array:
        """Unit length, so that the squared L2 distance is ``2 - 2 cos``; zero rows stay zero."""
        return unit_rows(np.asarray(descriptor_lf, np.float32))

    def _points(self, pixels: npt.NDArray[np.uint8]) -> Points:
        """Points of an image, in its px."""
        found = []
        for canvas in canvases(pixels, self.description.input):
            xy_l2, local_lf, score_l = self.points_on(canvas)
            own_l = canvas.owns(xy_l2)
            found.append((canvas.in_image(xy_l2[own_l]), local_lf[own_l], score_l[own_l]))
        xy_l2, local_lf, score_l = (np.concatenate(each) for each in zip(*found, strict=True))
        if not {"logits", "heatmap", "reliability", "scores"} & set(
            self.description.output.names()
        ):
            score_l = spread_scores(len(xy_l2))
        return xy_l2, local_lf, score_l

    def points_on(self, canvas: Canvas) -> Points:
        """Points of a canvas, in its px, those on its filling among them."""
        maps = self._run(canvas.pixels)
        for name, value in maps.items():
            if not np.isfinite(value).all():
                raise ImageError(f"the network gives NaN or infinity ({name}) for this image")
        try:
            return decode(maps, self.description.output, canvas.pixels.shape[:2])
        except ModelError as error:
            raise ModelError(f"{self.path}: {error}") from None

    def _run(self, pixels: npt.NDArray[np.uint8]) -> Maps:
        """Outputs of the model for one canvas."""
        spec, names = self.description.input, self.description.output.names()
        sha256, n_bytes = self.about["sha256"], self.about["bytes"]
        session = session_of(sha256, lambda: find_model(self.path, sha256, n_bytes, self.in_place))
        given = {each.name: each for each in session.get_inputs()}
        tensor = _tensor(pixels, spec).astype(TYPES[given[spec.name].type], copy=False)
        feed: dict[str, Any] = {spec.name: tensor}
        for name, value in spec.constants.items():
            shape = [1] * len(given[name].shape)
            feed[name] = np.full(shape, value, CONSTANT_TYPES[given[name].type])
        try:
            values = session.run(list(names.values()), feed)
        except MemoryError as error:
            raise ImageError("not enough memory for the network", transient=True) from error
        except Exception as error:  # ONNX Runtime's own have no other common base
            what = f"{self.path} failed on {tensor.shape}"
            raise ModelError(f"{what}: {first_line(error)}") from error
        found = {}
        for key, value in zip(names, values, strict=True):
            if value.ndim < 2 or value.shape[0] != 1:
                raise ModelError(
                    f"{self.path} gives {names[key]!r} ({key}) of shape {value.shape}, wanted a "
                    "batch of one, (1, ...): export it so"
                )
            found[key] = np.asarray(value[0], np.float32)
        return found


def same_features(network: str, other: str) -> bool:
    """Tell whether two values of `OnnxNetwork.network` give the same features.

    The model, its input and its output have to be the same; how descriptors are matched, and the
    defaults of recipes, may differ from version to version.
    """
    a, b = json.loads(network), json.loads(other)
    parts = [(each["sha256"], each["description"]["input"], each["description"]["output"])
             for each in (a, b)]  # fmt: skip
    return parts[0] == parts[1]


def _tensor(pixels: npt.NDArray[np.uint8], spec: InputSpec) -> Float32Array:
    """Input of the model, (1, c, y, x) or (1, y, x, c), with its scale and offsets."""
    value_yxc = pixels.reshape(*pixels.shape[:2], -1).astype(np.float32)
    value_yxc /= np.float32(spec.divide_by)
    if spec.mean:
        value_yxc -= np.array(spec.mean, np.float32)
    if spec.std:
        value_yxc /= np.array(spec.std, np.float32)
    if spec.layout == "nchw":
        value_yxc = value_yxc.transpose(2, 0, 1)
    return np.ascontiguousarray(value_yxc[None])
