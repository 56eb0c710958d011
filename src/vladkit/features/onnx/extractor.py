"""Features by a neural network, run by ONNX Runtime; no torch.

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
from vladkit.errors import ImageError, ModelError, ParameterError
from vladkit.features.onnx.maps import cell_heat, peaks, sampled, spread_scores, unit_rows
from vladkit.features.onnx.session import first_line, runtime_version, session_of
from vladkit.features.onnx.spec import InputSpec, Network
from vladkit.features.onnx.tiling import Canvas, canvases, enlarged
from vladkit.features.onnx.zoo import find_model
from vladkit.features.sift import MIN_SIDE
from vladkit.features.types import Features, MatchRule, Parameter
from vladkit.images import Image, decoder_facts

__all__ = ["CONSTANT_TYPES", "TYPES", "OnnxNetwork", "same_features"]

TYPES: Final[dict[str, Any]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
CONSTANT_TYPES: Final[dict[str, Any]] = {
    **TYPES,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(double)": np.float64,
}

_Points = tuple[Float32Array, Float32Array, Float32Array]
"""Places (l, 2) in px of the canvas, unit descriptors (l, f), scores (l,)."""


@dataclass(frozen=True)
class OnnxNetwork:
    """Features of a network in an ONNX file; `vladkit.features.onnx.load.load_network` makes one.

    Parameters
    ----------
    path : str
        Where the model was; see `vladkit.features.onnx.zoo.find_model`.
    network : str
        JSON: ``sha256`` and ``bytes`` of the model, ``f``, the dimension of its descriptors, and
        its ``description``, a `Network`. Enough for all but `extract`.
    max_features : int, default=2000
        Most features of an image; the strongest are kept.
    max_side : int or None, default=640
        Images are read with their longest side at most this, in px.
    enlarge_to : int, default=320
        Images whose longest side is shorter, in px, are enlarged to this; 0 never does.

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

    has_directions: ClassVar[bool] = False

    def __post_init__(self) -> None:
        ranges = {"max_features": (1, 1_000_000), "max_side": (MIN_SIDE, 100_000)}
        for key, (least, most) in (ranges | {"enlarge_to": (0, 10_000)}).items():
            value = getattr(self, key)
            if key == "max_side" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ParameterError(f"{key} is {value!r}: give a whole number {least} to {most}")

    # -- what it is ---------------------------------------------------------------------

    @property
    def name(self) -> str:
        """As `make_extractor` knows it."""
        return f"onnx:{self.path}"

    @cached_property
    def about(self) -> dict[str, Any]:
        """What `network` holds."""
        about: dict[str, Any] = json.loads(self.network)
        return about

    @cached_property
    def description(self) -> Network:
        """How the model is used."""
        return Network.from_dict(self.about["description"], self.path)

    @property
    def n_dimensions(self) -> int:
        """Of a descriptor, ``f``."""
        return int(self.about["f"])

    @property
    def wants_color(self) -> bool:
        """Whether images are to be read in colour."""
        return self.description.input.color == "rgb"

    @property
    def match_rule(self) -> MatchRule:
        """Which of its descriptors match."""
        return self.description.match

    def parameters(self) -> dict[str, Parameter]:
        """All that changes the output; see `Extractor.parameters`."""
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
        kept = ("path", "network", "max_features", "max_side", "enlarge_to")
        return {key: getattr(self, key) for key in kept}

    # -- what it does -------------------------------------------------------------------

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
            The model is not there, is another one, or does not do what its description says.
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
        return unit_rows(descriptor_lf)

    def _points(self, pixels: npt.NDArray[np.uint8]) -> _Points:
        """Of an image, in its px."""
        found = []
        for canvas in canvases(pixels, self.description.input):
            xy_l2, local_lf, score_l = self.points_on(canvas)
            own_l = canvas.owns(xy_l2)
            found.append((canvas.in_image(xy_l2[own_l]), local_lf[own_l], score_l[own_l]))
        xy_l2, local_lf, score_l = (np.concatenate(each) for each in zip(*found, strict=True))
        if not self._has_scores:
            score_l = spread_scores(len(xy_l2))
        return xy_l2, local_lf, score_l

    @property
    def _has_scores(self) -> bool:
        output = self.description.output
        return bool(output.logits or output.heatmap or output.reliability or output.scores)

    def points_on(self, canvas: Canvas) -> _Points:
        """Places in px of the canvas, unit descriptors and scores, on its filling too."""
        maps = self._run(canvas.pixels)
        for name, value in maps.items():
            if not np.isfinite(value).all():
                raise ImageError(f"the network gives NaN or infinity ({name}) for this image")
        kind = self.description.output.kind
        if kind == "keypoints":
            return self._keypoints(maps, canvas)
        if kind == "tokens":
            return self._tokens(maps, canvas)
        return self._map(maps, canvas)

    def _run(self, pixels: npt.NDArray[np.uint8]) -> dict[str, Float32Array]:
        """Outputs by what they are, without the axis of the batch."""
        spec, names = self.description.input, self.description.output.names()
        sha256, n_bytes = self.about["sha256"], self.about["bytes"]
        session = session_of(sha256, lambda: find_model(self.path, sha256, n_bytes))
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
                raise self._misfit(key, value, "(1, ...)")
            found[key] = np.asarray(value[0], np.float32)
        return found

    def _keypoints(self, maps: dict[str, Float32Array], canvas: Canvas) -> _Points:
        xy_l2, local_lf, score_l = maps["keypoints"], maps["descriptors"], maps["scores"].ravel()
        if xy_l2.ndim != 2 or xy_l2.shape[1] != 2:
            raise self._misfit("keypoints", xy_l2, "(1, n, 2)")
        if local_lf.ndim != 2 or len(local_lf) != len(xy_l2):
            raise self._misfit("descriptors", local_lf, f"(1, {len(xy_l2)}, f)")
        if len(score_l) != len(xy_l2):
            raise self._misfit("scores", score_l, f"(1, {len(xy_l2)})")
        h, w = canvas.pixels.shape[:2]
        output = self.description.output
        if output.coordinates == "normalized":
            last_2 = np.array([w - 1, h - 1], np.float32)
            xy_l2 = np.asarray((xy_l2 + 1) / 2 * last_2, np.float32)
        margin = output.border - 0.5
        keep_l = (score_l > output.threshold) & (xy_l2 > margin).all(axis=1)
        keep_l &= (xy_l2 < np.array([w, h]) - 1 - margin).all(axis=1)
        return xy_l2[keep_l], unit_rows(local_lf[keep_l]), score_l[keep_l]

    def _tokens(self, maps: dict[str, Float32Array], canvas: Canvas) -> _Points:
        output = self.description.output
        h, w = (side // output.stride for side in canvas.pixels.shape[:2])
        local_lf = maps["descriptors"]
        if local_lf.ndim != 2 or len(local_lf) != h * w + output.skip:
            wanted = f"(1, {output.skip} + {h} * {w}, f), patches of {output.stride} px"
            raise self._misfit("descriptors", local_lf, wanted)
        xy_l2 = _cell_places(h, w, output.stride)
        return xy_l2, unit_rows(local_lf[output.skip :]), np.ones(h * w, np.float32)

    def _map(self, maps: dict[str, Float32Array], canvas: Canvas) -> _Points:
        output = self.description.output
        h, w = (-(-side // output.stride) for side in canvas.pixels.shape[:2])
        map_fyx = maps["descriptors"]
        if map_fyx.ndim != 3 or map_fyx.shape[1:] != (h, w):
            wanted = f"(1, f, {h}, {w}), cells of {output.stride} px"
            raise self._misfit("descriptors", map_fyx, wanted)
        length_yx = np.sqrt(np.einsum("fyx,fyx->yx", map_fyx, map_fyx))
        map_yxf = (map_fyx / np.maximum(length_yx, 1e-12)).transpose(1, 2, 0)
        reliability = maps.get("reliability")
        if reliability is not None and reliability.size != h * w:
            raise self._misfit("reliability", reliability, f"(1, 1, {h}, {w})")
        if not (output.logits or output.heatmap):
            xy_l2 = _cell_places(h, w, output.stride)
            score_l = np.ones(h * w, np.float32) if reliability is None else reliability.ravel()
            keep_l = score_l > output.threshold
            return xy_l2[keep_l], map_yxf.reshape(h * w, -1)[keep_l], score_l[keep_l]
        heat_yx = self._heat(maps, canvas)
        point_l2 = peaks(heat_yx, output.radius, output.threshold, output.border)
        cell_l2 = (point_l2 + 0.5) / output.stride - 0.5
        score_l = heat_yx[point_l2[:, 1], point_l2[:, 0]]
        if reliability is not None:
            score_l = score_l * sampled(reliability.reshape(h, w, 1), cell_l2)[:, 0]
        local_lf = unit_rows(sampled(map_yxf, cell_l2))
        return point_l2.astype(np.float32), local_lf, score_l

    def _heat(self, maps: dict[str, Float32Array], canvas: Canvas) -> Float32Array:
        h, w = canvas.pixels.shape[:2]
        if "heatmap" in maps:
            heat = maps["heatmap"]
            if heat.size != h * w:
                raise self._misfit("heatmap", heat, f"(1, 1, {h}, {w})")
            return np.ascontiguousarray(heat.reshape(h, w))
        logits = maps["logits"]
        n_px = round((len(logits) - 1) ** 0.5)
        if logits.ndim != 3 or n_px * n_px + 1 != len(logits):
            raise self._misfit("logits", logits, "(1, c * c + 1, h, w)")
        heat = cell_heat(logits, n_px)
        if heat.shape != (h, w):
            raise self._misfit("logits", logits, f"cells of {n_px} px for {w}x{h} px")
        return heat

    def _misfit(self, key: str, value: npt.NDArray[Any], wanted: str) -> ModelError:
        name = self.description.output.names()[key]
        return ModelError(
            f"{self.path} gives {name!r} ({key}) of shape {value.shape} after the batch, its "
            f"description asks for {wanted}: mend its TOML file (docs/networks.md)"
        )


def same_features(network: str, other: str) -> bool:
    """Whether two values of `OnnxNetwork.network` give the same features.

    The model, its input and its output have to be the same; how descriptors are matched, and the
    defaults of recipes, may differ from version to version.
    """
    a, b = json.loads(network), json.loads(other)
    parts = [(each["sha256"], each["description"]["input"], each["description"]["output"])
             for each in (a, b)]  # fmt: skip
    return parts[0] == parts[1]


def _tensor(pixels: npt.NDArray[np.uint8], spec: InputSpec) -> Float32Array:
    """(1, c, y, x) or (1, y, x, c), scaled."""
    value_yxc = pixels.reshape(*pixels.shape[:2], -1).astype(np.float32)
    value_yxc /= np.float32(spec.divide_by)
    if spec.mean:
        value_yxc -= np.array(spec.mean, np.float32)
    if spec.std:
        value_yxc /= np.array(spec.std, np.float32)
    if spec.layout == "nchw":
        value_yxc = value_yxc.transpose(2, 0, 1)
    return np.ascontiguousarray(value_yxc[None])


def _cell_places(h: int, w: int, stride: int) -> Float32Array:
    """Centres (h * w, 2) of cells, row by row, in px of the canvas."""
    y_l, x_l = np.divmod(np.arange(h * w), w)
    return np.asarray((np.stack([x_l, y_l], axis=1) + 0.5) * stride - 0.5, np.float32)
