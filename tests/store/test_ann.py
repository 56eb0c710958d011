"""Approximate search: what it finds, and when a file is of no use."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import faiss
import numpy as np
import pytest

from vladkit.errors import InputError, StorageError
from vladkit.store import ann
from vladkit.store.ann import build_ann, open_ann
from vladkit.store.exact import score_all

STAMP = "3000 images, last 17"


def scenes(n=3000, size=32, seed=0):
    """(image_id_n, vector_nD): unit vectors, ten around each centre; ids far apart."""
    rng = np.random.default_rng(seed)
    center_nD = rng.normal(size=(-(-n // 10), size)).repeat(10, axis=0)[:n]
    vector_nD = center_nD + 0.5 * rng.normal(size=(n, size))
    vector_nD /= np.linalg.norm(vector_nD, axis=1, keepdims=True)
    return rng.permutation(n) * 7 + 2**40, vector_nD.astype(np.float16)


def in_blocks(id_n, vector_nD, step=700):
    return lambda: (
        (id_n[i : i + step], vector_nD[i : i + step]) for i in range(0, len(id_n), step)
    )


def made(path, id_n, vector_nD, **options):
    blocks = in_blocks(id_n, vector_nD)
    return build_ann(blocks, len(id_n), vector_nD.shape[1], path, **{"stamp": STAMP} | options)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    path = tmp_path_factory.mktemp("ann") / "c.vlad.ann"
    id_n, vector_nD = scenes()
    return path, id_n, vector_nD, made(path, id_n, vector_nD)


class TestFinding:
    def test_recall_is_what_was_said_and_wanted(self, built):
        path, id_n, vector_nD, report = built
        assert report.recall >= 0.98
        assert report.n_cells == math.isqrt(3000)
        assert report.scanned < 0.6
        assert report.n_sampled == 100
        rng = np.random.default_rng(1)
        own_q = rng.choice(len(id_n), 300, replace=False)
        found_qn, _ = open_ann(path, STAMP).search(vector_nD[own_q].astype(np.float32), 101)
        _, score_qn = score_all(vector_nD[own_q].astype(np.float32), in_blocks(id_n, vector_nD)())
        hits = 0
        for own, found_n, score_n in zip(own_q, found_qn, score_qn, strict=True):
            score_n[own] = -2
            hits += np.isin(id_n[np.argsort(-score_n)[:10]], found_n).sum()
        assert hits / 3000 == pytest.approx(report.recall, abs=0.03)

    def test_more_is_looked_through_for_more_recall(self, tmp_path):
        """Directions without any neighbourhood: the cells are of little help."""
        rng = np.random.default_rng(3)
        vector_nD = rng.normal(size=(2000, 64))
        vector_nD /= np.linalg.norm(vector_nD, axis=1, keepdims=True)
        lax = made(tmp_path / "a", np.arange(2000), vector_nD.astype("f4"), target_recall=0.3)
        strict = made(tmp_path / "a", np.arange(2000), vector_nD.astype("f4"), target_recall=0.99)
        assert 0.3 <= lax.recall < 0.99 <= strict.recall
        assert lax.n_probes < strict.n_probes
        assert lax.scanned < 0.5 < strict.scanned

    def test_each_finds_itself_with_its_id_and_score(self, built):
        path, id_n, vector_nD, _ = built
        found_qn, score_qn = open_ann(path, STAMP).search(vector_nD.astype(np.float32), 10)
        assert found_qn.dtype == np.int64
        assert score_qn.dtype == np.float32
        assert (found_qn[:, 0] == id_n).mean() > 0.999
        assert (np.diff(score_qn, axis=1) <= 0).all()
        row_of = {int(i): row for row, i in enumerate(id_n)}
        for q in range(0, 3000, 300):
            exact = [vector_nD[q].astype("f4") @ vector_nD[row_of[i]].astype("f4")
                     for i in found_qn[q].tolist()]  # fmt: skip
            np.testing.assert_allclose(score_qn[q], exact, atol=0.02)

    def test_what_there_is_not_has_no_id(self, built):
        path, _, vector_nD, report = built
        found_qn, score_qn = open_ann(path, STAMP).search(vector_nD[:2].astype(np.float32), 3000)
        assert report.n_probes < report.n_cells
        assert (found_qn[:, -1] == -1).all()
        np.testing.assert_array_equal(np.isneginf(score_qn), found_qn == -1)

    def test_threads_of_faiss_stay_as_they_were(self, built, tmp_path):
        path, id_n, vector_nD, _ = built
        before = faiss.omp_get_max_threads()
        try:
            faiss.omp_set_num_threads(3)
            made(tmp_path / "a", id_n[:200], vector_nD[:200])
            open_ann(path, STAMP).search(vector_nD[:2].astype(np.float32), 3)
            assert faiss.omp_get_max_threads() == 3
        finally:
            faiss.omp_set_num_threads(before)


class TestSmall:
    @pytest.mark.parametrize("n", [1, 2, 3, 11, 39, 41])
    def test_a_few_are_all_found(self, tmp_path, n):
        id_n, vector_nD = scenes(n)
        report = made(tmp_path / "a", id_n, vector_nD)
        assert report.recall == 1 or n == 1
        assert math.isnan(report.recall) == (n == 1)
        query_qD = vector_nD.astype(np.float32)
        found_qn, _ = open_ann(tmp_path / "a", STAMP).search(query_qD, n + 2)
        assert found_qn[:, 0].tolist() == id_n.tolist()
        assert report.n_cells == 1
        assert (np.sort(found_qn[:, :n], axis=1) == np.sort(id_n)).all()

    def test_none_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="no vectors"):
            made(tmp_path / "a", *scenes(0))
        assert not (tmp_path / "a").exists()

    def test_zero_vectors(self, tmp_path):
        """Of images without features: kept, and no query of the recall."""
        id_n, vector_nD = scenes(1000)
        vector_nD[::2] = 0
        report = made(tmp_path / "a", id_n, vector_nD)
        assert report.recall >= 0.98
        assert 30 < report.n_sampled < 70
        index = open_ann(tmp_path / "a", STAMP)
        found_qn, score_qn = index.search(vector_nD[1:2].astype(np.float32), 5)
        assert found_qn[0, 0] == id_n[1]
        found_qn, score_qn = index.search(np.zeros((1, 32), np.float32), 5)
        np.testing.assert_array_equal(score_qn[found_qn >= 0], 0)

    def test_only_zero_vectors(self, tmp_path):
        id_n, vector_nD = scenes(200)
        report = made(tmp_path / "a", id_n, vector_nD * 0)
        assert math.isnan(report.recall)
        assert report.n_sampled == 0
        found_qn, _ = open_ann(tmp_path / "a", STAMP).search(np.ones((1, 32), np.float32), 1)
        assert found_qn[0, 0] in id_n

    def test_all_the_same(self, tmp_path):
        id_n, vector_nD = scenes(500)
        vector_nD[:] = vector_nD[0]
        assert math.isnan(made(tmp_path / "a", id_n, vector_nD).recall)  # any ten are the nearest
        assert made(tmp_path / "a", id_n[:90], vector_nD[:90]).recall == 1

    def test_recall_by_hand(self):
        """Four near (one of them a little longer, so that it scores above the query itself)."""
        near_nD = np.array([[1, 0], [1.01, 0], [0.9, 0.1], [0.8, 0], [0.7, 0]], np.float32)
        far_nD = np.full((9, 2), [0.5, 0], np.float32)  # tie for the places 5 to 10
        truth = ann.Truth(np.array([70]), near_nD[:1])
        truth.add(np.arange(70, 75), near_nD)
        truth.add(np.arange(80, 89), far_nD)
        truth.settle()
        assert truth.recall(np.array([[71, 72, 73, 74, 80, 81, 82, 83, 84, 85]])) == 1
        assert truth.recall(np.array([[71, 72, 73, 74, 83, 84, 85, 86, 87, 88, 80]])) == 1
        assert truth.recall(np.array([[70, 72, 73, 74, 83, 84, 85, 86, 87, 88]])) == 0.9
        assert truth.recall(np.array([[70, 71, 83, 84, -1, -1]])) == pytest.approx(0.3)
        truth.add(np.arange(100, 200), np.full((100, 2), [0.5, 0], np.float32))
        truth.settle()
        assert math.isnan(truth.recall(np.empty((0, 10))))

    def test_training_is_bounded(self, monkeypatch):
        monkeypatch.setattr(ann, "_TRAINING_BYTES", 4 * 256 * 1000)
        assert ann._sizes(10**6, 256) == (1000 // 40, 1000)
        assert ann._sizes(10**6, 10**6) == (1, 1)
        monkeypatch.undo()
        assert ann._sizes(10**6, 256) == (1000, 64000)
        assert ann._sizes(100, 256) == (2, 100)


class TestFile:
    def test_large_seeds_are_not_one(self, tmp_path):
        id_n, vector_nD = scenes(600)
        for seed in (0, 2**40, 2**70):
            made(tmp_path / str(seed), id_n, vector_nD, seed=seed)
        assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 3

    def test_seed_and_vectors_decide_every_byte(self, tmp_path):
        id_n, vector_nD = scenes()
        for name, seed in (("a", 5), ("b", 5), ("c", 6)):
            made(tmp_path / name, id_n, vector_nD, seed=seed)
        a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
        assert a == b != c

    def test_block_size_decides_nothing(self, tmp_path):
        id_n, vector_nD = scenes()
        for name, step in (("a", 100), ("b", 3000)):
            build_ann(in_blocks(id_n, vector_nD, step), 3000, 32, tmp_path / name, stamp=STAMP)
        a, b = (open_ann(tmp_path / name, STAMP) for name in "ab")
        query_qD = vector_nD[:50].astype(np.float32)
        np.testing.assert_array_equal(a.search(query_qD, 10)[0], b.search(query_qD, 10)[0])

    def test_report_is_kept(self, built):
        path, _, _, report = built
        assert open_ann(path, STAMP).report == report

    def test_missing_or_stale(self, built, tmp_path):
        path, *_ = built
        assert open_ann(path, STAMP) is not None
        assert open_ann(path, STAMP + " ") is None
        assert open_ann(tmp_path / "none", STAMP) is None
        assert open_ann(tmp_path, STAMP) is None

    def test_a_pipe_is_not_waited_for(self, tmp_path, monkeypatch):
        monkeypatch.setattr(ann, "_read_about", lambda path: pytest.fail("opened"))
        os.mkfifo(tmp_path / "pipe")
        assert open_ann(tmp_path / "pipe", STAMP) is None

    def test_stale_is_told_without_faiss(self, built):
        path, *_ = built
        code = (
            "import sys; from vladkit.store.ann import open_ann\n"
            f"assert open_ann({str(path)!r}, 'other') is None\nprint('faiss' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert done.stdout.strip() == b"False"

    def test_other_version_of_faiss(self, built, monkeypatch):
        monkeypatch.setattr(faiss, "__version__", "0.9")
        assert open_ann(built[0], STAMP) is None

    def test_other_format(self, built, monkeypatch):
        monkeypatch.setattr(ann, "_FORMAT", 99)
        assert open_ann(built[0], STAMP) is None

    def test_damaged(self, built, tmp_path):
        path, *_ = built
        data = path.read_bytes()
        n_tail = int.from_bytes(data[-16:-8], "little") + 16
        about = json.loads(data[-n_tail:-16])
        bad = tmp_path / "bad"
        parts = [b"", b"x", b"x" * 500, b"\0" * 500]
        parts += [data[:100], data[: len(data) // 2], data[:-1], data[:-n_tail]]
        parts += [data[1000:], data[-n_tail:], data[: -n_tail - 200] + data[-n_tail - 100 :]]
        parts += [data[:-1] + b"?"]
        parts += [data[:-16] + b"\xff" * 8 + data[-8:], data[:-9] + b"\xff" + data[-8:]]
        for part in parts:
            bad.write_bytes(part)
            assert open_ann(bad, STAMP) is None
        for place in range(0, about["n_checked"], 97):  # where faiss would follow a wrong number
            bad.write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
            assert open_ann(bad, STAMP) is None
        for place in range(about["n_checked"], len(data) - n_tail, 9973):  # codes, ids
            bad.write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
            index = open_ann(bad, STAMP)
            assert index is None or index.search(np.ones((1, 32), np.float32), 5)

    def test_what_faiss_cannot_read(self, built, tmp_path):
        """A whole file by our marks, of another kind of index."""
        path, *_ = built
        data = path.read_bytes()
        n_tail = int.from_bytes(data[-16:-8], "little") + 16
        about = json.loads(data[-n_tail:-16])
        flat = faiss.serialize_index(faiss.IndexFlatIP(32)).tobytes()
        for body in (b"none at all", flat):
            about |= {"n_bytes": len(body), "n_checked": 0, "checksum": 0}
            tail = json.dumps(about).encode()
            (tmp_path / "a").write_bytes(body + tail + len(tail).to_bytes(8, "little") + data[-8:])
            assert open_ann(tmp_path / "a", STAMP) is None

    @pytest.mark.parametrize("report", [None, [1], {}, {"evil": 1}, {"n": "x"}, {"n_probes": 1e99}])
    def test_a_report_of_no_index(self, built, tmp_path, report):
        data = built[0].read_bytes()
        size = int.from_bytes(data[-16:-8], "little")
        about = json.loads(data[-16 - size : -16])
        about["report"] = (
            about["report"] | report if isinstance(report, dict) and report else report
        )
        text = json.dumps(about).encode()
        (tmp_path / "a").write_bytes(
            data[: -16 - size] + text + len(text).to_bytes(8, "little") + data[-8:]
        )
        assert open_ann(tmp_path / "a", about["stamp"]) is None

    def test_replaced_whole_or_not_at_all(self, built, tmp_path, monkeypatch):
        id_n, vector_nD = scenes(300)
        path = tmp_path / "a"
        made(path, id_n, vector_nD)
        before = path.read_bytes()
        opened = open_ann(path, STAMP)

        def full(index, writer):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(faiss, "write_index", full)
            with pytest.raises(StorageError, match="No space"):
                made(path, id_n, vector_nD, stamp="new")
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["a"]
        made(path, id_n[:100], vector_nD[:100], stamp="new")
        # who has the old one open goes on with it
        assert opened.search(vector_nD[200:201].astype(np.float32), 1)[0][0, 0] == id_n[200]

    def test_blocks_that_changed_meanwhile(self, tmp_path):
        id_n, vector_nD = scenes(100)
        with pytest.raises(InputError, match=r"got 100 .* 101"):
            build_ann(in_blocks(id_n, vector_nD), 101, 32, tmp_path / "a", stamp=STAMP)
        with pytest.raises(InputError, match=r"got 100 .* 99"):
            build_ann(in_blocks(id_n, vector_nD), 99, 32, tmp_path / "a", stamp=STAMP)
