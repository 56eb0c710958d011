"""Queries in the forms that people have them, and the options of a search."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import cv2
import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest

from photos import photo
from vladkit import Collection, Where
from vladkit.collection import searching
from vladkit.collection.search_options import SearchOptions
from vladkit.errors import ImageError, InputError, NothingToIndexError, ParameterError
from vladkit.evaluation.benchmark import Query, ground_truth
from vladkit.features import Sift
from vladkit.features.pool import extract
from vladkit.images import Region, read_image
from vladkit.viz.matches import draw_matches


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A piece of the coffee in colour, as a PNG file: (path, RGB pixels)."""
    path = tmp_path_factory.mktemp("q") / "q.png"
    bgr_yx3 = photo("coffee")[20:300, 30:500]
    cv2.imwrite(str(path), bgr_yx3)
    return path, bgr_yx3[:, :, ::-1]


def test_every_form_of_an_image_finds_the_same(collection, file):
    path, rgb_yx3 = file
    wanted = collection.search(path, 5, rerank=3)
    assert wanted[0].path == "coffee.jpg"
    forms = [
        str(path),
        path.read_bytes(),
        bytearray(path.read_bytes()),
        io.BytesIO(path.read_bytes()),
        rgb_yx3,
        np.asfortranarray(rgb_yx3),
        np.ma.masked_array(rgb_yx3),
        PIL.Image.fromarray(np.ascontiguousarray(rgb_yx3)),
        collection.extract(path),
    ]
    for form in forms:
        got = collection.search(form, 5, rerank=3)
        assert [(h.path, h.score) for h in got] == [(h.path, h.score) for h in wanted], type(form)


def test_open_files(collection, file, tmp_path):
    path, _ = file
    wanted = len(collection.extract(path))
    with path.open("rb") as raw, path.open("rb", buffering=0) as unbuffered:
        assert len(collection.extract(raw)) == len(collection.words(unbuffered)[0]) == wanted
        with pytest.raises(ImageError, match="empty"):
            collection.search(raw)  # it is at its end
    with pytest.raises(ImageError, match=r"cannot read: .*closed file"):
        collection.search(raw)
    with (
        (tmp_path / "written").open("wb") as written,
        pytest.raises(ImageError, match="cannot read"),
    ):
        collection.search(written)
    with path.open(encoding="latin-1") as text, pytest.raises(ParameterError, match="mode 'rb'"):
        collection.search(text)


def test_images_of_pillow_that_cannot_be_used(collection, file, tmp_path):
    (tmp_path / "cut.png").write_bytes(file[0].read_bytes()[:-2000])
    with PIL.Image.open(tmp_path / "cut.png") as cut:
        for image in (cut, PIL.Image.new("L", (0, 5))):
            with pytest.raises(ImageError, match="cannot read"):
                collection.search(image)


def test_pixels_that_are_masked(collection, file):
    with pytest.raises(InputError, match="values are masked"):
        collection.search(np.ma.masked_equal(file[1], 0))


def test_gray_pixels_and_a_photo_that_lies_on_its_side(collection, file):
    _, rgb_yx3 = file
    gray_yx = cv2.cvtColor(np.ascontiguousarray(rgb_yx3), cv2.COLOR_RGB2GRAY)
    features = collection.extract(gray_yx)
    assert (features.width, features.height) == gray_yx.shape[::-1]
    lying = PIL.Image.fromarray(np.ascontiguousarray(np.rot90(gray_yx)))
    lying.getexif()[0x0112] = 6  # rotate by a quarter, clockwise, to see it upright
    np.testing.assert_array_equal(collection.extract(lying).xy_l2, features.xy_l2)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_modes_of_pillow(collection, file, mode):
    image = PIL.Image.open(file[0]).convert(mode)
    assert collection.search(image, 1)[0].path == "coffee.jpg"


def test_a_region_by_four_numbers(collection, file):
    path, _ = file
    wanted = collection.search(path, 3, region=Region(10, 20, 200, 210))
    assert collection.search(path, 3, region=(10, 20, 200, 210)) != collection.search(path, 3)
    for part in ((10, 20, 200, 210), [10, 20, 200, 210], np.array([10, 20, 200, 210])):
        got = collection.search(path, 3, region=part)
        assert [(h.path, h.score) for h in got] == [(h.path, h.score) for h in wanted]
    assert SearchOptions(region=(10, 20, 200, 210)).region == Region(10, 20, 200, 210)
    assert len(collection.extract(path, region=(10, 20, 200, 210))) == len(
        collection.words(path, region=(10, 20, 200, 210))[0]
    )


def test_four_numbers_wherever_a_region_is_taken(collection, file):
    path, four, part = file[0], (30, 20, 200, 210), Region(30, 20, 200, 210)
    features = collection.extract(path)
    np.testing.assert_array_equal(features.within(four).xy_l2, features.within(part).xy_l2)
    assert features.within(four).region == part
    assert read_image(path, region=four).region == read_image(path, region=part).region == part
    assert len(extract(collection.extractor, path, four)) == len(
        collection.extract(path, region=part)
    )
    assert Query("q", {}, four).region == part
    found = collection.verify(features, collection.find("coffee.jpg").image_id)
    np.testing.assert_array_equal(found.outline_42(four), found.outline_42(part))
    for query in (str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), file[1]):
        figure = draw_matches(query, PIL.Image.fromarray(photo("coffee")), found, region=four)
        assert len(figure.axes[0].images) == 2
        plt.close(figure)
    with pytest.raises(ImageError, match="query: not an image"):
        draw_matches(b"none", path, found)
    for take in (features.within, found.outline_42, lambda r: read_image(path, region=r)):
        with pytest.raises(ParameterError, match="give four whole numbers"):
            take((1, 2, 3))


@pytest.mark.parametrize("region", [(1, 2, 3), "1,2,3,4", (1.5, 2, 30, 40), 7, (0, 0, 0, 5)])
def test_other_regions_are_refused(collection, file, region):
    with pytest.raises(ParameterError, match="region"):
        collection.search(file[0], region=region)


@pytest.mark.parametrize(
    "image",
    [
        None,
        7,
        ["q.png"],
        np.zeros((8, 8)),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8), np.uint8),
        np.zeros((1, 1_000_001), np.uint8),
        np.zeros(8, np.uint8),
    ],
)
def test_anything_else_is_refused_with_what_is_wanted(collection, image):
    with pytest.raises(ParameterError, match=r"gray \(y, x\) or RGB \(y, x, 3\)"):
        collection.search(image)
    with pytest.raises(ParameterError, match="image is a"):
        collection.extract(image)


def test_features_go_without_a_region(collection, file):
    with pytest.raises(ParameterError, match="features are given"):
        collection.search(collection.extract(file[0]), region=(0, 0, 9, 9))


def test_an_image_of_the_collection_by_its_row(collection, tmp_path):
    row = collection.find("coffee.jpg")
    hits = collection.search(row, 2, rerank=2)
    assert hits[0].image_id == row.image_id
    assert hits[0].similarity == pytest.approx(1, abs=1e-3)
    collection.copy(tmp_path / "c")
    with Collection.open(tmp_path / "c") as other:
        other.remove(["coffee.jpg"])
        with pytest.raises(ParameterError, match=f"has no vector of image {row.image_id}"):
            other.search(row)


class TestSearchOptions:
    @pytest.mark.parametrize("name", ["top", "rerank", "expand"])
    def test_negative_numbers(self, name):
        with pytest.raises(ParameterError, match=f"{name}=-1: give a number of images, 0 or more"):
            SearchOptions(**{name: -1})

    def test_no_such_model(self, collection, file):
        with pytest.raises(ParameterError, match="'homography' or 'fundamental'"):
            collection.search(file[0], model="affine")

    def test_before_the_collection_is_asked(self, tmp_path):
        with Collection.create(tmp_path / "c") as empty:
            with pytest.raises(ParameterError):
                empty.search("gone.png", -1)
            with pytest.raises(NothingToIndexError):
                empty.search("gone.png")


@pytest.fixture(scope="module")
def asked(file):
    """A piece of the coffee, and one of the cat."""
    other = photo("chelsea")[20:260, 40:400, ::-1]
    return [file[0], np.ascontiguousarray(other)]


@pytest.fixture(scope="module")
def flipped(file):
    """The piece of the coffee, left and right exchanged."""
    return np.ascontiguousarray(file[1][:, ::-1])


class TestTogether:
    """Several images of one thing; here of several, so that each shows in the ranking."""

    @pytest.mark.parametrize("top", [0, 5])
    def test_means_count_and_the_most_inliers(self, collection, asked, top):
        hits = collection.search(asked, top, together=True)
        alone = [{h.path: h for h in collection.search(each, 0)} for each in asked]
        assert {h.path for h in hits[:2]} == {"coffee.jpg", "chelsea.jpg"}
        for hit in hits:
            each = [found[hit.path] for found in alone]
            assert hit.similarity == pytest.approx(np.mean([h.similarity for h in each]), abs=2e-6)
            assert hit.agreement == pytest.approx(np.mean([h.agreement for h in each]))
            assert hit.inliers == max(h.inliers for h in each) == each[hit.query].inliers
        assert {h.path: h.query for h in hits if h.verified} == {"coffee.jpg": 0, "chelsea.jpg": 1}

    def test_of_the_collection_expanded_and_limited(self, collection, asked):
        rows = ["coffee.jpg", collection.find("chelsea.jpg")]
        hits = collection.search(rows, 3, together=True, expand=2)
        assert {h.path for h in hits[:2]} == {"coffee.jpg", "chelsea.jpg"}
        where = Where(under="chelsea.jpg")
        (hit,) = collection.search(asked, together=True, where=where)
        assert (hit.path, hit.query) == ("chelsea.jpg", 1)

    def test_one_image_is_as_alone(self, collection, file):
        alone = collection.search(file[0], 5)
        for image in ([file[0]], file[0]):
            got = collection.search(image, 5, together=True)
            assert [(h.path, h.score) for h in got] == [(h.path, h.score) for h in alone]

    def test_what_cannot_be_done(self, collection, file):
        with pytest.raises(ParameterError, match="give together=True"):
            collection.search([file[0], file[0]])
        with pytest.raises(ParameterError, match="no image to search with"):
            collection.search([], together=True)
        with pytest.raises(ImageError, match=r"gone\.jpg: no such file"):
            collection.search([file[0], "gone.jpg"], together=True)


@pytest.fixture(scope="module")
def many(collection, file, asked, tmp_path_factory):
    """Images in every form, two of which cannot be used."""
    blank = tmp_path_factory.mktemp("many") / "blank.png"
    cv2.imwrite(str(blank), np.zeros((90, 90), np.uint8))
    row = collection.find("chelsea.jpg")
    features = collection.extract(file[0])
    read = file[0].read_bytes()
    return [*asked, str(blank), "coffee.jpg", row, features, "gone.jpg", read, file[1]]


class TestMany:
    """Many images, each with a ranking of its own, extracted on threads in advance."""

    @pytest.mark.parametrize("n_jobs", [1, 3])
    @pytest.mark.parametrize(
        "options", [{}, {"rerank": 0}, {"mirrored": True, "model": "fundamental", "expand": 1}]
    )
    def test_each_as_by_itself(self, collection, many, options, n_jobs):
        images = [io.BytesIO(each) if isinstance(each, bytes) else each for each in many]
        got = list(collection.search_many(images, 4, **options, n_jobs=n_jobs))
        assert len(got) == len(many)
        for image, found in zip(many, got, strict=True):
            if isinstance(found, ImageError):
                with pytest.raises(ImageError, match=re.escape(str(found))):
                    collection.search(image, 4, **options)
                continue
            wanted = collection.search(image, 4, **options)
            assert [(h.path, h.score, h.inliers, h.mirrored) for h in found] == [
                (h.path, h.score, h.inliers, h.mirrored) for h in wanted
            ]
        assert [i for i, found in enumerate(got) if isinstance(found, ImageError)] == [2, 6]

    def test_extracted_on_threads_while_others_are_ranked(self, collection, file, monkeypatch):
        own, names = Sift.extract, []

        def extract(self, image):
            names.append(threading.current_thread().name)
            return own(self, image)

        monkeypatch.setattr(Sift, "extract", extract)
        found = collection.search_many([file[0]] * 5, 1, rerank=0, n_jobs=2)
        assert next(found)[0].path == "coffee.jpg"
        assert names
        assert all(name.startswith("vladkit-extract") for name in names)
        found.close()
        assert len(names) < 6
        names.clear()
        assert len(list(collection.search_many([file[0]], 1, rerank=0))) == 1
        assert names == [threading.current_thread().name]  # OpenCV has all cores for one

    def test_a_part_of_each(self, collection, file, asked):
        region = (10, 10, 200, 150)
        got = list(collection.search_many(asked, 2, region=region))
        for image, found in zip(asked, got, strict=True):
            wanted = collection.search(image, 2, region=region)
            assert [(h.path, h.score) for h in found] == [(h.path, h.score) for h in wanted]

    def test_what_one_image_alone_has_wrong(self, collection, file, tmp_path):
        """The others are searched all the same."""
        small = tmp_path / "small.png"
        cv2.imwrite(str(small), photo("coffee")[:60, :60])
        images = [file[0], small, None, file[0]]
        found = list(collection.search_many(images, 1, region=(100, 100, 150, 100)))
        assert [isinstance(each, ImageError) for each in found] == [False, True, True, False]
        assert "is outside of the image of 60x60" in str(found[1])
        assert "image is a NoneType" in str(found[2])
        with pytest.raises(ParameterError, match="is outside"):
            list(collection.search_many([small], region=(100, 100, 150, 100)))

    def test_a_name_that_two_folders_have(self, photos, file, tmp_path):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            shutil.copy(photos / "coffee.jpg", tmp_path / name)
        with Collection.create(tmp_path / "c", n_clusters=4) as collection:
            collection.add([tmp_path / "a", tmp_path / "b"])
            found = list(collection.search_many([file[0], "coffee.jpg"], 1))
        assert found[0][0].path == "coffee.jpg"
        assert "2 images of" in str(found[1])

    @pytest.mark.parametrize("kind", ["generator", "set", "paths", "stack"])
    def test_any_iterable(self, collection, file, kind):
        images = {
            "generator": (each for each in [file[0], file[1]]),
            "set": {file[0], str(file[0])},
            "paths": file[0].parent.glob("q.png"),
            "stack": np.stack([file[1], file[1]]),
        }[kind]
        found = list(collection.search_many(images, 1, rerank=0))
        assert {hits[0].path for hits in found} == {"coffee.jpg"}

    @pytest.mark.parametrize("kind", ["path", "text", "bytes", "array", "Pillow", "features"])
    def test_one_image_is_not_several(self, collection, file, kind):
        image = {
            "path": file[0],
            "text": str(file[0]),
            "bytes": file[0].read_bytes(),
            "array": file[1],
            "Pillow": PIL.Image.fromarray(np.ascontiguousarray(file[1])),
            "features": collection.extract(file[0]),
        }[kind]
        with pytest.raises(ParameterError, match="give a list of images, or use search"):
            collection.search_many(image)

    @pytest.mark.parametrize("where", ["vladkit", "builtins"])
    def test_a_search_that_nobody_ends(self, collection, file, where):
        """What holds it is let go of after the last import is possible."""
        program = (
            f"import {where}, vladkit\n"
            f"collection = vladkit.Collection.open({str(collection.path)!r}, read_only=True)\n"
            f"found = collection.search_many([{str(file[0])!r}] * 20, rerank=0, n_jobs=2)\n"
            f"next(found)\n{where}.found = found\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_nothing_to_do(self, collection, tmp_path):
        assert list(collection.search_many([])) == []
        with pytest.raises(ParameterError, match="top=-1"):
            collection.search_many(["a.jpg"], -1)  # before the first is asked for
        empty = Collection.create(tmp_path / "empty.vlad", n_clusters=4)
        with empty, pytest.raises(NothingToIndexError):
            next(empty.search_many(["a.png", "b.png"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"top": None}, "top=None"), ({"top": 1.5}, "top=1.5"), ({"expand": 1.5}, "expand=1.5"),
     ({"rerank": "a"}, "rerank=a"), ({"where": {"under": "x"}}, "give a Where")],
)  # fmt: skip
def test_options_of_other_types(collection, file, options, message):
    with pytest.raises(ParameterError, match=message):
        collection.search(file[0], **options)


@pytest.mark.parametrize("value", [True, 1.5, -1, "2", None, float("nan")])
def test_numbers_of_other_types(collection, file, value):
    use = {
        "top": lambda: collection.search(file[0], top=value),
        "expand": lambda: collection.search(file[0], expand=value),
        "candidates": lambda: collection.duplicates(candidates=value),
        "sequential": lambda: collection.pairs(sequential=value),
        "gps": lambda: collection.pairs(gps=value),
        "n_neighbors": lambda: collection.augment(value),
        "offset": lambda: collection.page(value),
        "limit": lambda: collection.page(limit=value),
    }
    for name, call in use.items():
        with pytest.raises(ParameterError, match=rf"{name}='?{value}"):
            call()
    if value not in (None, -1):
        with pytest.raises(ParameterError, match=f"min_score={value!r}"):
            collection.pairs(min_score=value)


@pytest.mark.parametrize("model", ["affine", None, 4])
def test_a_model_of_another_kind(collection, file, model):
    """Where nothing is matched, too."""
    truth = ground_truth({str(file[0]): []})
    for use in (
        lambda: collection.search(file[0], model=model, rerank=0),
        lambda: collection.pairs(model=model),
        lambda: collection.assess(truth, model=model, rerank=0),
    ):
        with pytest.raises(ParameterError, match=r"model=.*: wanted 'homography' or"):
            use()


def test_what_is_no_list(collection):
    for value in (7, 1.5, True, None):
        with pytest.raises(ParameterError, match="give a list of images"):
            collection.search_many(value)
    for value in (7, 1.5, True, ["a.jpg"]):
        with pytest.raises(ParameterError, match=r"give positions, .* not "):
            collection.pairs(gps=1, positions=value)
    for name in ("queries", "database"):
        for value in (7, 1.5, True):
            with pytest.raises(ParameterError, match=f"{name}={value}: give the beginning of"):
                collection.pairs(**{name: value})


def test_what_is_no_key_of_an_image(collection):
    for value in (True, 1.5, 2**70, float("nan"), "1", None, [1]):
        with pytest.raises(ParameterError, match="has no image"):
            collection.image(value)


class TestMirrored:
    @pytest.mark.parametrize("way", ["features", "pixels"])
    @pytest.mark.parametrize("model", ["homography", "fundamental"])
    def test_found_in_px_of_the_query_itself(self, collection, flipped, way, model, monkeypatch):
        if way == "pixels":  # as of a network, whose features cannot be mirrored
            monkeypatch.delattr(Sift, "mirrored")
        assert not any(h.verified for h in collection.search(flipped, model=model))
        hit = collection.search(flipped, 1, mirrored=True, model=model)[0]
        assert (hit.path, hit.mirrored, hit.verified) == ("coffee.jpg", True, True)
        assert is_flipped(hit.verification, flipped.shape[1])
        again = collection.verify(flipped, hit.image_id, mirrored=True, model=model)
        np.testing.assert_array_equal(again.query_xy_m2, hit.verification.query_xy_m2)
        np.testing.assert_allclose(again.transform_33, hit.verification.transform_33)

    @pytest.mark.parametrize("way", ["features", "pixels"])
    def test_a_part(self, collection, flipped, way, monkeypatch):
        if way == "pixels":
            monkeypatch.delattr(Sift, "mirrored")
        hit = collection.search(flipped, 1, mirrored=True, region=(50, 40, 300, 200))[0]
        assert (hit.path, hit.mirrored, hit.verified) == ("coffee.jpg", True, True)
        assert is_flipped(hit.verification, flipped.shape[1])
        assert hit.verification.query_xy_m2[:, 0].min() >= 50
        assert hit.verification.query_xy_m2[:, 0].max() <= 350

    def test_the_better_of_two(self, collection, file, flipped):
        upright, both = (collection.search(file[0], 0, mirrored=m) for m in (False, True))
        assert not both[0].mirrored
        assert len(both) == len(upright)
        score_of = {h.path: h.score for h in upright}
        assert all(h.score >= score_of[h.path] for h in both)
        assert any(h.mirrored for h in both)
        scores = [h.score for h in both]
        assert scores == sorted(scores, reverse=True)
        pair = collection.search([flipped, flipped], 1, together=True, mirrored=True)
        assert (pair[0].path, pair[0].mirrored) == ("coffee.jpg", True)

    def test_features_and_images_of_the_collection(self, collection, flipped, monkeypatch):
        features = collection.extract(flipped)
        assert collection.search(features, 1, mirrored=True)[0].path == "coffee.jpg"
        row = collection.find("coffee.jpg")
        assert not collection.search(row, 1, mirrored=True)[0].mirrored
        monkeypatch.delattr(Sift, "mirrored")
        with pytest.raises(ParameterError, match="cannot be mirrored: give the image instead"):
            collection.search(features, mirrored=True)
        assert collection.search(row, 1, mirrored=True)[0].path == "coffee.jpg"
        gone = replace(row, folder=f"{row.folder}/gone")
        with pytest.raises(ImageError, match=r"coffee\.jpg cannot be mirrored"):
            collection.search(gone, mirrored=True)


def is_flipped(found, width):
    """Whether the points that match are those of a piece of coffee.jpg that was flipped."""
    wanted_m2 = [width - 1 + 30, 20] + found.query_xy_m2 * [-1, 1]
    error_m = np.abs(wanted_m2 - found.match_xy_m2).max(axis=1)
    if found.model == "homography":
        one_m1 = np.ones((len(error_m), 1))
        moved_m3 = np.hstack([found.query_xy_m2, one_m1]) @ found.transform_33.T
        error_m = np.maximum(error_m, np.abs(moved_m3[:, :2] / moved_m3[:, 2:] - wanted_m2).max(1))
    return np.median(error_m) < 1


def test_a_pair_is_matched_once_for_rerank_and_expand(collection, file, monkeypatch):
    matched = []
    real = searching.verify_ranked

    def counted(query, others, *rest, **options):
        matched.extend(each.descriptor_lf.tobytes() for each in others)
        return real(query, others, *rest, **options)

    monkeypatch.setattr(searching, "verify_ranked", counted)
    hits = collection.search(file[0], 0, rerank=4, expand=3)
    assert len(matched) == len(set(matched)) >= 4
    assert sum(hit.verification is not None for hit in hits) == 4


def test_a_search_leaves_the_estimator_as_it_is(collection, file, monkeypatch):
    vlad = collection.vlad.vlads_[0]
    monkeypatch.setattr(vlad, "method", "loop")
    monkeypatch.setattr(vlad, "n_jobs", 3)
    before = vars(vlad).copy()
    collection.search(file[0], rerank=2, expand=2)
    assert vars(vlad) == before
