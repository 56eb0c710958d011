"""Sums in ``vladkit bench``: every peer does the job, results go through JSON, tables explain."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from benching import WITHOUT_PEERS
from vladkit.bench import run as running
from vladkit.bench import sum_ways, sums
from vladkit.bench.article import print_article, sum_verdicts
from vladkit.bench.cases import Case
from vladkit.bench.plot_sums import write_sums_plot
from vladkit.bench.results import LeftOut, Report, SumRow, SumsMeasured
from vladkit.bench.sum_cases import ARTICLE_SUMS, OTHER_OPERATIONS, SUMS, SumCase
from vladkit.bench.sum_ways import READ, SUM_WAYS, SumWay, sum_ways_for
from vladkit.bench.sums import measure_sums
from vladkit.bench.timing import Plan
from vladkit.errors import ParameterError

PLAN = Plan(
    total=1, burn=0, slot=0, limit=1, limit_alone=100, least_turns=1, most_turns=1
)  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(sums, "_LEAST", 0)
    monkeypatch.setattr(sum_ways, "_WARM", 0)


def small(case):
    return replace(case, n=min(case.n, 256), n_segments=min(case.n_segments, 8))


class TestCases:
    def test_names_are_different(self):
        assert len(SUMS) >= 16
        assert set(ARTICLE_SUMS) < set(SUMS)
        for cases in (SUMS, OTHER_OPERATIONS):
            assert len({(case.name, case.op) for case in cases}) == len(cases)

    @pytest.mark.parametrize("case", SUMS, ids=lambda case: case.name)
    def test_arrays(self, case):
        case = small(case)
        values, segment = case.arrays()
        assert values.shape == ((case.n,) if case.f == 1 else (case.n, case.f))
        assert values.dtype == case.dtype
        assert (len(segment), segment.dtype) == (case.n, np.int64)
        assert 0 <= segment.min() <= segment.max() < case.n_segments

    def test_orders(self):
        def labels(order, n_segments=1000):
            return SumCase(4096, 1, n_segments, order=order).arrays()[1]

        assert (np.diff(labels("sorted")) >= 0).all()
        assert np.mean(np.diff(labels("clustered")) == 0) > 0.95
        assert np.mean(np.diff(labels("random")) == 0) < 0.05
        image = np.arange(4096) // 128
        assert np.array_equal(labels("by image", 512) // 16, image)  # 16 labels of each image

    def test_refused(self):
        with pytest.raises(ParameterError, match="known order"):
            SumCase(1, 1, 1, order="any")


JOBS = {
    SumCase(256, 3, 8): ("sum", "min", "max", "mean"),
    SumCase(256, 1, 300, "float64", "sorted"): ("sum", "mean"),
    SumCase(256, 1, 8, "bool"): ("sum",),
    SumCase(256, 2, 8, "int64"): ("sum", "max"),
}


@pytest.mark.parametrize(
    ("case", "op"), [(case, op) for case, ops in JOBS.items() for op in ops], ids=str
)
def test_every_way_has_the_right_result(case, op):
    ways, _ = sum_ways_for()
    measured = measure_sums(replace(case, op=op), PLAN, ways, 0.1)
    assert [row.way for row in measured.rows if row.skipped] == []
    assert {"vladkit", "Numba loop", "torch", READ} <= {row.way for row in measured.rows}
    assert all(row.median_ms >= row.least_ms > 0 for row in measured.rows)


class TestMeasure:
    case = SumCase(100, 1, 7, "float64")

    def test_a_wrong_or_failing_peer_is_named(self):
        def fail(*_):
            raise RuntimeError("broken")

        wrong = SumWay("wrong", "", lambda v, s, c: lambda: np.zeros(7))
        rows = measure_sums(self.case, PLAN, [wrong, SumWay("bad", "", fail)], 0.1).rows
        assert "off by" in rows[0].skipped
        assert rows[1].skipped == "failed: RuntimeError: broken"

    def test_a_slow_one_is_timed_once(self):
        ways = [way for way in SUM_WAYS if way.name in ("vladkit", "bincount")]
        rows = measure_sums(self.case, replace(PLAN, limit_alone=0), ways, 0.1).rows
        assert [row.calls for row in rows] == [1, 1]

    def test_missing_libraries_are_left_out(self, monkeypatch):
        monkeypatch.setattr(sum_ways, "find_spec", lambda name: None if name == "polars" else name)
        ways, missing = sum_ways_for()
        assert [x.way for x in missing] == ["polars"]
        assert "pip install polars" in missing[0].reason
        assert len(ways) == len(SUM_WAYS) - 1
        assert [way.name for way in sum_ways_for(["torch"])[0]] == ["vladkit", "torch", READ]


def made_up(case, **ms):
    rows = [SumRow(way, 5, time, time) for way, time in ms.items()]
    return SumsMeasured(case, (*rows, SumRow("awkward", 0, skipped="failed: it did")))


class TestArticle:
    def test_a_run_and_its_tables(self, monkeypatch):
        monkeypatch.setattr(running, "_START", WITHOUT_PEERS)
        told = []
        case = small(ARTICLE_SUMS[0])
        report = running.run(
            [Case(4, 30, 8, 4)], sums=[case], threads=1, quick=True, only=["fused", "bincount"],
            progress=lambda *a: told.append(a),
        )  # fmt: skip
        assert told == [("measuring", i, 2) for i in range(3)]
        assert {row.way for row in report.sums[0].rows} == {"vladkit", READ}
        assert Report.from_json(json.loads(json.dumps(report.as_json()))) == report
        missing = tuple(LeftOut(way, "needs pip") for way in ("a", "b"))
        console = Console(file=io.StringIO(), width=100, highlight=False)
        print_article(replace(report, left_out=missing), console)
        text = console.file.getvalue()
        assert max(map(len, text.splitlines())) <= 100
        sums_at, encodings_at = text.index("Rows summed"), text.index("Batches encoded")
        assert text.index("segment_sum, ") < text.index(f"A  {case.name}") < encodings_at
        assert sums_at < encodings_at < text.index("in cache") < text.index("4x30x8 k=4")
        assert text.rstrip().endswith("left out: a, b: needs pip")
        assert text.count("left out") == 1

    def test_verdicts(self):
        fast = made_up(ARTICLE_SUMS[0], vladkit=1.0, pandas=2.0, read=0.5)
        slow = made_up(ARTICLE_SUMS[1], vladkit=3.0, pandas=2.0, read=0.5)
        assert fast.over_fastest() == (0.5, "pandas")
        assert list(sum_verdicts([fast, slow])) == [
            "vladkit is the fastest in 1 of 2 cases.",
            f"At most it takes 1.50 times as long as pandas: {slow.case.name}.",
        ]
        assert len(list(sum_verdicts([fast]))) == 1


def test_plot(tmp_path):
    found = [made_up(case, vladkit=1.0, pandas=2.0, read=0.5) for case in SUMS]
    write_sums_plot(found, "A processor", tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    for wanted in ("A processor", "pandas", SUMS[0].name, "nanoseconds"):
        assert wanted in text
