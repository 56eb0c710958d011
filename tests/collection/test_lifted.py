"""Night and fog: images with hardly any features are described by a second try, and noted."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest

from commands import run
from photos import photo
from stored import sql
from vladkit import Collection
from vladkit.collection.recipe import Recipe
from vladkit.errors import FileFormatError, ImageError, ParameterError, RecipeMismatchError
from vladkit.features import Sift, make_extractor
from vladkit.images import Image

BLANK = "no features found: the image is blank or has no texture"


def gray(name):
    yx = cv2.cvtColor(photo(name), cv2.COLOR_BGR2GRAY)
    scale = 320 / max(yx.shape)
    return cv2.resize(yx, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def night(yx, top=10):
    """A few gray levels, and six stars."""
    dark_yx = (yx / 255 * top).round().astype(np.uint8)
    for i in range(6):
        cv2.circle(dark_yx, (30 + 45 * i, 25 + 11 * (i % 3)), 2, 60, -1)
    return dark_yx


def fog(yx, contrast=12):
    return (180 + contrast * (yx / 255 - 0.5)).round().astype(np.uint8)


def blanks():
    y, x = np.mgrid[:240, :320] / 320
    radial_yx = np.exp(-4 * ((x - 0.5) ** 2 + (y - 0.4) ** 2))
    ramps = {"across": x, "diagonal": (x + y) / 1.75, "radial": radial_yx}
    found = {f"constant {v}": np.full((240, 320), v, np.uint8) for v in (0, 3, 128)}
    for name, ramp_yx in ramps.items():
        for low, high in ((0, 10), (0, 40), (0, 255)):
            found[f"{name} {low} to {high}"] = (low + (high - low) * ramp_yx).astype(np.uint8)
    rng = np.random.default_rng(0)
    for levels in (1, 2, 3):  # a lens cap, or a camera that looks at a wall
        noisy_yx = 20 + levels * rng.normal(size=(240, 320))
        found[f"noise of {levels}"] = np.rint(noisy_yx).astype(np.uint8)
    return found


def image(yx):
    return Image(yx, width=yx.shape[1], height=yx.shape[0])


def n_features(sift, yx):
    try:
        return len(sift.extract(image(yx)))
    except ImageError:
        return 0


class TestSift:
    @pytest.mark.parametrize("alter", [night, fog])
    def test_few_features_become_many(self, alter):
        yx = alter(gray("astronaut"))
        assert n_features(Sift(lift_below=0), yx) < 20
        features = Sift().extract(image(yx))
        assert len(features) > 100
        assert features.lifted
        assert Sift().mirrored(features).lifted
        assert features.strongest(5).lifted

    def test_from_as_many_as_asked_for_there_is_no_second_try(self):
        yx = gray("astronaut")
        plain = Sift(lift_below=0).extract(image(yx))
        n = len(plain)
        assert not Sift().extract(image(yx)).lifted
        assert not Sift(lift_below=min(n, 1000)).extract(image(yx)).lifted
        dim = (yx * 0.2).astype(np.uint8)
        few = n_features(Sift(lift_below=0), dim)
        assert 20 < few < 1000
        assert [Sift(lift_below=few + i).extract(image(dim)).lifted for i in (0, 1)] == [0, 1]

    @pytest.mark.parametrize("name", blanks())
    def test_blank_stays_blank(self, name):
        """No features are made of nothing: what is found is what was found without."""
        yx = blanks()[name]
        n = n_features(Sift(lift_below=0), yx)
        assert n_features(Sift(), yx) == n < 20
        if name.startswith("constant"):
            with pytest.raises(ImageError, match=BLANK):
                Sift().extract(image(yx))

    def test_max_features_below_the_limit_asks_for_no_more(self):
        yx = gray("astronaut")
        assert not Sift(max_features=5).extract(image(yx)).lifted
        assert len(Sift(max_features=5).extract(image(fog(yx)))) == 5

    @pytest.mark.parametrize("value", [-1, 1001, 2.5, True, None])
    def test_out_of_range(self, value):
        with pytest.raises(ParameterError, match="lift_below"):
            Sift(lift_below=value)

    def test_colmaps_features_had_no_second_try(self):
        colmap = make_extractor("colmap:sift", dimensions=128)
        with pytest.raises(ImageError, match=BLANK):
            colmap.extract(image(fog(gray("astronaut"), 6)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Six photographs, two of them by night and in fog, too, and two without anything."""
    home = tmp_path_factory.mktemp("lifted")
    (home / "images").mkdir()
    names = ("astronaut", "camera", "chelsea", "coffee", "coins", "rocket")
    found = {name: gray(name) for name in names}
    found |= {"night": night(gray("astronaut")), "fog": fog(gray("coffee"))}
    found |= {"blank": blanks()["constant 3"], "ramp": blanks()["diagonal 0 to 40"]}
    for name, yx in found.items():
        cv2.imwrite(str(home / "images" / f"{name}.png"), yx)
    with Collection.create(home / "c", n_clusters=16, enlarge_to=0) as collection:
        collection.add([home / "images"])
    return home


@pytest.fixture
def own(made, tmp_path):
    shutil.copy(made / "c", tmp_path / "c")
    return tmp_path / "c"


def lifted(collection):
    return sorted(collection.image(i).path for i in collection.index.store.lifted())


class TestCollection:
    def test_it_notes_which_images(self, made):
        with Collection.open(made / "c") as collection:
            assert lifted(collection) == ["fog.png", "night.png"]
            assert collection.info()["lifted"] == 2
            skipped = {row.path: row.skipped for row in collection.skipped()}
            assert skipped == {"blank.png": BLANK, "ramp.png": BLANK}
        assert (
            "lifted    2 images, with fewer than 20 features before"
            in run("info", made / "c").output
        )
        rows = json.loads(run("info", made / "c", "--images", "--json").stdout)["indexed_images"]
        assert [row["path"] for row in rows if row["lifted"]] == ["fog.png", "night.png"]

    @pytest.mark.parametrize(
        ("query", "expected"),
        [(night(gray("astronaut"), 7), "night.png"), (fog(gray("coffee"), 9), "fog.png"),
         (fog(gray("camera"), 10), "camera.png"), (night(gray("coins"), 9), "coins.png"),
         (gray("astronaut"), "night.png")],
    )  # fmt: skip
    def test_a_query_by_night_or_in_fog_finds_its_image(self, made, tmp_path, query, expected):
        cv2.imwrite(str(tmp_path / "query.png"), query)
        with Collection.open(made / "c") as collection:
            by_file = collection.search(tmp_path / "query.png", 3)
            assert expected in [hit.path for hit in by_file[:2]]
            assert [(h.path, h.score) for h in collection.search(query, 3)] == [
                (h.path, h.score) for h in by_file
            ]
            h, w = query.shape
            part = collection.search(query, 3, region=(0, 0, w, h * 3 // 4))
            assert expected in [hit.path for hit in part]

    def test_an_image_that_goes_or_gets_brighter_is_noted_no_more(self, made, own, tmp_path):
        shutil.copytree(made / "images", tmp_path / "images")
        with Collection.create(own) as collection:
            collection.remove([str(made / "images" / "fog.png")])
            assert lifted(collection) == ["night.png"]
            collection.relocate(made / "images", tmp_path / "images")
            assert lifted(collection) == ["night.png"]
            cv2.imwrite(str(tmp_path / "images" / "night.png"), gray("astronaut"))
            report = collection.add([tmp_path / "images"])
            assert (report.indexed, lifted(collection)) == (2, ["fog.png"])
            cv2.imwrite(str(tmp_path / "images" / "fog.png"), blanks()["constant 0"])
            collection.add([tmp_path / "images"])
            assert collection.info()["lifted"] == 0
        assert "lifted " not in run("info", own).output

    def test_an_older_file_describes_queries_as_its_images(self, own, tmp_path):
        sql(own, "UPDATE about SET value = json_remove(value, '$.lift_below') WHERE name='recipe'",
            "DELETE FROM about WHERE name = 'lifted'")  # fmt: skip
        (tmp_path / "new").mkdir()
        cv2.imwrite(str(tmp_path / "new" / "dark.png"), fog(gray("camera"), 6))
        with Collection.create(own) as collection:
            assert collection.recipe.lift_below == 0
            assert collection.info()["lifted"] == 0
            with pytest.raises(ImageError, match=BLANK):
                collection.search(tmp_path / "new" / "dark.png")
            report = collection.add([tmp_path / "new"])
            assert report.skipped == [("dark.png", BLANK)]
        assert "lift_below 0" in run("info", own).output
        Collection.create(own, lift_below=0).close()
        with pytest.raises(RecipeMismatchError, match="lift_below=0, asked for is 20"):
            Collection.create(own, lift_below=20)

    def test_damaged(self, own):
        for value in ("[[1]]", "[0.5]", '{"1": 2}'):
            sql(own, ("UPDATE about SET value = ? WHERE name = 'lifted'", (value,)))
            with pytest.raises(FileFormatError, match="lifted"), Collection.open(own) as collection:
                collection.info()


class TestRecipe:
    def test_it_survives_json(self):
        for given in ({}, {"lift_below": 0}, {"lift_below": 7}):
            recipe = Recipe.make(given)
            assert Recipe.make(recipe.as_json()) == Recipe.stored(recipe.as_json()) == recipe
            assert recipe.is_stored_as(recipe.as_json())
        assert Recipe.make({}).extractor() == Sift()
        assert not Recipe.make({}).is_stored_as(None)

    def test_other_features_have_none(self):
        given = {"features": "npz", "dimensions": 8, "compare": "unit"}
        assert Recipe.make(given).lift_below == 0
        with pytest.raises(ParameterError, match="lift_below is SIFT's"):
            Recipe.make(given | {"lift_below": 20})
