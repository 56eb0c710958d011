"""``vladkit bench``: figures that are there and add up, skips with reasons, tables and images.

No test looks at how fast anything is.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from benching import QUICKER, WITHOUT_PEERS
from commands import run
from vladkit import encode, kernels
from vladkit.bench import measure as measuring
from vladkit.bench import memory, peers, plot, ways
from vladkit.bench import run as running
from vladkit.bench.cases import ARTICLE, CASES, QUICK_CASES, SWEEP_AXES, Case, parse_case
from vladkit.bench.fisher import measure_fisher
from vladkit.bench.machine import OtherWork, copy_rate, machine, versions
from vladkit.bench.measure import measure, warm_up
from vladkit.bench.report import print_report, verdicts
from vladkit.bench.results import FisherMeasured, LeftOut, Measured, Report, Row
from vladkit.bench.timing import Plan, turns
from vladkit.errors import MissingDependencyError, ParameterError, StorageError, VladkitError
from vladkit.kernels import METHODS
from waiting import wait_until

PLAN = Plan(
    total=100, burn=0, slot=0.001, limit=1, limit_alone=1, least_turns=2, most_turns=2
)  # fmt: skip
TINY = Case(7, 30, 16, 4, "float64")
FIGURES = ("median_ms", "p10_ms", "p90_ms", "error", "loop_over_way", "way_over_product")


def tiny(case=TINY, plan=PLAN, **options):
    return measure(case, plan, threads=1, copy_bytes_per_s=1e7, **options)


def check_row(row, case):
    """Everything that a measured row promises, in any run on any machine."""
    assert row.skipped is None, row
    assert 0 < row.p10_ms <= row.median_ms <= row.p90_ms
    assert row.calls >= 1
    assert 1 <= row.images <= case.t
    assert row.way_over_product > 0
    assert row.way_over_floor > 0
    assert row.loop_over_way > 0
    if row.kind == "floor":
        assert row.error is None
    else:
        assert 0 <= row.error < (1e-5 if case.dtype == "float32" else 1e-12)
    if row.images < case.t:
        assert row.memory_bytes is None
    elif sys.platform == "linux":
        assert row.memory_bytes >= 0


class TestCases:
    def test_the_article_comes_first(self):
        first, second = CASES[:2]
        assert (first.t, first.l, first.f, first.k, first.dtype) == (256, 128, 64, 16, "float64")
        assert second == replace(first, dtype="float32")
        assert QUICK_CASES[:2] == CASES[:2] == ARTICLE

    @pytest.mark.parametrize("cases", [CASES, QUICK_CASES], ids=["all", "quick"])
    def test_sweeps_vary_one_axis(self, cases):
        assert len({case.name for case in cases}) == len(cases)
        for axis in SWEEP_AXES:
            points = [case for case in cases if axis in case.sweeps]
            assert len({getattr(case, axis) for case in points}) == len(points) >= 3
            for other in {*SWEEP_AXES, "dtype"} - {axis}:
                assert len({getattr(case, other) for case in points}) == 1

    def test_arrays(self):
        local_tlf, centroid_kf = Case(3, 5, 4, 2).arrays()
        assert (local_tlf.shape, centroid_kf.shape) == ((3, 5, 4), (2, 4))
        assert local_tlf.dtype == centroid_kf.dtype == np.float32
        np.testing.assert_array_equal(Case(3, 5, 4, 2).arrays()[0], local_tlf)
        assert Case(3, 5, 4, 2).floor_bytes == 4 * (3 * 5 * 4 + 2 * 4 + 3 * 2 * 4)

    def test_parse(self):
        assert parse_case("256,128,64,16,float64") == ARTICLE[0]
        assert parse_case(" 2, 3,4 ,5") == Case(2, 3, 4, 5)

    @pytest.mark.parametrize(
        "text",
        ["", "1,2,3", "1,2,3,x", "1,2,3,4,5,6", "1,2,3,-1", "0,1,1,1", "2,2,2,5", "9,9,9,9,int8"],
    )
    def test_what_is_no_case(self, text):
        with pytest.raises(ParameterError, match=r"wanted|centroids"):
            parse_case(text)


class TestPeers:
    """The article's programs compute what the oracle does, also where clusters are empty."""

    PROGRAMS = (
        peers.article_loop, peers.article_mask, peers.article_add_at, peers.article_cumsum,
    )  # fmt: skip

    @pytest.mark.parametrize("program", PROGRAMS)
    @pytest.mark.parametrize("empty", [[], [0], [3], [0, 1], [2, 3], [1], [0, 3]])
    def test_article(self, program, empty):
        local_tlf, centroid_kf = Case(5, 20, 3, 4, "float64").arrays()
        centroid_kf[empty] = 1000.0
        kmeans = peers.fitted_kmeans(local_tlf, centroid_kf)
        wanted_tkf = encode(local_tlf, centroid_kf, method="loop")
        got_tkf = program(kmeans, local_tlf)
        assert got_tkf.dtype == wanted_tkf.dtype
        np.testing.assert_allclose(got_tkf, wanted_tkf, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_faiss(self, dtype):
        local_tlf, centroid_kf = Case(5, 20, 3, 4, dtype).arrays()
        got_tkf = peers.faiss_add_at(peers.faiss_index(centroid_kf), centroid_kf, local_tlf)
        wanted_tkf = encode(local_tlf, centroid_kf, method="loop")
        assert got_tkf.dtype == wanted_tkf.dtype
        np.testing.assert_allclose(got_tkf, wanted_tkf, rtol=0, atol=1e-5)


class TestMeasure:
    @pytest.mark.parametrize("case", [TINY, replace(TINY, dtype="float32")], ids=lambda c: c.dtype)
    def test_every_way(self, case):
        m = tiny(case)
        left_out = [x.way for x in warm_up(1)]
        assert [r.way for r in m.rows if r.kind == "floor"] == [ways.PRODUCT]
        assert {r.way for r in m.rows if r.kind == "method"} == set(METHODS) - set(left_out)
        assert {r.way for r in m.rows if r.kind == "peer"} == {
            "article loop", "article mask", "article add.at", "article sort+cumsum",
            "faiss + add.at",
        }  # fmt: skip
        for row in m.rows:
            check_row(row, case)
            assert row.images == case.t
            assert row.calls >= PLAN.least_turns
        loop = m.row("article loop")
        assert loop.loop_over_way == 1
        fused = m.row("fused")
        assert fused.loop_over_way == pytest.approx(loop.median_ms / fused.median_ms)
        assert fused.way_over_product == pytest.approx(fused.median_ms / m.product_ms)
        assert m.row(ways.PRODUCT).median_ms == m.product_ms
        assert m.bytes_ms == pytest.approx(1e3 * case.floor_bytes / 1e7)
        assert m.floor_ms == m.bytes_ms > m.product_ms  # a slow copy
        assert fused.way_over_floor == pytest.approx(fused.median_ms / m.floor_ms)

    def test_slow_ways_do_some_images_and_are_scaled(self):
        case = replace(TINY, t=60)
        m = tiny(case, replace(PLAN, limit_alone=0), only=["fused", "scatter"])
        assert [r.way for r in m.rows if m.is_scaled(r)] == ["article loop", "scatter", "loop"]
        for row in m.rows:
            check_row(row, case)
            assert row.images == (4 if m.is_scaled(row) else 60)

    def test_scaling(self):
        """An image costs the same in a batch of 4 and of 400, to some factor far from 100."""
        case = replace(TINY, t=400, l=4)
        whole = tiny(case, only=["loop"]).row("loop")
        part = tiny(case, replace(PLAN, limit_alone=0), only=["loop"]).row("loop")
        assert (whole.images, part.images) == (400, 4)
        assert 0.1 < part.median_ms / whole.median_ms < 10

    def test_much_memory_is_a_skip(self):
        case = Case(30_000, 10, 100, 10)
        m = tiny(case, replace(PLAN, limit_alone=0.01), only=["mask", "article mask", "fused"])
        for way in ("mask", "article mask"):
            assert m.row(way).skipped == (
                "too much memory: intermediate arrays of 2.2 GiB, more than 2"
            )
            assert all(getattr(m.row(way), name) is None for name in FIGURES)
        check_row(m.row("fused"), case)

    def test_a_kernel_that_refuses_is_a_skip(self, monkeypatch):
        monkeypatch.setattr("vladkit.kernels.mask.MOST_BYTES", 10)
        m = tiny(only=["mask"])
        assert "would need" in m.row("mask").skipped

    def test_no_time_left_is_a_skip(self):
        m = tiny(seconds=0)
        measured = {r.way for r in m.rows if r.skipped is None}
        assert measured == {ways.PRODUCT, "fused", "article loop"}
        assert {r.skipped for r in m.rows if r.way not in measured} == {"no time left"}
        assert len(m.rows) >= 12

    def test_a_peer_that_fails_keeps_no_other(self, monkeypatch):
        def broken(kmeans, local_tlf):
            raise RuntimeError("no such thing")

        monkeypatch.setattr(peers, "article_mask", broken)
        m = tiny()
        assert m.row("article mask").skipped == "failed: RuntimeError: no such thing"
        check_row(m.row("article add.at"), TINY)

    def test_a_wrong_peer_has_a_large_error(self, monkeypatch):
        monkeypatch.setattr(
            peers, "article_mask", lambda kmeans, x: 0 * peers.article_loop(kmeans, x)
        )
        assert tiny().row("article mask").error == 1
        monkeypatch.setattr(
            peers, "article_mask", lambda kmeans, x: np.nan * peers.article_loop(kmeans, x)
        )
        assert "not finite" in tiny().row("article mask").skipped

    def test_left_out_libraries(self, monkeypatch):
        for library in ("sklearn", "faiss", "jax", "torch"):
            monkeypatch.setitem(sys.modules, library, None)
        for method in ("jax", "torch"):
            monkeypatch.delitem(sys.modules, f"vladkit.kernels.{method}", raising=False)
        kernels.load.cache_clear()
        reasons = {x.way: x.reason for x in warm_up(1)}
        assert reasons["jax"] == (
            "method='jax' needs jax, which is not installed: pip install 'vladkit[jax]'"
        )
        assert reasons["faiss + add.at"] == (
            "needs faiss-cpu, which is not installed: pip install faiss-cpu"
        )
        assert "pip install scikit-learn" in reasons["article mask"]
        assert set(reasons) == {
            "jax", "torch", "faiss + add.at", "article loop", "article mask", "article add.at",
            "article sort+cumsum",
        }  # fmt: skip
        m = tiny()
        assert m.row("loop").loop_over_way == 1
        assert measuring.baseline(r.way for r in m.rows) == "loop"

    def test_faiss_beside_torch_is_left_out_on_macos(self, monkeypatch):
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setitem(sys.modules, "torch", sys.modules.get("torch") or sys)
        assert "macOS" in ways._why_not("faiss", "faiss-cpu")

    def test_threads_of_libraries_are_given_back(self):
        faiss = pytest.importorskip("faiss")
        torch = pytest.importorskip("torch")
        before = faiss.omp_get_max_threads(), torch.get_num_threads()
        with ways.held_to(3):
            assert (faiss.omp_get_max_threads(), torch.get_num_threads()) == (3, 3)
        assert (faiss.omp_get_max_threads(), torch.get_num_threads()) == before

    def test_turns_take_turns(self):
        said = []
        wanted = {"a": lambda: said.append("a"), "b": lambda: said.append("b")}
        times = turns(wanted, {"a": 2, "b": 1}, 3, burn=0)
        assert "".join(said) == "aaabb" * 3  # one of each turn is not counted
        assert {name: len(v) for name, v in times.items()} == {"a": 6, "b": 3}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
class TestMachine:
    def test_memory_is_what_a_call_takes(self):
        held = np.ones(2**23)  # 64 MiB that are there before

        def call():
            temporary = np.ones(2**22)  # 32 MiB
            return np.ones(2**21) + held[0] + temporary[0]  # 16: NumPy adds in place

        for _ in range(2):
            call()
            assert memory.extra_bytes(call) == pytest.approx(48 * 2**20, abs=4 * 2**20)
        assert memory.extra_bytes(lambda: None) < 2**20

    def test_memory_is_none_where_unknown(self, monkeypatch):
        def fail():
            raise OSError

        monkeypatch.setattr(memory, "reset_peak", fail)
        assert memory.extra_bytes(lambda: pytest.fail("called for nothing")) is None

    def test_facts(self):
        known = versions()
        assert known["numpy"] == np.__version__
        assert known["python"].startswith("3.")
        assert machine()["cpu"]
        assert 1 <= machine()["cores_allowed"] <= machine()["cores"]
        assert 1e8 < copy_rate(2) < 1e13

    def test_other_work(self):
        others = OtherWork()
        end = time.process_time() + 0.3
        while time.process_time() < end:  # our own is not others'
            pass
        command = "import time\nwhile time.process_time() < 0.3: pass"
        alone = others.cores()
        others = OtherWork()
        subprocess.run([sys.executable, "-c", command], check=True)
        assert others.cores() > 0.2
        assert alone >= 0


def report(*measured, **options):
    about = {
        "machine": {
            "cpu": "A processor", "architecture": "x86_64", "cores": 4, "cores_allowed": 2,
            "system": "Linux",
        },
        "versions": {"python": "3.11.7", "vladkit": "1", "numpy": "2.4", "jax": None},
        "threads": 2,
        "quick": False,
        "seconds": 3.0,
        "copy_bytes_per_s": 2.2e10,
        "other_cores": 0.0,
        "baseline": "article loop",
        "left_out": (LeftOut("jax", "needs jax"),),
    }  # fmt: skip
    return Report(**about | options, measured=measured)


def made_up(case, *, fused=1.0, mask=500.0):
    """A case with given times; the loop takes 100 ms, the product 2, the bytes 3."""

    def row(way, kind, ms, **more):
        figures = {"loop_over_way": 100 / ms, "way_over_product": ms / 2, "way_over_floor": ms / 3}
        times = {"median_ms": ms, "p10_ms": 0.9 * ms, "p90_ms": 1.2 * ms}
        return Row(way, kind, **{"images": case.t, "calls": 5} | times | figures | more)

    rows = [
        row(ways.PRODUCT, "floor", 2.0),
        row("fused", "method", fused, error=1e-7, memory_bytes=2_500_000),
        row("torch", "method", 1.5, error=1e-7, memory_bytes=2_500_000),
        row("article loop", "peer", 100.0, images=case.t // 2, error=0.0),
        row("mask", "method", mask, error=0.0),
        Row("article mask", "peer", 0, skipped="too much memory"),
    ]
    return Measured(case, 2.0, 3.0, tuple(rows))


@pytest.fixture(scope="module")
def full():
    return report(*(made_up(case, fused=1 + i / 10) for i, case in enumerate(CASES)))


def text_of(report, **options):
    console = Console(file=io.StringIO(), width=100, highlight=False)
    print_report(report, console=console, **options)
    return console.file.getvalue()


class TestReport:
    def test_tables(self, full):
        text = text_of(full)
        assert max(map(len, text.splitlines())) <= 100
        assert "A processor, x86_64, 2 of 4 cores; Linux" in text
        assert "2 threads; copies 22.0 GB/s" in text
        assert "numpy 2.4" in text
        assert "jax None" not in text
        assert "left out: jax: needs jax" in text
        assert "busy" not in text
        article, *sweeps = text.split("Median ms over ")
        assert "256x128x64 k=16 float64; floor 3.00 ms (X @ C.T 2.00, bytes 3.00)" in article
        assert "fused 1.00 0.900-1.20 5 2.5 1e-07 100 0.50 0.33" in " ".join(article.split())
        assert "article loop ~100 90.0-120" in " ".join(article.split())
        assert "article mask: too much memory" in article
        assert [s[0] for s in sweeps] == ["T", "L", "F", "K"]
        assert "T = 1 4 16 64 256 1024" in " ".join(sweeps[0].split())
        assert "L = 500, F = 128, K = 64; float32" in sweeps[0]
        assert "T = 1: article mask: too much memory" in sweeps[0]
        assert "than article loop" in text

    def test_details(self, full):
        text = text_of(full, details=True)
        assert text.count("10-90 %") == len(CASES)
        assert "Median ms over" not in text

    def test_a_busy_machine_is_named(self, full):
        text = text_of(replace(full, other_cores=0.7))
        assert "other processes used 0.7 cores meanwhile" in text

    def test_fisher_vectors(self, full):
        pytest.importorskip("skimage")
        m = measure_fisher(PLAN, 1, Case(2, 20, 5, 3, "float64"))
        assert set(m.ms) == {"vladkit", "products", "scikit-image"}
        assert min(m.ms.values()) > 0
        assert m.error < 1e-12
        shown = FisherMeasured(m.case, {"vladkit": 1, "products": 2, "scikit-image": 30}, 0.0)
        report = replace(full, fisher=shown)
        assert "scikit-image 30.0 (30 times as long)" in " ".join(text_of(report).split())
        assert Report.from_json(json.loads(json.dumps(report.as_json()))) == report

    def test_verdicts(self):
        slow, quick = made_up(ARTICLE[0], fused=3.0), made_up(ARTICLE[1])
        assert verdicts(report(slow, quick)) == [
            "fused is the fastest in 1 of 2 cases.",
            "Not in 256x128x64 k=16 float64 (torch is 2.00 times faster).",
        ]
        assert verdicts(report()) == []

    def test_json_and_back(self, full):
        value = json.loads(json.dumps(full.as_json()))
        assert Report.from_json(value) == full
        assert len(value["rows"]) == 6 * len(CASES)
        row = value["rows"][3]
        assert (row["case"], row["way"]) == ("256x128x64 k=16 float64", "article loop")
        assert row["scaled"] is True
        assert value["cases"][0]["floor_ms"] == 3.0


class TestPlot:
    @pytest.mark.parametrize(
        ("kind", "magic"), [("PNG", b"\x89PNG\r\n"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
    )
    def test_formats(self, tmp_path, kind, magic):
        target = tmp_path / f"bench.{kind}"
        plot.write_plot(report(*map(made_up, ARTICLE)), target)
        assert target.read_bytes().startswith(magic)
        assert target.stat().st_size > 10_000
        assert [p.name for p in tmp_path.iterdir()] == [target.name]

    def test_what_is_drawn(self, full, tmp_path):
        plot.write_plot(full, tmp_path / "a.svg")
        text = (tmp_path / "a.svg").read_text()
        for wanted in ("fused", "article loop", "floor 3.00", "T, images", "K, centroids",
                       "median time, ms", "~100", "A processor", "float64"):  # fmt: skip
            assert wanted in text, wanted
        figure = plot.draw(full)
        assert len(figure.axes) == 2 + 4
        assert all(axes.get_xscale() == "log" for axes in figure.axes)
        assert figure.get_figwidth() == 12
        plot.write_plot(full, tmp_path / "b.svg")
        assert (tmp_path / "b.svg").read_text() == text

    @pytest.mark.parametrize("n", [1, 2, 3, 6])
    def test_own_cases(self, n, tmp_path):
        own = [made_up(Case(10 * (i + 1), 10, 10, 10)) for i in range(n)]
        assert len(plot.draw(report(*own)).axes) == min(n, 4)

    def test_refused(self, full, tmp_path, monkeypatch):
        for name in ("a.gif", "a", "png"):
            with pytest.raises(ParameterError, match=r"has to end in \.png, \.svg, \.pdf"):
                plot.check_target(tmp_path / name)
        with pytest.raises(StorageError, match="cannot write"):
            plot.check_target(tmp_path / "missing" / "a.png")
        (tmp_path / "folder.png").mkdir()
        with pytest.raises(StorageError, match="is a folder"):
            plot.check_target(tmp_path / "folder.png")
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(MissingDependencyError, match=r"pip install 'vladkit\[plot\]'"):
            plot.check_target(tmp_path / "a.png")
        assert not (tmp_path / "a.png").exists()


COMMAND = f"""
from vladkit.bench import run
from vladkit.cli import main
run._START = {QUICKER!r}
main()
"""


def bench(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", COMMAND, "bench", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=120,
    )


@pytest.fixture(scope="module")
def answer(tmp_path_factory):
    """A run where jax and torch cannot be imported, and its image."""
    home = tmp_path_factory.mktemp("bench")
    for library in ("jax", "torch"):
        code = f"raise ModuleNotFoundError('hidden', name={library!r})"
        (home / f"{library}.py").write_text(code)
    arguments = ["--quick", "--case", "40,30,16,4", "--case", "9,30,16,4,float64", "-j", "1"]
    done = bench(*arguments, "--json", "--plot", home / "a.png", PYTHONPATH=str(home))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (home / "a.png").stat().st_size > 10_000
    return json.loads(done.stdout)


class TestCommand:
    def test_everything_is_there(self, answer):
        assert answer["machine"]["cpu"]
        assert answer["versions"]["numpy"] == np.__version__
        assert answer["versions"]["vladkit"]
        assert answer["threads"] == 1
        assert answer["quick"] is True
        assert answer["seconds"] > 0
        assert answer["copy_bytes_per_s"] > 1e8
        assert answer["baseline"] == "article loop"
        assert [x["way"] for x in answer["left_out"]] == ["jax", "torch"]
        assert "pip install 'vladkit[torch]'" in answer["left_out"][1]["reason"]
        cases = answer["cases"]
        assert [c["case"] for c in cases] == ["40x30x16 k=4 float32", "9x30x16 k=4 float64"]
        assert [c["sweeps"] for c in cases] == [[], []]
        for m in Report.from_json(answer).measured:
            assert len(m.rows) == 1 + len(METHODS) - 2 + 5
            for row in m.rows:
                check_row(row, m.case)

    @pytest.mark.parametrize(
        ("arguments", "code", "said"),
        [
            (["--plot", "a.gif"], 2, "has to end in .png"),
            (["--plot", "missing/a.png"], 1, "cannot write"),
            (["--case", "1,2,3"], 2, "wanted T,L,F,K"),
            (["--n-jobs", "0"], 2, "n_jobs=0"),
            (["--n-jobs", "x"], 2, "integer"),
        ],
    )
    def test_refused_before_anything_is_measured(self, arguments, code, said, monkeypatch):
        monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("it is measured"))
        done = run("bench", *arguments, code=code)
        assert said in done.stderr
        assert done.stdout == ""

    def test_control_c_ends_both_processes(self, tmp_path):
        code = (
            "import signal, sys\nfrom vladkit.cli import main\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "sys.argv = ['vladkit', 'bench', '--quick']\nmain()\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        (worker,) = wait_until(lambda: measuring_children(process.pid), seconds=60)
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
        assert process.returncode == 130, stderr
        assert stdout == ""
        assert "Traceback" not in stderr
        wait_until(lambda: not is_running(worker))


def measuring_children(pid):
    """Process ids of children that have begun to measure, and not only been forked."""
    command = ["pgrep", "-f", "-P", str(pid), "vladkit.bench.worker"]
    done = subprocess.run(command, capture_output=True, text=True)
    return [int(line) for line in done.stdout.split()]


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class TestRun:
    def test_progress_and_report(self, monkeypatch):
        monkeypatch.setattr(running, "_START", WITHOUT_PEERS)
        told = []
        got = running.run(
            [TINY], threads=1, quick=True, only=["fused"], progress=lambda *a: told.append(a)
        )
        assert told == [("measuring", 0, 1), ("measuring", 1, 1)]
        assert [r.way for r in got.measured[0].rows] == [ways.PRODUCT, "fused", "loop"]
        assert got.quick
        assert got.threads == 1

    def test_environment(self, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "7")
        environment = running.environment_for(2)
        assert {environment[name] for name in running._THREAD_VARIABLES} == {"2"}
        assert environment["JAX_PLATFORMS"] == "cpu"
        assert environment["OPENBLAS_THREAD_TIMEOUT"] == "22"
        assert os.environ["OMP_NUM_THREADS"] == "7"

    @pytest.mark.parametrize(
        "code", ["raise SystemExit('no more')", "import os; os.kill(os.getpid(), 9)"]
    )
    def test_a_process_that_dies_is_reported(self, monkeypatch, code):
        monkeypatch.setattr(running, "_START", code)
        with pytest.raises(VladkitError, match=r"ended with (1|-9) at case 7x30x16 k=4 float64"):
            running.run([TINY], quick=True)
