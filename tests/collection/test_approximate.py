"""An approximate index beside a collection."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from commands import run
from vladkit import Collection
from vladkit.store.ann import AnnIndex
from vladkit.store.rows import ImageRow, Record
from vladkit.store.store import Store


class TestApproximate:
    @pytest.fixture
    def big(self, home, tmp_path):
        """A collection whose 3,000 further vectors belong to no file."""
        path = Path(shutil.copy(home / "photos.vlad", tmp_path / "big.vlad"))
        rng = np.random.default_rng(0)
        with Collection.open(path) as collection:
            collection.whiten(12)
        with Store.open(path) as store, store.writing():
            source = store.add_source(str(tmp_path), "x").source_id
            vector_nD = rng.normal(size=(3000, 12))
            vector_nD /= np.linalg.norm(vector_nD, axis=1, keepdims=True)
            rows = [ImageRow(source, f"{i}.jpg", 1, 1) for i in range(3000)]
            pairs = zip(rows, vector_nD.astype(np.float16), strict=True)
            store.put([Record(row, vector_D) for row, vector_D in pairs])
        return path

    def test_finds_what_exact_search_finds(self, home, big):
        queries = [home / "query.png", *sorted((home / "photos").iterdir())]
        with Collection.open(big) as collection:
            exact = [collection.search(query, 10, rerank=0) for query in queries]
            assert collection.info()["approximate"] is False
            report = collection.build_ann()
            assert collection.info()["approximate"] is True
            assert (report.n, report.n_dimensions) == (3015, 12)
            assert report.recall >= 0.98
            likely = [collection.search(query, 10, rerank=0) for query in queries]
            both = collection.search(queries[:2], 10, rerank=0, together=True)
            of_all = {
                h.path: h.score for h in collection.search(queries[:2], 0, rerank=0, together=True)
            }
            assert all(of_all[h.path] == h.score for h in both)
        shares = [
            len({h.path for h in a} & {h.path for h in b}) / 10
            for a, b in zip(exact, likely, strict=True)
        ]
        assert np.mean(shares) > 0.9
        for a, b in zip(exact, likely, strict=True):
            score_of = {h.path: h.score for h in a}
            assert all(score_of.get(h.path, h.score) == h.score for h in b), "scores are not exact"
            assert a[0] == b[0]

    def test_is_used_only_while_it_is_up_to_date(self, home, big, monkeypatch):
        with Collection.open(big) as collection:
            without = collection.index.searcher.state()
            collection.build_ann()
            assert collection.index.searcher.state() != without
        used = []
        search = AnnIndex.search
        monkeypatch.setattr(AnnIndex, "search", lambda *a: used.append(1) or search(*a))
        with Collection.open(big, read_only=True) as collection:
            collection.search(home / "query.png", 10)
            assert len(used) == 1
            collection.search(home / "query.png", 0)  # a full ranking is exact
            collection.search(home / "query.png", 1001)
            assert len(used) == 1
            with Collection.open(big) as other:
                other.remove(["coffee.jpg"])
            hits = collection.search(home / "query.png", 10)
            assert len(used) == 1
            assert "coffee.jpg" not in [hit.path for hit in hits]

    def test_reranking_takes_its_candidates(self, home, big):
        with Collection.open(big) as collection:
            collection.build_ann()
            best = collection.search(home / "query.png", 1, rerank=20)[0]
        assert best.path == "coffee.jpg"
        assert best.inliers > 100

    def test_command(self, home, big, tmp_path):
        done = run("build-ann", big, cwd=home)
        assert "3015 vectors in" in done.stderr
        assert "of the 10 nearest" in done.stderr
        assert "note: exact search is as fast up to" in done.stderr
        assert (tmp_path / "big.vlad.ann").exists()
        report = json.loads(run("build-ann", big, "--json", cwd=home).stdout)
        assert report["recall"] >= 0.98
        with Collection.create(tmp_path / "empty"):
            pass
        run("build-ann", tmp_path / "empty", cwd=home, code=1)
