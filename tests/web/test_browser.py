"""The page of `vladkit serve`, in a real browser: Chromium, without a window."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from urllib.parse import parse_qs

import cv2
import numpy as np
import pytest

from photos import cropped, darker, photo, write_photos
from vladkit import Collection

pytest.importorskip("fastapi")
sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
expect = sync_api.expect
PATIENCE = 30_000  # ms, of a machine with other things to do
expect.set_options(timeout=PATIENCE)

NAMES = ["chromium", "chromium-browser", "google-chrome"]
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), "")
if not CHROMIUM:
    pytest.skip("no Chromium on this machine", allow_module_level=True)

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
QUIET += ["--disable-component-update", "--disable-sync"]
HOSTILE = "<img src=x onerror=alert(1)>.jpg"
N_EMPTY = 120  # skipped files: more than a page of them


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """photos.vlad, and queries."""
    home = tmp_path_factory.mktemp("home")
    photos = home / "photos"
    write_photos(photos)
    cv2.imwrite(str(photos / HOSTILE), darker(photo("motorcycle_left")))
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 nothing more")
    (photos / "empty").mkdir()
    for i in range(N_EMPTY):
        (photos / "empty" / f"{i:03}.png").write_bytes(b"")
    with Collection.create(home / "photos.vlad", n_clusters=32) as collection:
        collection.add([photos])
    for name in ("coffee", "chelsea"):
        cv2.imwrite(str(home / f"{name}.jpg"), cropped(photo(name)))
    left, right = (cv2.resize(photo(name), (600, 400)) for name in ("coffee", "chelsea"))
    cv2.imwrite(str(home / "pair.jpg"), np.hstack([left, right]))
    cv2.imwrite(str(home / "large.png"), photo("chelsea"))
    (home / "broken.jpg").write_bytes(b"\xff\xd8 nothing more")
    return home


@contextmanager
def serving(file, *options):
    """The address that `vladkit serve` prints."""
    command = [sys.executable, "-m", "vladkit", "serve", str(file), "--port", "0", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            for line in server.stdout:
                found = re.search(r"http://\S+", line)
                if found:
                    yield found[0]
                    break
            else:
                raise AssertionError(f"{command} printed no address")
        finally:
            server.terminate()
            server.stdout.close()


@pytest.fixture(scope="module")
def address(home):
    with serving(home / "photos.vlad") as found:
        yield found.rstrip("/")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, address):
    """Opens pages; in the end none may have complained of anything that was not expected."""
    contexts, complaints = [], []

    def open_page(path="/", *, expected="", size=(1200, 800), base=address, **options):
        width, height = size
        options["viewport"] = {"width": width, "height": height}
        context = browser.new_context(reduced_motion="reduce", **options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)

        def complain(text):
            if not (expected and re.search(expected, text)):
                complaints.append(text)

        page = context.new_page()
        page.on("console", lambda said: said.type in ("error", "warning") and complain(
            f"{said.text} {said.location['url']}"))  # fmt: skip
        page.on("pageerror", lambda error: complain(f"uncaught: {error}"))
        page.on("dialog", lambda dialog: (complain(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.goto(base + path)
        page.wait_for_function(
            "() => document.title !== 'vladkit' || document.querySelector('#trouble').innerText"
        )
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


def search(page, file):
    """A file is chosen; when its results, matched, are there."""
    page.set_input_files("#file", file)
    done(page)


def done(page, state="done"):
    expect(page.locator("#activity")).to_have_attribute("data-state", state)
    expect(page.locator("#searching")).not_to_have_class(re.compile("stale"))


def first(page, title):
    """The first result is that image."""
    expect(page.locator("#results li").first.locator(".path")).to_have_attribute("title", title)


def titles(page):
    return [each.get_attribute("title") for each in page.locator("#results .path").all()]


def compare(page, n=0):
    page.locator("#results .card-image").nth(n).click()
    expect(page.locator("#compare")).to_be_visible()
    expect(page.locator("#compare-facts strong")).not_to_have_text(re.compile("Matching|^$"))


def asked(page):
    """What the page's address says."""
    given = parse_qs(page.url.partition("?")[2])
    return {name: values[0] for name, values in given.items()}


def transfer(page, file):
    """A DataTransfer with that file in it, as of a drag or the clipboard."""
    return page.evaluate_handle(
        """([name, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name));
            return transfer;
        }""",
        [file.name, list(file.read_bytes())],
    )


class TestImagesComeIn:
    def test_chosen(self, opened, home):
        page = opened()
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Choose an image").click()
        chooser.value.set_files(home / "coffee.jpg")
        done(page)
        first(page, "coffee.jpg")
        expect(page.locator("#results li").first.locator(".badge")).to_have_class("badge verified")
        inliers = page.locator("#results li").first.locator(".badge").inner_text()
        assert int(re.match(r"\s*(\d+)", inliers)[1]) > 100
        assert len(titles(page)) == 16  # all: two of 18 files were skipped
        expect(page.locator("#query-name")).to_have_text("coffee.jpg")
        expect(page.locator("#query-image")).to_have_js_property("naturalWidth", 450)

    def test_dropped(self, opened, home):
        page = opened("/#/browse")
        dropped = transfer(page, home / "chelsea.jpg")
        page.dispatch_event("#list-browse", "dragenter", {"dataTransfer": dropped})
        expect(page.locator("#drop")).to_be_visible()
        page.dispatch_event("#list-browse", "drop", {"dataTransfer": dropped})
        done(page)
        first(page, "chelsea.jpg")
        expect(page.locator("#drop")).to_be_hidden()
        page.go_back()
        expect(page.locator("#list-browse")).to_be_visible()
        page.go_forward()
        first(page, "chelsea.jpg")

    def test_pasted(self, opened, home):
        page = opened()
        page.evaluate(
            """(clipboardData) => document.dispatchEvent(
                new ClipboardEvent("paste", { clipboardData, cancelable: true }))""",
            transfer(page, home / "coffee.jpg"),
        )
        done(page)
        first(page, "coffee.jpg")

    def test_of_the_collection(self, opened):
        page = opened("/#/browse")
        page.get_by_role("searchbox", name="Path contains").fill("moto")
        expect(page.locator("#list-browse li")).to_have_count(1)
        page.locator("#list-browse li a").first.click()
        done(page)
        assert titles(page)[:2] == ["motorcycle_left.jpg", HOSTILE]
        page.locator("#results li").nth(1).get_by_title("Search with this").click()
        expect(page.locator("#query-name")).to_have_text(HOSTILE)
        done(page)
        assert titles(page)[:2] == [HOSTILE, "motorcycle_left.jpg"]

    def test_that_is_none(self, opened, home):
        page = opened("/#/", expected="422")
        page.set_input_files("#file", home / "broken.jpg")
        done(page, "failed")
        expect(page.locator("#activity")).to_contain_text("The image cannot be used: ")
        assert titles(page) == []
        page.get_by_role("link", name="Search", exact=True).click()
        expect(page.locator("#start")).to_be_visible()
        search(page, home / "coffee.jpg")  # the next one is as if nothing had been
        first(page, "coffee.jpg")

    def test_that_is_too_large_is_not_sent(self, opened, home):
        page = opened()
        page.route("**/api/info", lambda route: fulfil(route, limits={"upload_bytes": 1000}))
        page.reload()
        page.route("**/api/search*", lambda route: route.abort())
        page.set_input_files("#file", home / "coffee.jpg")
        done(page, "failed")
        expect(page.locator("#activity")).to_contain_text("the server takes 1 kB")

    def test_text_is_no_image(self, opened):
        page = opened()
        page.evaluate(
            """() => document.dispatchEvent(
                new ClipboardEvent("paste", { clipboardData: new DataTransfer() }))"""
        )
        expect(page.locator("#trouble")).to_contain_text("no image on the clipboard")


def fulfil(route, **changes):
    """Answer as the server does, but with changes."""
    answer = route.fetch()
    content = answer.json()
    for name, value in changes.items():
        content[name] = content[name] | value if isinstance(value, dict) else value
    route.fulfill(response=answer, json=content)


class TestWaiting:
    def test_upload_is_told_in_per_cent(self, opened, home):
        page = opened()
        slow = {"offline": False, "latency": 0, "downloadThroughput": -1}
        network = page.context.new_cdp_session(page)
        network.send("Network.emulateNetworkConditions", slow | {"uploadThroughput": 150_000})
        page.set_input_files("#file", home / "large.png")
        expect(page.locator("#activity")).to_contain_text("Sending the image")
        expect(page.locator("#activity progress")).to_be_visible()
        page.wait_for_function(
            "() => { const v = document.querySelector('progress').value; return v > 0 && v < 1 }"
        )
        assert re.search(r"\d %", page.locator("#activity").inner_text())
        network.send("Network.emulateNetworkConditions", slow | {"uploadThroughput": -1})
        done(page)
        first(page, "chelsea.jpg")

    def test_first_plain_then_matched(self, opened, home):
        page = opened()
        held = []
        page.route(re.compile("rerank=50"), lambda route: held.append(route))
        page.set_input_files("#file", home / "coffee.jpg")
        expect(page.locator("#activity")).to_contain_text("Matching 16 images")
        expect(page.locator("#results .score")).to_have_count(16)
        expect(page.locator("#results .badge")).to_have_count(0)
        held.pop().continue_()
        done(page)
        expect(page.locator("#results .badge")).to_have_count(16)
        expect(page.locator("#activity")).to_contain_text("1 image verified")

    def test_without_matching(self, opened, home):
        page = opened()
        search(page, home / "coffee.jpg")
        page.get_by_role("switch", name="Match features").uncheck()
        expect(page.locator("#results .badge")).to_have_count(0)
        assert asked(page)["rerank"] == "0"
        page.get_by_role("combobox", name="Results").select_option("12")
        expect(page.locator("#results li")).to_have_count(12)
        page.locator("#results li").nth(1).get_by_title("Search with this").click()
        expect(page).to_have_url(re.compile("[?&]id="))
        assert (asked(page)["top"], asked(page)["rerank"]) == ("12", "0")  # kept for the next query
        page.get_by_role("link", name="Images").click()
        page.set_input_files("#file", home / "chelsea.jpg")
        first(page, "chelsea.jpg")
        assert (asked(page)["top"], asked(page)["rerank"]) == ("12", "0")

    def test_an_old_answer_is_not_shown(self, opened):
        page = opened()
        held = []
        page.route(re.compile(r"search\?id=1&"), lambda route: held.append(route))
        page.goto(page.url.split("#")[0] + "#/search?id=1&rerank=0")
        expect(page.locator("#activity")).to_contain_text("Searching")
        page.evaluate("location.hash = '#/search?id=2&rerank=0'")
        done(page)
        shown = titles(page)
        for route in held:
            route.continue_()
        page.wait_for_timeout(300)
        assert titles(page) == shown
        expect(page.locator("#query-image")).to_have_attribute("src", re.compile("/images/2/"))

    def test_a_busy_server_is_asked_again(self, opened):
        page = opened(expected="503")
        answers = []

        def busy(route):
            answers.append(route.request.url)
            if len(answers) > 1:
                return route.continue_()
            problem = {"status": 503, "title": "", "detail": "wait", "retry_after": 1}
            return route.fulfill(status=503, headers={"Retry-After": "1"}, body=json.dumps(problem))

        page.route("**/api/search*", busy)
        page.evaluate("location.hash = '#/search?id=1&rerank=0'")
        expect(page.locator("#activity")).to_contain_text("waiting 1 s for a free place")
        done(page)
        assert len(answers) == 2

    def test_a_server_that_is_gone(self, opened):
        page = opened(expected="Failed to load")
        page.route("**/api/search*", lambda route: route.abort())
        page.evaluate("location.hash = '#/search?id=1'")
        done(page, "failed")
        expect(page.locator("#activity")).to_contain_text("The server does not answer")


ENDS = """() => [...document.querySelectorAll("#overlay line")].map((line) => {
    const box = line.getScreenCTM();
    const at = (x, y) => new DOMPoint(x.baseVal.value, y.baseVal.value).matrixTransform(box);
    const [from, to] = [at(line.x1, line.y1), at(line.x2, line.y2)];
    return [from.x, from.y, to.x, to.y];
})"""


def ends_m4(page):
    """Where the lines begin and end: px of the window, measured from the images as rendered.

    Given back in px of the original images, origin at the centre of the first px.
    """
    ends = np.array(page.evaluate(ENDS))
    out = []
    for pane, (width, height), columns in (
        ("query", (450, 320), [0, 1]),  # of coffee's, cropped
        ("match", (600, 400), [2, 3]),
    ):
        image = page.locator(f"#pane-{pane} img")
        expect(image).to_have_js_property("naturalWidth", width)
        box = image.bounding_box()
        assert box["width"] / box["height"] == pytest.approx(width / height, rel=0.01)
        corner = np.array([box["x"], box["y"]])
        scale = np.array([width / box["width"], height / box["height"]])
        out.append((ends[:, columns] - corner) * scale - 0.5)
    return np.hstack(out)


class TestCompare:
    @pytest.fixture
    def page(self, opened, home):
        page = opened()
        search(page, home / "coffee.jpg")
        compare(page)
        return page

    def test_lines_end_where_the_points_are(self, page, tmp_path):
        key = asked(page)["query"]
        match = page.evaluate(f"fetch('/api/match?query={key}&other={asked(page)['match']}')"
                              ".then((answer) => answer.json())")  # fmt: skip
        wanted_m4 = np.array(match["points"])[:100]
        for width, height, stacked in ((1200, 800, False), (900, 600, False), (420, 800, True)):
            page.set_viewport_size({"width": width, "height": height})
            expect(page.locator("#stage")).to_have_class("stage stacked" if stacked else "stage")
            stage, room = (
                page.locator(f"#{name}").bounding_box() for name in ("stage", "stage-room")
            )
            assert stage["width"] <= room["width"] + 1
            assert stage["height"] <= room["height"] + 1
            assert stacked or stage["width"] >= room["width"] - 1  # and no smaller than it can be
            found_m4 = ends_m4(page)
            scale = max(600 / page.locator("#pane-match").bounding_box()["width"], 1)
            np.testing.assert_allclose(found_m4, wanted_m4, atol=0.1 * scale)  # px of the screen
            shift_m2 = found_m4[:, 2:] - found_m4[:, :2]
            np.testing.assert_allclose(np.median(shift_m2, axis=0), [0, 80], atol=1)
            page.screenshot(path=tmp_path / f"compare-{width}.png")

    def test_images_of_any_shape_fit(self, page):
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

    def test_outline_is_the_piece_that_was_cut_out(self, page):
        box = page.locator("#pane-match").bounding_box()
        outline = page.locator("#overlay polygon").first.bounding_box()
        scale = box["width"] / 600
        assert outline["x"] - box["x"] == pytest.approx(0, abs=5)  # with half of the stroke
        assert outline["y"] - box["y"] == pytest.approx(80 * scale, abs=5)
        assert outline["width"] == pytest.approx(450 * scale, abs=8)
        assert outline["height"] == pytest.approx(320 * scale, abs=8)

    def test_what_is_drawn_is_chosen(self, page):
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

    def test_one_match_is_highlighted(self, page):
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

    def test_another_geometry(self, page):
        page.get_by_label("Geometry").select_option("fundamental")
        expect(page.locator("#compare-facts")).to_contain_text("agree, verified")
        expect(page.locator("#overlay polygon").first).to_be_hidden()  # it has none
        assert "model=fundamental" in page.locator("#compare-json").get_attribute("href")

    def test_by_keyboard(self, page):
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

    def test_matches_that_the_answer_lacks_are_asked_for(self, opened, page):
        url = page.url.replace("?", "?rerank=0&")
        other = opened("/" + url[url.index("#") :])
        expect(other.locator("#compare-facts")).to_contain_text("agree, verified")
        expect(other.locator("#overlay line")).to_have_count(100)
        other.keyboard.press("Escape")
        expect(other.locator("#results .badge")).to_have_count(0)

    def test_a_file_that_is_gone(self, opened, home, request):
        file, away = home / "photos" / "gravel.jpg", home / "gravel.jpg"
        file.rename(away)
        request.addfinalizer(lambda: away.rename(file))
        page = opened("/#/browse?contains=gravel", expected="404")
        expect(page.locator("#list-browse .gone")).to_have_text("The file is gone")
        page.locator("#list-browse .card-image").click()
        done(page)
        first(page, "gravel.jpg")  # from the features that are kept of it
        compare(page)
        expect(page.locator("#compare .gone")).to_have_count(2)
        expect(page.locator("#overlay line")).to_have_count(100)
        assert page.locator("#pane-match").bounding_box()["width"] > 300


class TestRegion:
    @pytest.fixture
    def page(self, opened, home):
        page = opened()
        search(page, home / "pair.jpg")
        assert set(titles(page)[:2]) == {"coffee.jpg", "chelsea.jpg"}
        return page

    def drag(self, page, start, end):
        """In parts of the image's width and height."""
        box = page.locator("#region").bounding_box()
        (x, y), (x2, y2) = (
            (box["x"] + box["width"] * u, box["y"] + box["height"] * v) for u, v in (start, end)
        )
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move((x + x2) / 2, (y + y2) / 2)
        page.mouse.move(x2, y2)
        page.mouse.up()

    def region(self, page):
        return [int(number) for number in asked(page)["region"].split(",")]

    def test_by_mouse(self, page):
        self.drag(page, (0.55, 0.1), (0.95, 0.9))
        done(page)
        first(page, "chelsea.jpg")
        np.testing.assert_allclose(self.region(page), [660, 40, 480, 320], atol=5)
        expect(page.locator("#query-facts")).to_contain_text("in the part")
        self.drag(page, (0.75, 0.5), (0.25, 0.5))  # moved
        first(page, "coffee.jpg")
        np.testing.assert_allclose(self.region(page), [60, 40, 480, 320], atol=10)
        self.drag(page, (0.45, 0.9), (0.3, 0.6))  # its corner
        expect(page).to_have_url(re.compile("region=5|region=6"))
        np.testing.assert_allclose(self.region(page), [60, 40, 300, 200], atol=12)
        done(page)
        compare(page)
        searched = page.locator("#overlay .searched rect").first.bounding_box()
        pane = page.locator("#pane-query").bounding_box()
        assert searched["width"] / pane["width"] == pytest.approx(0.25, abs=0.03)
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Whole image").click()
        done(page)
        assert "region" not in asked(page)

    def test_a_click_or_a_slip_marks_nothing(self, page):
        page.locator("#region").click()
        self.drag(page, (0.5, 0.5), (0.505, 0.51))
        assert "region" not in asked(page)
        expect(page.locator(".region-box")).to_be_hidden()

    def test_by_keyboard(self, page):
        page.get_by_role("button", name="Mark a part").press("Enter")
        marker = page.get_by_role("application", name="Part of the query to search by")
        expect(marker).to_be_focused()
        expect(page.locator("#region-text")).to_contain_text("px at 300, 100")
        for _ in range(10):
            page.keyboard.press("ArrowRight")
        expect(page.locator("#region-text")).to_contain_text("px at 600, 100")
        page.keyboard.press("Shift+ArrowLeft")
        page.keyboard.press("Shift+ArrowDown")
        page.keyboard.press("Enter")
        done(page)
        first(page, "chelsea.jpg")
        assert self.region(page) == [600, 100, 570, 230]
        expect(marker).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.locator(".region-box")).to_be_hidden()
        done(page)
        assert "region" not in asked(page)

    def test_by_finger(self, opened, home):
        page = opened(size=(400, 800), has_touch=True)
        search(page, home / "pair.jpg")
        page.get_by_role("button", name="Mark a part").tap()
        box = page.locator(".region-box").bounding_box()
        touch = page.context.new_cdp_session(page)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        for kind, dx in (("Start", 0), ("Move", 30), ("Move", box["width"] / 2), ("End", None)):
            points = [] if dx is None else [{"x": x + dx, "y": y}]
            touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
        first(page, "chelsea.jpg")
        np.testing.assert_allclose(self.region(page), [600, 100, 600, 200], atol=10)


class TestAddress:
    def test_back_and_forward(self, opened, home):
        page = opened()
        search(page, home / "coffee.jpg")
        compare(page)
        page.go_back()
        expect(page.locator("#compare")).to_be_hidden()
        page.locator("#results li").nth(3).get_by_title("Search with this").click()
        other = page.locator("#query-name").inner_text
        expect(page.locator("#query-name")).not_to_have_text("coffee.jpg")
        name = other()
        page.go_back()
        expect(page.locator("#query-name")).to_have_text("coffee.jpg")
        first(page, "coffee.jpg")
        page.go_forward()
        expect(page.locator("#query-name")).to_have_text(name)
        page.go_back()
        page.go_back()
        expect(page.locator("#start")).to_be_visible()

    def test_reload(self, opened, home):
        page = opened()
        search(page, home / "coffee.jpg")
        compare(page, 1)
        name = page.locator("#compare-title").inner_text()
        page.reload()
        expect(page.locator("#compare-title")).to_have_text(name, use_inner_text=True)
        page.keyboard.press("Escape")
        done(page)
        first(page, "coffee.jpg")

    def test_an_upload_that_is_forgotten(self, opened, home):
        page = opened(expected="404")
        search(page, home / "coffee.jpg")
        key = asked(page)["query"]
        page.evaluate("location.hash = '#/search?query=unknown'")
        done(page, "failed")
        expect(page.locator("#activity")).to_contain_text("Drop it again")
        # one that this page still has is sent again, whatever the server remembers
        page.route(re.compile(f"query={key}"), lambda route: route.fulfill(status=404, body="{}"))
        page.evaluate(f"location.hash = '#/search?query={key}&top=3'")
        done(page)
        first(page, "coffee.jpg")
        assert asked(page)["query"] not in (key, "unknown")

    def test_nonsense(self, opened):
        page = opened("/#/search?id=two&region=1,2&top=x&offset=-1")
        expect(page.locator("#start")).to_be_visible()
        page = opened("/#/search?id=99999", expected="404")
        done(page, "failed")
        expect(page.locator("#activity")).to_contain_text("no image 99999")


class TestLists:
    def test_images(self, opened):
        page = opened("/#/browse")
        expect(page.locator("#list-browse li")).to_have_count(16)
        expect(page.locator("#total-browse")).to_have_text("16 images")
        page.get_by_role("searchbox", name="Path contains").fill("CO")
        expect(page.locator("#list-browse .path")).to_have_text(["coffee.jpg", "coins.jpg"])
        assert asked(page) == {"contains": "CO"}
        page.reload()
        expect(page.get_by_role("searchbox", name="Path contains")).to_have_value("CO")
        expect(page.locator("#list-browse li")).to_have_count(2)
        page.get_by_role("searchbox", name="Path contains").fill("nowhere")
        expect(page.locator("#empty-browse")).to_have_text("No path contains “nowhere”.")
        page.locator("summary").click()
        expect(page.locator("#about")).to_contain_text("photos.vlad")

    def test_skipped_in_pages(self, opened):
        page = opened()
        page.get_by_role("link", name="Skipped").click()
        expect(page.locator("#total-skipped")).to_have_text(f"1 to 100 of {N_EMPTY + 1} files")
        expect(page.locator("#list-skipped")).to_contain_text("empty file")
        page.get_by_role("link", name="Next page").click()
        expect(page.locator("#list-skipped li")).to_have_count(N_EMPTY + 1 - 100)
        assert asked(page) == {"offset": "100"}
        page.go_back()
        expect(page.locator("#list-skipped li")).to_have_count(100)
        page.get_by_role("searchbox").fill("broken")
        expect(page.locator("#list-skipped li")).to_have_count(1)

    def test_nothing_in_it(self, opened, tmp_path):
        with Collection.create(tmp_path / "empty.vlad"), serving(tmp_path / "empty.vlad") as base:
            page = opened("#/browse", base=base, expected="409")
            expect(page.locator("#empty-browse")).to_contain_text("The collection is empty")
            page.get_by_role("link", name="Skipped").click()
            expect(page.locator("#empty-skipped")).to_have_text("Nothing was skipped.")
            page.goto("about:blank")  # before the server goes

    @pytest.mark.parametrize(
        ("images", "said"), [(0, "The collection is empty."), (9, "Nothing was found.")]
    )
    def test_nothing_found(self, opened, images, said):
        page = opened()
        nothing = {"results": [], "images": images}
        page.route("**/api/search*", lambda route: fulfil(route, **nothing))
        page.evaluate("location.hash = '#/search?id=1'")
        expect(page.locator("#nothing")).to_have_text(said)
        expect(page.locator("#nothing")).to_be_visible()

    def test_no_features(self, opened):
        page = opened()
        page.route("**/api/info", lambda route: fulfil(route, keeps_features=False))
        page.goto(page.url.split("#")[0] + "#/search?id=1")
        page.reload()
        done(page)
        expect(page.get_by_role("switch", name="Match features")).to_be_disabled()
        expect(page.locator("#rerank-why")).to_contain_text("keeps no features")
        expect(page.locator("#results .badge")).to_have_count(0)
        page.locator("#results .card-image").first.click()
        expect(page.locator("#compare-facts")).to_contain_text("keeps no features")


class TestSafety:
    def test_a_hostile_name_is_only_text(self, opened):
        """A dialog, or an element made of it, would be a complaint to `opened`."""
        page = opened("/#/browse?contains=onerror")
        expect(page.locator("#list-browse .path")).to_have_text(HOSTILE)
        page.locator("#list-browse .card-image").click()
        done(page)
        first(page, HOSTILE)
        compare(page)
        expect(page.locator("#compare-title .compare-name")).to_have_text(HOSTILE)
        assert page.locator("[onerror], img[src=x]").count() == 0

    def test_a_token(self, opened, home):
        with serving(home / "photos.vlad", "--token", "a-long-token") as base:
            root, token = base.split("?")
            page = opened(base=root, path="", expected="401")
            expect(page.locator("#trouble")).to_contain_text("served with a token")
            page.goto(f"{root}?{token}")
            expect(page.locator("#example-list li")).not_to_have_count(0)
            assert "token" not in page.url
            page.goto("about:blank")  # before the server goes


class TestLooks:
    def test_dark_and_light(self, opened):
        page = opened(color_scheme="dark")

        def lightness():
            color = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
            return np.mean([int(number) for number in re.findall(r"\d+", color)[:3]])

        assert lightness() < 60
        page.get_by_role("button", name="Colours: as the system").click()
        assert lightness() > 200
        page.reload()
        assert lightness() > 200
        page.get_by_role("button", name="Colours: light").click()
        assert lightness() < 60
        page.goto(page.url.split("#")[0] + "docs")
        expect(page.get_by_role("button", name="Colours: dark")).to_be_visible()

    def test_narrow(self, opened, home, tmp_path):
        width = 320
        page = opened(size=(width, 700))

        def fits(name):
            page.screenshot(path=tmp_path / f"{name}.png")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name

        expect(page.locator("#example-list li")).not_to_have_count(0)
        fits("start")
        search(page, home / "coffee.jpg")
        fits("results")
        compare(page)
        fits("compare")
        assert page.evaluate("document.querySelector('#compare').scrollWidth") <= width
        for path, wanted in (
            ("#/browse", "#list-browse li"),
            ("#/skipped", "#list-skipped li"),
            ("docs", "#operations section"),
        ):
            page.goto(page.url.split("#")[0] + path)
            page.locator(wanted).first.wait_for()
            fits(path.strip("#/"))

    def test_nothing_moves_when_images_come(self, opened):
        page = opened("/#/browse")
        page.locator("#list-browse li").first.wait_for()
        page.wait_for_load_state("networkidle")
        shift = page.evaluate(
            """() => new Promise((resolve) => new PerformanceObserver((list) => resolve(
                list.getEntries().filter((each) => !each.hadRecentInput)
                    .reduce((sum, each) => sum + each.value, 0)
            )).observe({ type: "layout-shift", buffered: true }) || setTimeout(resolve, 200, 0))"""
        )
        assert shift < 0.1

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_axe_finds_nothing_serious(self, opened, home, scheme):
        page = opened(color_scheme=scheme)

        def check(name):
            found = axe.Axe().run(page, options={"resultTypes": ["violations"]})
            found = found.response["violations"]
            bad = [each for each in found if each["impact"] in ("serious", "critical")]
            assert not bad, (name, [(each["id"], each["nodes"][0]["html"]) for each in bad])

        expect(page.locator("#example-list li")).not_to_have_count(0)
        check("start")
        search(page, home / "coffee.jpg")
        check("gallery")
        compare(page)
        check("side by side")
        page.keyboard.press("Escape")
        page.set_input_files("#file", home / "coffee.jpg")
        page.get_by_role("button", name="Mark a part").click()
        check("a part")
        for path, wanted in (
            ("#/browse", "#list-browse li"),
            ("#/skipped", "#list-skipped li"),
            ("docs", "#operations section"),
        ):
            page.goto(page.url.split("#")[0] + path)
            page.locator(wanted).first.wait_for()
            check(path)
