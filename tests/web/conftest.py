"""One collection for all tests of the page, indexed once."""

from __future__ import annotations

import re
import shutil

import cv2
import numpy as np
import pytest

from photos import cropped, darker, photo, write_photos
from serving import HOSTILE, N_EMPTY, command_serving, serving
from vladkit import Collection


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """photos.vlad of 16 photographs, one with HTML for a name, and skipped files; queries.

    Tests that change anything change their own copy, `own`.
    """
    home = tmp_path_factory.mktemp("home")
    photos = home / "photos"
    write_photos(photos)
    cv2.imwrite(str(photos / HOSTILE), darker(photo("motorcycle_left")))
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 nothing more")
    (photos / "empty").mkdir()
    for i in range(N_EMPTY):
        (photos / "empty" / f"{i:03}.png").write_bytes(b"")
    (home / "secret.txt").write_text("secret")
    with Collection.create(home / "photos.vlad", n_clusters=32) as collection:
        collection.add([photos])
    cv2.imwrite(str(home / "query.png"), cropped(photo("coffee")))
    for name in ("coffee", "chelsea"):
        cv2.imwrite(str(home / f"{name}.jpg"), cropped(photo(name)))
    left, right = (cv2.resize(photo(name), (600, 400)) for name in ("coffee", "chelsea"))
    cv2.imwrite(str(home / "pair.jpg"), np.hstack([left, right]))
    cv2.imwrite(str(home / "large.png"), photo("chelsea"))
    (home / "broken.jpg").write_bytes(b"\xff\xd8 nothing more")
    return home


@pytest.fixture
def own(home, tmp_path):
    """A copy of the photos, with a collection of their own."""
    shutil.copytree(home / "photos", tmp_path / "photos")
    shutil.copy(home / "photos.vlad", tmp_path / "photos.vlad")
    with Collection.open(tmp_path / "photos.vlad") as collection:
        collection.relocate(home / "photos", tmp_path / "photos")
    return tmp_path


@pytest.fixture(scope="session")
def client(home):
    """A client of a server that only reads."""
    with serving(home / "photos.vlad", n_jobs=2) as (client, _):
        yield client


@pytest.fixture(scope="session")
def query(home):
    """The bytes of a piece of coffee.jpg, as PNG."""
    return (home / "query.png").read_bytes()


@pytest.fixture(scope="session")
def address(home):
    """The address of a server that only reads."""
    with command_serving(home / "photos.vlad") as found:
        yield found.rstrip("/")


@pytest.fixture(scope="session")
def browser():
    """One browser: to start it takes 2 s. Until the end an event loop runs in this thread."""
    from browsing import CHROMIUM, QUIET, sync_api

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def window(browser):
    """A page for one test after the other: a page of its own takes each a second and more."""
    context = browser.new_context(reduced_motion="reduce")
    yield context.new_page()
    context.close()


@pytest.fixture
def opened(browser, window, address):
    """Opens pages; in the end none may have complained of anything that was not expected."""
    from browsing import PATIENCE

    free, contexts, complaints, listeners = [window], [], [], []

    def open_page(path="/", *, expected="", size=(1200, 800), base=address, **options):
        if free and base == address and not options:
            page = free.pop()
        else:
            contexts.append(browser.new_context(reduced_motion="reduce", **options))
            page = contexts[-1].new_page()
        page.context.set_default_timeout(PATIENCE)
        page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))

        def complain(text):
            if not (expected and re.search(expected, text)):
                complaints.append(text)

        for event, listener in {
            "console": lambda said: said.type in ("error", "warning") and complain(
                f"{said.text} {said.location['url']}"),
            "pageerror": lambda error: complain(f"uncaught: {error}"),
            "dialog": lambda dialog: (complain(f"dialog: {dialog.message}"), dialog.dismiss()),
        }.items():  # fmt: skip
            page.on(event, listener)
            listeners.append((page, event, listener))
        page.goto(base + path)
        page.wait_for_function(
            "() => document.title !== 'vladkit' || document.querySelector('#trouble').innerText"
        )
        return page

    yield open_page
    for page, event, listener in listeners:
        page.remove_listener(event, listener)
    for context in contexts:
        context.close()
    if not free:  # as new, for the next test
        window.unroute_all(behavior="ignoreErrors")
        window.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")
        window.goto("about:blank")
        window.context.clear_cookies()
        window.context.new_cdp_session(window).send("Network.clearBrowserCache")
    assert not complaints
