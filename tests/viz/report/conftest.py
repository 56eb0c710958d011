"""A collection with queries of every fate, and the page of its report."""

from __future__ import annotations

import json
import os

import cv2
import pytest

from pages import SCRIPT, Page
from photos import cropped, darker, photo, smaller, write_photos
from vladkit import Collection
from vladkit.viz.report import (
    assess,
    read,
    write_report,
)


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """images/, photos.vlad of them, queries, and truth.json; one indexed image is gone."""
    home = tmp_path_factory.mktemp("report")
    files = write_photos(home / "images")
    os.replace(files["rocket"], home / "images" / SCRIPT)
    (home / "images" / "broken.jpg").write_text("no image")
    with Collection.create(home / "photos.vlad", n_clusters=16) as collection:
        collection.add([home / "images"])
    files["grass"].unlink()
    for name, change in (("coffee", cropped), ("moon", darker), ("chelsea", smaller)):
        cv2.imwrite(str(home / f"{name} query.jpg"), change(photo(name)))
    cv2.imwrite(str(home / "wrong.jpg"), smaller(photo("coffee")))
    cv2.imwrite(str(home / SCRIPT), darker(photo("rocket")))
    cv2.imwrite(str(home / "elsewhere.jpg"), photo("horse"))
    at = "images/"
    junk = [f"{at}{n}.jpg" for n in ("page", "brick", "gravel", "camera", "coins", "astronaut")]
    truth = {
        "queries": [
            {"query": "coffee query.jpg", "relevant": [at + "coffee.jpg", at + "grass.jpg"]},
            {"query": "moon query.jpg", "relevant": [at + "moon.jpg"], "junk": junk},
            {"query": "chelsea query.jpg", "relevant": [at + "chelsea.jpg", at + "not there.jpg"]},
            {"query": "wrong.jpg", "relevant": [at + "retina.jpg"]},
            {"query": SCRIPT, "relevant": [at + SCRIPT]},
            {"query": at + "camera.jpg", "relevant": [at + "coins.jpg"]},
            {"query": "missing.jpg", "relevant": [at + "moon.jpg"]},
            {"query": "elsewhere.jpg", "relevant": [], "unknown": True},
        ]
    }
    (home / "truth.json").write_text(json.dumps(truth))
    return home


@pytest.fixture(scope="session")
def ranks(home):
    with Collection.open(home / "photos.vlad", read_only=True) as collection:
        return assess(collection, read(home / "truth.json"), top=4, rerank=0)


@pytest.fixture(scope="session")
def page(home, ranks, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    assert write_report(path, ranks) == path.stat().st_size
    return Page(path.read_text("utf-8"))
