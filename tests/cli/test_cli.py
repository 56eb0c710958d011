"""The command as a person or a script calls it: output, exit codes, streams."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from commands import run
from images import textured
from photos import NAMES, cropped, photo, write_photos
from vladkit import Collection
from vladkit.collection.recipe import Recipe


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with images/, photos.vlad and a cropped query."""
    home = tmp_path_factory.mktemp("home")
    write_photos(home / "images")
    (home / "images" / "broken.jpg").write_text("no image")
    cv2.imwrite(str(home / "query.jpg"), cropped(photo("coffee")))
    done = run("index", "images", "-o", "photos.vlad", cwd=home)
    assert done.stdout == ""
    assert f"photos.vlad: {len(NAMES)} images; {len(NAMES)} indexed" in done.stderr
    assert "1 skipped" in done.stderr
    assert "skipped 1: not an image that can be decoded: broken.jpg" in done.stderr
    return home


class TestSearch:
    def test_people(self, home):
        done = run("search", "photos.vlad", "query.jpg", "--top", "3", cwd=home)
        assert done.stderr == ""
        lines = done.stdout.splitlines()
        assert len(lines) == 3
        rank, similarity, inliers, *words, path = lines[0].split()
        assert (rank, words, path) == ("1", ["matches", "verified"], "images/coffee.jpg")
        assert 0.1 < float(similarity) < 1
        assert int(inliers) > 8
        assert "verified" not in lines[1]
        done = run("search", "photos.vlad", "query.jpg", "--top", "3", "--rerank", 0, cwd=home)
        assert [len(line.split()) for line in done.stdout.splitlines()] == [3] * 3

    def test_json(self, home):
        done = run("search", "photos.vlad", "query.jpg", "images/moon.jpg", "--json", cwd=home)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert [a["query"] for a in answers] == ["query.jpg", "images/moon.jpg"]
        assert [len(a["results"]) for a in answers] == [10, 10]
        assert answers[0]["results"][0]["path"] == "coffee.jpg"
        assert answers[1]["results"][0]["path"] == "moon.jpg"
        assert answers[1]["results"][0]["similarity"] > 0.99
        assert [a["verified"] for a in answers] == [True, True]
        assert [hit["verified"] for hit in answers[0]["results"]] == [True, *[False] * 9]
        scores = [hit["score"] for hit in answers[0]["results"]]
        assert scores == sorted(scores, reverse=True)

    def test_what_is_not_in_there(self, home, tmp_path):
        cv2.imwrite(str(tmp_path / "other.png"), textured(400, 300, seed=9))
        words = "search", "photos.vlad", tmp_path / "other.png"
        done = run(*words, cwd=home)
        assert len(done.stdout.splitlines()) == 10
        assert "probably not in photos.vlad: the images only look alike" in done.stderr
        answer = json.loads(run(*words, "--json", cwd=home).stdout)
        assert answer["verified"] is False
        done = run(*words, "--rerank", 0, "--json", cwd=home)
        assert (done.stderr, json.loads(done.stdout)["verified"]) == ("", None)

    def test_a_verified_image_that_is_not_shown_counts(self, home, monkeypatch):
        """It may come second: where much repeats itself, similarity says more."""
        rule = "vladkit.collection.searching.rescore"
        monkeypatch.setattr(rule, lambda score_n, n_inliers_n, **_: -n_inliers_n.astype(float))
        words = "search", "photos.vlad", "query.jpg", "--top", 1
        done = run(*words, cwd=home)
        assert ("verified" in done.stdout, done.stderr) == (False, "")
        answer = json.loads(run(*words, "--json", cwd=home).stdout)
        assert answer["verified"] is True
        assert [hit["verified"] for hit in answer["results"]] == [False]

    def test_all(self, home):
        done = run("search", "photos.vlad", "query.jpg", "--top", "0", "--json", cwd=home)
        results = json.loads(done.stdout)["results"]
        assert sorted(hit["path"] for hit in results) == sorted(f"{n}.jpg" for n in NAMES)

    def test_a_bad_query_does_not_keep_the_others(self, home):
        files = ["nothing.jpg", "images/broken.jpg", "query.jpg"]
        done = run("search", "photos.vlad", *files, "--json", cwd=home, code=1)
        *failed, found = map(json.loads, done.stdout.splitlines())
        assert failed == [
            {"query": "nothing.jpg", "error": "no such file or directory"},
            {"query": "images/broken.jpg", "error": "not an image that can be decoded"},
        ]
        assert found["results"][0]["path"] == "coffee.jpg"
        assert "nothing.jpg: no such file" in done.stderr.lower()
        assert "vladkit: images/broken.jpg: not an image" in done.stderr

    def test_images_of_one_thing(self, home, tmp_path):
        files = ["query.jpg", "images/moon.jpg"]
        words = "search", "photos.vlad", *files, "--together"
        done = run(*words, "--top", 2, "--html", tmp_path / "t.html", cwd=home)
        assert sorted(line.split("/")[-1] for line in done.stdout.splitlines()) == [
            "coffee.jpg",
            "moon.jpg",
        ]
        text = (tmp_path / "t.html").read_text("utf-8")
        assert "<h2>query.jpg, images/moon.jpg</h2>" in text
        assert text.count('class="matched marked"') == 2
        (answer,) = map(json.loads, run(*words, "--json", cwd=home).stdout.splitlines())
        assert answer["queries"] == files
        found = {hit["path"]: hit["query"] for hit in answer["results"] if hit["verified"]}
        assert found == {"coffee.jpg": "query.jpg", "moon.jpg": "images/moon.jpg"}
        done = run(*words, "gone.jpg", "--json", cwd=home, code=1)
        failed = {"queries": [*files, "gone.jpg"], "error": "gone.jpg: no such file or directory"}
        assert json.loads(done.stdout) == failed
        assert done.stderr == "vladkit: gone.jpg: no such file or directory\n"

    def test_mirror_images(self, home, tmp_path):
        flipped = cv2.imread(str(home / "query.jpg"))[:, ::-1]
        cv2.imwrite(str(tmp_path / "flipped.png"), flipped)
        words = "search", "photos.vlad", tmp_path / "flipped.png", "--mirrored"
        done = run(*words, "--top", 3, "--html", tmp_path / "m.html", cwd=home)
        first, *others = done.stdout.splitlines()
        assert re.search("verified  mirrored  .*coffee.jpg", first)
        assert not any("mirrored" in line for line in others)
        assert "of the mirror image" in (tmp_path / "m.html").read_text("utf-8")
        (hit,) = json.loads(run(*words, "-n", 1, "--json", cwd=home).stdout)["results"]
        assert (hit["path"], hit["mirrored"]) == ("coffee.jpg", True)

    def test_a_reader_that_leaves(self, home):
        code = (
            f"{sys.executable} -m vladkit search photos.vlad query.jpg --top 0 --json | head -c 9"
        )
        done = subprocess.run(code, shell=True, cwd=home, capture_output=True, text=True)
        assert done.stdout == '{"query":'
        assert "Traceback" not in done.stderr

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has /dev/full")
    @pytest.mark.parametrize("words", ["search photos.vlad query.jpg", "--version", "--help"])
    def test_output_that_cannot_be_written(self, home, words):
        code = f"{sys.executable} -m vladkit {words} > /dev/full"
        done = subprocess.run(code, shell=True, cwd=home, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr == "vladkit: cannot write the output: No space left on device\n"

    @pytest.mark.skipif(os.name == "nt", reason="as a shell of Unix does it")
    @pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
    def test_streams_that_are_closed(self, home, tmp_path, closed):
        """As daemons have them: no file of ours gets the number, and the messages, of one."""
        code = f"{sys.executable} -m vladkit index images -o {tmp_path}/c.vlad {closed}"
        done = subprocess.run(code, shell=True, cwd=home, capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        with Collection.open(tmp_path / "c.vlad") as collection:
            assert (len(collection), collection.check()) == (len(NAMES), [])
        assert done.returncode == 0

    @pytest.mark.skipif(os.name == "nt", reason="a folder in use stays")
    def test_a_current_folder_that_is_gone(self, home, tmp_path):
        (tmp_path / "gone").mkdir()
        search = f"{sys.executable} -m vladkit search {home}/photos.vlad {home}/query.jpg"
        code = f"rmdir {tmp_path}/gone; {search}"
        where = tmp_path / "gone"
        done = subprocess.run(code, shell=True, cwd=where, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith("vladkit: the current folder is gone")


class TestIndex:
    def test_again_and_json(self, tmp_path):
        files = write_photos(tmp_path / "images", [*NAMES[:3], "moon"])
        arguments = ["index", "images", "-o", "photos.vlad", "--json", "--n-clusters", "16"]
        run(*arguments, cwd=tmp_path)
        cv2.imwrite(str(tmp_path / "images" / "new.png"), textured(200, 150))
        (tmp_path / "images" / "text.png").write_text("x")
        files["moon"].unlink()
        answer = json.loads(run(*arguments, "--prune", cwd=tmp_path).stdout)
        assert answer["pruned"] == 1
        assert answer["indexed"] == 1
        assert answer["unchanged"] == len(files) - 1
        assert answer["images"] == len(files)
        assert answer["skipped"] == [
            {"path": "text.png", "reason": "not an image that can be decoded"}
        ]

    def test_options_make_the_recipe(self, home, tmp_path):
        options = ["--n-clusters", "5", "--norm", "intra,l2", "--dtype", "float32", "--seed", "3",
                   "--max-features", "300", "--max-side", "400", "--contrast-threshold", "0.03",
                   "--rotation", "16", "--orientation", "0.1", "--position", "0",
                   "--enlarge-to", "100", "--n-vocabularies", "3", "--n-words", "9",
                   "--n-components", "7", "--keep-bytes", "16"]  # fmt: skip
        run("index", home / "images", "-o", "c", *options, cwd=tmp_path)
        about = json.loads(run("info", "c", "--json", cwd=tmp_path).stdout)
        assert Recipe.make(about["recipe"]) == Recipe(
            n_clusters=5, norm=("intra", "l2"), dtype="float32", seed=3, max_features=300,
            max_side=400, contrast_threshold=0.03, rotation=16, orientation=0.1, position=0,
            enlarge_to=100, n_vocabularies=3, n_words=9, n_components=7, keep_bytes=16,
        )  # fmt: skip
        assert about["dimensions"] == 3 * 5 * 16
        again = run("index", home / "images", "-o", "c", "--seed", "4", cwd=tmp_path, code=1)
        assert "was made with seed=3, asked for is 4" in again.stderr

    def test_nothing_usable(self, tmp_path):
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "a.jpg").write_text("x")
        done = run("index", "bad", "-o", "c", cwd=tmp_path, code=1)
        assert "the one image cannot be used" in done.stderr
        assert "Traceback" not in done.stderr
        run("index", "missing", "-o", "c", cwd=tmp_path, code=1)

    def test_not_a_collection(self, home, tmp_path):
        (tmp_path / "c").write_text("precious")
        done = run("index", home / "images", "-o", tmp_path / "c", code=1)
        assert "is not a vladkit collection" in done.stderr
        assert (tmp_path / "c").read_text() == "precious"


class TestInfo:
    def test_people(self, home):
        done = run("info", "photos.vlad", cwd=home)
        assert f"{len(NAMES)} images, 1 skipped" in done.stdout
        assert str(home / "images") in done.stdout
        done = run("info", "photos.vlad", "--skipped", cwd=home)
        assert done.stdout == "broken.jpg: not an image that can be decoded\n"

    def test_json(self, home):
        about = json.loads(run("info", "photos.vlad", "--json", "--skipped", cwd=home).stdout)
        assert about["images"] == len(NAMES)
        assert about["recipe"]["features"] == "sift"
        assert about["made_with"]["extractor"]["decoder"] == "opencv"
        assert about["skipped_images"][0]["path"] == "broken.jpg"


class TestEval:
    @pytest.fixture
    def truth(self, home):
        truth = {
            "database": [f"images/{name}.jpg" for name in NAMES],
            "queries": [
                {"query": "query.jpg", "relevant": ["images/coffee.jpg"]},
                {"query": "query.jpg", "relevant": ["images/moon.jpg"]},
                {"query": "images/moon.jpg", "relevant": [], "unknown": True},
                {"query": "missing.jpg", "relevant": ["images/moon.jpg"]},
            ],
        }
        path = home / "truth.json"
        path.write_text(json.dumps(truth))
        return path

    def test_json(self, home, truth, tmp_path):
        ranking = run("search", home / "photos.vlad", home / "query.jpg", "--top", "0", "--json")
        paths = [hit["path"] for hit in json.loads(ranking.stdout)["results"]]
        wanted = (1 + 1 / (paths.index("moon.jpg") + 1) + 0) / 3
        done = run("eval", home / "photos.vlad", truth, "--json", cwd=tmp_path)
        answer = json.loads(done.stdout)
        assert answer["mAP"] == pytest.approx(wanted, abs=1e-6)
        assert answer["recall@1"] == pytest.approx(1 / 3, abs=1e-6)
        assert (answer["queries"], answer["not_averaged"], answer["failed"]) == (3, 1, 1)
        assert "missing.jpg" in " ".join(answer["remarks"])

    def test_relevant_images_that_are_not_ranked_are_counted(self, home, tmp_path):
        relevant = ["images/moon.jpg", "moon.jpg", "./moon.jpg", "gone.jpg"]
        truth = {"queries": [{"query": "query.jpg", "relevant": relevant, "junk": ["gone.jpg"]}]}
        file = home / "lost.json"
        for database, where in ((None, "indexed"), (["images/moon.jpg"], "in the database")):
            file.write_text(json.dumps(truth | {"database": database}))
            done = run("eval", home / "photos.vlad", file, "--json")
            remarks = json.loads(done.stdout)["remarks"]
            lost = f"1 relevant images are not {where}, such as {home / 'moon.jpg'}: "
            assert remarks[-1] == f"{lost}they count as not found"

    def test_whichever_source_was_given(self, home, truth, tmp_path):
        files = [f"images/{name}.jpg" for name in NAMES]
        run("index", *files, "query.jpg", "-o", tmp_path / "c", "--max-side", 320, cwd=home)
        (tmp_path / "link").symlink_to(home)
        other = run("eval", tmp_path / "c", tmp_path / "link" / "truth.json", "--json")
        two = json.loads(other.stdout)
        ranking = run("search", tmp_path / "c", home / "query.jpg", "--top", 0, "--json")
        paths = [hit["path"] for hit in json.loads(ranking.stdout)["results"]]
        paths.remove("query.jpg")  # in the collection, not in the database
        place = paths.index("images/moon.jpg") + 1
        assert two["mAP"] == pytest.approx((1 + 1 / place + 0) / 3, abs=1e-6)
        assert "1 indexed images are not in the database: left out" in two["remarks"]
        assert two["recall@1"] == pytest.approx(1 / 3, abs=1e-6)

    def test_people(self, home, truth):
        done = run("eval", "photos.vlad", truth, cwd=home)
        assert done.stdout.startswith("mAP")
        assert "recall@20" in done.stdout

    @pytest.mark.parametrize(
        ("n_good", "mean", "code"), [(0, None, 1), (1, 1 / 3, 1), (2, 2 / 4, 0)]
    )
    def test_a_run_in_which_most_queries_failed(self, home, tmp_path, n_good, mean, code):
        moon = str(home / "images" / "moon.jpg")
        shutil.copy(moon, tmp_path / "0.jpg")
        shutil.copy(moon, tmp_path / "1.jpg")
        names = [f"{i}.jpg" for i in range(n_good)] + ["gone.jpg", "lost.jpg"]
        truth = {"queries": [{"query": name, "relevant": [moon]} for name in names]}
        (tmp_path / "t.json").write_text(json.dumps(truth))
        done = run("eval", home / "photos.vlad", tmp_path / "t.json", "--json", code=code)
        answer = json.loads(done.stdout)
        assert answer["mAP"] == answer["recall@1"] == pytest.approx(mean, abs=1e-6)
        assert (answer["queries"], answer["failed"]) == (n_good + 2, 2)
        assert len(answer["remarks"]) == 2
        said = f"2 of {n_good + 2} queries failed, so these figures do not measure"
        assert (said in done.stderr) == bool(code)

    def test_other_images(self, home, tmp_path):
        (tmp_path / "t.json").write_text('{"database": ["x.jpg"], "queries": []}')
        done = run("eval", home / "photos.vlad", tmp_path / "t.json", code=1)
        assert "holds no image of the ground truth's database" in done.stderr


class TestUsage:
    @pytest.mark.parametrize(
        "arguments",
        [["typo"], ["index"], ["index", "x"], ["search", "f"], ["search", "f", "i", "--top", "-1"],
         ["search", "f", "i", "--top", "x"], ["index", "x", "-o", "c", "--norm", "typo"],
         ["index", "x", "-o", "c", "--dtype", "int8"], ["index", "x", "-o", "c", "--seed", "-1"]],
    )  # fmt: skip
    def test_wrong_usage_exits_with_2(self, tmp_path, arguments):
        done = run(*arguments, cwd=tmp_path, code=2)
        assert done.stderr
        assert not (tmp_path / "c").exists()

    def test_help_and_version(self):
        assert "index" in run("--help").stdout
        for command in ("index", "search", "info", "eval"):
            assert f"Usage: vladkit {command} " in run(command, "--help").stdout
        assert run("--version").stdout.startswith("vladkit ")

    def test_help_tells_the_defaults(self):
        text = " ".join(run("index", "--help", COLUMNS="200").stdout.split())
        default = Recipe()
        for value in (default.n_clusters, default.max_features, default.orientation):
            assert f"[default: {value}]" in text
        assert f"[default: {','.join(default.norm)}]" in text


def test_progress_on_a_terminal_and_silence_elsewhere(tmp_path):
    (tmp_path / "many").mkdir()
    for i in range(50):
        cv2.imwrite(str(tmp_path / "many" / f"{i}.png"), textured(64, 48, seed=i))
    words = ["index", "many", "--n-clusters", "16", "--enlarge-to", "0", "-o"]
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "vladkit", *words, "c"],
        cwd=tmp_path,
        stderr=terminal,
        stdout=subprocess.PIPE,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    )
    shown = b""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        if select.select([main], [], [], 0.05)[0]:
            shown += os.read(main, 65536)
        elif process.poll() is not None:
            break
    os.close(terminal)
    os.close(main)
    assert process.stdout is not None
    assert process.stdout.read() == b""
    process.stdout.close()
    text = shown.decode()
    assert "learning" in text
    assert "indexing" in text
    assert "/50" in text
    assert "/s" in text
    assert "0:00:" in text
    silent = run(*words, "d", cwd=tmp_path)
    lines = silent.stderr.splitlines()  # a slow machine says after a minute how far it is
    assert [line for line in lines if not line.startswith(("learning: ", "indexing: "))] == lines[
        -1:
    ]


def test_names_with_any_bytes_are_printed(tmp_path):
    name = os.path.join(os.fsencode(tmp_path), b"\xff.png")
    if sys.platform != "linux":
        pytest.skip("names of other systems are text")
    cv2.imwrite(str(tmp_path / "a.png"), textured(200, 150))
    shutil.copy(tmp_path / "a.png", name)
    command = [sys.executable, "-m", "vladkit", "index", ".", "-o", "c"]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path)
    assert done.returncode == 0
    assert b"not valid UTF-8" in done.stderr
    command = [sys.executable, "-m", "vladkit", "search", "c", b"\xff.png"]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path)
    assert done.stdout.splitlines()[0].split()[-1] == b"a.png"
    assert np.isclose(float(done.stdout.split()[1]), 1, atol=1e-3)
