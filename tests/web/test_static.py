"""The page's files, without a browser: they are all there, and keep to what the server allows."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from vladkit.images.files import _HEIC_SUFFIXES, _JXL_SUFFIXES, _SUFFIXES

STATIC = files("vladkit.web") / "static"
FILES = {each.name: each.read_text() for each in STATIC.iterdir()}
PAGES = {"/": "index.html", "/docs": "docs.html"}
SCRIPTS = sorted(name for name in FILES if name.endswith(".js"))


def used_by(name):
    """Names of files that one of these files loads."""
    pattern = r"""from "\./([\w.-]+)"|import\("\./([\w.-]+)"\)|"/static/([\w.-]+)\""""
    text = re.sub(r"/\*\*.*?\*/|//[^\n]*", "", FILES[name], flags=re.DOTALL)  # types are comments
    return {a or b or c for a, b, c in re.findall(pattern, text)}


def loaded_by(page):
    found, new = set(), {page}
    while new:
        found |= new
        assert found <= set(FILES), f"{page} loads {found - set(FILES)}, which is not there"
        new = {other for name in new for other in used_by(name)} - found
    return found


def test_all_files_are_there_and_used():
    assert set.union(*map(loaded_by, PAGES.values())) == set(FILES)


def test_files_of_every_format_can_be_chosen():
    """Few browsers know a camera's RAW as an image, or a TIFF on every system."""
    (accepted,) = re.findall(r'type="file"[^>]* accept="([^"]*)"', FILES["index.html"])
    known = {".jpg", ".jpeg", ".png", ".gif"}  # to "image/*" anywhere
    readable = _SUFFIXES | _HEIC_SUFFIXES | _JXL_SUFFIXES
    assert {"image/*", *(readable - known)} <= set(accepted.split(","))


@pytest.mark.parametrize("page", PAGES.values())
def test_ids_that_scripts_look_for_are_in_the_page(page):
    ids = re.findall(r'\bid="([\w-]+)"', FILES[page])
    assert len(ids) == len(set(ids))
    for script in loaded_by(page) & set(SCRIPTS):
        looked_for = set(re.findall(r'byId\("([\w-]+)"', FILES[script]))
        assert looked_for <= set(ids), (script, looked_for - set(ids))
    labels = re.findall(r'(?:for|aria-labelledby|aria-describedby)="([^"]+)"', FILES[page])
    assert {name for label in labels for name in label.split()} <= set(ids)


@pytest.mark.parametrize("page", PAGES.values())
def test_nothing_that_the_security_policy_forbids(page):
    assert not re.search(r"\sstyle=|\son\w+=|<style|javascript:|data:", FILES[page])
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", FILES[page]))


@pytest.mark.parametrize("name", sorted(FILES))
def test_nothing_comes_from_elsewhere(name):
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", FILES[name]))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name, not loaded


@pytest.mark.parametrize("script", SCRIPTS)
def test_data_never_becomes_markup(script):
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function"
    assert not re.search(forbidden, FILES[script])
