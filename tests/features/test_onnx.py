"""Networks: images in, features out, by models whose answers are known."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper

from commands import run
from networks import (
    FIXED,
    GOOD,
    colour,
    constant,
    dots,
    gray,
    keypoints,
    means,
    ramps,
    where,
    write,
)
from paths import SHARED
from photos import photo
from vladkit import Collection, match, verify
from vladkit.collection.recipe import Recipe
from vladkit.errors import (
    ModelError,
    ParameterError,
    RecipeMismatchError,
)
from vladkit.features import make_extractor
from vladkit.features.onnx import session as onnx_session
from vladkit.features.onnx import zoo as model_files
from vladkit.features.pool import extract, extract_data

MODELS = SHARED / "models"
XFEAT = ["verlab_xfeat_c58e74f.onnx", "xfeat_vga.onnx"]


class TestWhere:
    """A feature is where its descriptor says, to half a px of what the network saw."""

    @pytest.mark.parametrize("size", [(128, 96), (300, 200), (200, 300), (509, 380), (60, 40)])
    @pytest.mark.parametrize(
        ("extra", "shape"),
        [
            ('[input]\nfit = "letterbox"\noverlap = 16', FIXED),
            ('[input]\nfit = "tiles"\noverlap = 16', FIXED),
            ('[input]\nfit = "stretch"\nmultiple = 32', (1, 3, "h", "w")),
            ('[input]\nfit = "pad"\nmultiple = 32', (1, 3, "h", "w")),
        ],
        ids=["letterbox", "tiles", "stretch", "pad"],
    )
    def test_cells(self, tmp_path, extra, shape, size):
        model = means(tmp_path / "m.onnx", extra, shape=shape)
        extractor = make_extractor(f"onnx:{model}", enlarge_to=0)
        features = extractor.extract(colour(ramps(*size)))
        scale = 1.0
        if "letterbox" in extra:
            scale = max(1, size[0] / 128, size[1] / 96)
        if "stretch" in extra:
            scale = max(length / (length // 32 * 32) for length in size)
        off_l2 = features.xy_l2 - where(features.descriptor_lf)
        inner_l = (features.xy_l2 + 4 * scale < size).all(axis=1)  # the last cells hold filling
        assert len(inner_l) == len(features) > 0.6 * np.prod(size) / (8 * scale) ** 2
        assert np.abs(off_l2[inner_l]).max() < 0.5 * scale + 0.3  # float16: up to .25 px of 500
        assert np.abs(off_l2[inner_l].mean(axis=0)).max() < 0.2
        assert (features.xy_l2 > -0.5).all()
        assert (features.xy_l2 < np.array(size) - 0.5).all()

    def test_enlarged(self, tmp_path):
        model = means(tmp_path / "m.onnx", "[input]\nmultiple = 8")
        small = ramps(60, 48)
        features = make_extractor(f"onnx:{model}", enlarge_to=240).extract(colour(small))
        assert len(features) == (240 // 8) * (192 // 8)
        inner_l = ((features.xy_l2 > 2) & (features.xy_l2 < np.array([57, 45]))).all(axis=1)
        off_l2 = (features.xy_l2 - where(features.descriptor_lf))[inner_l]
        assert np.abs(off_l2).max() < 1  # red has steps of 2 px
        assert np.abs(off_l2.mean(axis=0)).max() < 0.1

    def test_read_smaller_from_a_file(self, tmp_path):
        model = means(tmp_path / "m.onnx", "[input]\nmultiple = 8")
        name = str(tmp_path / "ramps.png")
        cv2.imwrite(name, ramps(500, 380)[:, :, ::-1])
        features = extract(make_extractor(f"onnx:{model}", max_side=250, enlarge_to=0), name)
        assert (features.width, features.height) == (500, 380)
        inner_l = (features.xy_l2 < 480).all(axis=1)
        assert np.abs(features.xy_l2 - where(features.descriptor_lf))[inner_l].max() < 1.3

    def test_tiles_meet_without_gap_or_double(self, tmp_path):
        extra = '[input]\nfit = "tiles"\noverlap = 24'
        model = means(tmp_path / "m.onnx", extra, stride=1, shape=(1, 3, 48, 64))
        extractor = make_extractor(f"onnx:{model}", enlarge_to=0, max_features=100_000)
        features = extractor.extract(colour(ramps(150, 101)))
        assert len(features) == 150 * 101
        assert len(np.unique(features.xy_l2, axis=0)) == 150 * 101


class TestPoints:
    def test_the_brightest_of_a_neighbourhood(self, tmp_path):
        pixels = np.zeros((64, 80), np.uint8)
        for y, x, value in [(10, 20, 200), (11, 21, 150), (40, 60, 255), (30, 5, 40)]:
            pixels[y, x] = value
        extractor = make_extractor(f"onnx:{dots(tmp_path / 'd.onnx')}", enlarge_to=0)
        features = extractor.extract(gray(pixels))
        assert features.xy_l2.tolist() == [[60, 40], [20, 10]]
        assert features.score_l.tolist() == pytest.approx([1, 200 / 255])
        assert features.angle_l.tolist() == [0, 0]
        assert features.size_l.tolist() == [1, 1]

    def test_border(self, tmp_path):
        pixels = np.zeros((64, 80), np.uint8)
        pixels[3, 30] = pixels[4, 50] = 255
        model = dots(tmp_path / "d.onnx", "border = 4")
        features = make_extractor(f"onnx:{model}", enlarge_to=0).extract(gray(pixels))
        assert features.xy_l2.tolist() == [[50, 4]]

    def test_logits_and_reliability(self, tmp_path):
        logits = np.zeros((1, 17, 4, 4), np.float32)
        logits[0, 16] = 9  # no point, but:
        logits[0, 6, 1, 2] = 15  # second row, third column of the cell at row 1, column 2
        logits[0, 0, 3, 0] = 13
        reliability = np.full((1, 1, 4, 4), 0.5, np.float32)
        reliability[0, 0, 3] = 0.9
        nodes = [
            constant("logits", logits),
            constant("reliability", reliability),
            constant("map", np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4) + 1),
        ]
        toml = (
            '[output]\nkind = "map"\ndescriptors = "map"\nstride = 4\nlogits = "logits"\n'
            'reliability = "reliability"\nthreshold = 0.3'
        )
        model = write(
            tmp_path / "m.onnx", nodes, ["logits", "reliability", "map"],
            toml, shape=(1, 3, 16, 16),
        )  # fmt: skip
        found = make_extractor(f"onnx:{model}", enlarge_to=0).extract(colour(ramps(16, 16)))
        assert found.xy_l2.tolist() == [[0, 12], [10, 5]]
        share = np.exp([13, 15]) / (np.exp([13, 15]) + np.exp(9) + 15)
        rows = (5.5 / 4 - 0.5, 12.5 / 4 - 0.5)
        assert rows[1] < 3
        near = 0.5 + 0.4 * (rows[1] - 2)  # between the rows 2 and 3 of the reliability
        assert found.score_l == pytest.approx([share[0] * near, share[1] * 0.5], rel=1e-4)

    def test_keypoints_with_a_constant_input(self, tmp_path):
        toml = (
            '[input]\nmultiple = 8\nfit = "pad"\n[input.constants]\nn = 2\n'
            '[output]\nkind = "keypoints"\nkeypoints = "xy"\nscores = "scores"\n'
            'descriptors = "local"\ncoordinates = "normalized"\nthreshold = 0.3\n'
        )
        extractor = make_extractor(f"onnx:{keypoints(tmp_path / 'k.onnx', toml)}", enlarge_to=0)
        found = extractor.extract(colour(ramps(40, 24)))
        assert found.xy_l2.tolist() == [[39, 23], [19.5, 11.5]]
        assert found.score_l.tolist() == pytest.approx([1.8, 1.0])
        assert found.descriptor_lf.tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]

    def test_tokens(self, tmp_path):
        pool = helper.make_node(
            "AveragePool", ["image"], ["mean"], kernel_shape=[14, 14], strides=[14, 14]
        )
        nodes = [
            pool,
            constant("shape", np.array([1, 3, -1])),
            helper.make_node("Reshape", ["mean", "shape"], ["flat"]),
            helper.make_node("Transpose", ["flat"], ["patch"], perm=[0, 2, 1]),
            constant("class", np.full((1, 1, 3), 7, np.float32)),
            helper.make_node("Concat", ["class", "patch"], ["tokens"], axis=1),
        ]
        toml = (
            '[input]\nmultiple = 14\n[output]\nkind = "tokens"\ndescriptors = "tokens"\n'
            "stride = 14\nskip = 1\n"
        )
        model = write(tmp_path / "t.onnx", nodes, ["tokens"], toml)
        found = make_extractor(f"onnx:{model}", enlarge_to=0).extract(colour(ramps(14 * 9, 14 * 5)))
        assert len(found) == 45
        assert np.abs(found.xy_l2 - where(found.descriptor_lf)).max() < 0.3
        some = found.strongest(12).xy_l2  # of equals: all over the image, not the first rows
        assert np.ptp(some, axis=0).min() > 40

    @pytest.mark.parametrize("layout", ["nchw", "nhwc"])
    def test_what_the_network_gets(self, tmp_path, layout):
        """Colour order, scaling, mean and std: by a model that gives its input back."""
        nodes = [helper.make_node("Identity", ["image"], ["map"])]
        shape = (1, 3, "h", "w")
        if layout == "nhwc":
            nodes = [helper.make_node("Transpose", ["image"], ["map"], perm=[0, 3, 1, 2])]
            shape = (1, "h", "w", 3)
        toml = (
            f'[input]\nlayout = "{layout}"\nmultiple = 1\ndivide_by = 100\n'
            "mean = [1, 2, 3]\nstd = [1, 2, 4]\n"
            '[output]\nkind = "map"\ndescriptors = "map"\nstride = 1\n'
        )
        extractor = make_extractor(
            f"onnx:{write(tmp_path / 'i.onnx', nodes, ['map'], toml, shape=shape)}", enlarge_to=0
        )
        rgb = np.full((16, 16, 3), (200, 100, 250), np.uint8)
        found = extractor.metric(extractor.extract(colour(rgb)).descriptor_lf)
        wanted = np.array([1, -0.5, -0.125])
        assert found == pytest.approx(np.tile(wanted / np.linalg.norm(wanted), (256, 1)), abs=1e-3)

    def test_half_floats(self, tmp_path):
        nodes = [helper.make_node("Identity", ["image"], ["map"])]
        toml = '[input]\nmultiple = 1\n[output]\nkind = "map"\ndescriptors = "map"\nstride = 1\n'
        model = write(tmp_path / "h.onnx", nodes, ["map"], toml, dtype=TensorProto.FLOAT16)
        found = make_extractor(f"onnx:{model}", enlarge_to=0).extract(colour(ramps(16, 16)))
        assert np.abs(found.xy_l2 - where(found.descriptor_lf)).max() < 0.8


class TestExtractor:
    def test_same_on_every_thread_and_after_pickling(self, photos, tmp_path):
        files = sorted(str(f) for f in photos.iterdir())[:6]
        extractor = make_extractor(f"onnx:{dots(tmp_path / 'd.onnx')}")
        again = pickle.loads(pickle.dumps(extractor))
        assert again == extractor
        one = [extract(extractor, file) for file in files]
        with ThreadPoolExecutor(4) as pool:
            for a, b in zip(one, pool.map(lambda f: extract(again, f), files), strict=True):
                np.testing.assert_array_equal(a.descriptor_lf, b.descriptor_lf)
                np.testing.assert_array_equal(a.xy_l2, b.xy_l2)

    def test_parameters_rebuild_it_without_the_model(self, tmp_path):
        model = dots(tmp_path / "d.onnx")
        extractor = make_extractor(f"onnx:{model}", max_features=7)
        kept = json.loads(json.dumps(extractor.parameters()))
        model.unlink()
        again = make_extractor(extractor.name, **kept)
        assert again == extractor
        assert again.n_dimensions == 3
        assert again.parameters() == kept

    @pytest.mark.parametrize("key", ["sigma", "contrast_threshold"])
    def test_no_parameters_of_others(self, tmp_path, key):
        with pytest.raises(ParameterError, match=f"no parameter '{key}'"):
            make_extractor(f"onnx:{dots(tmp_path / 'd.onnx')}", **{key: 1})

    def test_ranges(self, tmp_path):
        with pytest.raises(ParameterError, match="max_features=0: wanted an integer from 1"):
            make_extractor(f"onnx:{dots(tmp_path / 'd.onnx')}", max_features=0)

    def test_bytes_and_files_are_read_alike(self, photos, tmp_path):
        model = means(tmp_path / "m.onnx", "[input]\nmultiple = 8")
        extractor = make_extractor(f"onnx:{model}")
        file = photos / "coffee.jpg"
        a, b = extract(extractor, str(file)), extract_data(extractor, file.read_bytes())
        np.testing.assert_array_equal(a.descriptor_lf, b.descriptor_lf)


class TestCollection:
    def test_recorded_found_again_and_refused(self, tmp_path, photos, monkeypatch):
        model = means(tmp_path / "a" / "m.onnx", GOOD[-22:])
        file = tmp_path / "c.vlad"
        options = {"features": f"onnx:{model}", "n_clusters": 16}
        with Collection.create(file, **options) as collection:
            report = collection.add([photos])
            assert report.indexed == 15
            assert collection.recipe.orientation == 0
            best = collection.search(photos / "coffee.jpg", top=1)[0]
            assert best.path == "coffee.jpg"
            assert best.similarity == pytest.approx(1, abs=1e-3)
        sha256 = model_files.sha256_of(model)
        with Collection.open(file) as collection:
            assert json.loads(collection.recipe.network)["sha256"] == sha256
        # the same command goes on, from wherever the model is
        (tmp_path / "b").mkdir()
        moved = model.rename(tmp_path / "b" / "other name.onnx")
        model.with_suffix(".toml").rename(moved.with_suffix(".toml"))
        onnx_session._Sessions.by_model.clear()
        with Collection.create(file, features=f"onnx:{moved}") as collection:
            assert collection.add([photos]).unchanged == 15
        onnx_session._Sessions.by_model.clear()
        # without the model all but new images works, and the message says how to mend it
        with Collection.open(file) as collection:
            assert collection.info()["images"] == 15
            with pytest.raises(ModelError, match=rf"is not there .*{sha256}.*VLADKIT_MODEL"):
                collection.search(photos / "coffee.jpg")
            monkeypatch.setenv("VLADKIT_MODEL", str(moved))
            assert collection.search(photos / "coffee.jpg", top=1)[0].path == "coffee.jpg"
            onnx_session._Sessions.by_model.clear()
            monkeypatch.setenv("VLADKIT_MODEL", str(file))
            with pytest.raises(ModelError, match=r"VLADKIT_MODEL\) is another model"):
                collection.search(photos / "coffee.jpg")
            monkeypatch.delenv("VLADKIT_MODEL")
            kept = model_files.add_model(moved)
            assert kept == model_files.add_model(moved)
            assert collection.search(photos / "coffee.jpg", top=1)[0].path == "coffee.jpg"
            kept.unlink()
            onnx_session._Sessions.by_model.clear()
            dots(model)  # another one in its place
            with pytest.raises(ModelError, match="is another file now"):
                collection.search(photos / "coffee.jpg")
        with pytest.raises(RecipeMismatchError, match="made with another network"):
            Collection.create(file, features=f"onnx:{model}")
        with pytest.raises(RecipeMismatchError, match="features="):
            Collection.create(file, features="sift")

    def test_another_description_is_another_network(self, tmp_path, photos):
        model = means(tmp_path / "m.onnx", GOOD[-22:])
        with Collection.create(tmp_path / "c.vlad", features=f"onnx:{model}") as collection:
            collection.add([photos / "coffee.jpg"])
        beside = model.with_suffix(".toml")
        told = beside.read_text()
        beside.write_text(told + "[match]\nratio = 0.8\n")  # not what features depend on
        Collection.create(tmp_path / "c.vlad", features=f"onnx:{model}").close()
        beside.write_text(told + "divide_by = 128\n")
        with pytest.raises(RecipeMismatchError, match="another description"):
            Collection.create(tmp_path / "c.vlad", features=f"onnx:{model}")

    def test_recipe(self, tmp_path):
        model = means(tmp_path / "m.onnx", GOOD[-22:] + "[recipe]\nposition = 0.3\nmax_side = 400")
        recipe = Recipe.make({"features": f"onnx:{model}", "max_side": 500})
        assert (recipe.position, recipe.max_side, recipe.orientation) == (0.3, 500, 0)
        assert recipe.extractor().max_side == 500
        assert Recipe.make(json.loads(json.dumps(recipe.as_json()))) == recipe
        with pytest.raises(ParameterError, match="have no direction"):
            Recipe.make({"features": f"onnx:{model}", "orientation": 0.25})
        with pytest.raises(ParameterError, match="contrast_threshold is SIFT's"):
            Recipe.make({"features": f"onnx:{model}", "contrast_threshold": 0.1})
        bad = means(tmp_path / "b.onnx", GOOD[-22:] + "[recipe]\nposition = -1")
        with pytest.raises(ParameterError, match="position"):
            Recipe.make({"features": f"onnx:{bad}"})

    def test_by_command(self, tmp_path, photos, monkeypatch):
        model = means(tmp_path / "m.onnx", GOOD[-22:])
        monkeypatch.chdir(tmp_path)
        wrong = ["--features", "onnx:none.onnx"]
        done = run("index", photos, "-o", "w.vlad", *wrong, code=1)
        message = "vladkit: model none.onnx is not there: give the path of an ONNX file\n"
        assert done.stderr == message
        assert not (tmp_path / "w.vlad").exists()
        run("index", photos, "-o", "c.vlad", "--features", f"onnx:{model}")
        query = photos / "coffee.jpg"
        done = run("search", "c.vlad", query, "--top", 1, "--rerank", 5, "--json")
        best = json.loads(done.stdout)["results"][0]
        assert best["path"] == "coffee.jpg"
        done = run("info", "c.vlad")
        assert f"sha256 {model_files.sha256_of(model)}, dimensions 3" in done.stdout
        assert "description" not in done.stdout


@pytest.mark.skipif(not MODELS.is_dir(), reason="the XFeat models are not beside this checkout")
@pytest.mark.parametrize("name", XFEAT)
class TestXFeat:
    def test_matches_of_a_shifted_image(self, name):
        extractor = make_extractor(f"onnx:{MODELS / name}")
        image = cv2.resize(photo("coffee"), (560, 400))[:, :, ::-1]
        shifted = np.roll(image, (24, 40), axis=(0, 1))[24:, 40:]
        a, b = (extractor.extract(colour(np.ascontiguousarray(p))) for p in (image, shifted))
        rule = extractor.match_rule
        found = match(
            extractor.metric(a.descriptor_lf), extractor.metric(b.descriptor_lf),
            ratio=rule.ratio, min_cosine=0.9,
        )  # fmt: skip
        assert len(found) > 300
        off_m2 = b.xy_l2[found.other_m] - a.xy_l2[found.query_m]
        assert np.median(np.abs(off_m2), axis=0).max() < 1
        verified = verify(a, b, found)
        assert verified.n_inliers > 0.8 * len(found)
        mapped = verified.transform_33 @ [280, 200, 1]
        assert mapped[:2] / mapped[2] == pytest.approx([280, 200], abs=1.5)

    def test_half_the_size(self, name):
        """Half the size: without directions and sizes, re-ranking has to find it all the same."""
        extractor = make_extractor(f"onnx:{MODELS / name}", enlarge_to=0)
        image = cv2.resize(photo("motorcycle_left"), (640, 480))
        half = cv2.resize(image[40:440, 60:600], (324, 240), interpolation=cv2.INTER_AREA)
        a, b = (
            extractor.extract(colour(np.ascontiguousarray(p[:, :, ::-1]))) for p in (image, half)
        )
        found = match(
            extractor.metric(a.descriptor_lf), extractor.metric(b.descriptor_lf), ratio=0.95
        )
        verified = verify(a, b, found)
        assert verified.n_inliers > 50
        middle = verified.transform_33 @ [330, 240, 1]
        assert middle[:2] / middle[2] == pytest.approx([162, 120], abs=1.5)
