"""The page in a browser: a part of the query is marked."""

from __future__ import annotations

import re

import numpy as np
import pytest

from browsing import asked, compare, done, expect, first, search, titles


@pytest.fixture
def page(opened, home):
    page = opened()
    search(page, home / "pair.jpg")
    assert set(titles(page)[:2]) == {"coffee.jpg", "chelsea.jpg"}
    return page


def drag(page, start, end):
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


def region(page):
    return [int(number) for number in asked(page)["region"].split(",")]


def test_by_mouse(page):
    drag(page, (0.55, 0.1), (0.95, 0.9))
    done(page)
    first(page, "chelsea.jpg")
    np.testing.assert_allclose(region(page), [660, 40, 480, 320], atol=5)
    expect(page.locator("#query-facts")).to_have_attribute("title", re.compile("in the part"))
    drag(page, (0.75, 0.5), (0.25, 0.5))  # moved
    first(page, "coffee.jpg")
    np.testing.assert_allclose(region(page), [60, 40, 480, 320], atol=10)
    drag(page, (0.45, 0.9), (0.3, 0.6))  # its corner
    expect(page).to_have_url(re.compile("region=5|region=6"))
    np.testing.assert_allclose(region(page), [60, 40, 300, 200], atol=12)
    done(page)
    compare(page)
    searched = page.locator("#overlay .searched rect").first.bounding_box()
    pane = page.locator("#pane-query").bounding_box()
    assert searched["width"] / pane["width"] == pytest.approx(0.25, abs=0.03)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Whole image").click()
    done(page)
    assert "region" not in asked(page)


def test_a_click_or_a_slip_marks_nothing(page):
    page.locator("#region").click()
    drag(page, (0.5, 0.5), (0.505, 0.51))
    assert "region" not in asked(page)
    expect(page.locator(".region-box")).to_be_hidden()


def test_by_keyboard(page):
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
    assert region(page) == [600, 100, 570, 230]
    expect(marker).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".region-box")).to_be_hidden()
    done(page)
    assert "region" not in asked(page)


def test_the_way_out_of_a_part_without_anything(opened):
    page = opened("/#/search?id=1&region=0,0,1,1", expected="422")
    done(page, "failed")
    expect(page.locator("#query-image")).not_to_have_js_property("naturalWidth", 0)
    expect(page.locator("#region-text")).to_contain_text("1 px at 0, 0")
    expect(page.get_by_role("button", name="Search by this part")).to_be_hidden()
    held = []
    page.route("**/api/search?*", lambda route: held.append(route), times=1)
    page.get_by_role("button", name="Whole image").click()
    expect(page.locator("#query")).to_be_focused()  # until there is an image to mark a part of
    expect(page.get_by_role("button", name="Mark a part")).to_be_disabled()
    while not held:
        page.wait_for_timeout(20)
    held[0].continue_()
    done(page)
    assert "region" not in asked(page)
    expect(page.locator("#region")).to_be_visible()
    expect(page.get_by_role("button", name="Mark a part")).to_be_focused()


def test_by_finger(opened, home):
    page = opened(size=(400, 800), has_touch=True, is_mobile=True)
    search(page, home / "pair.jpg")
    expect(page.locator("#region-text")).to_have_text("Mark a part to search by it alone.")
    page.get_by_role("button", name="Mark a part").tap()
    box = page.locator(".region-box").bounding_box()
    touch = page.context.new_cdp_session(page)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind, dx in (("Start", 0), ("Move", 30), ("Move", box["width"] / 2), ("End", None)):
        points = [] if dx is None else [{"x": x + dx, "y": y}]
        touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
    first(page, "chelsea.jpg")
    np.testing.assert_allclose(region(page), [600, 100, 600, 200], atol=10)
