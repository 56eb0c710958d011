"""Queries in the forms that people have them, and the options of a search."""

from __future__ import annotations

import io

import cv2
import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest

from photos import photo
from vladkit import Collection
from vladkit.collection import searching
from vladkit.collection.search_options import SearchOptions
from vladkit.errors import ImageError, InputError, NothingToIndexError, ParameterError
from vladkit.evaluation.benchmark import Query
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
