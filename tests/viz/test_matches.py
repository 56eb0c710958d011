"""`draw_matches`: lines, points and outlines are where they must be, in data and in pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from figures import GRAY, H_33, found, mapped, nothing, of_kind, pixels
from photos import photo
from vladkit.errors import ImageError, ParameterError, ShapeError
from vladkit.features import Sift
from vladkit.geometry.verification import verify_all
from vladkit.images import Image, Region, read_image
from vladkit.viz import draw_matches


def lines(ax):
    """Ends (m, 2, 2) of the lines, the clearest first, and their colours."""
    halo, line = of_kind(ax, LineCollection)
    np.testing.assert_array_equal(halo.get_segments(), line.get_segments())
    return np.array(line.get_segments())[::-1], line.get_colors()[::-1]


def in_match(ax, xy_m2):
    """Data to px of the match, by the transform that the docstring promises."""
    to_data = ax.images[1].get_transform() - ax.transData
    return to_data.inverted().transform(xy_m2)


@pytest.fixture(scope="module")
def coffee(tmp_path_factory):
    """Files of a photograph and of what a homography makes of it, and how they match."""
    folder = tmp_path_factory.mktemp("coffee")
    image = photo("coffee")
    cv2.imwrite(str(folder / "a.png"), image)
    cv2.imwrite(str(folder / "b.png"), cv2.warpPerspective(image, H_33, (500, 330)))
    sift = Sift()
    a, b = sift.read(folder / "a.png"), sift.read(folder / "b.png")
    (verification,) = verify_all(a, [b], sift.metric)
    assert verification.n_inliers > 200
    return folder / "a.png", folder / "b.png", verification


def test_lines_and_outline_of_a_photograph_are_where_the_homography_says(coffee):
    a, b, verification = coffee
    figure = draw_matches(a, b, verification)
    (ax,) = figure.axes
    (line_m22, _) = lines(ax)
    assert len(line_m22) == 200
    np.testing.assert_allclose(line_m22[:, 0], verification.query_xy_m2[:200])
    # the image of 500x330 px stands right of 600x400, as tall, 2 % of its height away
    scale, start = 400 / 330, 600 - 0.5 + 8
    there_m2 = (mapped(H_33, line_m22[:, 0]) + 0.5) * scale + (start, -0.5)
    off_m = np.hypot(*(line_m22[:, 1] - there_m2).T)
    assert np.median(off_m) < 1
    assert off_m.max() < 8 * scale  # the tolerance of an inlier
    np.testing.assert_allclose(
        in_match(ax, line_m22[:, 1]), verification.match_xy_m2[:200], atol=1e-3
    )
    (outline,) = of_kind(ax, Polygon)
    corner_42 = [[-0.5, -0.5], [599.5, -0.5], [599.5, 399.5], [-0.5, 399.5]]
    true_42 = (mapped(H_33, corner_42) + 0.5) * scale + (start, -0.5)
    np.testing.assert_allclose(outline.get_xy()[:4], true_42, atol=2)
    assert ax.get_xlim() == (-0.5, pytest.approx(start + 500 * scale))
    assert ax.get_ylim() == (399.5, -0.5)


def test_a_line_is_seen_and_the_rest_is_the_image():
    figure = draw_matches(GRAY, GRAY, found([[60, 100]], np.eye(3)), outline=False)
    rgb, at = pixels(figure)
    ((line_22,), _) = lines(figure.axes[0])
    for share in (0.1, 0.4, 0.9):
        x, y = at(line_22[0] + share * (line_22[1] - line_22[0]))
        assert np.ptp(rgb[y, x]) > 60, share  # a colour on gray, or on white between them
        assert (rgb[y - 8, x] == rgb[y + 8, x]).all()
        assert np.ptp(rgb[y - 8, x]) == 0
    x, y = at((30, 30))
    assert (rgb[y, x] == 120).all()
    without, _ = pixels(draw_matches(GRAY, GRAY, nothing()))
    assert (without != rgb).any(axis=2).sum() > 1000


def test_an_outline_is_white_on_black_and_black_on_white():
    h_33 = np.array([[0.5, 0, 60], [0, 0.5, 40], [0, 0, 1.0]])
    for value in (0, 255):
        plain = np.full_like(GRAY, value)
        rgb, at = pixels(draw_matches(plain, plain, found([[5, 5]] * 8, h_33)))
        x, y = at((300 + 4 + 60 + 75, 40))  # the middle of its upper edge
        column = rgb[y - 5 : y + 6, x, 0]
        assert column.max() > 200, value
        assert column.min() < 90, value


def test_an_outline_stays_in_its_image():
    h_33 = np.array([[3, 0, -400], [0, 3, -200], [0, 0, 1.0]])  # all corners far outside
    figure = draw_matches(GRAY, GRAY, found([[150, 100]], h_33))
    rgb, at = pixels(figure)
    plain, _ = pixels(draw_matches(GRAY, GRAY, found([[150, 100]], h_33), outline=False))
    np.testing.assert_array_equal(rgb, plain)
    for each in figure.axes[0].patches:
        assert min(each.get_clip_box().width, each.get_clip_box().height) > 0
    h_33 = np.array([[1, 0, -150], [0, 1, 50], [0, 0, 1.0]])  # reaches over to the query
    rgb, at = pixels(draw_matches(GRAY, GRAY, found([[290, 20]], h_33)))
    plain, _ = pixels(draw_matches(GRAY, GRAY, found([[290, 20]], h_33), outline=False))
    middle, _ = at((300, 0))
    np.testing.assert_array_equal(rgb[:, :middle], plain[:, :middle])
    assert (rgb[:, middle:] != plain[:, middle:]).sum() > 1000


def test_colours_go_from_top_to_bottom():
    xy_m2 = [[10, 190], [20, 10], [30, 100], [40, 11]]
    _, color_m4 = lines(draw_matches(GRAY, GRAY, found(xy_m2, np.eye(3))).axes[0])
    near = np.abs(color_m4[1] - color_m4[3]).max()
    assert near < 0.05 < 0.5 < np.abs(color_m4[0] - color_m4[1]).max()


def test_the_clearest_lines_and_all_points(coffee):
    a, b, verification = coffee
    n = verification.n_inliers
    ax = draw_matches(a, b, verification, max_lines=7).axes[0]
    assert ax.get_title(loc="left") == f"{n} inliers: a match; lines for the 7 clearest"
    np.testing.assert_allclose(lines(ax)[0][:, 0], verification.query_xy_m2[:7])
    points = [c.get_offsets() for c in ax.collections if not isinstance(c, LineCollection)]
    assert [len(p) for p in points] == [n, n]
    np.testing.assert_allclose(in_match(ax, points[1])[::-1], verification.match_xy_m2, atol=1e-3)
    none = draw_matches(a, b, verification, max_lines=0).axes[0]
    assert all(not len(c.get_segments()) for c in of_kind(none, LineCollection))


@pytest.mark.parametrize(
    ("n", "text"),
    [(1, "1 inlier: no match (8 are needed)"), (7, "7 inliers: no match (8 are needed)"),
     (8, "8 inliers: a match")],
)  # fmt: skip
def test_the_verdict(n, text):
    figure = draw_matches(GRAY, GRAY, found([[9, 9]] * n, np.eye(3)))
    assert figure.axes[0].get_title(loc="left") == text


def test_nothing_matches():
    ax = draw_matches(GRAY, GRAY[:50], nothing()).axes[0]
    assert ax.get_title(loc="left") == "0 inliers: no match (8 are needed)"
    assert len(ax.images) == 2
    assert not ax.collections
    assert not ax.patches


def test_a_fundamental_matrix_has_no_outline():
    verification = found(np.full((9, 2), 20), np.eye(3), "fundamental")
    ax = draw_matches(GRAY, GRAY, verification).axes[0]
    assert len(lines(ax)[0]) == 9
    assert not of_kind(ax, Polygon)
    title = ax.get_title(loc="left")
    assert title == "9 inliers of one epipolar geometry: a match"


def test_a_region_is_framed_and_its_outline_drawn():
    h_33 = np.diag([0.5, 0.5, 1])
    region = Region(100, 50, 80, 60)
    figure = draw_matches(GRAY, GRAY, found([[140, 80]], h_33), region=region)
    frame, outline = of_kind(figure.axes[0], Polygon)
    corner_42 = np.array([[99.5, 49.5], [179.5, 49.5], [179.5, 109.5], [99.5, 109.5]])
    np.testing.assert_allclose(frame.get_xy()[:4], corner_42)
    np.testing.assert_allclose(outline.get_xy()[:4], corner_42 / 2 + (304, 0))
    dots = [line.get_xydata()[0] for line in figure.axes[0].lines]
    np.testing.assert_allclose(dots, [corner_42[0], corner_42[0] / 2 + (304, 0)])
    beyond = Region(250, 150, 500, 500)  # cut at the edge, as a search cuts it
    frame, _ = of_kind(
        draw_matches(GRAY, GRAY, found([[260, 160]], h_33), region=beyond).axes[0], Polygon
    )
    assert frame.get_xy()[2].tolist() == [299.5, 199.5]


def test_reduced_and_partial_images_keep_the_originals_px(coffee):
    a, b, verification = coffee
    whole = draw_matches(a, b, verification).axes[0]
    small = read_image(a, max_side=100, color=True), read_image(b, max_side=80, color=True)
    assert max(small[0].rgb_yx3.shape) == 100
    reduced = draw_matches(*small, verification).axes[0]
    np.testing.assert_allclose(lines(reduced)[0], lines(whole)[0])
    assert reduced.images[0].get_extent() == [-0.5, 599.5, 399.5, -0.5]

    region = Region(60, 40, 300, 200)
    part = read_image(a, region=region, color=True)
    inside = found([[70, 50], [350, 230]])
    ax = draw_matches(part, b, inside).axes[0]
    assert ax.images[0].get_extent() == [59.5, 359.5, 239.5, 39.5]
    assert ax.get_xlim()[0] == 59.5
    np.testing.assert_allclose(lines(ax)[0][:, 0], inside.query_xy_m2)
    np.testing.assert_allclose(in_match(ax, lines(ax)[0][:, 1]), inside.match_xy_m2, atol=1e-3)
    (outline,) = of_kind(ax, Polygon)  # of the part, that is
    np.testing.assert_allclose(
        in_match(ax, outline.get_xy()[:4]), inside.outline_42(region), atol=1e-3
    )


@pytest.mark.parametrize("shape", [(60, 40), (40, 4000), (3000, 50)])
def test_any_shape_has_the_same_height(shape):
    figure = draw_matches(np.zeros((*shape, 3), np.uint8), GRAY, nothing())
    pixels(figure)
    ax = figure.axes[0]
    box_of = [
        image.get_transform().transform([(image.get_extent()[i], image.get_extent()[j])
                                         for i, j in ((0, 2), (1, 3))])
        for image in ax.images
    ]  # fmt: skip
    heights = [abs(np.diff(box, axis=0)[0, 1]) for box in box_of]
    assert heights[0] == pytest.approx(heights[1]) == pytest.approx(ax.bbox.height, rel=0.01)
    assert 4 < figure.get_figwidth() <= 10
    assert figure.get_figheight() < 9


def test_into_axes_that_are_there():
    figure = Figure(figsize=(8, 6))
    axes = figure.subplots(1, 2)
    assert draw_matches(GRAY, GRAY, found([[9, 9]]), ax=axes[1]) is axes[1]
    assert len(axes[1].images) == 2
    assert not axes[0].images
    axes[0].remove()
    with pytest.raises(ParameterError, match="belongs to no figure"):
        draw_matches(GRAY, GRAY, nothing(), ax=axes[0])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"query": "/nowhere/a.png"}, ImageError, "query /nowhere/a.png: no such file"),
        ({"match": __file__}, ImageError, r"match .*test_matches.py: not an image"),
        ({"query": GRAY / 255}, ShapeError, "query is an array of float64"),
        ({"match": np.zeros((5, 5, 4), np.uint8)}, ShapeError, r"match is .*\(5, 5, 4\)"),
        ({"match": np.zeros((0, 5, 3), np.uint8)}, ShapeError, "no pixels"),
        ({"query": 3}, ParameterError, "query is a int: give a path"),
        (
            {"query": GRAY[::2, ::2]},
            ParameterError,
            "points of the query .* Image",
        ),
        ({"match": GRAY[:20]}, ParameterError, "points of the match reach"),
        ({"verification": None}, ParameterError, "verification is None.*rerank"),
        ({"max_lines": -1}, ParameterError, "max_lines=-1"),
        ({"max_lines": 2.5}, ParameterError, "max_lines=2.5"),
        ({"region": Region(900, 0, 5, 5)}, ParameterError, "outside of the image"),
    ],
)
def test_refused(change, error, message):
    given = {"query": GRAY, "match": GRAY, "verification": found([[200, 150]], np.eye(3))}
    with pytest.raises(error, match=message):
        draw_matches(**given | change)


def test_a_region_beside_the_part_that_is_shown():
    part = Image(GRAY, 300, 200, region=Region(50, 50, 300, 200))
    with pytest.raises(ParameterError, match="outside of"):
        draw_matches(part, GRAY, nothing(), region=Region(0, 0, 20, 20))


def test_gray_pixels_will_do():
    ax = draw_matches(GRAY[:, :, 0], GRAY, nothing()).axes[0]
    np.testing.assert_array_equal(ax.images[0].get_array(), GRAY)
