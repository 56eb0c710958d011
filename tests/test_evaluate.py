"""Average precision and recall by hand; ground-truth files, good and bad."""

from __future__ import annotations

import json

import pytest

from vladkit.errors import FileFormatError, StorageError
from vladkit.evaluate import Query, average_precision, read_ground_truth, summarize


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
