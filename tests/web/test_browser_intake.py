"""The page in a browser: images come in."""

from __future__ import annotations

import re

from browsing import asked, compare, done, expect, first, fulfil, search, titles, transfer
from serving import HOSTILE


def test_chosen(opened, home):
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


def test_before_the_page_knows_its_collection(opened, home):
    page = opened()
    waiting = []
    page.route("**/api/info", lambda route: waiting.append(route))
    page.reload()
    page.set_input_files("#file", home / "coffee.jpg")
    dropped = transfer(page, home / "coffee.jpg")
    page.dispatch_event("body", "dragenter", {"dataTransfer": dropped})
    expect(page.locator("#drop")).to_be_visible()
    page.dispatch_event("body", "dragleave", {"dataTransfer": dropped})
    while not waiting:
        page.wait_for_timeout(10)
    expect(page.locator("#activity")).not_to_have_attribute("data-state", "done")
    waiting[0].continue_()
    done(page)
    first(page, "coffee.jpg")


def test_dropped(opened, home):
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


def test_of_two_files_the_first_is_taken_and_all_are_offered(opened, home):
    page = opened(expected="404")
    page.set_input_files("#file", [home / "coffee.jpg", home / "chelsea.jpg"])
    done(page)
    first(page, "coffee.jpg")
    expect(page.locator("#results .same li")).to_have_count(1)
    expect(page.locator("#offer")).to_contain_text("the first of 2 files, coffee.jpg")
    page.get_by_role("button", name="search with both").click()
    expect(page.locator("#query-name")).to_have_text("2 images of one thing")
    done(page)
    expect(page.locator("#results .same li")).to_have_count(2)
    expect(page.locator("#offer")).to_be_hidden()
    expect(page.get_by_role("button", name="Mark a part")).to_be_hidden()
    keys = asked(page)["query"].split(",")
    for n, path in enumerate(titles(page)[:2]):  # each beside the image that it matches
        compare(page, n)
        key = keys[path == "chelsea.jpg"]
        expect(page.locator("#pane-query img")).to_have_attribute("src", re.compile(key))
        expect(page.locator("#compare-facts")).to_contain_text("agree, verified")
        page.keyboard.press("Escape")
        expect(page.locator("#compare")).to_be_hidden()  # which goes back in the history
    # the page sends them again if the server has forgotten one
    page.route(re.compile(f"query={keys[0]}"), lambda r: r.fulfill(status=404, body="{}"))
    page.evaluate(f"location.hash = '#/search?query={','.join(keys)}&top=3'")
    expect(page).not_to_have_url(re.compile(keys[0]))
    done(page)
    expect(page.locator("#results .same li")).to_have_count(2)


def test_of_several_files_the_wrong_one_is_named(opened, home, tmp_path):
    page = opened(expected="422")
    (tmp_path / "notes.jpg").write_text("no image")
    page.set_input_files("#file", [home / "coffee.jpg", tmp_path / "notes.jpg"])
    done(page)
    page.get_by_role("button", name="search with both").click()
    done(page, "failed")
    expect(page.locator("#activity")).to_contain_text("notes.jpg: The image cannot be used")


def test_pasted(opened, home):
    page = opened()
    page.evaluate(
        """(clipboardData) => document.dispatchEvent(
            new ClipboardEvent("paste", { clipboardData, cancelable: true }))""",
        transfer(page, home / "coffee.jpg"),
    )
    done(page)
    first(page, "coffee.jpg")


def test_of_the_collection(opened):
    page = opened("/#/browse")
    page.get_by_role("searchbox", name="Path contains").fill("moto")
    expect(page.locator("#list-browse li")).to_have_count(1)
    page.locator("#list-browse li a").first.click()
    done(page)
    assert titles(page)[:2] == ["motorcycle_left.jpg", HOSTILE]
    page.locator("#results li").nth(1).get_by_title("Search with this").click()
    expect(page.locator("#query-name")).to_have_text(HOSTILE)
    done(page)
    expect(page.locator("#main")).to_be_focused()
    assert titles(page)[:2] == [HOSTILE, "motorcycle_left.jpg"]


def test_that_is_none(opened, home):
    page = opened("/#/", expected="422")
    page.set_input_files("#file", home / "broken.jpg")
    done(page, "failed")
    expect(page.locator("#activity")).to_contain_text("The image cannot be used: ")
    assert titles(page) == []
    page.get_by_role("link", name="Search", exact=True).click()
    expect(page.locator("#start")).to_be_visible()
    search(page, home / "coffee.jpg")  # the next one is as if nothing had been
    first(page, "coffee.jpg")


def test_that_is_too_large_is_not_sent(opened, home):
    page = opened()
    page.route("**/api/info", lambda route: fulfil(route, limits={"upload_bytes": 1000}))
    page.reload()
    page.route("**/api/search*", lambda route: route.abort())
    page.set_input_files("#file", home / "coffee.jpg")
    done(page, "failed")
    expect(page.locator("#activity")).to_contain_text("the server takes 1 kB")


def test_that_cannot_be_read(opened, home, tmp_path):
    page = opened(expected="Failed to load")
    drag = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": [str(home / "photos")], "dragOperationsMask": 1}
        drag.send("Input.dispatchDragEvent", {"type": kind, "x": 600, "y": 400, "data": data})
    done(page, "failed")
    expect(page.locator("#activity")).to_contain_text("it is a folder, or no longer there")
    files = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    for file in files:
        file.write_bytes((home / "coffee.jpg").read_bytes())
    page.set_input_files("#file", files)
    done(page)
    files[1].unlink()
    page.get_by_role("button", name="search with both").press("Enter")
    done(page, "failed")
    expect(page.locator("#activity")).to_contain_text("b.jpg: The file cannot be read")
    expect(page.locator("#main")).to_be_focused()  # the button is gone


PASTE = """(text) => {
    const clipboardData = new DataTransfer();
    clipboardData.setData("text/plain", text);
    document.activeElement.dispatchEvent(
        new ClipboardEvent("paste", { clipboardData, bubbles: true }));
}"""


def test_text_is_pasted_into_fields(opened):
    page = opened("/#/search?id=1&rerank=0")
    page.locator("#limited").evaluate("box => { box.open = true }")
    for label in ("Folder", "Taken from", "Before", "Near"):
        page.get_by_label(label, exact=True).focus()
        page.evaluate(PASTE, "2024")
        expect(page.locator("#trouble")).to_be_hidden()
    page.get_by_role("combobox", name="Results").focus()
    page.evaluate(PASTE, "2024")
    expect(page.locator("#trouble")).to_contain_text("no image on the clipboard")


def test_text_is_no_image(opened):
    page = opened()
    page.evaluate(
        """() => document.dispatchEvent(
            new ClipboardEvent("paste", { clipboardData: new DataTransfer() }))"""
    )
    expect(page.locator("#trouble")).to_contain_text("no image on the clipboard")
