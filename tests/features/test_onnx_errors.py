"""Networks and descriptions that cannot be used are refused by name."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper

from networks import FIXED, GOOD, colour, constant, dots, gray, keypoints, means, write
from vladkit import Collection
from vladkit.errors import (
    ImageError,
    MissingDependencyError,
    ModelError,
    ParameterError,
)
from vladkit.features import make_extractor


class TestErrors:
    def test_runtime_missing(self, tmp_path, monkeypatch):
        model = means(tmp_path / "m.onnx", "[input]\nmultiple = 8")
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(MissingDependencyError, match=r"pip install 'vladkit\[onnx\]'"):
            make_extractor(f"onnx:{model}")

    def test_model_missing(self, tmp_path):
        with pytest.raises(ModelError, match="is not there: give the path"):
            make_extractor(f"onnx:{tmp_path / 'none.onnx'}")
        with pytest.raises(ModelError, match="is not a file"):
            make_extractor(f"onnx:{tmp_path}")
        with pytest.raises(ParameterError, match="no known model is called 'surf'"):
            make_extractor("onnx:surf")
        with pytest.raises(ModelError, match="vladkit models fetch aliked-n32"):
            make_extractor("onnx:aliked-n32")

    @pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n", b"hello, world" * 100])
    def test_no_onnx_file(self, tmp_path, data):
        (tmp_path / "m.onnx").write_bytes(data)
        (tmp_path / "m.toml").write_text(GOOD)
        with pytest.raises(ModelError, match="no model that ONNX Runtime"):
            make_extractor(f"onnx:{tmp_path / 'm.onnx'}")

    def test_cut_model(self, tmp_path):
        model = dots(tmp_path / "d.onnx")
        model.write_bytes(model.read_bytes()[:-40])
        with pytest.raises(ModelError, match="no model that ONNX Runtime"):
            make_extractor(f"onnx:{model}")

    def test_no_description(self, tmp_path):
        model = means(tmp_path / "m.onnx")
        model.with_suffix(".toml").unlink()
        with pytest.raises(ModelError, match=r"inputs image and outputs mean.*m\.toml"):
            make_extractor(f"onnx:{model}")

    @pytest.mark.parametrize(
        ("toml", "message"),
        [
            ("[[output]", "is not TOML"),
            ("[output]\nstride = " + "9" * 5000, "is not TOML"),
            ("a = " + "[" * 5000, "is not TOML"),
            ("[outputs]", r"no table is called \[outputs\]"),
            ("output = 3", r"has to be a table, \[output\]"),
            (GOOD + "colour = 1", r"\[input\] has no key 'colour'"),
            (GOOD + "[match]\nratoi = 1", r"\[match\] has no key 'ratoi'"),
            (GOOD + "[recipe]\nk = 1", r"\[recipe\] has no key 'k'"),
            (GOOD + 'color = "bgr"', "color='bgr': wanted 'gray' or 'rgb'"),
            (GOOD + "divide_by = 0", "divide_by=0: wanted a number from"),
            (GOOD + "mean = 3", "mean=3: wanted a list of numbers"),
            (GOOD + "mean = [1, 2]", "mean has 2 numbers: an image in rgb has 3"),
            (GOOD + "std = [1, 0, 1]", "std has a 0"),
            (GOOD + "std = [1, 1e-60, 1]", "std has a 0, or as good as"),
            (GOOD + "std = [1, 1e300, 1]", r"std=\[1, 1e\+300, 1\]: wanted numbers of at most"),
            (GOOD + "mean = [1, -1e300, 1]", "mean=.*: wanted numbers of at most"),
            (GOOD + "constants = { n = 1" + "0" * 400 + " }", "wanted a table of numbers"),
            (GOOD + "overlap = 1.5", "overlap=1.5: wanted an integer from 0"),
            (GOOD + "name = 5", "name=5: wanted a string"),
            (GOOD + 'fit = "tiles"', "with a multiple use stretch or pad"),
            (GOOD + "width = 64", "needs width and height"),
            (GOOD + "width = 64\nheight = 64", "a size is fixed, or any"),
            (GOOD + 'constants = { a = "b" }', "wanted a table of numbers"),
            ("[input]\nmultiple = 8", r"\[output\] needs a kind"),
            ('[output]\nkind = "map"', "of kind 'map' needs descriptors"),
            ('[output]\nkind = "tokens"\ndescriptors = "mean"', "needs stride"),
            ('[output]\nkind = "keypoints"\ndescriptors = "mean"', "needs keypoints"),
            (GOOD.replace("[input]", 'scores = "mean"\n[input]'), "has no use for scores"),
            (GOOD.replace("[input]", 'logits = "a"\nheatmap = "b"\n[input]'), "by one of them"),
            (GOOD.replace('"mean"', '"feats"'), "has no output 'feats', which .* has mean"),
            (GOOD + 'name = "photo"', "has no input 'photo', which .* has image"),
            (GOOD + "constants = { n = 1 }", "has no input 'n'"),
            (GOOD + 'color = "gray"', "takes 3 channels"),
            (GOOD.replace("multiple = 8", ""), "needs multiple"),
            (GOOD.replace("stride = 8", "stride = 4"), r"shape \(3, 8, 8\).*wants|asks for"),
        ],
    )
    def test_descriptions(self, tmp_path, toml, message):
        model = means(tmp_path / "m.onnx")
        model.with_suffix(".toml").write_text(toml)
        with pytest.raises(ModelError, match=message):
            make_extractor(f"onnx:{model}")

    def test_sizes_that_the_model_does_not_take(self, tmp_path):
        model = means(tmp_path / "m.onnx", shape=FIXED)
        model.with_suffix(".toml").write_text(GOOD)
        with pytest.raises(ModelError, match=r"128x96 px only, .* any multiple of 8"):
            make_extractor(f"onnx:{model}")
        sizes = GOOD.replace("multiple = 8", "width = 256\nheight = 96")
        model.with_suffix(".toml").write_text(sizes)
        with pytest.raises(ModelError, match=r"takes a width of 128 px, .* says 256"):
            make_extractor(f"onnx:{model}")

    def test_another_input_that_nobody_names(self, tmp_path):
        toml = '[output]\nkind = "keypoints"\nkeypoints = "xy"\nscores = "scores"\n'
        toml += 'descriptors = "local"\n[input]\nmultiple = 8\n'
        model = keypoints(tmp_path / "k.onnx", toml + 'name = "image"')
        with pytest.raises(ModelError, match=r"inputs image, n: .*\[input.constants\]"):
            make_extractor(f"onnx:{model}")

    @pytest.mark.parametrize(
        ("kind", "value", "reason"),
        [
            (TensorProto.INT64, "1.5", "n=1.5: .* takes it as int64, give an integer"),
            (TensorProto.INT64, "9223372036854775808", "takes it as int64"),
            (TensorProto.INT64, "1e300", "takes it as int64"),
            (TensorProto.INT32, "-2147483649", "takes it as int32"),
            (TensorProto.FLOAT, "1e300", r"n=1e\+300: .* takes it as float32, give a number"),
            (TensorProto.FLOAT, "1e-60", "takes it as float32"),
            (TensorProto.FLOAT16, "65536", "takes it as float16"),
            (TensorProto.INT64, "2.0", None),
            (TensorProto.INT64, "-9223372036854775808", None),
            (TensorProto.FLOAT, "0.1", None),
            (TensorProto.FLOAT, "0", None),
            (TensorProto.DOUBLE, "1e300", None),
        ],
    )
    def test_constants_that_their_input_would_change(self, tmp_path, kind, value, reason):
        toml = '[output]\nkind = "vector"\ndescriptors = "vector"\n'
        toml += f"[input]\nwidth = 8\nheight = 8\n[input.constants]\nn = {value}\n"
        nodes = [
            helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["vector"], axis=1),
        ]
        path = write(tmp_path / "m.onnx", nodes, ["vector"], toml, inputs={"n": (kind, ())})
        if reason is None:
            assert make_extractor(f"onnx:{path}").description.input.constants == {"n": float(value)}
        else:
            with pytest.raises(ModelError, match=rf"m.toml: \[input.constants\] .*{reason}"):
                make_extractor(f"onnx:{path}")

    @pytest.mark.parametrize("multiple", ["", "multiple = 8"])
    @pytest.mark.parametrize(
        ("shape", "reason"),
        [
            ((1, 3, 32, "w"), "takes a height of 32 px and any width"),
            ((1, 3, "h", 32), "takes a width of 32 px and any height"),
        ],
    )
    def test_one_side_is_fixed(self, tmp_path, shape, reason, multiple):
        model = means(tmp_path / "m.onnx", f"[input]\n{multiple}\n", shape=shape)
        with pytest.raises(ModelError, match=f"{reason}: give width and height in .*m.toml"):
            make_extractor(f"onnx:{model}")
        means(tmp_path / "m.onnx", "[input]\nwidth = 32\nheight = 32\noverlap = 8", shape=shape)
        assert make_extractor(f"onnx:{model}").description.input.width == 32

    def test_outputs_that_do_not_go_together(self, tmp_path):
        toml = '[output]\nkind = "keypoints"\nkeypoints = "xy"\nscores = "scores"\n'
        toml += 'descriptors = "local"\n[input]\nmultiple = 8\nconstants = { n = 1 }\n'
        model = keypoints(tmp_path / "k.onnx", toml, bad=True)
        with pytest.raises(ModelError, match=r"'local' \(descriptors\) of shape \(2, 4\)"):
            make_extractor(f"onnx:{model}")

    def test_nan(self, tmp_path):
        """Where the image is black: 0 / 0."""
        pool = {"kernel_shape": [8, 8], "strides": [8, 8]}
        nodes = [
            helper.make_node("AveragePool", ["image"], ["mean"], **pool),
            helper.make_node("Div", ["mean", "mean"], ["map"]),
        ]
        toml = GOOD.replace('"mean"', '"map"')
        extractor = make_extractor(f"onnx:{write(tmp_path / 'n.onnx', nodes, ['map'], toml)}")
        light = np.full((64, 64, 3), 90, np.uint8)
        assert len(extractor.extract(colour(light)))
        light[:8, :8] = 0
        with pytest.raises(ImageError, match=r"gives NaN or infinity \(descriptors\)"):
            extractor.extract(colour(light))
        cv2.imwrite(str(tmp_path / "black.png"), np.zeros((64, 64), np.uint8))
        cv2.imwrite(str(tmp_path / "light.png"), np.full((64, 64), 99, np.uint8))
        with Collection.create(tmp_path / "c.vlad", features=extractor.name) as collection:
            report = collection.add([tmp_path / "black.png", tmp_path / "light.png"])
            assert report.indexed == 1
            assert "NaN" in report.skipped[0][1]

    @pytest.mark.parametrize(
        ("factor", "reason"), [(np.nan, "NaN or infinity"), (0.0, "a vector of zeros")]
    )
    def test_a_vector_that_is_none_of_any_image(self, tmp_path, factor, reason):
        nodes = [
            helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"], axis=1),
            constant("factor", np.array([factor], np.float32)),
            helper.make_node("Mul", ["flat", "factor"], ["vector"]),
        ]
        toml = '[output]\nkind = "vector"\n'
        model = write(tmp_path / "none.onnx", nodes, ["vector"], toml, shape=("b", 3, 32, 32))
        with pytest.raises(ModelError, match=f"{model} cannot be used: .*{reason}"):
            make_extractor(f"onnx:{model}")

    def test_small_and_blank_images(self, tmp_path):
        extractor = make_extractor(f"onnx:{dots(tmp_path / 'd.onnx')}")
        with pytest.raises(ImageError, match="too small: 40x12 px"):
            extractor.extract(gray(np.zeros((12, 40), np.uint8)))
        with pytest.raises(ImageError, match="no features found"):
            extractor.extract(gray(np.zeros((64, 64), np.uint8)))

    def test_gray_for_a_network_that_takes_colour(self, tmp_path):
        extractor = make_extractor(f"onnx:{means(tmp_path / 'm.onnx', GOOD[-22:])}")
        with pytest.raises(ParameterError, match="takes colour"):
            extractor.extract(gray(np.zeros((64, 64), np.uint8)))
