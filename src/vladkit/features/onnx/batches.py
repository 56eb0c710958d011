"""Runs of a network on canvases, several of one size at a time.

Axes: ``b`` canvases of a run, ``y, x`` px, ``c`` channels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vladkit.core.arrays import Float32Array
from vladkit.errors import ImageError, ModelError, ParameterError
from vladkit.features.onnx.maps import Maps
from vladkit.features.onnx.session import Session, first_line
from vladkit.features.onnx.spec import InputSpec, Network

__all__ = ["CONSTANT_TYPES", "TYPES", "check_batch", "run_canvases"]

TYPES: Final[dict[str, Any]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
CONSTANT_TYPES: Final[dict[str, Any]] = {
    **TYPES,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(double)": np.float64,
}

_BYTES: Final = 1 << 28
"""Most bytes of input of one run: 28 images of 640x640 px, whatever batch is asked for."""

_Pixels = npt.NDArray[np.uint8]


def run_canvases(
    session: Session, network: Network, pixels: Sequence[_Pixels], batch: int, path: str
) -> list[Maps | ImageError]:
    """Outputs of a network for each of some canvases, by role and without the axis of the batch.

    Parameters
    ----------
    session : Session
    network : Network
    pixels : sequence of uint8 array (y, x) or (y, x, 3)
    batch : int
        Most canvases of a run; those of a run have one size.
    path : str
        The model, for messages.

    Returns
    -------
    list of dict or ImageError
        The error if memory ran out for that canvas alone.

    Raises
    ------
    ModelError
        If the model fails, or does not give an output for each canvas of a run.
    """
    fixed = fixed_batch(session, network)
    by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, each in enumerate(pixels):
        by_size[each.shape].append(i)
    found: dict[int, Maps | ImageError] = {}
    for shape, places in by_size.items():
        most = fixed or max(1, min(batch, _BYTES // (4 * int(np.prod(shape)))))
        for begin in range(0, len(places), most):
            some = places[begin : begin + most]
            given = [pixels[i] for i in some]
            found.update(zip(some, _run(session, network, given, fixed, path), strict=True))
    return [found[i] for i in range(len(pixels))]


def fixed_batch(session: Session, network: Network) -> int:
    """Number of images that a model takes at a time, no more and no fewer; 0: any."""
    shape = next(i.shape for i in session.inputs() if i.name == network.input.name)
    return shape[0] if isinstance(shape[0], int) else 0


def check_batch(session: Session, network: Network, batch: int, path: str) -> None:
    """Raise ParameterError if a model does not take `batch` images at a time."""
    fixed = fixed_batch(session, network)
    if fixed and batch not in (0, fixed):
        raise ParameterError(
            f"batch={batch}: {path} takes {fixed} at a time: export it with an axis of any length "
            "for the batch, or leave batch out"
        )


def _run(
    session: Session, network: Network, pixels: Sequence[_Pixels], fixed: int, path: str
) -> list[Maps | ImageError]:
    spec, names = network.input, network.output.names()
    given = {each.name: each for each in session.inputs()}
    padded = [*pixels, *[pixels[-1]] * (fixed - len(pixels))]
    try:
        tensor = _tensor(padded, spec).astype(TYPES[given[spec.name].type], copy=False)
        feed: dict[str, Any] = {spec.name: tensor}
        for name, value in spec.constants.items():
            shape = [1] * len(given[name].shape)
            feed[name] = np.full(shape, value, CONSTANT_TYPES[given[name].type])
        values = session.run(list(names.values()), feed)
    except Exception as error:  # ONNX Runtime's own have no other common base
        if _is_memory(error) and len(pixels) == 1:
            return [ImageError("not enough memory for the network", transient=True)]
        if _is_memory(error):
            alone = (_run(session, network, [each], fixed, path) for each in pixels)
            return list(chain.from_iterable(alone))
        raise ModelError(f"{path} failed on {tensor.shape}: {first_line(error)}") from error
    n = len(padded)
    for key, value in zip(names, values, strict=True):
        if not isinstance(value, np.ndarray):
            raise ModelError(
                f"{path} gives {names[key]!r} ({key}) as {type(value).__name__}, wanted an array: "
                "name another output in its TOML file (docs/how-to/networks.md)"
            )
        if value.ndim < 2 or value.shape[0] != n:
            wanted = "a batch of one, (1, ...)" if n == 1 else f"one for each of {n}, ({n}, ...)"
            fix = "export it so" if n == 1 else "export it so, or give batch 1"
            raise ModelError(
                f"{path} gives {names[key]!r} ({key}) of shape {value.shape}, wanted {wanted}: "
                f"{fix}"
            )
    return [
        {k: np.asarray(v[i], np.float32) for k, v in zip(names, values, strict=True)}
        for i in range(len(pixels))
    ]


def _is_memory(error: Exception) -> bool:
    """Whether memory ran out, here or on the device."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "bad_alloc" in text or "allocate memory" in text


def _tensor(pixels: Sequence[_Pixels], spec: InputSpec) -> Float32Array:
    """Input of the model, (b, c, y, x) or (b, y, x, c), with its scale and offsets."""
    pixel_byxc = np.stack(pixels).reshape(len(pixels), *pixels[0].shape[:2], -1)
    value_byxc = pixel_byxc.astype(np.float32)
    value_byxc /= np.float32(spec.divide_by)
    if spec.mean:
        value_byxc -= np.array(spec.mean, np.float32)
    if spec.std:
        value_byxc /= np.array(spec.std, np.float32)
    if spec.layout == "nchw":
        value_byxc = value_byxc.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(value_byxc)
