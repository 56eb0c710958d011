"""`draw_ranking`: images, frames and texts of a query and its results."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from figures import GRAY, pixels
from vladkit.collection.ranked import Hit
from vladkit.errors import ParameterError
from vladkit.images import read_image
from vladkit.viz import draw_ranking


def texts(ax):
    return [t.get_text() for t in ax.texts]


def frame_of(ax):
    return next(p for p in ax.patches if isinstance(p, Rectangle) and not p.get_fill())


def test_what_a_search_found(collection, home):
    hits = collection.search(home / "photos" / "coffee.jpg", 7, rerank=4)
    figure = draw_ranking(home / "photos" / "coffee.jpg", hits, columns=3)
    query, *cells = figure.axes
    assert texts(query) == ["query", "coffee.jpg"]
    assert len(cells) == 7
    for i, (cell, hit) in enumerate(zip(cells, hits, strict=True)):
        inliers = f", {hit.inliers} inliers" if i < 4 else ""
        score = f"{hit.score:.3f}" if hit.score > 0.1 else f"{hit.score:.2g}"
        assert texts(cell) == [f"{i + 1}:  {score}{inliers}", hit.path]
        shown, real = (
            cell.images[0].get_array(),
            read_image(hit.file, max_side=400, color=True).rgb_yx3,
        )
        np.testing.assert_array_equal(shown, real)
    corner = [cell.get_position().get_points()[:, 0].min() for cell in cells]
    assert corner == pytest.approx([0.25, 0.5, 0.75] * 2 + [0.25])
    rows = [cell.get_position().y0 for cell in cells]
    assert rows == pytest.approx([2 / 3] * 3 + [1 / 3] * 3 + [0], abs=1e-9)
    assert {frame_of(cell).get_linestyle() for cell in cells} == {"-"}


def test_proportions_are_kept(collection, home):
    for shape in [(60, 400), (400, 60), (30, 30)]:
        ax = draw_ranking(np.zeros((*shape, 3), np.uint8), []).axes[0]
        box = ax.images[0].get_extent()
        per_inch = ax.transData.transform([(1, 1)]) - ax.transData.transform([(0, 0)])
        assert abs(per_inch[0, 0]) == pytest.approx(abs(per_inch[0, 1])) == pytest.approx(100)
        width, height = box[1] - box[0], box[2] - box[3]
        assert width / height == pytest.approx(shape[1] / shape[0])
        assert max(width, height) < 2


def test_right_and_wrong_differ_by_more_than_colour(home):
    files = [str(home / "photos" / f"{n}.jpg") for n in ("coffee", "moon", "rocket")]
    hits = [Hit(1, 0.5, 0.5, path=os.path.basename(f), file=f) for f in files]
    figure = draw_ranking(files[0], hits, relevant={"coffee.jpg", files[2]})
    frames = [frame_of(ax) for ax in figure.axes[1:]]
    styles = [f.get_linestyle() for f in frames]
    assert styles[0] == styles[2] == "-"
    assert styles[1] != "-"
    strokes = [len(ax.lines) - 1 for ax in figure.axes]  # besides the badge
    assert strokes == [-1, 1, 2, 1]
    rgb, at = pixels(figure)
    for ax, frame in zip(figure.axes[1:], frames, strict=True):
        x, y = frame.get_xy()
        drawn = [rgb[j, i] for i, j in (at((x, y + frame.get_height() * s / 99), ax)
                                        for s in range(20, 80))]  # fmt: skip
        color = 255 * np.array(to_rgb(frame.get_edgecolor()))
        close = np.abs(np.array(drawn) - color).max(axis=1) < 60
        assert close.all() == (frame.get_linestyle() == "-")
        assert close.mean() > 0.4
    green, red = (np.array(to_rgb(f.get_edgecolor())) for f in frames[:2])
    assert green.argmax() == 1
    assert red.argmax() == 0


def test_what_is_gone_is_a_box_with_its_name(home, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    hits = [
        Hit(1, 0.9, 0.9, path="sub/gone.jpg", file=str(tmp_path / "gone.jpg")),
        Hit(1, 0.8, 0.8, path="broken.jpg", file=str(tmp_path / "broken.jpg")),
        Hit(1, 0.7, 0.7, path="moon.jpg", file=str(home / "photos" / "moon.jpg")),
    ]
    figure = draw_ranking(tmp_path / "no.jpg", hits)
    assert [len(ax.images) for ax in figure.axes] == [0, 0, 0, 1]
    shown = [" ".join(texts(ax)).replace("\n", " ") for ax in figure.axes]
    assert re.fullmatch("no such file or directory query no.jpg", shown[0])
    assert re.fullmatch("no such file or directory 1:  0.900 gone.jpg", shown[1])
    assert re.fullmatch("not an image that can be decoded 2:  0.800 broken.jpg", shown[2])
    rgb, at = pixels(figure)
    x, y = at((0.3, 1.7), figure.axes[1])
    assert (rgb[y, x] == 0xE4).all()


def test_nothing_was_found():
    (ax,) = draw_ranking(GRAY, []).axes
    assert texts(ax) == ["query: no results", ""]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": 0}, "columns=0"),
        ({"columns": True}, "columns=True"),
        ({"relevant": "a.jpg"}, "relevant is one path"),
        ({"hits": ["a.jpg"]}, "'a.jpg' is among the hits"),
        ({"query": None}, "query is a NoneType"),
    ],
)
def test_refused(change, message):
    given = {"query": GRAY, "hits": [Hit(1, 1, 1, path="a", file="a")]}
    with pytest.raises(ParameterError, match=message):
        draw_ranking(**given | change)
