"""`draw_words`: circles and the list of words."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.figure import Figure

from figures import GRAY, of_kind, pixels, some_features
from vladkit import VLAD, MultiVLAD
from vladkit.errors import ParameterError, ShapeError
from vladkit.features import Features, Sift
from vladkit.images import Region, read_image
from vladkit.viz import draw_words
from vladkit.viz.palette import word_colors


def circles(ax):
    halo, circle = of_kind(ax, EllipseCollection)
    np.testing.assert_array_equal(halo.get_offsets(), circle.get_offsets())
    return circle


def entries(ax):
    legend = ax.get_legend()
    return {t.get_text(): h.get_markerfacecolor() for t, h in
            zip(legend.get_texts(), legend.legend_handles, strict=True)}  # fmt: skip


def test_circles_have_place_size_direction_and_colour():
    features = some_features(20)
    label_l = np.arange(20) % 3
    ax = draw_words(GRAY, features, label_l).axes[0]
    circle = circles(ax)
    row_m = np.argsort(-features.size_l)  # the largest first, below the others
    np.testing.assert_allclose(circle.get_offsets(), features.xy_l2[row_m])
    np.testing.assert_allclose(circle.get_widths(), features.size_l[row_m], rtol=1e-6)
    np.testing.assert_allclose(circle.get_edgecolors()[:, :3], word_colors(label_l[row_m]))
    _, direction = of_kind(ax, LineCollection)
    segment_m22 = np.array(direction.get_segments())
    np.testing.assert_allclose(segment_m22[:, 0], features.xy_l2[row_m])
    x_m, y_m = (segment_m22[:, 1] - segment_m22[:, 0]).T  # y down: clockwise on screen
    np.testing.assert_allclose(np.rad2deg(np.arctan2(y_m, x_m)) % 360, features.angle_l[row_m],
                               atol=0.01)  # fmt: skip
    np.testing.assert_allclose(np.hypot(x_m, y_m), features.size_l[row_m] / 2, rtol=1e-4)
    assert ax.get_title(loc="left") == "20 features, 3 words"
    assert list(entries(ax)) == ["0: 7", "1: 7", "2: 6"]


def test_a_circle_is_seen_where_it_is():
    one = np.ones(1, np.float32)
    features = Features(np.zeros((1, 4), np.uint8), np.array([[150, 90]], np.float32),
                        60 * one, 90 * one, one, width=300, height=200)  # fmt: skip
    rgb, at = pixels(draw_words(GRAY, features, [7]))
    wanted = 255 * word_colors(np.array([7]))[0]
    for x, y in ((180, 90), (120, 90), (150, 60), (150, 120), (150, 105)):  # rim; direction
        i, j = at((x, y))
        near = rgb[j - 1 : j + 2, i - 1 : i + 2].reshape(-1, 3)
        assert np.abs(near - wanted).max(axis=1).min() < 40, (x, y)
    for xy in ((165, 90), (150, 75), (200, 90)):  # inside, and outside
        i, j = at(xy)
        assert np.ptp(rgb[j, i]) == 0
        assert rgb[j, i, 0] == int(0.55 * 120)  # the image, darkened


def test_a_word_keeps_its_colour():
    few, many = some_features(5), some_features(50)
    one = entries(draw_words(GRAY, few, [3, 3, 9, 9, 9]).axes[0])
    two = entries(draw_words(GRAY, many, np.repeat([9, 1, 3, 200, 77], 10)).axes[0])
    assert one["3: 2"] == two["3: 10"] != two["9: 10"] == one["9: 3"]
    # asked for, they differ as much as colours can, and are in both images the same
    one = entries(draw_words(GRAY, few, [3, 3, 9, 9, 9], words=[9, 3]).axes[0])
    two = entries(draw_words(GRAY, many, [9] * 50, words=[9, 3]).axes[0])
    assert list(one) == ["9: 3", "3: 2"]
    assert list(two) == ["9: 50", "3: 0"]
    assert list(one.values()) == list(two.values())
    assert [tuple(word_colors(np.array([i]))[0]) for i in (0, 1)] == list(one.values())


def test_only_some_words_and_the_strongest():
    features = some_features(40)
    label_l = np.arange(40) % 4
    ax = draw_words(GRAY, features, label_l, words=[2, 1], max_features=6).axes[0]
    row_l = np.flatnonzero(np.isin(label_l, [1, 2]))
    strongest = set(row_l[np.argsort(-features.score_l[row_l])[:6]])
    drawn = circles(ax).get_offsets()
    assert {tuple(xy) for xy in drawn} == {tuple(features.xy_l2[i]) for i in strongest}
    assert ax.get_title(loc="left") == "20 of 40 features, 2 words; the strongest 6 drawn"
    for none in (
        draw_words(GRAY, features, label_l, words=[]),
        draw_words(GRAY, features, label_l, words=[50]),
        draw_words(GRAY, some_features(0), []),
        draw_words(GRAY, features, label_l, max_features=0),
    ):
        assert not of_kind(none.axes[0], EllipseCollection)


def test_a_long_list_ends():
    ax = draw_words(GRAY, some_features(30), np.arange(30)).axes[0]
    assert len(entries(ax)) == 13
    assert list(entries(ax))[-1] == "and 18 more"


def test_of_a_collection(collection, home):
    file = home / "photos" / "coffee.jpg"
    features, label_l = collection.words(file)
    ax = draw_words(file, features, collection).axes[0]
    np.testing.assert_array_equal(
        circles(ax).get_edgecolors(),
        circles(draw_words(file, features, label_l).axes[0]).get_edgecolors(),
    )
    n = len(np.unique(label_l))
    title = f"{len(features)} features, {n} of 32 words; the strongest 500 drawn"
    assert ax.get_title(loc="left") == title


def test_of_a_part(collection, home):
    file, region = home / "photos" / "coffee.jpg", Region(200, 100, 240, 200)
    features, label_l = collection.words(file, region=region)
    for image in (file, read_image(file, region=region, color=True)):
        ax = draw_words(image, features, label_l, max_features=9999).axes[0]
        xy_m2 = circles(ax).get_offsets()
        order = np.argsort(-features.size_l, kind="stable")
        np.testing.assert_allclose(xy_m2, features.xy_l2[order] + (200, 100))


def test_by_a_codebook():
    features = some_features(60, f=8)
    vlad = VLAD(n_clusters=5).fit([features.descriptor_lf])
    ax = draw_words(GRAY, features, vlad).axes[0]
    expected = circles(draw_words(GRAY, features, vlad.words(features.descriptor_lf)).axes[0])
    np.testing.assert_array_equal(circles(ax).get_edgecolors(), expected.get_edgecolors())
    assert ax.get_title(loc="left") == "60 features, 5 of 5 words"


def test_a_codebook_of_other_descriptors_is_refused(home):
    sift = Sift(max_features=300)
    features = sift.read(home / "photos" / "coffee.jpg")
    metric_lf = sift.metric(features.descriptor_lf)
    learned = VLAD(n_clusters=8).fit([metric_lf])
    with pytest.raises(ParameterError, match=r"times as long .*vlad.words\(extractor.metric"):
        draw_words(home / "photos" / "coffee.jpg", features, learned)
    draw_words(home / "photos" / "coffee.jpg", features, learned.words(metric_lf))
    draw_words(home / "photos" / "coffee.jpg", features,
               VLAD(n_clusters=300).fit([features.descriptor_lf]))  # fmt: skip


def test_into_axes_that_are_there():
    ax = Figure().subplots()
    assert draw_words(GRAY, some_features(3), [0, 1, 1], ax=ax) is ax
    assert len(circles(ax).get_offsets()) == 3


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": [0, 1]}, ShapeError, r"int64 \(2,\).*each of 3 features"),
        ({"labels": [0.0, 1, 2]}, ShapeError, "float64"),
        ({"labels": [0, -1, 2]}, ParameterError, "counted from 0"),
        ({"words": [-1]}, ParameterError, "no word -1"),
        ({"words": [0.5]}, ParameterError, "list of numbers"),
        ({"words": 3}, ParameterError, "list of numbers"),
        ({"words": [2], "labels": VLAD.from_centroids(np.eye(2, 4))}, ParameterError,
         "no word 2: words are counted from 0 to 1"),
        ({"labels": VLAD.from_centroids(np.eye(2, 9))}, ShapeError, "9 dimensions"),
        ({"labels": MultiVLAD.from_vlads([VLAD.from_centroids(np.eye(2, 4))])},
         ParameterError, "several codebooks"),
        ({"max_features": -1}, ParameterError, "max_features=-1"),
        ({"image": GRAY[:50]}, ParameterError, r"features are of .* image shows"),
        ({"image": np.zeros((400, 600, 3), np.uint8)}, ParameterError, "features are of"),
        ({"features": some_features(3, region=Region(9, 9, 300, 200))}, ParameterError,
         "features are of"),
    ],
)  # fmt: skip
def test_refused(change, error, message):
    given = {"image": GRAY, "features": some_features(3), "labels": [0, 1, 2]}
    with pytest.raises(error, match=message):
        draw_words(**given | change)
