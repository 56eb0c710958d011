"""A small collection, and a copy of it to work in."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec

import cv2
import pytest

from commands import run
from images import textured
from networks import dots
from scene import write_flat_model
from videos import write_video


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """photos/ and more/, photos.vlad of the first, truth.json, d.onnx, a.avi, flat/."""
    home = tmp_path_factory.mktemp("every")
    (home / "photos").mkdir()
    (home / "more").mkdir()
    for i in range(4):
        cv2.imwrite(str(home / "photos" / f"{i}.png"), textured(160, 120, seed=i))
    cv2.imwrite(str(home / "more" / "new.png"), textured(160, 120, seed=9))
    shutil.copy(home / "photos" / "1.png", home / "photos" / "copy.png")
    images = [f"photos/{p.name}" for p in (home / "photos").iterdir()]
    queries = [{"query": "photos/1.png", "relevant": ["photos/copy.png"]}]
    (home / "truth.json").write_text(json.dumps({"database": images, "queries": queries}))
    dots(home / "d.onnx")
    write_video(home / "a.avi", [textured(160, 120, seed=3)] * 2)
    if find_spec("pycolmap"):
        write_flat_model(home / "flat", ["1.png", "copy.png"], 160, 120)
    options = ["--n-clusters", 4, "--enlarge-to", 0, "--keep-sums"]
    run("index", home / "photos", "-o", home / "photos.vlad", *options)
    return home.rename(home.with_name("moved"))  # a copy of it then finds the photos beside it


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A copy of `made`, as working folder."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("VLADKIT_MODELS", str(tmp_path / "kept"))
    monkeypatch.delenv("VLADKIT_MODEL", raising=False)
    return tmp_path / "here"
