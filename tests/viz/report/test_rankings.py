"""Rankings as a report needs them, and thresholds of their scores."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from photos import write_photos
from vladkit import Collection
from vladkit.errors import (
    ParameterError,
)
from vladkit.evaluation.benchmark import read_ground_truth
from vladkit.viz.report.rankings import Threshold, firsts, thresholds


class TestAssess:
    @pytest.mark.parametrize("rerank", [0, 5])
    def test_as_search_ranks(self, home, rerank):
        truth = read_ground_truth(home / "truth.json")
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            answers, _ = collection.assess(truth, top=6, rerank=rerank)
            for answer in answers:
                if answer.failed:
                    assert answer.query.file.endswith("missing.jpg")
                    continue
                hits = collection.search(answer.query.file, top=0, rerank=rerank)
                others = [h for h in hits if h.file != answer.query.file]
                shown = [(f.path, f.score, f.similarity, f.inliers) for f in answer.first]
                ranked = [(h.path, h.score, h.similarity, h.inliers) for h in others]
                itself = [f.path for f in answer.first if f.verdict == "itself"]
                assert [s for s in shown if s[0] not in itself] == ranked[
                    : len(shown) - len(itself)
                ]
                counted = [h for h in others if h.file not in answer.query.relevance[""].ignored]
                assert [f.rank for f in answer.first if f.rank] == [1, 2, 3, 4, 5, 6]
                relevant = answer.query.relevance[""].relevant
                ranks = [i + 1 for i, h in enumerate(counted) if h.file in relevant]
                assert list(answer.result.ranks) == ranks
                assert [f.rank for f in answer.late] == [r for r in ranks if r > 6]
                right = [h.score for h in counted if h.file in relevant]
                wrong = [h.score for h in counted if h.file not in relevant]
                assert answer.best_right == (right[0] if right else None)
                assert answer.best_wrong == wrong[0]

    def test_a_file_that_is_indexed_twice_counts_once(self, tmp_path):
        files = write_photos(tmp_path / "a", ["moon", "coins", "page", "coffee", "camera", "grass"])
        (tmp_path / "b").mkdir()
        for name, file in files.items():
            shutil.copy2(file, tmp_path / "b" / f"{name}.jpg")
        truth = {"queries": [{"query": "a/moon.jpg", "relevant": ["a/coins.jpg", "a/page.jpg"]}]}
        (tmp_path / "t.json").write_text(json.dumps(truth))
        with Collection.create(tmp_path / "c", n_clusters=8) as collection:
            collection.add([tmp_path / "a", tmp_path / "b"])
            assert len(collection) == 2 * len(files)
            for name, file in files.items():  # as earlier versions took links
                (tmp_path / "b" / f"{name}.jpg").unlink()
                (tmp_path / "b" / f"{name}.jpg").symlink_to(file)
            for rerank in (0, 4):
                (answer,), _ = collection.assess(
                    read_ground_truth(tmp_path / "t.json"), top=99, rerank=rerank
                )
                assert len({f.file for f in answer.first}) == len(answer.first) == len(files)
                assert [f.rank for f in answer.first if f.rank] == list(range(1, len(files)))
                best = {}
                for hit in collection.search(files["moon"], top=0, rerank=rerank):
                    best.setdefault(os.path.realpath(hit.file), hit.score)
                assert {f.file: f.score for f in answer.first} == best
                assert answer.late == answer.missing == ()

    def test_top_that_is_no_number_of_images(self, home):
        with (
            Collection.open(home / "photos.vlad", read_only=True) as collection,
            pytest.raises(ParameterError, match="top=-1"),
        ):
            collection.assess(read_ground_truth(home / "truth.json"), top=-1)


class TestThresholds:
    def test_by_hand(self):
        # from the highest: right, right, wrong | right x 7, wrong: 2/2, 2/3, 9/10, 9/11
        first = [(0.9, True), (0.8, True), (0.7, False)]
        first += [(0.6, True)] * 7 + [(0.1, False)]
        assert thresholds(first) == [
            Threshold(0.8, 2, 2),  # none wrong: nor less than one in a hundred, or in twenty
            Threshold(0.6, 10, 9),  # .9 exactly
            Threshold(0.1, 11, 9),  # .8, and all
        ]

    def test_equal_scores_go_together(self):
        assert thresholds([(0.5, True), (0.5, False)]) == [Threshold(0.5, 2, 1)]
        assert thresholds([]) == []

    def test_firsts(self, ranks):
        known = dict(zip([a.query.file for a in ranks.judged], firsts(ranks.judged), strict=False))
        assert len(firsts(ranks.judged)) == 6  # one of seven failed
        assert [is_right for _, is_right in firsts(ranks.unknown)] == [False]
        assert len(known) == 6
