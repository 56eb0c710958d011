"""The page in a browser: the query and a result side by side."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

from browsing import asked, compare, compared, done, expect, first, search, titles
from photos import photo
from serving import command_serving, serving
from sources import write_npz
from vladkit import Collection
from vladkit.collection.import_recipe import recipe_for
from vladkit.features.sift import Sift
from vladkit.images import read_image

ENDS = """() => [...document.querySelectorAll("#overlay line")].map((line) => {
    const box = line.getScreenCTM();
    const at = (x, y) => new DOMPoint(x.baseVal.value, y.baseVal.value).matrixTransform(box);
    const [from, to] = [at(line.x1, line.y1), at(line.x2, line.y2)];
    return [from.x, from.y, to.x, to.y];
})"""


def ends_m4(page, query=(450, 320), match=(600, 400)):
    """Where the lines begin and end: px of the window, measured from the images as rendered.

    Given back in px of the original images, origin at the centre of the first px; their sizes are
    by default those of coffee's, cropped, and of coffee's.
    """
    ends = np.array(page.evaluate(ENDS))
    out = []
    for pane, (width, height), columns in (("query", query, [0, 1]), ("match", match, [2, 3])):
        image = page.locator(f"#pane-{pane} img")
        expect(image).to_have_js_property("naturalWidth", min(width, 1600))
        box = image.bounding_box()
        assert box["width"] / box["height"] == pytest.approx(width / height, rel=0.01)
        corner = np.array([box["x"], box["y"]])
        scale = np.array([width / box["width"], height / box["height"]])
        out.append((ends[:, columns] - corner) * scale - 0.5)
    return np.hstack(out)


@pytest.fixture(scope="module")
def addresses():
    """The page's, once a test has come to it by a search."""
    return []


@pytest.fixture
def page(opened, home, addresses):
    page = opened(*addresses)
    if addresses:  # takes less than a second; another search would take two
        done(page)
        compared(page)
        return page
    search(page, home / "coffee.jpg")
    compare(page)
    addresses.append("/#" + page.url.partition("#")[2])
    return page


def test_lines_end_where_the_points_are(page, tmp_path):
    key = asked(page)["query"]
    match = page.evaluate(f"fetch('/api/match?query={key}&other={asked(page)['match']}')"
                          ".then((answer) => answer.json())")  # fmt: skip
    wanted_m4 = np.array(match["points"])[:100]
    for width, height, stacked in ((1200, 800, False), (900, 600, False), (420, 800, True)):
        page.set_viewport_size({"width": width, "height": height})
        expect(page.locator("#stage")).to_have_class("stage stacked" if stacked else "stage")
        stage, room = (page.locator(f"#{name}").bounding_box() for name in ("stage", "stage-room"))
        assert stage["width"] <= room["width"] + 1
        assert stage["height"] <= room["height"] + 1
        assert stacked or stage["width"] >= room["width"] - 1  # and no smaller than it can be
        found_m4 = ends_m4(page)
        scale = max(600 / page.locator("#pane-match").bounding_box()["width"], 1)
        np.testing.assert_allclose(found_m4, wanted_m4, atol=0.1 * scale)  # px of the screen
        shift_m2 = found_m4[:, 2:] - found_m4[:, :2]
        np.testing.assert_allclose(np.median(shift_m2, axis=0), [0, 80], atol=1)
        page.screenshot(path=tmp_path / f"compare-{width}.png")


def test_images_of_any_shape_fit(page):
    """Beside or above each other: in the room, apart, of their own shape, none tiny."""
    sides = [40, 300, 1000, 5000]
    shapes = [{"width": w, "height": h} for w in sides for h in sides]
    rooms = [{"width": w, "height": h} for w, h in ((1350, 650), (760, 600), (330, 480))]
    tried = page.evaluate(
        """async ([shapes, rooms]) => {
            const { arrange } = await import("/static/arrange.js");
            return shapes.flatMap((q) => shapes.flatMap((m) => rooms.map(
                (room) => [q, m, room, arrange(q, m, room)])));
        }""",
        [shapes, rooms],
    )
    assert len(tried) == 16 * 16 * 3
    for query, match, room, stage in tried:
        assert stage["width"] <= room["width"] + 1e-6
        tallest = 1.5 * room["width"] if room["width"] < 720 else 0
        assert stage["height"] <= max(room["height"], tallest) + 1e-6
        axis, size = ("y", "height") if stage["stacked"] else ("x", "width")
        first, second = stage["query"], stage["match"]
        assert first[axis] + first[size] < second[axis]
        for place, image in ((first, query), (second, match)):
            for name, side in (("x", "width"), ("y", "height")):
                assert place[side] == pytest.approx(image[side] * place["scale"])
                assert place[name] >= -1e-6
                assert place[name] + place[side] <= stage[side] + 1e-6
            assert max(place["width"], place["height"]) > 0.3 * min(room.values())


def test_outline_is_the_piece_that_was_cut_out(page):
    box = page.locator("#pane-match").bounding_box()
    outline = page.locator("#overlay polygon").first.bounding_box()
    scale = box["width"] / 600
    assert outline["x"] - box["x"] == pytest.approx(0, abs=5)  # with half of the stroke
    assert outline["y"] - box["y"] == pytest.approx(80 * scale, abs=5)
    assert outline["width"] == pytest.approx(450 * scale, abs=8)
    assert outline["height"] == pytest.approx(320 * scale, abs=8)


def test_what_is_drawn_is_chosen(page):
    lines, points = page.locator("#overlay .lines"), page.locator("#overlay .points")
    outline = page.locator("#overlay polygon").first
    expect(lines.locator("line")).to_have_count(100)
    expect(points.locator("circle")).to_have_count(200)
    for name, part in (("Lines", lines), ("Points", points), ("Outline", outline)):
        expect(part).to_be_visible()
        page.get_by_label(name, exact=True).uncheck()
        expect(part).to_be_hidden()
        page.get_by_label(name, exact=True).check()
    total = int(re.search(r"(\d+) match", page.locator("#compare-facts").inner_text())[1])
    page.get_by_label("Drawn").select_option(f"all {total}")
    expect(lines.locator("line")).to_have_count(total)
    page.get_by_label("Drawn").select_option(f"25 clearest of {total}")
    expect(lines.locator("line")).to_have_count(25)


def test_one_match_is_highlighted(page):
    lit = page.locator("#overlay line.lit")
    before = page.locator("#stage").bounding_box()
    dot = page.locator("#overlay circle").nth(6).bounding_box()
    page.mouse.move(dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2)
    expect(lit).to_have_count(1)
    expect(page.locator("#one")).to_contain_text("→")
    assert page.locator("#stage").bounding_box() == before
    page.mouse.move(2, 2)
    expect(lit).to_have_count(0)
    page.get_by_label("One match").focus()
    page.keyboard.press("ArrowRight")
    expect(lit).to_have_count(1)
    expect(page.locator("#one")).to_have_text(re.compile("^1: "))
    assert "match" in asked(page)  # the arrow did not leave this result


def test_another_geometry(page):
    page.get_by_label("Geometry").select_option("fundamental")
    expect(page.locator("#compare-facts")).to_contain_text("agree, verified")
    expect(page.locator("#overlay polygon").first).to_be_hidden()  # it has none
    assert "model=fundamental" in page.locator("#compare-json").get_attribute("href")


def test_by_keyboard(page):
    names = titles(page)
    title = page.locator("#compare-title .compare-name")
    expect(title).to_have_text(names[0])
    page.keyboard.press("ArrowRight")
    expect(title).to_have_text(names[1])
    expect(page.locator("#compare-facts")).to_contain_text("Nothing matches")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    expect(title).to_have_text(names[1])
    page.keyboard.press("Escape")
    expect(page.locator("#compare")).to_be_hidden()
    expect(page.locator("#results .card-image").nth(1)).to_be_focused()
    assert "match" not in asked(page)
    page.keyboard.press("Enter")
    expect(title).to_have_text(names[1])
    page.get_by_role("button", name="Previous result").press("Enter")  # it is disabled there
    expect(title).to_have_text(names[0])
    expect(page.locator("#compare-title")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(title).to_have_text(names[1])


def test_matches_that_the_answer_lacks_are_asked_for(opened, page):
    url = page.url.replace("?", "?rerank=0&")
    other = opened("/" + url[url.index("#") :])
    expect(other.locator("#compare-facts")).to_contain_text("agree, verified")
    expect(other.locator("#overlay line")).to_have_count(100)
    other.keyboard.press("Escape")
    expect(other.locator("#results .badge")).to_have_count(0)


def test_by_an_address_that_is_opened_elsewhere(opened):
    """It closes to its own search, and not to what was there before."""
    for before in ("/#/browse", "/#/search?id=2&rerank=0"):
        page = opened(before)
        page.evaluate("location.hash = '#/search?id=1&rerank=0&match=3'")
        compared(page)
        page.keyboard.press("Escape")
        expect(page.locator("#compare")).to_be_hidden()
        done(page)
        assert asked(page) == {"id": "1", "rerank": "0"}


def test_a_file_that_has_changed(opened, own):
    (own / "photos" / "rocket.jpg").write_bytes((own / "photos" / "moon.jpg").read_bytes())
    with serving(own / "photos.vlad") as (client, _):
        page = opened("/#/browse", base=str(client.base_url).rstrip("/"))
        expect(page.locator("#have-changed")).to_contain_text("vladkit index")
        changed = page.locator("#list-browse li").filter(has=page.locator(".badge.changed"))
        expect(changed).to_have_count(1)
        changed.get_by_title("Search with this").click()
        done(page)
        expect(page.locator("#query-facts")).to_contain_text("changed since it was indexed")
        compare(page)
        expect(page.locator("#compare-facts")).to_contain_text("file has changed since")
        page.keyboard.press("Escape")
        expect(page.locator("#compare")).to_be_hidden()
        page.evaluate("location.hash = '#/'")
        expect(page.locator("#example-list .badge.changed")).to_have_count(1)
        expect(page.locator("#have-changed")).to_be_visible()
        page.evaluate("location.hash = '#/search?id=1&top=3'")
        done(page)
        expect(page.locator("#have-changed")).to_be_hidden()  # though examples are in the page


def test_a_large_image_of_unknown_size(opened, tmp_path):
    """Its preview is smaller than itself, and its matches are in px of its own."""
    (tmp_path / "photos").mkdir()
    size = (3000, 2000)
    large = cv2.resize(photo("coffee"), size)
    cv2.imwrite(str(tmp_path / "photos/large.jpg"), large)
    features = Sift().extract(read_image(tmp_path / "photos/large.jpg"))
    source = write_npz(tmp_path / "npz", {"large.jpg": features})
    recipe, _ = recipe_for(source, n_clusters=4, keep_features=500)
    with Collection.create(tmp_path / "c.vlad", **recipe) as collection:
        collection.add([source])
        collection.add([source], images=tmp_path / "photos")  # too late to measure it
        (row,) = collection.images()
        assert row.width is None
    with command_serving(tmp_path / "c.vlad", "-j", "1") as base:
        page = opened(f"#/search?id={row.image_id}&match={row.image_id}", base=base)
        compared(page)
        page.wait_for_load_state("networkidle")  # its size is asked for
        address = f"/api/match?id={row.image_id}&other={row.image_id}"
        match = page.evaluate(f"fetch('{address}').then((answer) => answer.json())")
        wanted_m4 = np.array(match["points"])[:100]
        assert wanted_m4.max() > 2000
        expect(page.locator("#overlay line")).to_have_count(len(wanted_m4))
        scale = 3000 / page.locator("#pane-match").bounding_box()["width"]
        found_m4 = ends_m4(page, size, size)
        np.testing.assert_allclose(found_m4, wanted_m4, atol=0.2 * scale)  # px of the screen
        page.goto("about:blank")  # before the server goes


def test_a_file_that_is_gone(opened, home, request):
    file, away = home / "photos" / "gravel.jpg", home / "gravel.jpg"
    file.rename(away)
    request.addfinalizer(lambda: away.rename(file))
    page = opened("/#/browse?contains=gravel", expected="404")
    expect(page.locator("#list-browse .gone")).to_have_text("Cannot be shown")
    expect(page.locator("#not-shown")).to_contain_text("vladkit relocate")
    page.locator("#list-browse .card-image").click()
    done(page)
    first(page, "gravel.jpg")  # from the features that are kept of it
    expect(page.locator("#not-shown")).to_be_visible()
    compare(page)
    expect(page.locator("#compare .gone")).to_have_count(2)
    expect(page.locator("#overlay line")).to_have_count(100)
    assert page.locator("#pane-match").bounding_box()["width"] > 300
