"""Networks that give one vector of an image, on devices and in batches."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
from onnx import helper

from images import textured
from networks import colour, constant, dots, gray, mean_colour, ramps, write
from vladkit.errors import ImageError, ModelError, ParameterError
from vladkit.features import Sift, has_local, make_extractor, vector_dimensions
from vladkit.features.onnx import session as onnx_session
from vladkit.features.onnx.extractor import OnnxNetwork
from vladkit.features.onnx.load import load_network, title_by_name
from vladkit.features.pool import Extraction, extract
from vladkit.features.vectors import ImportedVectors, WithVectors, placed

VECTOR = '[output]\nkind = "vector"\n'


def solid(rgb, width=64, height=48):
    return colour(np.full((height, width, 3), rgb, np.uint8))


class TestVector:
    def test_one_vector_as_the_network_gives_it(self, tmp_path):
        extractor = make_extractor(f"onnx:{mean_colour(tmp_path / 'm.onnx')}")
        assert (has_local(extractor), vector_dimensions(extractor)) == (False, 3)
        assert (extractor.n_dimensions, vector_dimensions(Sift())) == (0, 0)
        features = extractor.extract(solid((255, 102, 0)))
        assert len(features) == 0
        assert features.vector_D == pytest.approx([1, 0.4, 0], abs=1e-5)
        assert (features.width, features.height) == (64, 48)
        again = pickle.loads(pickle.dumps(extractor))
        assert again.extract(solid((255, 102, 0))).vector_D.tolist() == features.vector_D.tolist()
        with pytest.raises(ImageError, match="vector of zeros"):
            extractor.extract(solid((0, 0, 0)))

    @pytest.mark.parametrize(
        ("fit", "size", "red"),
        [
            ("stretch", (64, 32), 0.5),  # the left half is red
            ("crop", (64, 32), 0.5),
            ("crop", (32, 64), 0.5),
            ("letterbox", (64, 32), 0.5),
            ("", (64, 32), 0.5),
        ],
    )
    def test_sizes(self, tmp_path, fit, size, red):
        toml = VECTOR + (f'[input]\nfit = "{fit}"\n' if fit else "")
        model = mean_colour(tmp_path / "m.onnx", toml)
        extractor = make_extractor(f"onnx:{model}", enlarge_to=0)
        assert extractor.description.input.fit == (fit or "stretch")
        pixels = np.zeros((size[1], size[0], 3), np.uint8)
        pixels[:, : size[0] // 2, 0] = 255
        pixels[..., 1] = 255
        assert extractor.extract(colour(pixels)).vector_D == pytest.approx([red, 1, 0], abs=0.02)

    def test_the_middle_is_what_crop_sees(self, tmp_path):
        model = mean_colour(tmp_path / "m.onnx", VECTOR + '[input]\nfit = "crop"\n')
        pixels = np.zeros((32, 96, 3), np.uint8)
        pixels[:, 32:64] = 255
        seen = make_extractor(f"onnx:{model}", enlarge_to=0).extract(colour(pixels))
        assert seen.vector_D == pytest.approx([1, 1, 1], abs=1e-6)

    def test_any_size(self, tmp_path):
        model = mean_colour(
            tmp_path / "m.onnx", VECTOR + "[input]\nmultiple = 14\n", shape=(1, 3, "h", "w")
        )
        extractor = make_extractor(f"onnx:{model}", enlarge_to=0)
        assert extractor.extract(solid((0, 51, 255), 101, 60)).vector_D[1] == pytest.approx(
            0.2, abs=1e-5
        )

    @pytest.mark.parametrize(
        ("toml", "message"),
        [
            (VECTOR + "stride = 8\n", "of kind 'vector' has no use for stride"),
            (VECTOR + '[input]\nfit = "tiles"\n', "of the whole image, not of tiles"),
            (VECTOR + 'descriptors = "none"\n', "has no output 'none'"),
            (
                '[output]\nkind = "map"\ndescriptors = "vector"\nstride = 8\n'
                '[input]\nfit = "crop"\n',
                "fit='crop' is for one vector",
            ),
        ],
    )
    def test_described_wrongly(self, tmp_path, toml, message):
        with pytest.raises(ModelError, match=message):
            make_extractor(f"onnx:{mean_colour(tmp_path / 'm.onnx', toml)}")

    def test_of_another_length_for_other_images(self, tmp_path):
        nodes = [
            helper.make_node("AveragePool", ["image"], ["m"], kernel_shape=[8, 8], strides=[8, 8]),
            helper.make_node("Flatten", ["m"], ["v"], axis=1),
        ]
        toml = '[input]\nmultiple = 8\n[output]\nkind = "vector"\n'
        model = write(tmp_path / "v.onnx", nodes, ["v"], toml, shape=("b", 3, "h", "w"))
        network = load_network(str(model), enlarge_to=16)
        assert network.vector_dimensions == 3 * 8 * 8
        with pytest.raises(ModelError, match=r"vector of 12 numbers .* of 192 for others"):
            network.extract(colour(ramps(16, 16)))

    def test_of_a_list(self, tmp_path):
        nodes = [helper.make_node("SequenceConstruct", ["image"], ["v"])]
        toml = '[output]\nkind = "vector"\ndescriptors = "v"\n'
        model = write(tmp_path / "v.onnx", nodes, ["v"], toml, shape=(1, 3, 32, 32))
        with pytest.raises(ModelError, match=r"gives 'v' \(descriptors\) as list"):
            load_network(str(model))

    def test_no_vector(self, tmp_path):
        """A map is no vector, and of two outputs one has to be named."""
        nodes = [helper.make_node("Identity", ["image"], ["map"])]
        model = write(tmp_path / "m.onnx", nodes, ["map"], VECTOR, shape=(1, 3, 32, 32))
        with pytest.raises(ModelError, match=r"shape \(3, 32, 32\).* wanted one vector"):
            make_extractor(f"onnx:{model}")
        nodes = [helper.make_node("GlobalAveragePool", ["image"], [n]) for n in "ab"]
        model = write(tmp_path / "n.onnx", nodes, ["a", "b"], VECTOR, shape=(1, 3, 32, 32))
        with pytest.raises(ModelError, match=r"outputs a, b: name that of the vector"):
            make_extractor(f"onnx:{model}")
        toml = VECTOR + 'descriptors = "b"\n'  # (1, 3, 1, 1)
        model = write(tmp_path / "o.onnx", nodes, ["a", "b"], toml, shape=(1, 3, 32, 32))
        assert make_extractor(f"onnx:{model}").vector_dimensions == 3

    def test_known_by_the_name_of_its_file(self, tmp_path):
        model = mean_colour(tmp_path / "MegaLoc-322.onnx", "", shape=("b", 3, 322, 322))
        assert title_by_name(str(model)).startswith("MegaLoc")
        spec = make_extractor(f"onnx:{model}").description.input
        assert (spec.width, spec.fit, spec.name) == (322, "stretch", "image")
        assert spec.mean == [0.485, 0.456, 0.406]
        anything = mean_colour(tmp_path / "cosplace.onnx", "", shape=("b", 3, "h", "w"))
        assert make_extractor(f"onnx:{anything}").description.input.multiple == 32
        fixed = mean_colour(tmp_path / "cosplace_512.onnx", "", shape=("b", 3, 512, 512))
        spec = make_extractor(f"onnx:{fixed}").description.input
        assert (spec.multiple, spec.width) == (0, 512)
        middle = mean_colour(tmp_path / "clip-vit-b32.onnx", "", shape=("b", 3, 224, 224))
        assert make_extractor(f"onnx:{middle}").description.input.fit == "crop"
        with pytest.raises(ModelError, match="which vladkit does not know"):
            make_extractor(f"onnx:{mean_colour(tmp_path / 'other.onnx', '')}")
        model.with_suffix(".toml").write_text(VECTOR)
        assert title_by_name(str(model)) == ""


class TestWithVectors:
    def test_both(self, tmp_path):
        network = make_extractor(f"onnx:{mean_colour(tmp_path / 'm.onnx')}")
        both = WithVectors(Sift(), network)
        image = colour(np.repeat(textured(160, 120, seed=1)[..., None], 3, axis=2))
        features = both.extract(image)
        alone = Sift().extract(image)
        np.testing.assert_array_equal(features.descriptor_lf, alone.descriptor_lf)
        np.testing.assert_array_equal(features.vector_D, network.extract(image).vector_D)
        assert (both.wants_color, both.n_dimensions, both.vector_dimensions) == (True, 128, 3)
        part = features.within((0, 0, 60, 60))
        assert part.vector_D is None  # it was of the whole
        with pytest.raises(ImageError, match="too small"):
            both.extract(solid((9, 9, 9), 8, 8))

    def test_of_a_file(self):
        both = WithVectors(Sift(), ImportedVectors("hloc-global", 4))
        with pytest.raises(ImageError, match="made by hloc"):
            both.extract(gray(textured(90, 90, seed=0)))


class TestBatches:
    """Several images in one run give what each gives alone."""

    @pytest.fixture
    def model(self, tmp_path):
        rng = np.random.default_rng(0)
        nodes = [
            constant("w", rng.normal(size=(8, 3, 5, 5)).astype(np.float32)),
            helper.make_node("Conv", ["image", "w"], ["conv"], strides=[4, 4]),
            helper.make_node("Relu", ["conv"], ["relu"]),
            helper.make_node("GlobalAveragePool", ["relu"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["vector"], axis=1),
        ]
        toml = VECTOR + "[input]\nmultiple = 16\n"
        return write(tmp_path / "c.onnx", nodes, ["vector"], toml, shape=("b", 3, "h", "w"))

    def test_equal(self, model):
        """Images of different sizes and one that fails; to 1e-6 of the largest number."""
        single = make_extractor(f"onnx:{model}", enlarge_to=0)
        batched = make_extractor(f"onnx:{model}", enlarge_to=0, batch=4)
        assert (single.batch_size, batched.batch_size) == (1, 4)
        images = [colour(ramps(64 + 16 * (i % 2), 48)) for i in range(7)]
        images.insert(3, solid((1, 2, 3), 8, 8))
        found = batched.extract_many(images)
        assert str(found.pop(3)).startswith("too small")
        images.pop(3)
        for image, each in zip(images, found, strict=True):
            alone = single.extract(image).vector_D
            assert np.abs(each.vector_D - alone).max() <= 1e-6 * alone.max()

    def test_on_threads(self, model, tmp_path, monkeypatch):
        """The pool gives batches out whole, in order, with errors and ready results in place."""
        sizes = []
        many = OnnxNetwork.extract_many

        def counted(self, images):
            sizes.append(len(images))
            return many(self, images)

        monkeypatch.setattr(OnnxNetwork, "extract_many", counted)
        extractor = make_extractor(f"onnx:{model}", enlarge_to=0, batch=3)
        files = []
        for i in range(50):
            files.append(str(tmp_path / f"{i}.png"))
            cv2.imwrite(files[-1], ramps(64, 32 + i)[:, :, ::-1])
        (tmp_path / "7.png").write_bytes(b"no image")
        ready = {files[9]: ImageError("ready")}
        with Extraction.on_threads(extractor, 2, 50) as extraction:
            found = list(extraction.run(files, dict(ready)))
        assert sum(sizes) == 48  # not the one that is ready, nor the one that is no image
        assert sizes.count(3) >= len(sizes) - 3
        assert (found[9], type(found[7])) == (ready[files[9]], ImageError)
        alone = make_extractor(f"onnx:{model}", enlarge_to=0)
        for i in (0, 6, 8, 49):
            expected = extract(alone, files[i])
            assert found[i].height == 32 + i
            np.testing.assert_allclose(found[i].vector_D, expected.vector_D, rtol=1e-5)

    def test_of_a_model_for_one(self, tmp_path):
        model = mean_colour(tmp_path / "m.onnx", shape=(1, 3, 32, 32))
        with pytest.raises(ParameterError, match=r"batch=4: .* takes 1 at a time"):
            make_extractor(f"onnx:{model}", batch=4)

    def test_of_a_model_for_some(self, tmp_path):
        """What is missing of its fixed number is filled up."""
        model = mean_colour(tmp_path / "m.onnx", shape=(4, 3, 32, 32))
        images = [solid((51 * i, 255, 0)) for i in range(6)]
        found = make_extractor(f"onnx:{model}", batch=4).extract_many(images)
        red = [each.vector_D[0] for each in found]
        assert red == pytest.approx([0.2 * i for i in range(6)], abs=1e-5)

    def test_local_features_too(self, tmp_path):
        model = dots(tmp_path / "d.onnx", shape=("b", 1, "h", "w"))
        pixels = np.zeros((2, 64, 80), np.uint8)
        pixels[0, 10, 20] = pixels[1, 40, 60] = 255
        extractor = make_extractor(f"onnx:{model}", enlarge_to=0, batch=2)
        found = extractor.extract_many([gray(each) for each in pixels])
        assert [each.xy_l2.tolist() for each in found] == [[[20, 10]], [[60, 40]]]


class TestDevices:
    @pytest.fixture
    def model(self, tmp_path, monkeypatch):
        monkeypatch.setattr(onnx_session._Sessions, "by_model", {})
        return mean_colour(tmp_path / "m.onnx")

    def test_what_is_there(self, model, monkeypatch):
        cpu = make_extractor(f"onnx:{model}", device="cpu")
        assert cpu.parameters()["provider"] == "CPUExecutionProvider"
        monkeypatch.setattr(onnx_session, "available_devices", lambda: ["cpu"])
        with pytest.raises(ParameterError, match=r"'cuda' is not available, here are cpu: .*-gpu"):
            make_extractor(f"onnx:{model}", device="cuda")
        with pytest.raises(ParameterError, match="device='gpu': wanted 'auto', 'cuda'"):
            make_extractor(f"onnx:{model}", device="gpu")
        assert make_extractor(f"onnx:{model}", device="auto").device == "cpu"
        with pytest.raises(ParameterError, match="for networks, and 'sift' is none"):
            placed(Sift(), "cpu", None)

    def test_a_device_that_does_not_start(self, model, monkeypatch):
        """`auto` takes the next one; what was asked for by name is not replaced."""
        monkeypatch.setattr(onnx_session, "available_devices", lambda: ["cuda", "cpu"])
        monkeypatch.setitem(onnx_session.DEVICES, "cuda", "NoSuchExecutionProvider")
        with pytest.warns(UserWarning, match="NoSuchExecutionProvider"):
            assert make_extractor(f"onnx:{model}", device="auto").device == "cpu"
        with (
            pytest.warns(UserWarning, match="NoSuchExecutionProvider"),
            pytest.raises(ModelError, match=r"'cuda' does not start, .* use cpu or auto"),
        ):
            make_extractor(f"onnx:{model}", device="cuda")
