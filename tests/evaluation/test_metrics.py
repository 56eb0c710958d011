"""Metrics by hand, on ranks and on index arrays; ground-truth files, good and bad."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vladkit.errors import FileFormatError, ParameterError, StorageError
from vladkit.evaluation.benchmark import ground_truth, read_ground_truth
from vladkit.evaluation.metrics import (
    QueryRanks,
    average_precision,
    find_ranks,
    mean_average_precision,
    mean_precision_at,
    order_of,
    precision_at,
    precision_recall,
    recall,
    recall_at,
    recall_curve,
    trapezoid_precision,
)


@pytest.mark.parametrize(
    ("ranks", "n_relevant", "wanted"),
    [
        ([1, 2], 2, 1.0),
        ([2, 3], 2, (1 / 2 + 2 / 3) / 2),
        ([3], 2, (1 / 3) / 2),  # one is missing: counts as 0
        ([], 1, 0.0),
    ],
)
def test_average_precision(ranks, n_relevant, wanted):
    assert average_precision(ranks, n_relevant) == pytest.approx(wanted)


@pytest.mark.parametrize("figure", [average_precision, trapezoid_precision])
@pytest.mark.parametrize(
    ("ranks", "n_relevant", "message"),
    [
        ([1, 1], 2, "rank 1 follows 1"),
        ([2, 1], 2, "rank 1 follows 2"),
        ([0, 1], 2, "rank 0 follows 0"),
        ([-3], 1, "rank -3 follows 0"),
        ([1, float("nan")], 2, "rank nan"),
        ([1, 1], 1, "2 ranks for n_relevant=1"),
        ([1, 2, 3], 2, "3 ranks for n_relevant=2"),
        ([], 0, "0 ranks for n_relevant=0"),
        ([], 1.5, "0 ranks for n_relevant=1.5"),
        ([1, 2], True, "2 ranks for n_relevant=True"),
        ([1.5], 2, "rank 1.5 follows 0"),
        ([True], 2, "rank True follows 0"),
        (["1"], 2, "rank '1' follows 0"),
    ],
)
def test_ranks_that_cannot_be(figure, ranks, n_relevant, message):
    """Of these, scripts that count positions make a precision of 2."""
    with pytest.raises(ParameterError, match=message):
        figure(iter(ranks), n_relevant)
    if n_relevant:
        with pytest.raises(ParameterError, match=message):
            precision_recall([QueryRanks(tuple(ranks), n_relevant)])
        with pytest.raises(ParameterError, match=message):
            _ = QueryRanks(tuple(ranks), n_relevant).average_precision


def test_numbers_of_curves():
    found = [QueryRanks((1,), 1)]
    for n in (1.5, -1, "2", True):
        with pytest.raises(ParameterError, match=r"n=.*: wanted an integer from 0"):
            recall_curve(found, n)
    for n in (0, 1.5, -1, True):
        with pytest.raises(ParameterError, match=r"n=.*: wanted an integer from 1"):
            precision_recall(found, n)
    with pytest.raises(ParameterError, match="k=0: wanted an integer from 1"):
        recall(found, 0)


def test_precision_at():
    assert precision_at(np.array([1, 3, 4]), 10) == 0.75
    for ranks, k in (([1, 1], 2), ([3, 2], 2), ([0], 1), ([1], 0), ([1], 1.5)):
        with pytest.raises(ParameterError):
            precision_at(ranks, k)


def codes(letters):
    return [ord(letter) for letter in letters]


def find(ranking, relevant, ignored=""):
    return find_ranks(codes(ranking), codes(relevant), codes(ignored))


def test_one_query_by_hand():
    # s is the query, j junk: x is first, a second, y third, b fourth; c is not ranked
    got = find("sxjayb", "sabc", ignored="sj")
    assert got == QueryRanks((2, 4), 3)
    assert got.first_rank == 2
    assert got.average_precision == pytest.approx((1 / 2 + 2 / 4) / 3)
    nothing = find("xyz", "a")
    assert (nothing.ranks, nothing.first_rank, nothing.average_precision) == ((), None, 0)
    empty = find("xyz", "s", ignored="s")
    assert empty.n_relevant == 0
    assert empty.average_precision != empty.average_precision


def test_figures_of_a_ground_truth():
    found = [
        find("axb", "ab"),  # a first, b third: (1 + 2/3) / 2
        find("abcx", "c", ignored="ab"),  # c first once a and b are ignored
        find("sxa", "as", ignored="s"),  # itself is dropped: a is then second
        find("abc", ""),  # not averaged
        QueryRanks((), 1, failed=True),  # could not be read
    ]
    outcome = ground_truth({"q": "a"}).outcome([{"": each} for each in found], ["said"])
    figures = outcome.figures[""]
    assert figures.pop("mAP") == pytest.approx(((1 + 2 / 3) / 2 + 1 + 1 / 2 + 0) / 4)
    assert figures == {"recall@1": 2 / 4, "recall@5": 3 / 4, "recall@10": 3 / 4, "recall@20": 3 / 4}
    assert (outcome.queries, outcome.asked, outcome.failed) == ({"": 4}, 5, 1)
    assert outcome.remarks == ["said"]


@pytest.mark.parametrize("found", [[], [QueryRanks((), 0)], [QueryRanks((), 1, failed=True)] * 2])
def test_nothing_to_average_is_not_a_number(found):
    outcome = ground_truth({}).outcome([{"": each} for each in found])
    assert len(outcome.figures[""]) == 5
    assert all(value != value for value in outcome.figures[""].values())
    assert outcome.queries == {"": sum(each.n_relevant for each in found)}


class TestArrays:
    ORDER = np.array([[3, 1, 0, 2], [0, 1, 2, 3], [2, 3, 1, 0]])

    def test_recall_by_hand(self):
        # first positives at ranks 2, 4 and, of the third, nowhere
        got = recall_at(self.ORDER, [[0, 1], np.array([3]), []], ks=[1, 2, 3, 4])
        assert got == {1: 0, 2: 1 / 3, 3: 1 / 3, 4: 2 / 3}
        assert list(recall_at(self.ORDER, [[0], [0], [0]])) == [1, 5, 10, 20]

    def test_recall_counts_ranks_from_one(self):
        order_qn = np.tile(np.arange(30), (6, 1))
        ranks = (1, 5, 6, 10, 20, 21)
        got = recall_at(order_qn, [[rank - 1] for rank in ranks])
        assert got == {1: 1 / 6, 5: 2 / 6, 10: 4 / 6, 20: 5 / 6}

    def test_recall_without_junk(self):
        got = recall_at(self.ORDER, [[0, 1], [3], [0]], ks=[1, 2], ignored=[[3], [0, 1], [3, 1]])
        assert got == {1: 1 / 3, 2: 1.0}

    def test_mean_precision_by_hand(self):
        positives = [[0, 1, 9], [3], []]  # ranks 2, 3 and 4; the third query is not averaged
        got = mean_precision_at(self.ORDER, positives, ks=[1, 2, 3, 4])
        assert got == {1: 0, 2: 1 / 4, 3: 1 / 3, 4: (2 / 4 + 1 / 4) / 2}
        got = mean_precision_at(self.ORDER, positives, ks=[1, 4], ignored=[[3], [0, 1], []])
        assert got == {1: 1 / 2, 4: (2 / 4 + 1 / 4) / 2}
        assert np.isnan(mean_precision_at(self.ORDER, [[]] * 3)[1])
        with pytest.raises(ParameterError, match="k=0"):
            mean_precision_at(self.ORDER, positives, ks=[0])

    @pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int64])
    def test_order_of_equals(self, dtype):
        similarity_qn = np.random.default_rng(0).integers(0, 5, (8, 40)).astype(dtype)
        wanted = [sorted(range(40), key=lambda i: (-int(row[i]), i)) for row in similarity_qn]
        assert order_of(similarity_qn).tolist() == wanted
        assert order_of(similarity_qn, 3).tolist() == [each[:3] for each in wanted]

    def test_order_of_what_has_none(self):
        with pytest.raises(ParameterError, match="similarities of query 1 hold NaN"):
            order_of([[0.0, 1.0], [np.nan, 1.0]])
        with pytest.raises(ParameterError, match=r"float64 of shape \(2,\): wanted numbers"):
            order_of([0.0, 1.0])
        with pytest.raises(ParameterError, match="top=-1"):
            order_of([[0.0]], -1)

    def test_mean_average_precision_by_hand(self):
        positives = [[0, 1, 9], [3], []]  # 9 is not ranked; the third query is not averaged
        wanted = (((1 / 2 + 2 / 3) / 3) + 1 / 4) / 2
        assert mean_average_precision(self.ORDER, positives) == pytest.approx(wanted)
        ignored = [[3], [0, 1], []]
        wanted = ((1 + 1) / 3 + 1 / 2) / 2
        assert mean_average_precision(self.ORDER, positives, ignored) == pytest.approx(wanted)
        assert np.isnan(mean_average_precision(self.ORDER, [[]] * 3))

    def test_as_scikit_learn(self):
        from sklearn.metrics import average_precision_score

        rng = np.random.default_rng(0)
        score_qn = rng.normal(size=(20, 50))
        right_qn = rng.random((20, 50)) < 0.1
        right_qn[:, 0] = True
        wanted = [average_precision_score(*each) for each in zip(right_qn, score_qn, strict=True)]
        order_qn = np.argsort(-score_qn, axis=1)
        got = mean_average_precision(order_qn, [np.flatnonzero(r) for r in right_qn])
        assert got == pytest.approx(np.mean(wanted))

    def test_wrong_arguments(self):
        with pytest.raises(ParameterError, match=r"3 rankings, 2 lists of positives"):
            recall_at(self.ORDER, [[0], [1]])
        with pytest.raises(ParameterError, match=r"1 of ignored ones"):
            mean_average_precision(self.ORDER, [[0]] * 3, [[1]])
        with pytest.raises(ParameterError, match=r"relevant is bool .* numpy\.flatnonzero"):
            recall_at(self.ORDER, np.ones((3, 4), bool))
        with pytest.raises(ParameterError, match=r"order_n is float64 .* numpy\.argsort"):
            recall_at(self.ORDER / 4, [[0]] * 3)
        with pytest.raises(ParameterError, match=r"order_n is int64 of shape \(4, 1\)"):
            recall_at(self.ORDER[..., None], [[0]] * 3)
        for ks in ((0,), (1, -1), (1.5,), (True,), (float("nan"),), ("1",), [[1]], (None,)):
            for figure in (recall_at, mean_precision_at):
                with pytest.raises(ParameterError, match=r"k=.*wanted an integer from 1"):
                    figure(self.ORDER, [[0]] * 3, ks)
                with pytest.raises(ParameterError, match="ks=5: wanted integers"):
                    figure(self.ORDER, [[0]] * 3, 5)
        for positives in (3, None):
            with pytest.raises(ParameterError, match=f"positives={positives}: wanted a list"):
                recall_at(self.ORDER, positives)
        with pytest.raises(ParameterError, match=r"ignored=1\.5: wanted a list"):
            recall_at(self.ORDER, [[0]] * 3, ignored=1.5)
        with pytest.raises(ParameterError, match=r"order_qn has shape \(\)"):
            recall_at(7, [[0]] * 3)
        with pytest.raises(ParameterError, match=r"index 7 is twice in one ranking"):
            find_ranks([5, 7, 7], [7])

    def test_minus_one_is_no_image(self):
        """Faiss fills up its results with it; a right image it never is."""
        assert find_ranks([-1, 2, -1, 0, -1], [0]) == QueryRanks((2,), 1)
        assert mean_average_precision([[2, 0, -1, -1], [1, -1, -1, -1]], [[0], [3]]) == 0.25
        assert recall_at([[2, -1], [-1, -1]], [[2], [2]], ks=(1, 2)) == {1: 0.5, 2: 0.5}
        with pytest.raises(ParameterError, match="relevant holds -1: wanted indices"):
            mean_average_precision([[0, 1, 2]], [[0, -1]])
        with pytest.raises(ParameterError, match="ignored holds -3: wanted indices"):
            recall_at([[0, 1, 2]], [[0]], ignored=[[-3]])
        with pytest.raises(ParameterError, match="order_n holds -2: wanted indices"):
            mean_precision_at([[0, -2, 2]], [[0]])


def test_paths_are_relative_to_the_file(tmp_path):
    truth = {
        "database": ["a.jpg", "sub/../b.jpg"],
        "queries": [{"query": "q.jpg", "relevant": ["a.jpg"], "junk": ["b.jpg"], "unknown": True}],
        "note": "anything else is left alone",
    }
    (tmp_path / "t.json").write_text(json.dumps(truth))
    got = read_ground_truth(tmp_path / "t.json")
    a, b, q = (str(tmp_path / f"{name}.jpg") for name in "abq")
    assert got.database == {a, b}
    (only,) = got.queries
    assert only.file == q
    assert only.relevance[""].relevant == {a}
    assert only.relevance[""].ignored == {b, q}
    assert only.unknown


RESULTS = [
    QueryRanks((1, 3), 2),
    QueryRanks((2,), 2),  # the other is not ranked
    QueryRanks((), 3, failed=True),
]


def test_recall_curve_by_hand():
    assert recall_curve(RESULTS, 3) == [1 / 3, 2 / 3, 2 / 3]
    assert recall_curve(RESULTS, 0) == []
    assert all(share != share for share in recall_curve([], 2))


def test_precision_and_recall_by_hand():
    # first: 1 up to recall .5, then 2/3; second: 1/2 up to .5, then never; third: never
    got = precision_recall([*RESULTS, QueryRanks((), 0)])  # the last is not averaged
    assert [recall for recall, _ in got] == [i / 10 for i in range(11)]
    to_half, beyond = (1 + 1 / 2) / 3, (2 / 3) / 3
    assert [p for _, p in got] == pytest.approx([to_half] * 6 + [beyond] * 5)
    assert all(p != p for _, p in precision_recall([]))


def test_precision_is_the_highest_from_there_on():
    # 1/4, then 2/5, then 3/6: the last is the highest, and counts for all
    got = precision_recall([QueryRanks((4, 5, 6), 3)], n=3)
    assert got == [(0, 0.5), (1 / 3, 0.5), (2 / 3, 0.5), (1, 0.5)]
    # 3 of 10 are recall .3 exactly, which 3 / 10 * 10 in floating point might miss
    tenth = precision_recall([QueryRanks((1, 2, 3), 10)])
    assert [p for _, p in tenth] == [1] * 4 + [0] * 7
    third = precision_recall([QueryRanks((1,), 3)])  # 1/3 is beyond .3, and not .4
    assert [p for _, p in third] == [1] * 4 + [0] * 7


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", "{}", '{"queries": 3}', '{"queries": [{}]}', '{"queries": ["q"]}',
     '{"queries": [{"query": "q", "relevant": 3}]}',
     '{"queries": [{"query": "q", "relevant": "a.jpg"}]}',
     '{"queries": [{"query": "q", "relevant": [], "unknown": "false"}]}',
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
