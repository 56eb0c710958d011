"""Features of a neural network, or its one vector of an image, run by ONNX Runtime; no torch.

Axes: ``l`` features of one image, ``f`` descriptor dimension, ``2`` is x, y.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import Float32Array
from vladkit.core.linalg import unit_rows
from vladkit.core.params import Constraints, Interval, StrOptions, store_checked
from vladkit.errors import ImageError, ModelError, ParameterError
from vladkit.features.onnx.batches import check_batch, run_canvases
from vladkit.features.onnx.maps import Maps, Points, decode, spread_scores
from vladkit.features.onnx.session import DEVICES, Session, runtime_version, session_of
from vladkit.features.onnx.spec import Network
from vladkit.features.onnx.tiling import Canvas, canvases, enlarged
from vladkit.features.onnx.zoo import find_model
from vladkit.features.types import (
    IMAGE_PARAMETERS,
    MIN_SIDE,
    Features,
    MatchRule,
    Parameter,
    check_image,
)
from vladkit.images import Image, decoder_facts

__all__ = ["OnnxNetwork", "same_features"]

_BATCH: Final = 8
"""Images of a run where no number is given, on other devices than the CPU."""


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
    device : str
        Device that the network runs on, see `vladkit.features.onnx.session.DEVICES`.
    batch : int
        Images of a run; 0 is 1 on the CPU, 8 elsewhere.

    Raises
    ------
    ParameterError
        A value is out of range.

    Notes
    -----
    Descriptors are stored as float16 of length 1: 2 f bytes each. Features have no direction and
    no size: ``angle_l`` is 0 and ``size_l`` 1 for all. A network of kind "vector" gives
    ``vector_D``, as it comes, and no local features.

    One session of ONNX Runtime for a model in a process, used by all threads, each run on the
    thread that asks for it: with two cores two images at a time take 24 ms each (XFeat,
    640x480), one at a time on two threads 28 ms. So the sums, and the features, do not depend on
    the number of cores. On the CPU a batch of several would only wait for its last image.
    """

    path: str
    network: str
    max_features: int = 2000
    max_side: int | None = 640
    enlarge_to: int = 320
    in_place: bool = True
    device: str = "cpu"
    batch: int = 0

    has_directions: ClassVar[bool] = False

    _constraints: ClassVar[dict[str, Constraints]] = {
        **IMAGE_PARAMETERS,
        "device": StrOptions("auto", *DEVICES),
        "batch": Interval(int, 0, 4096),
    }

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
    def has_local(self) -> bool:
        """Whether it gives local features; else it gives one vector."""
        return self.description.output.kind != "vector"

    @property
    def n_dimensions(self) -> int:
        """Dimension of a descriptor, ``f``; 0 where there are none."""
        return int(self.about["f"]) if self.has_local else 0

    @property
    def vector_dimensions(self) -> int:
        """Dimension of the one vector of an image, ``D``; 0 where there is none."""
        return 0 if self.has_local else int(self.about["f"])

    @property
    def batch_size(self) -> int:
        """Number of images that are best given to `extract_many` at a time."""
        return self.batch or (1 if self.device == "cpu" else _BATCH)

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
            "provider": DEVICES.get(self.device, ""),
            **decoder_facts(),
        }

    def __getstate__(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

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
        (found,) = self.extract_many([image])
        if isinstance(found, ImageError):
            raise found
        return found

    def extract_many(self, images: Sequence[Image]) -> list[Features | ImageError]:
        """Features of each image, or the error that `extract` raises for it.

        Canvases of one size are given to the network together, `batch_size` at a time.
        """
        prepared = [self._prepared(image) for image in images]
        ready = [each for each in prepared if isinstance(each, _Prepared)]
        outputs = iter(self._outputs([canvas for each in ready for canvas in each.canvases]))
        found: list[Features | ImageError] = []
        for each in prepared:
            try:
                if isinstance(each, ImageError):
                    raise each
                found.append(self._features(each, [next(outputs) for _ in each.canvases]))
            except ImageError as error:
                found.append(error)
        return found

    def _prepared(self, image: Image) -> _Prepared | ImageError:
        """An image on canvases; the error if it is too small."""
        check_image(image)
        if self.wants_color and not image.is_color:
            raise ParameterError("this network takes colour: read the image with color=True")
        pixels = image.rgb_yx3 if self.wants_color else image.gray_yx
        h, w = pixels.shape[:2]
        if min(h, w, image.width, image.height) < MIN_SIDE:
            return ImageError(
                f"too small: {image.width}x{image.height} px, read as {w}x{h} px, at least "
                f"{MIN_SIDE}x{MIN_SIDE} needed"
            )
        large = enlarged(pixels, self.enlarge_to)
        scale_x, scale_y = image.scale_x * w / large.shape[1], image.scale_y * h / large.shape[0]
        return _Prepared(image, canvases(large, self.description.input), (scale_x, scale_y))

    def _features(self, given: _Prepared, maps: Sequence[Maps | ImageError]) -> Features:
        image = given.image
        if not self.has_local:
            vector_D = self.vector_of(maps[0])
            return Features.of_vector(vector_D, image.width, image.height, image.region)
        xy_l2, local_lf, score_l = self._points(list(zip(given.canvases, maps, strict=True)))
        if not len(xy_l2):
            raise ImageError("no features found: the image is blank or has no texture")
        # Rows and columns break ties, so that the order is the same on every run.
        order_l = np.lexsort((xy_l2[:, 0], xy_l2[:, 1], -score_l))[: self.max_features]
        scale_2 = np.array(given.scale_2)
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

    def _points(self, seen: Sequence[tuple[Canvas, Maps | ImageError]]) -> Points:
        """Points of an image, in its px, from what the network gave for its canvases."""
        found = []
        for canvas, maps in seen:
            xy_l2, local_lf, score_l = self.points_on(canvas, maps)
            own_l = canvas.owns(xy_l2)
            found.append((canvas.in_image(xy_l2[own_l]), local_lf[own_l], score_l[own_l]))
        xy_l2, local_lf, score_l = (np.concatenate(each) for each in zip(*found, strict=True))
        if not {"logits", "heatmap", "reliability", "scores"} & set(
            self.description.output.names()
        ):
            score_l = spread_scores(len(xy_l2))
        return xy_l2, local_lf, score_l

    def points_on(self, canvas: Canvas, maps: Maps | ImageError) -> Points:
        """Points of a canvas, in its px, those on its filling among them."""
        try:
            output = self.description.output
            return decode(_finite(maps), output, canvas.pixels.shape[:2])
        except ModelError as error:
            raise ModelError(f"{self.path}: {error}") from None

    def vector_of(self, maps: Maps | ImageError) -> Float32Array:
        """The one vector (D,) of an image, as the network gives it."""
        value = _finite(maps)["descriptors"]
        vector_D = value.ravel()
        if max(value.shape) != vector_D.size:  # (D, 1, 1) is one, too
            raise ModelError(
                f"{self.path} gives {self.description.output.descriptors!r} of shape "
                f"{value.shape} after the batch, wanted one vector, (D,): name the output of the "
                "pooled vector, or another kind in its TOML file (docs/how-to/networks.md)"
            )
        if (D := self.vector_dimensions) and vector_D.size != D:  # 0: it is being tried
            raise ModelError(
                f"{self.path} gives a vector of {vector_D.size} numbers for this image, of {D} for "
                "others: give it one size of image, width and height in its TOML file "
                "(docs/how-to/networks.md)"
            )
        if not vector_D.any():
            raise ImageError("the network gives a vector of zeros for this image")
        return vector_D

    def outputs_of(self, canvas: Canvas) -> Maps | ImageError:
        """Outputs of the network for one canvas, by role."""
        return self._outputs([canvas])[0]

    def _outputs(self, seen: Sequence[Canvas]) -> list[Maps | ImageError]:
        pixels = [canvas.pixels for canvas in seen]
        if not pixels:
            return []
        return run_canvases(self.session(), self.description, pixels, self.batch_size, self.path)

    def session(self) -> Session:
        """The model, loaded on the device; raises as `extract`."""
        sha256, n_bytes = self.about["sha256"], self.about["bytes"]

        def find() -> Path:
            return find_model(self.path, sha256, n_bytes, self.in_place)

        return session_of(sha256, find, self.device)

    def placed(self, device: str | None, batch: int | None) -> OnnxNetwork:
        """Move the network to a device, with `batch` images of a run; None leaves it as it is."""
        chosen = replace(self, device=device or self.device, batch=batch or self.batch)
        if chosen.device == "cpu" and not chosen.batch:
            return chosen  # the model need not be there
        session = chosen.session()
        check_batch(session, chosen.description, chosen.batch, chosen.path)
        return replace(chosen, device=session.device)


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """Image on canvases; `scale_2` is the size of a px that these were cut from in its own."""

    image: Image
    canvases: list[Canvas]
    scale_2: tuple[float, float]


def _finite(maps: Maps | ImageError) -> Maps:
    """Outputs of finite numbers; the error, or another one, if they are none."""
    if isinstance(maps, ImageError):
        raise maps
    for name, value in maps.items():
        if not np.isfinite(value).all():
            raise ImageError(f"the network gives NaN or infinity ({name}) for this image")
    return maps


def same_features(network: str, other: str) -> bool:
    """Tell whether two values of `OnnxNetwork.network` give the same features.

    The model, its input and its output have to be the same; how descriptors are matched, and the
    defaults of recipes, may differ from version to version.
    """
    a, b = json.loads(network), json.loads(other)
    parts = [(each["sha256"], each["description"]["input"], each["description"]["output"])
             for each in (a, b)]  # fmt: skip
    return parts[0] == parts[1]
