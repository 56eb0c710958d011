"""A model file and its description become a `vladkit.features.onnx.extractor.OnnxNetwork`."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vladkit.errors import ImageError, ModelError
from vladkit.features.onnx.batches import CONSTANT_TYPES, TYPES
from vladkit.features.onnx.extractor import OnnxNetwork
from vladkit.features.onnx.session import Session, onnxruntime_module, session_of
from vladkit.features.onnx.spec import KnownFile, Network, known_networks
from vladkit.features.onnx.tiling import canvases
from vladkit.features.onnx.zoo import known_file, models_folder, sha256_of

__all__ = ["load_network", "title_by_name"]


def load_network(
    path: str,
    *,
    max_features: int = 2000,
    max_side: int | None = 640,
    enlarge_to: int = 320,
    in_place: bool = True,
) -> OnnxNetwork:
    """Load a model file with its description: MODEL.toml beside it, or one that vladkit ships.

    Parameters
    ----------
    path : str
        The file, or the name of a known model that `vladkit models fetch` has fetched.
    max_features, max_side, enlarge_to, in_place
        See `OnnxNetwork`.

    Raises
    ------
    ModelError
        If it is missing or no ONNX model, has no description, or does not do what that says: it
        is run once to find out.
    MissingDependencyError
        If ONNX Runtime is not installed.
    """
    onnxruntime_module()
    file = _file(path)
    sha256 = sha256_of(file)
    session = session_of(sha256, lambda: file)
    network = _described(file, sha256, session)
    about = {
        "sha256": sha256,
        "bytes": file.stat().st_size,
        "f": 0,
        "description": network.as_dict(),
    }
    trial = OnnxNetwork(str(file), _compact(about), max_features, max_side, enlarge_to)
    network_of = _compact(about | {"f": _trial_dimensions(trial)})
    return replace(trial, network=network_of, in_place=in_place)


def _trial_dimensions(extractor: OnnxNetwork) -> int:
    """Dimension f of the descriptors, by running the model once on noise."""
    spec = extractor.description.input
    side = max(4 * spec.multiple, 64)
    h, w = (spec.height, spec.width) if spec.width else (side, side)
    shape = (h, w, 3) if spec.color == "rgb" else (h, w)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    canvas = canvases(noise, spec)[0]
    try:
        maps = extractor.outputs_of(canvas)
        if not extractor.has_local:
            return extractor.vector_of(maps).size
    except ImageError as error:
        raise ModelError(f"{extractor.path} cannot be used: tried on noise, {error}") from error
    _, local_lf, _ = extractor.points_on(canvas, maps)
    if not local_lf.shape[1]:
        raise ModelError(f"{extractor.path}: its descriptors have no dimensions")
    return int(local_lf.shape[1])


def _file(path: str) -> Path:
    file = Path(path)
    if os.path.isfile(file):
        return file.absolute()
    if os.path.exists(file):
        raise ModelError(f"model {path} is not a file")
    if file.suffix != ".onnx" and not file.parent.name:
        known = known_file(path)
        kept = models_folder() / f"{known.name}.onnx"
        if os.path.isfile(kept):
            return kept.absolute()
        how = f"vladkit models fetch {path}" if known.url else "vladkit models add FILE"
        raise ModelError(f"{path} is not there yet: `{how}`; it is from {known.page}")
    raise ModelError(f"model {path} is not there: give the path of an ONNX file")


def _text(file: Path) -> str:
    """Text of a description; some editors put a byte order mark before it."""
    try:
        return file.read_text("utf-8-sig")
    except OSError as error:
        raise ModelError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{file} is not text in UTF-8: {error}") from error


def _described(file: Path, sha256: str, session: Session) -> Network:
    """Description of a model, with the name and size of its own input filled in."""
    inputs = {each.name: each for each in session.inputs()}
    outputs = [each.name for each in session.outputs()]
    beside = file.with_suffix(".toml")
    where = str(beside)
    if beside.is_file():
        network = Network.parse(_text(beside), where)
    else:
        shipped = _shipped(sha256, list(inputs), outputs) or _by_name(file, session)
        if shipped is None:
            raise ModelError(
                f"{file} has inputs {', '.join(inputs)} and outputs {', '.join(outputs)}, which "
                f"vladkit does not know: describe it in {beside} (docs/how-to/networks.md)"
            )
        network, where = shipped, f"vladkit's description of {file.name}"
    network = _with_vector(network, session, str(file), where)
    _check_names(network, list(inputs), outputs, str(file), where)
    name = network.input.name or _image_input(network, inputs)
    given = inputs[name]
    if given.type not in TYPES:
        raise ModelError(f"{file}: input {name!r} is {given.type}, wanted float or float16")
    for constant, value in network.input.constants.items():
        if inputs[constant].type not in CONSTANT_TYPES:
            raise ModelError(f"{file}: input {constant!r} is {inputs[constant].type}")
        dtype = np.dtype(CONSTANT_TYPES[inputs[constant].type])
        if not _fits(value, dtype):
            number = "an integer" if dtype.kind == "i" else "a number"
            raise ModelError(
                f"{where}: [input.constants] {constant}={value!r:.40}: {file.name} takes it as "
                f"{dtype}, give {number} within its range"
            )
    width, height = _fixed_size(network, given.shape, str(file), where)
    if not (width or network.input.multiple):
        raise ModelError(f"{where}: [input] needs multiple: {file.name} takes images of any size")
    fit = network.input.fit
    if network.output.kind == "vector" and width:
        fit = fit or "stretch"
    spec = replace(network.input, name=name, width=width, height=height, fit=fit)
    return Network.from_dict(replace(network, input=spec).as_dict(), where)


def _check_names(
    network: Network, inputs: list[str], outputs: list[str], file: str, where: str
) -> None:
    for key, name in network.output.names().items():
        if name not in outputs:
            raise ModelError(
                f"{file} has no output {name!r}, which {where} gives as {key}: it has "
                f"{', '.join(outputs)}"
            )
    asked = [network.input.name] if network.input.name else []
    for name in [*asked, *network.input.constants]:
        if name not in inputs:
            raise ModelError(
                f"{file} has no input {name!r}, which {where} names: it has {', '.join(inputs)}"
            )
    rest = [name for name in inputs if name not in (*asked, *network.input.constants)]
    if len(rest) != (not asked):
        raise ModelError(
            f"{file} has inputs {', '.join(inputs)}: name the image's in {where} as [input] "
            "name, and give the others values in [input.constants]"
        )


def _fits(value: float, dtype: np.dtype[Any]) -> bool:
    """Whether a number stays itself in a type; digits that a floating one rounds are all right."""
    if dtype.kind == "i":
        info = np.iinfo(dtype)
        return value == int(value) and info.min <= value <= info.max
    with np.errstate(over="ignore"):
        number = np.array(float(value), dtype)  # 0 if it is too small
    return bool(np.isfinite(number)) and bool(number) == bool(value)


def _image_input(network: Network, inputs: dict[str, Any]) -> str:
    return next(name for name in inputs if name not in network.input.constants)


def _fixed_size(network: Network, shape: list[Any], file: str, where: str) -> tuple[int, int]:
    """Width and height, 0 where any will do; ModelError if the model's shape rules them out."""
    spec = network.input
    if len(shape) != 4:
        raise ModelError(f"{file}: its input has {len(shape)} axes {shape}, wanted 4")
    order = (1, 2, 3) if spec.layout == "nchw" else (3, 1, 2)
    channels, height, width = (shape[i] if isinstance(shape[i], int) else 0 for i in order)
    if channels and channels != spec.n_channels:
        raise ModelError(
            f"{file} takes {channels} channels ({shape}), {where} says {spec.color}, "
            f"{spec.n_channels}, {spec.layout}"
        )
    for key, own, said in (("width", width, spec.width), ("height", height, spec.height)):
        if own and said and own != said:
            raise ModelError(f"{file} takes a {key} of {own} px, {where} says {said}")
    if width and height and spec.multiple:
        raise ModelError(
            f"{file} takes {width}x{height} px only, {where} says any multiple of {spec.multiple}"
        )
    width, height = width or spec.width, height or spec.height
    if bool(width) != bool(height):
        fixed, free = ("width", "height") if width else ("height", "width")
        raise ModelError(
            f"{file} takes a {fixed} of {width or height} px and any {free}: give width and height "
            f"in {where}, [input], and no multiple"
        )
    return width, height


def _shipped(sha256: str, inputs: list[str], outputs: list[str]) -> Network | None:
    known = list(known_networks())
    for each in known:
        if each.sha256 == sha256:
            return each.network
    for each in known:
        names = {each.network.input.name, *each.network.input.constants}
        if names == set(inputs) and set(each.network.output.names().values()) <= set(outputs):
            return each.network
    return None


def title_by_name(path: str) -> str:
    """Title of the known network that a file of one vector is taken for by its name; "" if not."""
    file = Path(path)
    known = None if os.path.isfile(file.with_suffix(".toml")) else _named(file)
    return "" if known is None else known.title


def _named(file: Path) -> KnownFile | None:
    stem = "".join(filter(str.isalnum, file.stem.lower()))
    return next((each for each in known_networks() if each.is_called(stem)), None)


def _by_name(file: Path, session: Session) -> Network | None:
    """Description of a network of one vector whose file has its name; inputs may have any.

    Its size is the model's own, where that is fixed.
    """
    inputs, outputs = session.inputs(), _flat_outputs(session)
    known = _named(file)
    if known is None or len(inputs) != 1 or len(outputs) != 1:
        return None
    network, shape = known.network, inputs[0].shape
    spec = replace(network.input, name=inputs[0].name)
    if len(shape) == 4 and all(isinstance(n, int) for n in shape[2:]):
        fit = "" if spec.multiple else spec.fit
        spec = replace(spec, multiple=0, width=0, height=0, fit=fit)
    return replace(network, input=spec, output=replace(network.output, descriptors=outputs[0]))


def _with_vector(network: Network, session: Session, file: str, where: str) -> Network:
    """The description with the name of the output of the vector, where it leaves that out."""
    if network.output.kind != "vector" or network.output.descriptors:
        return network
    outputs = _flat_outputs(session)
    if len(outputs) != 1:
        names = ", ".join(each.name for each in session.outputs())
        raise ModelError(
            f"{file} has outputs {names}: name that of the vector, (1, D), in {where} as [output] "
            "descriptors"
        )
    return replace(network, output=replace(network.output, descriptors=outputs[0]))


def _flat_outputs(session: Session) -> list[str]:
    """Names of the outputs of two axes, (b, D); of all where their shapes are not stated."""
    outputs = session.outputs()
    flat = [each.name for each in outputs if len(each.shape or ()) == 2]
    return flat or [each.name for each in outputs]


def _compact(about: dict[str, Any]) -> str:
    return json.dumps(about, sort_keys=True, separators=(",", ":"))
