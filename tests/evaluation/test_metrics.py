"""Average precision and recall by hand; ground-truth files, good and bad."""

from __future__ import annotations

import json

import pytest

from vladkit.errors import FileFormatError, StorageError
from vladkit.evaluation.metrics import (
    Query,
    QueryResult,
    average_precision,
    judge,
    mean_scores,
    precision_recall,
    read_ground_truth,
    recall_curve,
    summarize,
)


@pytest.mark.parametrize(
    ("ranking", "relevant", "wanted"),
    [
        ("abx", "ab", 1.0),
        ("xab", "ab", (1 / 2 + 2 / 3) / 2),
        ("xxa", "ab", (1 / 3) / 2),  # b is missing: counts as 0
        ("xyz", "a", 0.0),
        ("", "a", 0.0),
    ],
)
def test_average_precision(ranking, relevant, wanted):
    got = average_precision(list(ranking), set(relevant), len(relevant))
    assert got == pytest.approx(wanted)


def query(name, relevant, junk="", unknown=False):
    return Query(name, frozenset(relevant), frozenset(junk), unknown)


def test_summary():
    queries = [
        query("q", "ab"),  # a first, b third: (1 + 2/3) / 2
        query("r", "c", junk="ab"),  # c first once a and b are ignored
        query("s", "as"),  # itself is dropped: a is then second
        query("u", "", unknown=True),  # not averaged
        query("f", "a"),  # could not be read
    ]
    rankings = ["axb", "abxc"[:2] + "cx", "sxa", "abc", None]
    scores = summarize(queries, [None if r is None else list(r) for r in rankings])
    assert scores.mean_average_precision == pytest.approx(((1 + 2 / 3) / 2 + 1 + 1 / 2 + 0) / 4)
    assert scores.recall == {1: 2 / 4, 5: 3 / 4, 10: 3 / 4}
    assert (scores.queries, scores.not_averaged, scores.failed) == (4, 1, 1)


def test_recall_counts_ranks_from_one():
    ranking = [f"x{i}" for i in range(20)]
    for rank, wanted in ((1, (1, 1, 1)), (5, (0, 1, 1)), (6, (0, 0, 1)), (11, (0, 0, 0))):
        scores = summarize([query("q", [f"x{rank - 1}"])], [ranking])
        assert tuple(scores.recall.values()) == wanted


def test_nothing_to_average_is_not_a_number():
    scores = summarize([query("u", "")], [["a"]])
    assert scores.mean_average_precision != scores.mean_average_precision
    assert scores.queries == 0


def test_paths_are_relative_to_the_file(tmp_path):
    truth = {
        "database": ["a.jpg", "sub/../b.jpg"],
        "queries": [{"query": "q.jpg", "relevant": ["a.jpg"], "junk": ["b.jpg"], "unknown": True}],
        "note": "anything else is left alone",
    }
    (tmp_path / "t.json").write_text(json.dumps(truth))
    got = read_ground_truth(tmp_path / "t.json")
    assert got.database == {str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")}
    (only,) = got.queries
    assert only.file == str(tmp_path / "q.jpg")
    assert only.junk == {str(tmp_path / "b.jpg")}
    assert only.unknown


def test_one_query_by_hand():
    # s is the query, j junk: x is first, a second, y third, b fourth; c is not ranked
    got = judge(query("s", "sabc", junk="j"), list("sxjaybj"))
    assert got == QueryResult({"a": 2, "b": 4}, 3)
    assert (got.ranks, got.first_rank) == ((2, 4), 2)
    assert got.average_precision == pytest.approx((1 / 2 + 2 / 4) / 3)
    nothing = judge(query("s", "a"), list("xyz"))
    assert (nothing.ranks, nothing.first_rank, nothing.average_precision) == ((), None, 0)
    failed = judge(query("s", "a"), None)
    assert failed == QueryResult({}, 1, failed=True)
    unknown = judge(query("s", "s"), list("xyz"))
    assert unknown.n_relevant == 0
    assert unknown.average_precision != unknown.average_precision


RESULTS = [
    QueryResult({"a": 1, "b": 3}, 2),
    QueryResult({"a": 2}, 2),  # the other is not ranked
    QueryResult({}, 0),  # not averaged
    QueryResult({}, 3, failed=True),
]


def test_recall_curve_by_hand():
    assert recall_curve(RESULTS, 3) == [1 / 3, 2 / 3, 2 / 3]
    assert recall_curve(RESULTS, 0) == []
    assert all(share != share for share in recall_curve([QueryResult({}, 0)], 2))
    scores = mean_scores(RESULTS)
    assert scores.recall == {1: 1 / 3, 5: 2 / 3, 10: 2 / 3}
    assert scores.mean_average_precision == pytest.approx(((1 + 2 / 3) / 2 + 1 / 4 + 0) / 3)
    assert (scores.queries, scores.not_averaged, scores.failed) == (3, 1, 1)


def test_precision_and_recall_by_hand():
    # first: 1 up to recall .5, then 2/3; second: 1/2 up to .5, then never; third: never
    got = precision_recall(RESULTS)
    assert [recall for recall, _ in got] == [i / 10 for i in range(11)]
    to_half, beyond = (1 + 1 / 2) / 3, (2 / 3) / 3
    assert [p for _, p in got] == pytest.approx([to_half] * 6 + [beyond] * 5)


def test_precision_is_the_highest_from_there_on():
    # 1/4, then 2/5, then 3/6: the last is the highest, and counts for all
    got = precision_recall([QueryResult({"a": 4, "b": 5, "c": 6}, 3)], n=3)
    assert got == [(0, 0.5), (1 / 3, 0.5), (2 / 3, 0.5), (1, 0.5)]
    # 3 of 10 are recall .3 exactly, which 3 / 10 * 10 in floating point might miss
    tenth = precision_recall([QueryResult({"a": 1, "b": 2, "c": 3}, 10)])
    assert [p for _, p in tenth] == [1] * 4 + [0] * 7
    third = precision_recall([QueryResult({"a": 1}, 3)])  # 1/3 is beyond .3, and not .4
    assert [p for _, p in third] == [1] * 4 + [0] * 7


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", "{}", '{"queries": 3}', '{"queries": [{}]}', '{"queries": ["q"]}',
     '{"queries": [{"query": "q", "relevant": 3}]}',
     '{"queries": [{"query": "q", "relevant": "a.jpg"}]}',
     '{"queries": [{"query": "a\\u0000", "relevant": []}]}', '{"queries": [], "database": 3}'],
)  # fmt: skip
def test_other_files_are_refused_by_name(tmp_path, text):
    (tmp_path / "truth.json").write_text(text)
    with pytest.raises(FileFormatError, match=r"truth\.json"):
        read_ground_truth(tmp_path / "truth.json")


def test_missing_or_binary_file(tmp_path):
    with pytest.raises(StorageError, match=r"nothing\.json"):
        read_ground_truth(tmp_path / "nothing.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileFormatError, match="UTF-8"):
        read_ground_truth(tmp_path / "b.json")
