"""Drawings: everything is where it must be, in data and in pixels, and nothing else is touched."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys

import cv2
import matplotlib
import numpy as np
import pytest
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from photos import photo, write_photos
from vladkit import VLAD, Collection, MultiVLAD, Verification
from vladkit.collection.searching import Hit
from vladkit.errors import ImageError, MissingDependencyError, ParameterError, ShapeError
from vladkit.features import ColorImage, Features, Region, Sift, read_rgb
from vladkit.geometry.verification import verify_all
from vladkit.viz import draw_matches, draw_ranking, draw_words
from vladkit.viz.images import printable, shorten
from vladkit.viz.palette import N_COLORS, word_colors

H_33 = np.array([[0.62, -0.21, 120.0], [0.19, 0.66, 5.0], [1e-5, -3e-5, 1.0]])
GRAY = np.full((200, 300, 3), 120, np.uint8)


def mapped(h_33, xy_m2):
    h_m3 = np.c_[xy_m2, np.ones(len(xy_m2))] @ h_33.T
    return h_m3[:, :2] / h_m3[:, 2:]


def found(xy_m2, h_33=H_33, model="homography"):
    xy_m2 = np.asarray(xy_m2, np.float32)
    other_m2 = mapped(h_33, xy_m2).astype(np.float32)
    return Verification(len(xy_m2), h_33, xy_m2, other_m2, model)


def nothing(model="homography"):
    none_m2 = np.empty((0, 2), np.float32)
    return Verification(0, None, none_m2, none_m2, model)


def pixels(figure):
    """RGB (y, x, 3) of the figure, and a function from data of its first axes to (column, row)."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=figure.dpi)
    rgb = cv2.cvtColor(cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), 1), cv2.COLOR_BGR2RGB)

    def at(xy, ax=figure.axes[0]):
        x, y = ax.transData.transform(xy)
        return round(x - 0.5), round(len(rgb) - y - 0.5)

    return rgb.astype(int), at


def of_kind(ax, kind):
    return [each for each in (*ax.collections, *ax.patches) if type(each) is kind]


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


class TestMatches:
    def test_lines_and_outline_of_a_photograph_are_where_the_homography_says(self, coffee):
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

    def test_a_line_is_seen_and_the_rest_is_the_image(self):
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

    def test_an_outline_is_white_on_black_and_black_on_white(self):
        h_33 = np.array([[0.5, 0, 60], [0, 0.5, 40], [0, 0, 1.0]])
        for value in (0, 255):
            plain = np.full_like(GRAY, value)
            rgb, at = pixels(draw_matches(plain, plain, found([[5, 5]] * 8, h_33)))
            x, y = at((300 + 4 + 60 + 75, 40))  # the middle of its upper edge
            column = rgb[y - 5 : y + 6, x, 0]
            assert column.max() > 200, value
            assert column.min() < 90, value

    def test_an_outline_stays_in_its_image(self):
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

    def test_colours_go_from_top_to_bottom(self):
        xy_m2 = [[10, 190], [20, 10], [30, 100], [40, 11]]
        _, color_m4 = lines(draw_matches(GRAY, GRAY, found(xy_m2, np.eye(3))).axes[0])
        near = np.abs(color_m4[1] - color_m4[3]).max()
        assert near < 0.05 < 0.5 < np.abs(color_m4[0] - color_m4[1]).max()

    def test_the_clearest_lines_and_all_points(self, coffee):
        a, b, verification = coffee
        n = verification.n_inliers
        ax = draw_matches(a, b, verification, max_lines=7).axes[0]
        assert ax.get_title(loc="left") == f"{n} inliers: a match; lines for the 7 clearest"
        np.testing.assert_allclose(lines(ax)[0][:, 0], verification.query_xy_m2[:7])
        points = [c.get_offsets() for c in ax.collections if not isinstance(c, LineCollection)]
        assert [len(p) for p in points] == [n, n]
        np.testing.assert_allclose(
            in_match(ax, points[1])[::-1], verification.match_xy_m2, atol=1e-3
        )
        none = draw_matches(a, b, verification, max_lines=0).axes[0]
        assert all(not len(c.get_segments()) for c in of_kind(none, LineCollection))

    @pytest.mark.parametrize(
        ("n", "text"),
        [(1, "1 inlier: no match (8 are needed)"), (7, "7 inliers: no match (8 are needed)"),
         (8, "8 inliers: a match")],
    )  # fmt: skip
    def test_the_verdict(self, n, text):
        figure = draw_matches(GRAY, GRAY, found([[9, 9]] * n, np.eye(3)))
        assert figure.axes[0].get_title(loc="left") == text

    def test_nothing_matches(self):
        ax = draw_matches(GRAY, GRAY[:50], nothing()).axes[0]
        assert ax.get_title(loc="left") == "0 inliers: no match (8 are needed)"
        assert len(ax.images) == 2
        assert not ax.collections
        assert not ax.patches

    def test_a_fundamental_matrix_has_no_outline(self):
        verification = found(np.full((9, 2), 20), np.eye(3), "fundamental")
        ax = draw_matches(GRAY, GRAY, verification).axes[0]
        assert len(lines(ax)[0]) == 9
        assert not of_kind(ax, Polygon)
        title = ax.get_title(loc="left")
        assert title == "9 inliers of one epipolar geometry: a match"

    def test_a_region_is_framed_and_its_outline_drawn(self):
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

    def test_reduced_and_partial_images_keep_the_originals_px(self, coffee):
        a, b, verification = coffee
        whole = draw_matches(a, b, verification).axes[0]
        small = read_rgb(a, max_side=100), read_rgb(b, max_side=80)
        assert max(small[0].rgb_yx3.shape) == 100
        reduced = draw_matches(*small, verification).axes[0]
        np.testing.assert_allclose(lines(reduced)[0], lines(whole)[0])
        assert reduced.images[0].get_extent() == [-0.5, 599.5, 399.5, -0.5]

        region = Region(60, 40, 300, 200)
        part = read_rgb(a, region=region)
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
    def test_any_shape_has_the_same_height(self, shape):
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

    def test_into_axes_that_are_there(self):
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
            ({"match": __file__}, ImageError, r"match .*test_viz.py: not an image"),
            ({"query": GRAY / 255}, ShapeError, "query is an array of float64"),
            ({"match": np.zeros((5, 5, 4), np.uint8)}, ShapeError, r"match is .*\(5, 5, 4\)"),
            ({"match": np.zeros((0, 5, 3), np.uint8)}, ShapeError, "no pixels"),
            ({"query": 3}, ParameterError, "query is a int: give a path"),
            (
                {"query": GRAY[::2, ::2]},
                ParameterError,
                "points of the query .* ColorImage",
            ),
            ({"match": GRAY[:20]}, ParameterError, "points of the match reach"),
            ({"verification": None}, ParameterError, "verification is None.*rerank"),
            ({"max_lines": -1}, ParameterError, "max_lines=-1"),
            ({"max_lines": 2.5}, ParameterError, "max_lines=2.5"),
            ({"region": Region(900, 0, 5, 5)}, ParameterError, "outside of the image"),
        ],
    )
    def test_refused(self, change, error, message):
        given = {"query": GRAY, "match": GRAY, "verification": found([[200, 150]], np.eye(3))}
        with pytest.raises(error, match=message):
            draw_matches(**given | change)

    def test_a_region_beside_the_part_that_is_shown(self):
        part = ColorImage(GRAY, 300, 200, Region(50, 50, 300, 200))
        with pytest.raises(ParameterError, match="outside of"):
            draw_matches(part, GRAY, nothing(), region=Region(0, 0, 20, 20))

    def test_gray_pixels_will_do(self):
        ax = draw_matches(GRAY[:, :, 0], GRAY, nothing()).axes[0]
        np.testing.assert_array_equal(ax.images[0].get_array(), GRAY)


NAMES = ["$x_1$ and $.png", "b\udcff\udc80.png", "a\nb.png", "%d {} _ ^.png", "x" * 200 + ".png"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_any_file_name_is_drawn_as_it_is(name, tmp_path):
    path = os.path.join(tmp_path, name)
    with open(path, "wb") as file:
        file.write(cv2.imencode(".png", GRAY)[1].tobytes())
    one = draw_matches(path, path, nothing())
    two = draw_ranking(path, [Hit(1, 0.5, 0.5, path=name, file=path)])
    for figure in (one, two):
        pixels(figure)
        text = " ".join(t.get_text() for ax in figure.axes for t in ax.texts)
        assert printable(name)[:4] in text
        assert "\n" not in text
        assert not any(t.get_parse_math() or t.get_usetex() for ax in figure.axes for t in ax.texts)


def test_printable():
    assert printable("1.00\u202fPM\n\udcff\x07 日本.jpg") == "1.00 PM \ufffd\ufffd 日本.jpg"


def test_shorten():
    assert shorten("abcdefgh.jpg", 12) == "abcdefgh.jpg"
    assert shorten("abcdefghi.jpg", 12) == "abcdef\u2026i.jpg"
    assert shorten("abcdefghi.jpg", -3) == "ab\u2026pg"


class TestNothingElseIsTouched:
    def test_no_setting_no_backend_no_pyplot(self):
        code = (
            "import sys, numpy as np, matplotlib\n"
            "before = matplotlib.rcParams.copy()\n"  # dict() would choose a backend
            "import vladkit.viz as p\n"
            "from test_viz import GRAY, found, some_features\n"
            "from vladkit.collection.searching import Hit\n"
            "figures = [p.draw_matches(GRAY, GRAY, found([[9, 9]])),\n"
            "  p.draw_ranking(GRAY, [Hit(1, 1, 1, path='a', file='a')], relevant=['a']),\n"
            "  p.draw_words(GRAY, some_features(5), range(5))]\n"
            "assert all(f._repr_png_()[:4] == b'\\x89PNG' for f in figures)\n"
            "print(dict.__eq__(before, matplotlib.rcParams), 'matplotlib.pyplot' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            cwd=os.path.dirname(__file__),
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert done.stdout.split() == ["True", "False"]

    def test_importing_it_imports_no_matplotlib(self):
        heavy = ["matplotlib", "cv2", "faiss", "numba", "scipy"]
        code = f"import vladkit.viz, sys; print([n for n in {heavy} if n in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.strip() == "[]"

    @pytest.mark.parametrize(
        "settings",
        [{"axes.grid": True, "image.origin": "lower", "image.aspect": "auto", "font.size": 20},
         {"image.interpolation": "none", "lines.marker": "x", "axes.facecolor": "black"}],
    )  # fmt: skip
    def test_settings_of_the_user_move_nothing(self, settings):
        moon = photo("moon")
        plain, _ = pixels(draw_matches(moon, GRAY, nothing()))
        with matplotlib.rc_context(settings):
            other, _ = pixels(draw_matches(moon, GRAY, nothing()))
        np.testing.assert_array_equal(plain, other)

    def test_without_matplotlib(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        calls = [
            lambda: draw_matches(GRAY, GRAY, nothing()),
            lambda: draw_ranking(GRAY, []),
            lambda: draw_words(GRAY, some_features(1), [0]),
        ]
        for call in calls:
            with pytest.raises(MissingDependencyError, match=r"pip install 'vladkit\[plot\]'"):
                call()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder of photographs, and a collection of them."""
    home = tmp_path_factory.mktemp("plot")
    write_photos(home / "p")
    with Collection.create(home / "c", n_clusters=32) as collection:
        collection.add([home / "p"])
    return home


@pytest.fixture(scope="module")
def collection(home):
    with Collection.open(home / "c", read_only=True) as collection:
        yield collection


def texts(ax):
    return [t.get_text() for t in ax.texts]


def frame_of(ax):
    return next(p for p in ax.patches if isinstance(p, Rectangle) and not p.get_fill())


class TestRanking:
    def test_what_a_search_found(self, collection, home):
        hits = collection.search(home / "p" / "coffee.jpg", 7, rerank=4)
        figure = draw_ranking(home / "p" / "coffee.jpg", hits, columns=3)
        query, *cells = figure.axes
        assert texts(query) == ["query", "coffee.jpg"]
        assert len(cells) == 7
        for i, (cell, hit) in enumerate(zip(cells, hits, strict=True)):
            inliers = f", {hit.inliers} inliers" if i < 4 else ""
            assert texts(cell) == [f"{i + 1}:  {hit.score:.3f}{inliers}", hit.path]
            shown, real = cell.images[0].get_array(), read_rgb(hit.file, max_side=400).rgb_yx3
            np.testing.assert_array_equal(shown, real)
        corner = [cell.get_position().get_points()[:, 0].min() for cell in cells]
        assert corner == pytest.approx([0.25, 0.5, 0.75] * 2 + [0.25])
        rows = [cell.get_position().y0 for cell in cells]
        assert rows == pytest.approx([2 / 3] * 3 + [1 / 3] * 3 + [0], abs=1e-9)
        assert {frame_of(cell).get_linestyle() for cell in cells} == {"-"}

    def test_proportions_are_kept(self, collection, home):
        for shape in [(60, 400), (400, 60), (30, 30)]:
            ax = draw_ranking(np.zeros((*shape, 3), np.uint8), []).axes[0]
            box = ax.images[0].get_extent()
            per_inch = ax.transData.transform([(1, 1)]) - ax.transData.transform([(0, 0)])
            assert abs(per_inch[0, 0]) == pytest.approx(abs(per_inch[0, 1])) == pytest.approx(100)
            width, height = box[1] - box[0], box[2] - box[3]
            assert width / height == pytest.approx(shape[1] / shape[0])
            assert max(width, height) < 2

    def test_right_and_wrong_differ_by_more_than_colour(self, home):
        files = [str(home / "p" / f"{n}.jpg") for n in ("coffee", "moon", "rocket")]
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

    def test_what_is_gone_is_a_box_with_its_name(self, home, tmp_path):
        (tmp_path / "broken.jpg").write_bytes(b"nothing")
        hits = [
            Hit(1, 0.9, 0.9, path="sub/gone.jpg", file=str(tmp_path / "gone.jpg")),
            Hit(1, 0.8, 0.8, path="broken.jpg", file=str(tmp_path / "broken.jpg")),
            Hit(1, 0.7, 0.7, path="moon.jpg", file=str(home / "p" / "moon.jpg")),
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

    def test_nothing_was_found(self):
        (ax,) = draw_ranking(GRAY, []).axes
        assert texts(ax) == ["query: nothing was found", ""]

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
    def test_refused(self, change, message):
        given = {"query": GRAY, "hits": [Hit(1, 1, 1, path="a", file="a")]}
        with pytest.raises(ParameterError, match=message):
            draw_ranking(**given | change)


def some_features(n, width=300, height=200, region=None, f=4):
    rng = np.random.default_rng(n)
    xy_l2 = rng.uniform((10, 10), (width - 10, height - 10), (n, 2)).astype(np.float32)
    size_l, angle_l = rng.uniform(4, 30, n), rng.uniform(0, 360, n)
    arrays = (a.astype(np.float32) for a in (size_l, angle_l, rng.uniform(0, 1, n)))
    descriptor_lf = rng.integers(0, 256, (n, f), dtype=np.uint8)
    return Features(descriptor_lf, xy_l2, *arrays, width=width, height=height, region=region)


def circles(ax):
    halo, circle = of_kind(ax, EllipseCollection)
    np.testing.assert_array_equal(halo.get_offsets(), circle.get_offsets())
    return circle


def entries(ax):
    legend = ax.get_legend()
    return {t.get_text(): h.get_markerfacecolor() for t, h in
            zip(legend.get_texts(), legend.legend_handles, strict=True)}  # fmt: skip


class TestWords:
    def test_circles_have_place_size_direction_and_colour(self):
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

    def test_a_circle_is_seen_where_it_is(self):
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

    def test_a_word_keeps_its_colour(self):
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

    def test_only_some_words_and_the_strongest(self):
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

    def test_a_long_list_ends(self):
        ax = draw_words(GRAY, some_features(30), np.arange(30)).axes[0]
        assert len(entries(ax)) == 13
        assert list(entries(ax))[-1] == "and 18 more"

    def test_of_a_collection(self, collection, home):
        file = home / "p" / "coffee.jpg"
        features, label_l = collection.words(file)
        ax = draw_words(file, features, collection).axes[0]
        np.testing.assert_array_equal(
            circles(ax).get_edgecolors(),
            circles(draw_words(file, features, label_l).axes[0]).get_edgecolors(),
        )
        n = len(np.unique(label_l))
        title = f"{len(features)} features, {n} of 32 words; the strongest 500 drawn"
        assert ax.get_title(loc="left") == title

    def test_of_a_part(self, collection, home):
        file, region = home / "p" / "coffee.jpg", Region(200, 100, 240, 200)
        features, label_l = collection.words(file, region=region)
        for image in (file, read_rgb(file, region=region)):
            ax = draw_words(image, features, label_l, max_features=9999).axes[0]
            xy_m2 = circles(ax).get_offsets()
            order = np.argsort(-features.size_l, kind="stable")
            np.testing.assert_allclose(xy_m2, features.xy_l2[order] + (200, 100))

    def test_by_a_codebook(self):
        features = some_features(60, f=8)
        vlad = VLAD(n_clusters=5).fit([features.descriptor_lf])
        ax = draw_words(GRAY, features, vlad).axes[0]
        expected = circles(draw_words(GRAY, features, vlad.words(features.descriptor_lf)).axes[0])
        np.testing.assert_array_equal(circles(ax).get_edgecolors(), expected.get_edgecolors())
        assert ax.get_title(loc="left") == "60 features, 5 of 5 words"

    def test_a_codebook_of_other_descriptors_is_refused(self, home):
        sift = Sift(max_features=300)
        features = sift.read(home / "p" / "coffee.jpg")
        metric_lf = sift.metric(features.descriptor_lf)
        learned = VLAD(n_clusters=8).fit([metric_lf])
        with pytest.raises(ParameterError, match=r"times as long .*vlad.words\(extractor.metric"):
            draw_words(home / "p" / "coffee.jpg", features, learned)
        draw_words(home / "p" / "coffee.jpg", features, learned.words(metric_lf))
        draw_words(home / "p" / "coffee.jpg", features,
                   VLAD(n_clusters=300).fit([features.descriptor_lf]))  # fmt: skip

    def test_into_axes_that_are_there(self):
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
    def test_refused(self, change, error, message):
        given = {"image": GRAY, "features": some_features(3), "labels": [0, 1, 2]}
        with pytest.raises(error, match=message):
            draw_words(**given | change)


def test_the_palette():
    color_n3 = word_colors(np.arange(N_COLORS))
    assert color_n3.min() >= 0
    assert color_n3.max() <= 1
    assert len(np.unique(color_n3, axis=0)) == N_COLORS
    lab_n3 = cv2.cvtColor(color_n3[None], cv2.COLOR_RGB2LAB)[0]  # CIELAB: L is 0 to 100
    assert lab_n3[:, 0].min() > 45
    apart_nn = np.linalg.norm(lab_n3[:12, None] - lab_n3[None, :12], axis=2)
    assert apart_nn[~np.eye(12, dtype=bool)].min() > 25
    np.testing.assert_array_equal(word_colors(np.array([300])), word_colors(np.array([44])))
