"""A network that gives one vector of an image: alone, and before local features.

    python benchmarks/one_vector.py FOLDER --model xfeat_vga.onnx --map block_fusion_1
    python benchmarks/one_vector.py FOLDER --distractors PHOTOS --json OUT

FOLDER holds images and a ground_truth.json. The vector is the generalised mean (GeM, p = 3;
Radenovic, Tolias and Chum 2019) of the positive and of the negative part of a network's dense map,
without any training: it shows that all is connected, and is no measure of networks that were
trained to give one vector. Without --model the map is one layer of random convolutions. mAP of: the
vectors alone; VLAD and match codes of SIFT; SIFT with the network's vectors in the place of VLAD.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vladkit import Collection
from vladkit.bench.machine import provenance
from vladkit.evaluation.benchmark import read_ground_truth

POWER = 3.0
LEAST = 1e-6


def random_map() -> onnx.ModelProto:
    """One layer of 64 random convolutions of 7x7 px on gray images of 320x240 px."""
    weight = np.random.default_rng(0).normal(size=(64, 1, 7, 7)).astype(np.float32)
    weight -= weight.mean(axis=(2, 3), keepdims=True)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weight"], ["map"], strides=[4, 4])],
        "random",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 1, 240, 320))],
        [helper.make_empty_tensor_value_info("map")],
        [numpy_helper.from_array(weight, "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def pooled(model: onnx.ModelProto, name: str, target: Path) -> Path:
    """Write a network that gives the GeM of an output of another, with its description."""

    def constant(what: str, value: float) -> onnx.NodeProto:
        return helper.make_node(
            "Constant", [], [what], value=numpy_helper.from_array(np.float32(value))
        )

    graph = model.graph
    graph.node.extend(
        [
            constant("gem_power", POWER),
            constant("gem_root", 1 / POWER),
            constant("gem_least", LEAST),
            helper.make_node("Neg", [name], ["gem_negative"]),
            helper.make_node("Concat", [name, "gem_negative"], ["gem_both"], axis=1),
            helper.make_node("Max", ["gem_both", "gem_least"], ["gem_clamped"]),
            helper.make_node("Pow", ["gem_clamped", "gem_power"], ["gem_cubes"]),
            helper.make_node("GlobalAveragePool", ["gem_cubes"], ["gem_mean"]),
            helper.make_node("Pow", ["gem_mean", "gem_root"], ["gem_roots"]),
            helper.make_node("Flatten", ["gem_roots"], ["gem_vector"], axis=1),
        ]
    )
    graph.output.append(helper.make_empty_tensor_value_info("gem_vector"))
    onnx.save(model, target)
    channels = graph.input[0].type.tensor_type.shape.dim[1].dim_value
    color = "gray" if channels == 1 else "rgb"
    target.with_suffix(".toml").write_text(
        f'[input]\ncolor = "{color}"\n\n[output]\nkind = "vector"\ndescriptors = "gem_vector"\n'
    )
    return target


def main() -> None:
    """Print a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, help="ONNX model with a dense map")
    parser.add_argument("--map", default="map", help="its output with the map, (1, f, h, w)")
    parser.add_argument("--distractors", type=Path, nargs="*", default=[])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    benchmark = read_ground_truth(args.folder / "ground_truth.json")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        model = random_map() if args.model is None else onnx.load(args.model)
        network = f"onnx:{pooled(model, args.map, Path(temporary) / 'pooled.onnx')}"
        ways: dict[str, dict[str, Any]] = {
            "vectors of the network alone": {"features": network},
            "VLAD of SIFT": {},
            "the network's vectors, then SIFT": {"vectors": network},
        }
        for i, (way, recipe) in enumerate(ways.items()):
            with Collection.create(Path(temporary) / f"{i}.vlad", **recipe) as collection:
                collection.add([args.folder, *args.distractors])
                cells = [way]
                for rerank in (0, None):
                    figures = collection.evaluate(benchmark, rerank=rerank).figures
                    (values,) = figures.values()
                    cells.append(f"{values['mAP']:.3f}")
                if recipe.get("features"):
                    cells[2] = ""  # nothing to re-rank by
                n, d = len(collection), collection.n_dimensions
                rows.append([*cells, str(d)])
                print(f"| {' | '.join(rows[-1])} |", flush=True)
    if args.json:
        columns = [f"{n:,} images", "mAP, `--rerank 0`", "mAP", "dimensions"]
        run = {
            "provenance": provenance("benchmarks/one_vector.py --json"),
            "tables": {"ways": {"columns": columns, "rows": rows}},
        }
        args.json.write_text(json.dumps(run, indent=1) + "\n")


if __name__ == "__main__":
    main()
