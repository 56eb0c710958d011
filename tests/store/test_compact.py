"""Space that removed images leave is given back."""

from __future__ import annotations

import json

import cv2
import pytest

from commands import run
from images import textured
from stored import everything
from vladkit import Collection
from vladkit.errors import NothingToIndexError
from vladkit.store import blocks


class TestCompact:
    def test_gives_space_back_and_changes_nothing_else(self, tmp_path, monkeypatch):
        monkeypatch.setattr(blocks, "BLOCK_BYTES", 4 * 8 * 128 * 2)  # 4 vectors
        folder = tmp_path / "images"
        folder.mkdir()
        for i in range(24):
            cv2.imwrite(str(folder / f"{i:02}.png"), textured(120, 90, seed=i))
        with Collection.create(tmp_path / "c", n_clusters=8) as collection:
            collection.add([folder])
            collection.remove([f"{i:02}.png" for i in range(24) if i % 3])
            left = everything(tmp_path / "c")
            held = [len(i) for i, _ in collection.index.store.vector_blocks()]
            assert held == [2, 1, 1, 2, 1, 1]
            assert collection.compact() > 16 * 50_000  # features and vectors of 16 images
            held = [len(i) for i, _ in collection.index.store.vector_blocks()]
            assert held == [4, 4]
            assert collection.check() == []
            assert collection.compact() == 0
        assert everything(tmp_path / "c") == left

    def test_an_empty_one_forgets_its_sources(self, own):
        with Collection.open(own) as collection:
            collection.remove([f"{i:02}.png" for i in range(12)])
            collection.compact()
            assert collection.info()["sources"] == []
            assert collection.check() == []
            with pytest.raises(NothingToIndexError):
                collection.add([own.parent / "nothing"])

    def test_command(self, own):
        done = run("compact", own, "--json")
        assert json.loads(done.stdout) == {"file": str(own), "freed": 0}
