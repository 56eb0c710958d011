"""Protocols of the field: layouts, and every figure by hand for rankings that are set."""

from __future__ import annotations

import json
import math
import os
import shutil
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from commands import run
from images import textured
from paths import ROOT
from photos import cropped, darker, photo, smaller
from vladkit import Collection
from vladkit.collection import evaluation
from vladkit.errors import FileFormatError, NothingToIndexError, ParameterError, StorageError
from vladkit.evaluation.benchmark import ground_truth, recall_figures
from vladkit.evaluation.datasets import read_benchmark
from vladkit.evaluation.metrics import QueryRanks, average_precision, trapezoid_precision
from vladkit.images import Region


class TestTrapezoids:
    @pytest.mark.parametrize(
        ("ranks", "n", "wanted"),
        [
            ([1, 2], 2, 1.0),
            ([1, 3], 2, (1 + (1 / 2 + 2 / 3) / 2) / 2),
            ([2], 1, 1 / 4),
            ([1], 2, 1 / 2),  # one was not found
            ([], 3, 0.0),
        ],
    )
    def test_by_hand(self, ranks, n, wanted):
        assert trapezoid_precision(ranks, n) == pytest.approx(wanted)

    def test_area_below_the_whole_curve_and_never_above_the_sum(self):
        rng = np.random.default_rng(0)
        for _ in range(200):
            n = int(rng.integers(1, 30))
            is_right = rng.random(n) < rng.random()
            n_relevant = int(is_right.sum() + rng.integers(0, 3))
            if not n_relevant:
                continue
            area, recall, precision, hits = 0.0, 0.0, 1.0, 0
            for i, right in enumerate(is_right):
                hits += int(right)
                before = recall, precision
                recall, precision = hits / n_relevant, hits / (i + 1)
                area += (recall - before[0]) * (precision + before[1]) / 2
            ranks = (np.flatnonzero(is_right) + 1).tolist()
            got = trapezoid_precision(ranks, n_relevant)
            assert got == pytest.approx(area)
            assert got <= average_precision(ranks, n_relevant) + 1e-12


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A folder of twelve images, 00.png to 11.png, and a collection of them."""
    home = tmp_path_factory.mktemp("benchmarks")
    (home / "p").mkdir()
    for i in range(12):
        cv2.imwrite(str(home / "p" / f"{i:02}.png"), textured(120, 90, seed=i))
    return home / "p"


class Set:
    """Images under other names, indexed, and rankings for the queries, in their order."""

    def __init__(self, plain, folder, names, monkeypatch):
        self.files = {}
        for name, source in zip(names, sorted(plain.iterdir()), strict=False):
            self.files[name] = folder / name
            self.files[name].parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, self.files[name])
        self.monkeypatch = monkeypatch
        self.folder = folder

    def index(self, *sources):
        self.collection = Collection.create(
            self.folder.parent / "c.vlad", n_clusters=4, enlarge_to=0, n_words=0
        )
        self.collection.add([self.folder / source for source in sources])
        return self.collection

    def ranked(self, *orders):
        """Set the scores of the queries: for each all file names, the best first."""
        images = list(self.collection.images())
        ids = np.array([row.image_id for row in images])
        names = [os.path.basename(row.path) for row in images]
        left = iter(orders)

        def scores(query_qvD, allowed=None):
            rows = []
            for _ in query_qvD:
                order = next(left)
                rows.append([-order.index(n) if n in order else -99 for n in names])
            return ids, np.array(rows, np.float32)

        self.monkeypatch.setattr(self.collection.index.searcher, "scores", scores)


@pytest.fixture
def make(plain, tmp_path, monkeypatch):
    made = []

    def one(names):
        made.append(Set(plain, tmp_path / "set", names, monkeypatch))
        return made[-1]

    yield one
    for each in made:
        if hasattr(each, "collection"):
            each.collection.close()


def place(east, north=4000000.0, rest="x"):
    return f"@{east:.2f}@{north:.2f}@17@T@@@@{rest}@.png"


class TestVpr:
    DATABASE = (place(0), place(30), place(100), place(131.0))
    QUERIES = (place(10), place(125), place(500), place(12, rest="again"))

    @pytest.fixture(params=["images/test", "images", "."])
    def layout(self, request):
        return request.param

    def test_what_is_within_25_metres(self, make, layout):
        names = [f"{layout}/database/sub/{n}" for n in self.DATABASE]
        made = make([*names, *(f"{layout}/queries/{n}" for n in self.QUERIES)])
        benchmark = read_benchmark("vpr", made.folder)
        assert {os.path.basename(f) for f in benchmark.database} == set(self.DATABASE)
        near = {
            os.path.basename(query.file): {
                os.path.basename(f) for f in query.relevance[""].relevant
            }
            for query in benchmark.queries
        }
        d = self.DATABASE
        assert near == {
            place(10): {d[0], d[1]},
            place(12, rest="again"): {d[0], d[1]},
            place(125): {d[2], d[3]},  # 25 m is within
            place(500): set(),
        }

    def test_recall_over_all_queries(self, make):
        made = make(
            [*(f"database/{n}" for n in self.DATABASE), *(f"queries/{n}" for n in self.QUERIES)]
        )
        collection = made.index("database")
        benchmark = read_benchmark("vpr", made.folder)
        d = self.DATABASE
        orders = {
            place(10): (d[2], d[1], d[0], d[3]),  # 2nd
            place(125): (d[2], d[0], d[1], d[3]),  # 1st
            place(500): d,  # nothing to find: missed
            place(12, rest="again"): (d[3], d[2], d[0], d[1]),  # 3rd
        }
        made.ranked(*(orders[os.path.basename(query.file)] for query in benchmark.queries))
        outcome = collection.evaluate(benchmark)
        assert outcome.figures == {
            "": {"recall@1": 1 / 4, "recall@5": 3 / 4, "recall@10": 3 / 4, "recall@20": 3 / 4}
        }
        assert outcome.queries == {"": 4}
        assert outcome.remarks == ["1 queries have no image within 25 m: they count as missed"]

    def test_ranks_are_counted_from_one(self):
        measured = {k: [] for k in (1, 5, 10, 20)}
        for rank in (1, 2, 5, 6, 10, 11, 20, 21):
            figures = recall_figures([QueryRanks((rank,), 1)])
            for k, found in measured.items():
                found.append(figures[f"recall@{k}"])
        assert measured == {
            1: [1, 0, 0, 0, 0, 0, 0, 0],
            5: [1, 1, 1, 0, 0, 0, 0, 0],
            10: [1, 1, 1, 1, 1, 0, 0, 0],
            20: [1, 1, 1, 1, 1, 1, 1, 0],
        }

    def test_a_query_that_cannot_be_read_is_missed(self, make):
        made = make([*(f"database/{n}" for n in self.DATABASE), f"queries/{self.QUERIES[0]}"])
        (made.folder / "queries" / place(10, rest="bad")).write_bytes(b"no image")
        collection = made.index("database", "queries")
        made.ranked(self.DATABASE)
        outcome = collection.evaluate(read_benchmark("vpr", made.folder), progress=print)
        assert outcome.failed == 1
        assert outcome.figures[""]["recall@1"] == 1 / 2
        assert any("bad" in remark for remark in outcome.remarks)
        assert "1 indexed images are not in the database: left out" in outcome.remarks

    def test_photographs_from_end_to_end(self, tmp_path):
        for i, name in enumerate(["astronaut", "chelsea", "coffee", "rocket", "retina"]):
            for folder, view in (("database", lambda image: image), ("queries", darker)):
                (tmp_path / "images" / folder).mkdir(parents=True, exist_ok=True)
                small = cv2.resize(photo(name), (300, 220), interpolation=cv2.INTER_AREA)
                file = tmp_path / "images" / folder / place(1000 * (i % 4))
                if i == 4:  # seen where the first is: a wrong place for what it shows
                    file = file.with_name(place(1000 if folder == "queries" else 0, rest="y"))
                cv2.imwrite(str(file), view(small))
        run("index", tmp_path / "images" / "database", "-o", tmp_path / "c")
        done = run("eval", tmp_path / "c", tmp_path, "--protocol", "vpr", "--json")
        got = json.loads(done.stdout)
        assert got == {
            "protocol": "vpr",
            "recall@1": 0.8,
            "recall@5": 1.0,
            "recall@10": 1.0,
            "recall@20": 1.0,
            "queries": 5,
            "failed": 0,
            "remarks": [],
        }

    @pytest.mark.parametrize(
        "name", ["plain.png", "@1.png", "@a@b@.png", "@1@2.png", "@nan@2@.png", "@inf@2@.png"]
    )
    def test_names_without_a_place_are_refused(self, make, name):
        made = make([f"database/{place(1)}", f"queries/{name}"])
        with pytest.raises(FileFormatError, match="wanted @UTM_east@UTM_north@"):
            read_benchmark("vpr", made.folder)

    def test_other_folders_are_refused(self, make, tmp_path):
        made = make([f"database/{place(1)}"])
        with pytest.raises(FileFormatError, match="images/test/database"):
            read_benchmark("vpr", made.folder)
        (made.folder / "queries").mkdir()
        with pytest.raises(FileFormatError, match="queries holds no image"):
            read_benchmark("vpr", made.folder)
        with pytest.raises(StorageError, match="does not exist"):
            read_benchmark("vpr", tmp_path / "nothing")


class TestHolidays:
    NAMES = ("100000.png", "100001.png", "100002.png", "100100.png", "100101.png", "100200.png")

    def test_mean_average_precision(self, make):
        made = make(["a/" + name for name in self.NAMES])
        collection = made.index(".")
        benchmark = read_benchmark("holidays", made.folder)
        assert [os.path.basename(query.file) for query in benchmark.queries] == [
            "100000.png", "100100.png", "100200.png",
        ]  # fmt: skip
        q, a, b, r, c, s = self.NAMES
        made.ranked((q, a, c, b, r, s), (c, q, r, a, b, s), (s, q, a, b, c, r))
        # the query is dropped from its ranking: ranks 1, 3 of 2 and 1 of 1; the third has none
        outcome = collection.evaluate(benchmark)
        trapezoids = (1 + (1 / 2 + 2 / 3) / 2) / 2
        assert outcome.figures[""]["mAP"] == pytest.approx((trapezoids + 1) / 2)
        assert outcome.figures[""]["mAP_sum"] == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)
        assert outcome.queries == {"": 2}

    def test_photographs_give_what_evaluate_gives(self, tmp_path):
        (tmp_path / "p").mkdir()
        for i, name in enumerate(["astronaut", "brick", "chelsea", "coffee", "grass", "gravel"]):
            small = cv2.resize(photo(name), (300, 220), interpolation=cv2.INTER_AREA)
            views = (small, cropped(small), smaller(smaller(small)), np.rot90(cropped(small)))
            for j, view in enumerate(views):
                cv2.imwrite(str(tmp_path / "p" / f"{1000 + i}{j:02}.png"), view)
        recipe = {"n_clusters": 2, "max_features": 30, "n_words": 0}
        recipe |= {"n_vocabularies": 1, "rotation": 128}
        with Collection.create(tmp_path / "c", **recipe) as collection:
            collection.add([tmp_path / "p"])
            benchmark = read_benchmark("holidays", tmp_path / "p")
            truth = ground_truth({q.file: q.relevance[""].relevant for q in benchmark.queries})
            found = []
            for rerank in (0, 5):
                figures = collection.evaluate(benchmark, rerank=rerank, n_jobs=2).figures[""]
                plain = collection.evaluate(truth, rerank=rerank).figures[""]
                assert figures["mAP_sum"] == plain["mAP"]
                assert figures["mAP"] <= figures["mAP_sum"]
                found.append(figures["mAP"])
        assert 0.3 < found[0] < found[1]

    def test_refused(self, make, tmp_path):
        with pytest.raises(FileFormatError, match=r"named like 100000\.jpg"):
            read_benchmark("holidays", make(["a/12.png", "a/abc.png"]).folder)
        with pytest.raises(FileFormatError, match="no query"):
            read_benchmark("holidays", make(["b/100001.png"]).folder)
        make(["c/100000.png", "d/100000.png"])
        with pytest.raises(FileFormatError, match="have one number"):
            read_benchmark("holidays", tmp_path / "set")
        with pytest.raises(FileFormatError, match="is not a folder"):
            read_benchmark("holidays", tmp_path / "set" / "c" / "100000.png")


class TestUkbench:
    NAMES = tuple(f"ukbench{i:05}.png" for i in range(8))

    def test_how_many_of_four(self, make):
        made = make(self.NAMES)
        collection = made.index(".")
        n = self.NAMES
        first, last = list(n), list(reversed(n))
        mixed = [n[0], n[4], n[1], n[5], n[2], n[3], n[6], n[7]]
        made.ranked(first, first, mixed, last, first, last, last, mixed)
        outcome = collection.evaluate(read_benchmark("ukbench", made.folder), rerank=0)
        assert outcome.figures == {"": {"N-S": (4 + 4 + 2 + 0 + 0 + 4 + 4 + 2) / 8}}
        assert outcome.remarks == []

    def test_an_object_of_fewer(self, make):
        made = make(self.NAMES[:6])
        benchmark = read_benchmark("ukbench", made.folder)
        assert benchmark.remarks == (
            "1 of 2 objects have fewer than four images: N-S is lower for it",
        )


class TestRevisited:
    CONTENT: ClassVar[dict[str, Any]] = {
        "imlist": ["a", "b", "c", "d", "e", "f"],
        "qimlist": ["q0", "q1"],
        "gnd": [
            {"easy": [0, 2], "hard": [4], "junk": [1], "bbx": [10.4, 5, 90.6, 80]},
            {"easy": [], "hard": [5], "junk": [], "bbx": [-3, 0, 500, 500.0]},
        ],
    }

    @pytest.fixture
    def made(self, make):
        made = make([f"jpg/{n}.jpg" for n in "abcdef"] + ["jpg/q0.jpg", "jpg/q1.jpg"])
        (made.folder / "gnd.json").write_text(json.dumps(self.CONTENT))
        return made

    def test_three_levels(self, made):
        collection = made.index(".")
        made.ranked(*[[f"{n}.jpg" for n in "beadcf"]] * 2)
        for name in ("roxford", "rparis"):
            outcome = collection.evaluate(read_benchmark(name, made.folder / "gnd.json"))
            made.ranked(*[[f"{n}.jpg" for n in "beadcf"]] * 2)
        # easy: b and e are ignored: a 1, c 3. medium: e 1, a 2, c 4; f 6. hard: e 1; f 6
        easy = (1 + (1 / 2 + 2 / 3) / 2) / 2
        medium = (1 + 1 + (2 / 3 + 3 / 4) / 2) / 3, (0 / 5 + 1 / 6) / 2
        wanted = {
            "easy": {"mAP": easy, "mP@1": 1, "mP@5": 2 / 3, "mP@10": 2 / 3},
            "medium": {
                "mAP": sum(medium) / 2,
                "mP@1": (1 + 0) / 2,
                "mP@5": (3 / 4 + 0) / 2,
                "mP@10": (3 / 4 + 1 / 6) / 2,
            },
            "hard": {
                "mAP": (1 + medium[1]) / 2,
                "mP@1": (1 + 0) / 2,
                "mP@5": (1 + 0) / 2,
                "mP@10": (1 + 1 / 6) / 2,
            },
        }
        assert list(outcome.figures) == list(wanted)
        for level, figures in wanted.items():
            assert outcome.figures[level] == pytest.approx(figures), level
        assert outcome.queries == {"easy": 1, "medium": 2, "hard": 2}
        assert outcome.remarks == ["2 indexed images are not in the database: left out"]

    def test_the_query_is_the_part_in_the_box(self, made, monkeypatch):
        queries = read_benchmark("roxford", made.folder / "gnd.json").queries
        assert [query.region for query in queries] == [
            Region(10, 5, 81, 75),
            Region(0, 0, 500, 500),
        ]
        collection = made.index(".")
        made.ranked(*[[f"{n}.jpg" for n in "abcdef"]] * 2)
        asked = []
        extract = evaluation.extract

        def watched(extractor, file, region):
            asked.append((os.path.basename(file), region))
            return extract(extractor, file, region)

        monkeypatch.setattr(evaluation, "extract", watched)
        collection.evaluate(read_benchmark("roxford", made.folder / "gnd.json"), n_jobs=1)
        assert asked == [("q0.jpg", Region(10, 5, 81, 75)), ("q1.jpg", Region(0, 0, 500, 500))]

    def test_a_box_beyond_its_image(self, made):
        """As of images that were made smaller: the query fails and is named, the others count."""
        first, second = self.CONTENT["gnd"]
        beyond = [first, second | {"bbx": [5000, 5000, 6000, 6000]}]
        (made.folder / "gnd.json").write_text(json.dumps(self.CONTENT | {"gnd": beyond}))
        collection = made.index("jpg")
        outcome = collection.evaluate(read_benchmark("roxford", made.folder / "gnd.json"))
        assert (outcome.asked, outcome.failed) == (2, 1)
        (remark,) = [each for each in outcome.remarks if each.startswith("query ")]
        assert f"query {made.folder / 'jpg' / 'q1.jpg'}: region 5000,5000,1000,1000 is" in remark

    def test_what_is_not_indexed_counts_as_not_found(self, made):
        (made.folder / "jpg" / "c.jpg").unlink()
        collection = made.index("jpg")
        made.ranked(*[[f"{n}.jpg" for n in "beadf"]] * 2)
        outcome = collection.evaluate(read_benchmark("roxford", made.folder / "gnd.json"))
        assert outcome.figures["easy"]["mAP"] == pytest.approx(1 / 2)
        assert "1 of 6 database images are not indexed" in outcome.remarks
        for name in "abdef":
            collection.remove([f"{name}.jpg"])
        with pytest.raises(NothingToIndexError, match=r"holds no image .*/a\.jpg"):
            collection.evaluate(read_benchmark("roxford", made.folder / "gnd.json"))

    def test_table_and_json(self, made):
        made.index("jpg")
        truth = made.folder / "gnd.json"
        done = run("eval", made.collection.path, truth, "--protocol", "rparis")
        head, *rows, counts = done.stdout.splitlines()
        assert head.split() == ["easy", "medium", "hard"]
        assert [row.split()[0] for row in rows] == ["mAP", "mP@1", "mP@5", "mP@10"]
        assert counts == "over 1 easy, 2 medium, 2 hard queries; 0 failed"
        shown = run("eval", made.collection.path, truth, "--protocol", "rparis", "--json", "-r", 2)
        got = json.loads(shown.stdout)
        assert set(got) == {"protocol", "easy", "medium", "hard", "failed", "remarks"}
        plain = made.collection.evaluate(read_benchmark("rparis", truth))
        for row in rows:
            name, *values = row.split()
            wanted = [figures[name] for figures in plain.figures.values()]
            np.testing.assert_allclose([float(v) for v in values], wanted, atol=1e-4)

    @pytest.mark.parametrize(
        "change",
        [{"imlist": None}, {"imlist": [1]}, {"qimlist": ["q0"]}, {"gnd": 3},
         {"gnd": [{"easy": [9], "hard": [], "junk": [], "bbx": [0, 0, 9, 9]}] * 2},
         {"gnd": [{"easy": [-1], "hard": [], "junk": [], "bbx": [0, 0, 9, 9]}] * 2},
         {"gnd": [{"easy": [], "hard": [], "junk": [], "bbx": [0, 0, 9]}] * 2},
         {"gnd": [{"easy": [], "hard": [], "junk": [], "bbx": [5, 5, 5, 9]}] * 2},
         {"gnd": [{"easy": [], "hard": [], "junk": [], "bbx": [0, 0, 9, float("inf")]}] * 2},
         {"gnd": [{"easy": [], "hard": []}] * 2}, {"qimlist": ["q\0", "q1"]},
         {"qimlist": ["q\udfff", "q1"]}],
    )  # fmt: skip
    def test_other_files_are_refused_by_name(self, tmp_path, change):
        (tmp_path / "g.json").write_text(json.dumps(self.CONTENT | change))
        with pytest.raises(FileFormatError, match=r"g\.json is not a ground truth"):
            read_benchmark("roxford", tmp_path / "g.json")

    def test_a_pickle_is_never_opened(self, tmp_path):
        (tmp_path / "gnd_roxford5k.pkl").write_bytes(b"cos\nsystem\n(S'touch x'\ntR.")
        with pytest.raises(FileFormatError, match="as it can run any program"):
            read_benchmark("roxford", tmp_path / "gnd_roxford5k.pkl")
        with pytest.raises(FileFormatError, match="give the ground truth as JSON"):
            read_benchmark("roxford", tmp_path)
        (tmp_path / "g.json").write_text("{")
        with pytest.raises(FileFormatError, match="is not JSON"):
            read_benchmark("roxford", tmp_path / "g.json")

    def test_the_lines_of_the_docs_convert_a_pickle(self, tmp_path, monkeypatch):
        """What docs/how-to/evaluation.md says to run, on a file such as the benchmark's."""
        import pickle
        import re

        page = ROOT / "docs" / "how-to" / "evaluation.md"
        code = next(
            block
            for block in re.findall(r"```py\n(.*?)```", page.read_text(), re.DOTALL)
            if "pickle" in block
        )
        truth = {"easy": np.array([1]), "hard": np.array([], int), "junk": [0], "bbx": np.ones(4)}
        content = {"imlist": ["a", "b"], "qimlist": ["q"], "gnd": [truth]}
        (tmp_path / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(content))
        monkeypatch.chdir(tmp_path)
        exec(compile(code, "evaluation.md", "exec"), {})
        got = json.loads((tmp_path / "gnd_roxford5k.json").read_text())
        truth = {"easy": [1], "hard": [], "junk": [0], "bbx": [1.0] * 4}
        assert got == content | {"gnd": [truth]}


def test_wrong_use(plain, tmp_path):
    with pytest.raises(ParameterError, match="use vpr, holidays, roxford, rparis, ukbench"):
        read_benchmark("oxford", plain)
    shutil.copy(plain / "00.png", tmp_path / "100000.png")
    benchmark = read_benchmark("holidays", tmp_path)
    with Collection.create(
        tmp_path / "c", n_clusters=4, keep_features=0, enlarge_to=0
    ) as collection:
        collection.add([tmp_path])
        for rerank, message in ((-1, "give a number"), (3, "keeps no features")):
            with pytest.raises(ParameterError, match=message):
                collection.evaluate(benchmark, rerank=rerank)
        only = collection.evaluate(benchmark)
    assert math.isnan(only.figures[""]["mAP"])  # nothing to find with the only query
    done = run("eval", tmp_path / "c", tmp_path, "--protocol", "holidays", "--json")
    assert json.loads(done.stdout)["mAP"] is None
