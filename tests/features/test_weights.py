"""Weights beside an ONNX model are part of it."""

from __future__ import annotations

import os
from contextlib import suppress

import numpy as np
import onnx
import pytest

from networks import dots
from vladkit import Collection
from vladkit.errors import ModelError
from vladkit.features.onnx import session as onnx_session
from vladkit.features.onnx import zoo
from vladkit.features.onnx.weights import weight_files


def split(model, name="weights.bin"):
    """Move the model's constants into a file beside it."""
    loaded = onnx.load(model)
    onnx.convert_model_to_external_data(
        loaded, location=name, size_threshold=0, convert_attribute=True
    )
    onnx.save(loaded, model)
    return model


class TestWeights:
    def test_names(self, tmp_path):
        model = dots(tmp_path / "m.onnx")
        assert weight_files(model.read_bytes()) == []
        assert weight_files(split(model).read_bytes()) == ["weights.bin"]
        nested = onnx.load(model, load_external_data=False)
        graph = onnx.helper.make_graph([], "g", [], [], [nested.graph.node[2].attribute[0].t])
        node = onnx.helper.make_node("If", ["c"], ["d"], then_branch=graph)
        outer = onnx.helper.make_model(onnx.helper.make_graph([node], "o", [], []))
        assert weight_files(outer.SerializeToString()) == ["weights.bin"]

    @pytest.mark.parametrize("data", [b"\xff" * 40, b"text" * 20, b"\x3a\xff\xff\xff\x7f"])
    def test_no_model(self, data):
        with pytest.raises(ValueError, match=r"cut off|of kind|64 bits"):
            weight_files(data)

    def test_a_cut_model_never_hangs(self, tmp_path):
        data = split(dots(tmp_path / "m.onnx")).read_bytes()
        for end in range(0, len(data), 7):
            with suppress(ValueError):
                weight_files(data[:end])

    def test_a_change_of_them_is_noticed(self, photos, tmp_path):
        model = split(dots(tmp_path / "m.onnx"))
        sha256 = zoo.sha256_of(model)
        with Collection.create(tmp_path / "c", features=f"onnx:{model}", n_clusters=4) as c:
            c.add([photos / "coffee.jpg"])
            assert c.search(photos / "coffee.jpg")
            weights = np.fromfile(tmp_path / "weights.bin", np.uint8)
            weights[0] ^= 1
            weights.tofile(tmp_path / "weights.bin")
            assert zoo.sha256_of(model) != sha256
            onnx_session._Sessions.by_model.clear()
            with pytest.raises(ModelError, match="is another file now"):
                c.search(photos / "coffee.jpg")
        with pytest.raises(ModelError, match=r"keeps its weights in weights\.bin: set"):
            zoo.add_model(model)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has none")
    def test_no_file_is_not_waited_for(self, tmp_path):
        model = split(dots(tmp_path / "m.onnx"))
        (tmp_path / "weights.bin").unlink()
        os.mkfifo(tmp_path / "weights.bin")
        with pytest.raises(ModelError, match=r"weights\.bin, which is no file beside it"):
            zoo.sha256_of(model)

    def test_in_another_folder_are_refused(self, tmp_path):
        model = split(dots(tmp_path / "m.onnx"))
        data = model.read_bytes().replace(b"weights.bin", b"../../x.bin")
        model.write_bytes(data)
        with pytest.raises(ModelError, match="only its own folder is read"):
            zoo.sha256_of(model)
