"""The page in a browser: colours, narrow windows, accessibility."""

from __future__ import annotations

import re

import numpy as np
import pytest

from browsing import axe, compare, expect, search


def test_dark_and_light(opened):
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


def test_narrow(opened, home, tmp_path):
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


def test_nothing_moves_when_images_come(opened):
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


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_nothing_serious(opened, home, scheme):
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
