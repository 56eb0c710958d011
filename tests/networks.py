"""Small ONNX models with known answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vladkit.images import Image

FLOAT = TensorProto.FLOAT
FIXED = (1, 3, 96, 128)


def constant(name: str, value: np.ndarray) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


def write(
    path: Path,
    nodes: list[onnx.NodeProto],
    outputs: list[str],
    toml: str = "",
    *,
    shape: tuple = (1, 3, "h", "w"),
    inputs: dict[str, tuple] | None = None,
    dtype: int = FLOAT,
) -> Path:
    """A model of one image input "image", and its description if there is one."""
    given = [helper.make_tensor_value_info("image", dtype, shape)]
    for name, (kind, other) in (inputs or {}).items():
        given.append(helper.make_tensor_value_info(name, kind, other))
    found = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph(nodes, "small", given, found)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    if toml:
        path.with_suffix(".toml").write_text(toml)
    return path


def means(path: Path, extra: str = "", *, stride: int = 8, shape: tuple = (1, 3, "h", "w")) -> Path:
    """Each cell's mean colour is its descriptor: on `ramps` it says where the cell is."""
    side = [stride, stride]
    pool = helper.make_node("AveragePool", ["image"], ["mean"], kernel_shape=side, strides=side)
    output = f'[output]\nkind = "map"\ndescriptors = "mean"\nstride = {stride}\n'
    return write(path, [pool], ["mean"], output + extra, shape=shape)


def mean_colour(
    path: Path, toml: str = '[output]\nkind = "vector"\n', *, shape: tuple = ("b", 3, 32, 32)
) -> Path:
    """One vector of an image: its mean red, green and blue."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["vector"], axis=1),
    ]
    return write(path, nodes, ["vector"], toml, shape=shape)


def dots(path: Path, extra: str = "", *, shape: tuple = (1, 1, "h", "w")) -> Path:
    """The image itself says where points are; the descriptor is (1, gray, 0) of 4x4 px."""
    nodes = [
        helper.make_node("Identity", ["image"], ["heat"]),
        helper.make_node("AveragePool", ["image"], ["mean"], kernel_shape=[4, 4], strides=[4, 4]),
        constant("zero", np.zeros(1, np.float32)),
        constant("one", np.ones(1, np.float32)),
        helper.make_node("Mul", ["mean", "zero"], ["zeros"]),
        helper.make_node("Add", ["zeros", "one"], ["ones"]),
        helper.make_node("Concat", ["ones", "mean", "zeros"], ["map"], axis=1),
    ]
    toml = '[input]\ncolor = "gray"\nmultiple = 4\n'
    if "[input]" in extra:
        toml, extra = "", extra
    output = '[output]\nkind = "map"\ndescriptors = "map"\nheatmap = "heat"\nstride = 4\n'
    if "threshold" not in extra:
        output += "threshold = 0.2\n"
    return write(path, nodes, ["heat", "map"], toml + output + extra, shape=shape)


def keypoints(path: Path, toml: str, *, bad: bool = False) -> Path:
    """Three points, whatever the image; the input "n" scales the scores."""
    xy = np.array([[[-1, -1], [1, 1], [0, 0]]], np.float32)
    score = np.array([[0.1, 0.9, 0.5]], np.float32)
    nodes = [
        constant("xy", xy),
        constant("score", score),
        helper.make_node("Cast", ["n"], ["factor"], to=FLOAT),
        helper.make_node("Mul", ["score", "factor"], ["scores"]),
        constant("local", np.eye(2 if bad else 3, 4, dtype=np.float32)[None] * 3),
    ]
    known = {"n": (TensorProto.INT64, ())}
    return write(path, nodes, ["xy", "scores", "local"], toml, inputs=known)


def ramps(width: int, height: int) -> np.ndarray:
    """RGB image: red is x / 2, green y / 2, blue 255."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x // 2, y // 2, np.full_like(x, 255)], axis=2).astype(np.uint8)


def where(descriptor_lf: np.ndarray) -> np.ndarray:
    """Places (l, 2) that mean colours of `ramps` say."""
    local = descriptor_lf.astype(np.float64)
    return 2 * 255 * local[:, :2] / local[:, 2:3] + 0.5


def colour(rgb: np.ndarray) -> Image:
    h, w = rgb.shape[:2]
    return Image(rgb, w, h)


def gray(pixels: np.ndarray) -> Image:
    h, w = pixels.shape
    return Image(pixels, w, h)


GOOD = '[output]\nkind = "map"\ndescriptors = "mean"\nstride = 8\n[input]\nmultiple = 8\n'
