"""Pages in a real browser: Chromium, without a window. Imported only where there is one."""

from __future__ import annotations

import re
import shutil
from urllib.parse import parse_qs

import pytest

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
    compared(page)


def compared(page):
    """When a query and a result are side by side, matched."""
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


def fulfil(route, **changes):
    """Answer as the server does, but with changes."""
    answer = route.fetch()
    content = answer.json()
    for name, value in changes.items():
        content[name] = content[name] | value if isinstance(value, dict) else value
    route.fulfill(response=answer, json=content)
