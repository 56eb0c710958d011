"""What commands print: paths, numbers, names with line ends, JSON of one shape."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys

import cv2
import pytest

from commands import run
from images import textured
from vladkit import cli
from vladkit.cli.output import (
    cosine,
    finite,
    one_line,
    print_json,
    say,
    show,
    shown,
    write_lines,
)
from vladkit.collection.collection import Collection


def test_paths_open_from_the_working_folder(here, monkeypatch, tmp_path):
    done = run("search", "photos.vlad", "photos/2.png", "--top", 1)
    assert [*done.stdout.split()[:2], done.stdout.split()[-1]] == ["1", "1.000", "photos/2.png"]
    monkeypatch.chdir(here / "more")
    done = run("search", here / "photos.vlad", here / "photos" / "2.png", "--top", 1)
    assert done.stdout.split()[-1] == "../photos/2.png"
    (tmp_path / "far" / "a" / "b" / "c" / "d" / "e").mkdir(parents=True)
    image = str(here / "photos" / "2.png")
    monkeypatch.chdir("/")
    assert os.path.exists(shown("2.png", image))
    assert shown("2.png", str(here / "none" / "2.png")) == "2.png"  # gone: as it was indexed


def test_matches_are_a_column_and_the_score_is_none(here):
    done = run("search", "photos.vlad", "photos/1.png", "--rerank", 2)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [len(row) for row in rows] == [6, 6, 3, 3, 3]
    assert [row[1] for row in rows[:2]] == ["1.000", "1.000"], "similarity, not the score"
    assert rows[0][3:5] == ["matches", "verified"]
    starts = {line.index("photos/") for line in done.stdout.splitlines()}
    assert len(starts) == 1, "paths are a column, too"


def test_a_line_for_each_query_with_all_keys(here):
    words = ["search", "photos.vlad", "none.png", "photos/1.png", "--json", "--rerank", 1]
    done = run(*words, code=1)
    failed, found = map(json.loads, done.stdout.splitlines())
    assert failed == {"query": "none.png", "error": "no such file or directory"}
    keys = {"path", "score", "file", "similarity", "agreement", "inliers", "verified"}
    keys |= {"mirrored", "transform", "taken", "latitude", "longitude", "camera"}
    assert [set(hit) for hit in found["results"]] == [keys] * 5
    assert found["results"][0]["inliers"] > 8
    assert found["results"][1]["inliers"] is found["results"][1]["transform"] is None
    assert os.path.isabs(found["results"][0]["file"])
    assert "vladkit: none.png: no such file" in done.stderr


def test_a_similarity_is_a_cosine_of_six_digits():
    assert cosine(1.0000009536743164) == 1
    assert cosine(-1.0000001) == -1
    assert cosine(0.12345678) == 0.123457
    assert finite({"mAP": float("nan"), "recall@1": 1 / 3}) == {"mAP": None, "recall@1": 0.333333}


@pytest.mark.parametrize(
    ("is_terminal", "written"), [(True, "a\\x1b]0;b.png\n"), (False, "a\x1b]0;b.png\n")]
)
def test_lists_for_programs_do_not_steer_a_terminal(monkeypatch, is_terminal, written):
    stdout = io.StringIO()
    stdout.isatty = lambda: is_terminal
    monkeypatch.setattr(sys, "stdout", stdout)
    write_lines(["a\x1b]0;b.png\n"])
    assert stdout.getvalue() == written


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\tb.png", r"a\tb.png"),
        ("a\r\n\x1b[31mb.png", r"a\r\n\x1b[31mb.png"),
        ("a\x9b31mb.png", r"a\x9b31mb.png"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),  # reads a, exe.png
        ("a\u2066b\u2069\u200f.png", r"a\u2066b\u2069\u200f.png"),
        ("a\u200b\u00ad\ufeff\u2060.png", r"a\u200b\xad\ufeff\u2060.png"),
        ("a\U000e0041.png", r"a\U000e0041.png"),
        ("Ünï cødé 图 مرحبا.png", "Ünï cødé 图 مرحبا.png"),
        ("\u0645\u06cc\u200c\u062e \U0001f469\u200d\U0001f4bb",) * 2,  # joiners belong to words
    ],
)
def test_names_neither_steer_nor_deceive(capsys, name, shown):
    assert one_line(name) == shown
    show(name)
    say(name)
    printed = capsys.readouterr()
    assert printed.out == printed.err == shown + "\n"
    print_json(name)
    assert json.loads(capsys.readouterr().out) == name


def test_a_warning_is_a_line():
    assert cli._warning_line(UserWarning("a\nb\u202e")) == "vladkit: a\\nb\\u202e\n"


def test_names_with_line_ends_are_a_line(here):
    os.rename("photos/3.png", "photos/a\nb.png")
    run("index", "photos", "-o", "new.vlad", "--n-clusters", 4, "--enlarge-to", 0)
    lines = run("info", "new.vlad", "--images").stdout.splitlines()
    assert len(lines) == 5
    assert "a\\nb.png" in lines
    hits = json.loads(run("search", "new.vlad", "photos/0.png", "--json").stdout)["results"]
    assert "a\nb.png" in [hit["path"] for hit in hits]


class TestPairs:
    def test_json_goes_into_the_file(self, here):
        done = run("pairs", "photos.vlad", "--top", 1, "--json", "-o", "p.json")
        assert done.stdout == ""
        assert done.stderr.startswith("p.json: ")
        written = json.loads((here / "p.json").read_text())
        assert written == json.loads(run("pairs", "photos.vlad", "--top", 1, "--json").stdout)
        assert written["pairs"][0].keys() == {"first", "second", "similarity", "inliers"}

    def test_similarities_are_said_and_an_empty_list_is_not_written(self, here):
        done = run("pairs", "photos.vlad", "--top", 1, "-o", "p.txt")
        assert "pairs of 5 images, similarity 0." in done.stderr
        assert " to 1.000; names are relative to" in done.stderr
        (here / "p.txt").unlink()
        os.remove("photos/copy.png")
        run("index", "photos", "-o", "photos.vlad", "--prune")
        done = run("pairs", "photos.vlad", "--min-score", 0.99, "-o", "p.txt", code=1)
        assert "no pair has a similarity of 0.99 or more: the most similar others" in done.stderr
        assert not (here / "p.txt").exists()


class TestInfo:
    def test_images_of_each_source(self, here):
        (here / "more" / "bad.png").write_text("no image")
        run("add", "photos.vlad", "more")
        done = run("info", "photos.vlad")
        assert f"source    {here}/photos: 5 images, 0 skipped" in done.stdout
        assert f"source    {here}/more: 1 image, 1 skipped" in done.stdout
        about = json.loads(run("info", "photos.vlad", "--json").stdout)
        assert [(s["indexed"], s["skipped"]) for s in about["sources"]] == [(5, 0), (1, 1)]
        run("remove", "photos.vlad", "photos")
        assert "photos:" not in run("info", "photos.vlad").stdout
        assert len(json.loads(run("info", "photos.vlad", "--json").stdout)["sources"]) == 1

    def test_an_empty_collection(self, here):
        with Collection.create("empty.vlad"):
            pass
        done = run("info", "empty.vlad")
        assert "no images yet: add some with vladkit add empty.vlad SOURCE" in done.stdout
        assert "None" not in done.stdout

    def test_one_whose_images_were_all_removed(self, here):
        image = "photos/1.png"
        shutil.copy("photos.vlad", "emptied.vlad")
        run("remove", "emptied.vlad", here)
        for options in ([], ["--rerank", 0], ["--json"]):
            done = run("search", "emptied.vlad", image, *options, code=1)
            assert done.stderr == f"vladkit: {here / 'emptied.vlad'} holds no images\n"
            assert done.stdout == ""


@pytest.mark.skipif(os.name == "nt", reason="names on Windows are text")
def test_json_of_names_that_are_no_text(here):
    """ASCII; a path that was given comes back to the byte, and beside letters beyond 16 bits."""
    name = b"\xf0\x9f\x93\xb7 \xff\xc3.jpg"
    command = [sys.executable, "-m", "vladkit", "search", "photos.vlad", name, "--json"]
    done = subprocess.run(command, cwd=here, capture_output=True)
    assert done.returncode == 1
    assert done.stdout.isascii()
    answer = json.loads(done.stdout)
    assert os.fsencode(answer["query"]) == name
    assert "no such file" in answer["error"]


def test_counts_add_up(here):
    (here / "photos" / "bad.png").write_text("no image")
    run("index", "photos", "-o", "photos.vlad")
    cv2.imwrite("photos/new.png", textured(160, 120, seed=8))
    again = json.loads(run("index", "photos", "-o", "photos.vlad", "--json").stdout)
    assert (again["indexed"], again["unchanged"], len(again["skipped"])) == (1, 5, 1)


@pytest.mark.parametrize(("n_failed", "code"), [(1, 0), (3, 1)])
def test_a_measurement_of_failures_exits_with_1(here, n_failed, code):
    truth = json.loads((here / "truth.json").read_text())
    bad = [{"query": f"{i}.jpg", "relevant": ["photos/1.png"]} for i in range(n_failed)]
    truth["queries"] += [*truth["queries"], *bad]
    (here / "t.json").write_text(json.dumps(truth))
    for words in (["eval", "photos.vlad", "t.json"], ["report", "photos.vlad", "t.json"]):
        assert ("do not measure the collection" in run(*words, code=code).stderr) == bool(code)


def test_prune_does_not_forget_a_whole_folder(here):
    """A disk that is not mounted: the folder is there, and empty."""
    os.rename("photos", "elsewhere")
    os.mkdir("photos")
    done = run("index", "photos", "-o", "photos.vlad", "--prune", code=1)
    assert "is empty now, 5 are gone: nothing is forgotten" in done.stderr
    assert "5 images" in run("info", "photos.vlad").stdout
    run("remove", "photos.vlad", "photos")
    os.rename("elsewhere", "photos/new")
    assert "5 indexed" in run("index", "photos", "-o", "photos.vlad", "--prune").stderr


def test_files_that_are_gone_are_shown_as_indexed(here):
    shutil.copy("photos/2.png", "q.png")
    shutil.rmtree("photos")
    assert run("search", "photos.vlad", "q.png", "-n", 1).stdout.split()[-1] == "2.png"


IN_ONE_PROCESS = """
import json, sys
from vladkit.cli import main
for i, command in enumerate(json.loads(sys.argv[1])):
    for stream in (sys.stdout, sys.stderr) if i else ():
        print(end="\\f", file=stream, flush=True)
    sys.argv = ["vladkit", *command]
    try:
        main()
    except SystemExit:
        pass
"""


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-8"])
def test_names_that_the_output_cannot_encode(tmp_path, encoding):
    """Each command prints all of its lines, whatever is in them."""
    (tmp_path / "p").mkdir()
    for name in ("日本語", "é", "a"):
        (tmp_path / "p" / f"{name}.png").write_bytes(cv2.imencode(".png", textured(64, 48))[1])
    commands = [
        ("index", "p", "-o", "c", "--enlarge-to", "0"),
        ("info", "c", "--images"),
        ("search", "c", "p/日本語.png"),
        ("search", "c", "p/nichts日.png"),
        ("duplicates", "c"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS, json.dumps(commands)],
        capture_output=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode(encoding)
    parts = zip(done.stdout.split(b"\f"), done.stderr.split(b"\f"), strict=True)
    said = {
        command[-1]: (out + err).decode(encoding)
        for command, (out, err) in zip(commands, parts, strict=True)
    }
    wanted = "日本語.png".encode(encoding, "backslashreplace").decode(encoding)
    assert wanted in said["--images"]
    assert wanted in said["p/日本語.png"]
    assert wanted in said["c"]
    assert "nichts" in said["p/nichts日.png"]
