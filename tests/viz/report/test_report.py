"""The report: its figures are those of `evaluate`, its images inside, its text escaped."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from commands import run
from pages import SCRIPT, Page
from photos import photo, smaller
from vladkit import Collection
from vladkit.errors import (
    FileFormatError,
    MissingDependencyError,
    NothingToIndexError,
    ParameterError,
    StorageError,
)
from vladkit.evaluation.benchmark import read_ground_truth
from vladkit.viz.report import (
    Asked,
    assess,
    check_target,
    drawn,
    read,
    write_report,
    write_search,
)
from vladkit.viz.report.curves import curves
from vladkit.viz.report.html import _score

CHROMIUM = Path("/usr/bin/chromium")


class TestReport:
    def test_figures_are_those_of_evaluate(self, home, page):
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            outcome = collection.evaluate(read_ground_truth(home / "truth.json"), rerank=0)
        summary = page.one("section", id="summary")
        titles = page.words("dt", summary)
        figures = dict(zip(titles, page.words("dd", summary), strict=True))
        wanted = outcome.figures[""]
        assert list(wanted) == ["mAP", "recall@1", "recall@5", "recall@10", "recall@20"]
        assert figures == {name: f"{value:.4f}" for name, value in wanted.items()}
        assert 0.4 < wanted["mAP"] < 0.9
        rows = dict(zip(page.words("th", summary), page.words("td", summary), strict=True))
        assert rows["Averaged"].startswith("7 queries, of which 1 could not be read")
        assert rows["Not averaged"] == ("1 with nothing to find, 1 of them stated to have no match")
        assert rows["Ground truth"] == "truth.json: 8 queries"
        assert "without re-ranking" in rows["Ranked by"]
        assert page.words("li", summary) == outcome.remarks

    def test_the_worst_come_first(self, page):
        worst = page.one("section", id="worst")
        names = page.words("h3", worst)
        assert sorted(names[:3]) == sorted(["missing.jpg", "wrong.jpg", "images/camera.jpg"])
        assert set(names[3:5]) == {"chelsea query.jpg", "coffee query.jpg"}
        assert set(names[5:]) == {"moon query.jpg", SCRIPT}
        stated = [float(n) for n in re.findall(r"average precision\s+([\d.]+)", worst[2])]
        assert stated == sorted(stated)
        assert stated[-1] == 1

    def article(self, page, name):
        (title,) = (e for e in page.all("h3") if e[2] == name)
        return title[3][-1]

    def test_right_and_wrong(self, home, page, ranks):
        verdicts = {}
        for name in ("coffee query.jpg", "wrong.jpg", "moon query.jpg", "images/camera.jpg"):
            article = self.article(page, name)
            (first, *later) = page.all("ol", article, class_="hits")
            cells = page.all("li", first, class_="cell")
            verdicts[name] = [e[1]["class"].split()[1] for e in cells]
            for cell in cells:
                mark = {"right": "✓ right", "wrong": "✗ wrong", "junk": "junk, not"}
                assert mark[cell[1]["class"].split()[1]] in cell[2].replace("\n", " ")
            assert bool(later) == ("Right images at later ranks" in article[2])
        assert verdicts["coffee query.jpg"][0] == "right"
        assert verdicts["coffee query.jpg"].count("right") in (1, 2)  # grass is late or is not
        assert verdicts["wrong.jpg"][0] == "wrong"
        moon = verdicts["moon query.jpg"]
        assert moon[0] == "right"
        assert sum(v != "junk" for v in moon) == 4
        assert "junk" in moon
        assert len(verdicts["images/camera.jpg"]) == 4  # it does not find itself
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            paths = [h.path for h in collection.search(home / "wrong.jpg", top=0)]
        wrong = self.article(page, "wrong.jpg")
        rank = paths.index("retina.jpg") + 1
        assert f"the first at rank {rank}" in " ".join(wrong[2].split())
        shown = page.words("p", page.all("ol", wrong)[0], class_="path")
        assert shown == paths[:4]
        late = page.all("ol", wrong)[1]
        assert page.words("p", late, class_="path") == ["retina.jpg"]
        assert page.words("span", late, class_="rank") == [str(rank)]
        chelsea = self.article(page, "chelsea query.jpg")
        assert "Not in the collection: images/not there.jpg." in " ".join(chelsea[2].split())

    def test_unknown_queries_come_with_their_best_score(self, page, ranks):
        unknown = page.one("section", id="unknown")
        assert page.words("h3", unknown) == ["elsewhere.jpg"]
        best = max(found.score for found in ranks.unknown[0].first)
        assert page.words("b", unknown) == [f"{best:.2g}"]
        assert len(page.all("li", unknown, class_="wrong")) == 4

    def test_fewer_queries_with_images_count_all_the_same(self, ranks, page, tmp_path):
        write_report(tmp_path / "r.html", ranks, queries=2)
        few = Page((tmp_path / "r.html").read_text("utf-8"))
        assert few.words("dd") == page.words("dd")
        assert len(few.all("article", part_of=few.one("section", id="worst"))) == 2
        lines = few.words("tr", few.one("section", id="rest"))[1:]
        assert len(lines) == 5
        assert lines[-1].split()[-2:] == ["1.000", "1"]
        assert len(few.all("symbol")) < len(page.all("symbol"))

    def test_each_image_is_inside_once(self, page):
        data = [e[1]["href"] for e in page.all("image")]
        assert len(data) == len(set(data)) == len(page.all("symbol"))
        start = "data:image/jpeg;base64,"
        for each in data:
            assert each.startswith(start)
            jpeg = np.frombuffer(base64.b64decode(each.removeprefix(start)), np.uint8)
            assert max(cv2.imdecode(jpeg, cv2.IMREAD_COLOR).shape) <= 176
        used = Counter(e[1]["href"] for e in page.all("use"))
        ids = {e[1]["id"] for e in page.all("symbol")}
        images = {name for name in used if re.fullmatch(r"#p\d+", name)}
        assert images == {f"#{name}" for name in ids}
        assert max(used[name] for name in images) > 2

    def test_nothing_outside_and_nothing_that_runs(self, page):
        assert "http://" not in page.text
        assert "https://" not in page.text
        assert {"script", "link", "iframe", "img", "object"} & {
            e[0] for e in page.elements
        } == set()
        for name, attributes, *_ in page.elements:
            assert not [a for a in attributes if a.startswith("on")], name
            for a in ("href", "src", "xlink:href"):
                assert (attributes.get(a) or "#").startswith(("#", "data:image/jpeg;base64,"))
        policy = page.one("meta", content="default-src")[1]["content"]
        assert policy.startswith("default-src 'none'")

    def test_names_are_escaped(self, page):
        assert "<script" not in page.text
        assert SCRIPT in page.words("h3")
        assert SCRIPT in page.words("p", class_="path")
        assert any(SCRIPT in e[1].get("aria-label", "") for e in page.all("svg"))

    def test_ids_are_there_once(self, page):
        ids = [e[1]["id"] for e in page.elements if "id" in e[1]]
        assert [name for name, n in Counter(ids).items() if n > 1] == []
        for e in page.elements:
            target = e[1].get("href") or ""
            assert not target.startswith("#") or target[1:] in ids
        for name in re.findall(r"url\(#([^)]+)\)", page.text):
            assert name in ids

    def test_images_that_are_gone_have_a_place(self, page):
        gone = page.words("div", class_="gone")
        assert [g for g in gone if g.startswith("No image grass.jpg no such file")]
        assert [g for g in gone if g.startswith("No image missing.jpg no such file")]

    def test_skipped_images(self, page):
        (row,) = page.words("td", page.one("section", id="skipped"))[::2]
        assert row == "broken.jpg"

    def test_it_says_what_the_curves_show(self, page, ranks):
        titles = page.words("h3", page.one("section", id="figures"))
        assert titles == [c.title for c in curves(ranks)]
        assert len(titles) == 5
        assert len(page.all("svg", class_="figure")) == 5
        (recall, *_) = page.words("figcaption")
        assert f"{ranks.figures['recall@1']:.1%} at 1" in recall
        assert "#010203" not in page.text  # a stand-in that nobody replaced

    def test_reranked(self, home, tmp_path):
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            truth = read(home / "truth.json")
            ranks = assess(collection, truth, top=4, rerank=5)
            outcome = collection.evaluate(truth.benchmark, rerank=5)
        assert ranks.outcome == outcome
        write_report(tmp_path / "r.html", ranks)
        page = Page((tmp_path / "r.html").read_text("utf-8"))
        assert "Matches that fit" in page.words("h3")
        rows = dict(zip(page.words("th"), page.words("td"), strict=False))
        assert rows["Ranked by"].endswith("the first 5 matched feature by feature (homography)")
        (first,) = page.all("ol", self.article(page, "moon query.jpg"))
        inliers = [int(n) for n in re.findall(r"(\d+) matches", first[2])]
        assert len(inliers) >= 4
        assert inliers[0] > 50

    def test_without_a_ground_truth(self, home, tmp_path):
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            questions = drawn(collection, 6, seed=1)
            assert drawn(collection, 6, seed=1) == questions != drawn(collection, 6, seed=2)
            ranks = assess(collection, questions, top=3)
            with pytest.raises(ParameterError, match="n=-1"):
                drawn(collection, -1)
            with pytest.raises(ParameterError, match="seed=-1: wanted an integer from 0"):
                drawn(collection, 6, seed=-1)
            paths = [h.path for h in collection.search(home / "images" / "moon.jpg", top=4)]
        write_report(tmp_path / "r.html", ranks)
        page = Page((tmp_path / "r.html").read_text("utf-8"))
        names = page.words("h3", page.one("section", id="open"))
        assert names == sorted(names)
        assert len(names) == 6
        assert page.all("dl") == page.all("section", id="worst") == []
        assert page.words("h3", page.one("section", id="figures")) == [
            "Best scores", "Scores of results"
        ]  # fmt: skip
        if "moon.jpg" in names:
            article = self.article(page, "moon.jpg")
            assert page.words("p", article, class_="path") == paths[1:]
        assert {e[1]["class"] for e in page.all("li", class_="cell")} == {"cell open"}

    @pytest.mark.parametrize(
        ("queries", "titles"),
        [
            ([], []),
            ([{"query": "elsewhere.jpg", "relevant": []}], ["Best scores", "Scores of results"]),
            (
                [{"query": "elsewhere.jpg", "relevant": [], "unknown": True}],
                ["Best scores", "Scores of results", "Matches that fit"],
            ),
            (
                [{"query": "missing.jpg", "relevant": ["images/moon.jpg"]}],
                ["Recall", "Precision and recall", "Average precision"],
            ),
        ],
        ids=["none", "open", "unknown", "failed"],
    )
    def test_queries_of_one_kind_alone(self, home, tmp_path, queries, titles):
        (home / "few.json").write_text(json.dumps({"queries": queries}))
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            ranks = assess(collection, read(home / "few.json"), top=3, rerank=2)
        write_report(tmp_path / "r.html", ranks)
        page = Page((tmp_path / "r.html").read_text("utf-8"))
        assert [c.title for c in curves(ranks)] == titles
        assert bool(page.all("section", id="figures")) == bool(titles)
        assert len(page.all("article")) == len(queries)

    def test_an_empty_collection_is_refused(self, tmp_path):
        with (
            Collection.create(tmp_path / "c") as collection,
            pytest.raises(NothingToIndexError, match="holds no images yet"),
        ):
            drawn(collection, 3)

    def test_names_that_are_no_text(self, ranks, tmp_path):
        odd = ranks.skipped[:]
        odd.append((os.fsdecode(b"\xff\xfe.jpg"), "a name of bytes"))
        from dataclasses import replace

        write_report(tmp_path / "r.html", replace(ranks, skipped=odd))
        assert "??.jpg" in (tmp_path / "r.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.07, "0.070"), (0.071, "0.071"), (-0.00005, "-5.0e-05"), (0.0, "0.000"), (-2.5, "-2.500")],
)
def test_small_scores_have_two_digits(value, text):
    assert _score(value) == text


class TestTargets:
    def test_what_is_read_is_not_replaced(self, home, tmp_path):
        link = tmp_path / "link"
        link.symlink_to(home / "photos.vlad")
        with pytest.raises(ParameterError, match="is read here"):
            check_target(link, [home / "photos.vlad"])
        before = (home / "photos.vlad").read_bytes()
        run("report", "photos.vlad", "truth.json", "-o", "photos.vlad", cwd=home, code=2)
        run("search", "photos.vlad", "wrong.jpg", "--html", "wrong.jpg", cwd=home, code=2)
        assert (home / "photos.vlad").read_bytes() == before

    def test_nowhere_to_write(self, tmp_path):
        with pytest.raises(StorageError, match="it is a folder"):
            check_target(tmp_path)
        with pytest.raises(StorageError, match="No such file"):
            check_target(tmp_path / "no" / "r.html")

    @pytest.mark.parametrize("name", ["jinja2", "matplotlib"])
    def test_missing_extra(self, name, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingDependencyError, match=rf"{name}.*vladkit\[report\]"):
            check_target(tmp_path / "r.html")
        if name == "matplotlib":
            check_target(tmp_path / "r.html", figures=False)  # a search has no figures


class TestCommand:
    def test_report(self, home, tmp_path):
        out = tmp_path / "r.html"
        arguments = ["report", "photos.vlad", "truth.json", "-o", out, "--top", 3, "--queries", 2]
        done = run(*arguments, "--json", cwd=home)
        answer = json.loads(done.stdout)
        evaluated = json.loads(run("eval", "photos.vlad", "truth.json", "--json", cwd=home).stdout)
        for name in ("mAP", "recall@1", "recall@5", "recall@10", "recall@20"):
            assert answer[name] == evaluated[name]
        assert answer["bytes"] == out.stat().st_size
        assert "Retrieval report: photos.vlad" in out.read_text("utf-8")
        said = run(*arguments, cwd=home)
        assert said.stdout == ""
        assert f"8 queries, mAP {answer['mAP']:.4f}, recall@1" in said.stderr

    def test_without_a_ground_truth(self, home, tmp_path):
        run("report", "photos.vlad", "-o", tmp_path / "r.html", "--queries", 3, cwd=home)
        page = Page((tmp_path / "r.html").read_text("utf-8"))
        assert len(page.all("article")) == 3

    def test_of_no_query(self, home, tmp_path):
        out = tmp_path / "r.html"
        nothing = run("report", "photos.vlad", "-o", out, "--queries", 0, cwd=home, code=2)
        assert "leaves nothing to report" in nothing.stderr
        assert not out.exists()
        run("report", "photos.vlad", "truth.json", "-o", out, "--queries", 0, cwd=home)
        assert not Page(out.read_text("utf-8")).all("article")  # figures alone

    def test_images_whose_files_are_away(self, photos, tmp_path):
        """They are asked by what is kept of them; what is damaged is not."""
        (tmp_path / "p").mkdir()
        for name in ("coffee", "chelsea", "moon"):
            shutil.copy(photos / f"{name}.jpg", tmp_path / "p")
        with Collection.create(tmp_path / "c.vlad", n_clusters=8) as collection:
            collection.add([tmp_path / "p"])
        words = "report", "c.vlad", "-o", "r.html", "--queries", 3
        here = run(*words, "--json", cwd=tmp_path)
        (tmp_path / "p").rename(tmp_path / "elsewhere")
        assert json.loads(run(*words, "--json", cwd=tmp_path).stdout)["queries"] == 3
        assert json.loads(here.stdout)["queries"] == 3
        page = Page((tmp_path / "r.html").read_text("utf-8"))
        assert len(page.all("article")) == 3
        (tmp_path / "p").mkdir()
        for name in ("coffee", "chelsea", "moon"):
            (tmp_path / "p" / f"{name}.jpg").write_bytes(b"no image")
        said = run(*words, cwd=tmp_path, code=1).stderr
        assert "3 of 3 queries failed" in said
        assert said.strip().endswith("check the files")

    def test_images_whose_files_have_changed_are_marked(self, home, tmp_path):
        (tmp_path / "images").mkdir()
        for name in ("coffee", "coins", "chelsea"):
            shutil.copy(home / "images" / f"{name}.jpg", tmp_path / "images")
        (tmp_path / "images/coffee.jpg").rename(tmp_path / "cup.jpg")
        (tmp_path / "images/coffee.jpg").symlink_to(tmp_path / "cup.jpg")
        run("index", "images", "-o", "c.vlad", "--n-clusters", 4, cwd=tmp_path)
        cv2.imwrite(str(tmp_path / "cup.jpg"), smaller(photo("coins")))
        run("report", "c.vlad", cwd=tmp_path)
        cells = Page((tmp_path / "report.html").read_text("utf-8")).all("li", class_="cell")
        marked = ["coffee.jpg" in cell[2] for cell in cells]
        assert sum(marked) == 2  # of the other two
        assert ["changed since it was indexed" in cell[2] for cell in cells] == marked

    def test_a_bad_ground_truth_writes_nothing(self, home, tmp_path):
        (tmp_path / "t.json").write_text("[]")
        done = run(
            "report", home / "photos.vlad", tmp_path / "t.json", "-o", tmp_path / "r.html", code=1
        )
        assert "is not a ground truth" in done.stderr
        assert [p.name for p in tmp_path.iterdir()] == ["t.json"]
        with pytest.raises(FileFormatError):
            read(tmp_path / "t.json")

    def test_search(self, home, tmp_path):
        out = tmp_path / "s.html"
        files = ["coffee query.jpg", "nothing.jpg"]  # one of two queries is not there
        run("search", "photos.vlad", *files, "--rerank", 3, "--html", out, cwd=home, code=1)
        page = Page(out.read_text("utf-8"))
        assert page.words("h2") == files
        assert len(page.all("svg", class_="matched")) == 1

    def test_search_by_the_name_of_an_indexed_image(self, home, tmp_path):
        out = tmp_path / "s.html"
        file, names = home / "photos.vlad", ["coffee.jpg", "coins.jpg"]
        run("search", file, *names, "--rerank", 3, "--html", out, cwd=tmp_path)
        page = Page(out.read_text("utf-8"))
        assert page.words("h2") == names
        labels = [each[1]["aria-label"] for each in page.all("svg", class_="matched")]
        assert [label.partition(" of ")[2] for label in labels] == [
            "coffee.jpg and coffee.jpg",
            "coins.jpg and coins.jpg",
        ]

    def test_search_where_files_have_changed(self, home, tmp_path):
        """Matches are of places in the images that were indexed: they are not drawn over others."""
        (tmp_path / "images").mkdir()
        for name in ("coffee", "coins"):
            shutil.copy(home / "images" / f"{name}.jpg", tmp_path / "images")
        run("index", "images", "-o", "c.vlad", "--n-clusters", 4, cwd=tmp_path)
        cv2.imwrite(str(tmp_path / "images/coffee.jpg"), smaller(photo("coins")))
        query, out = home / "coffee query.jpg", tmp_path / "s.html"
        run("search", "c.vlad", query, "--html", out, cwd=tmp_path)
        page = Page(out.read_text("utf-8"))
        assert page.all("svg", class_="matched") == []
        first = page.all("li", class_="cell")[0]
        assert "coffee.jpg" in first[2]
        assert "changed since it was indexed" in first[2]
        assert out.read_text("utf-8").count("changed since it was indexed") == 1
        # as a query, too; its part may lie outside of the other file
        words = "coffee.jpg", "coins.jpg", "--region", "200,150,150,150", "--html", out
        run("search", "c.vlad", *words, cwd=tmp_path)
        page = Page(out.read_text("utf-8"))
        changed, same = page.all("section", class_="search")
        assert "query, changed since it was indexed" in changed[2]
        assert page.all("polygon", changed) == page.all("svg", changed, class_="matched") == []
        assert len(page.all("svg", same, class_="matched")) == 1


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM.exists(), reason="no /usr/bin/chromium to open the pages with")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(home, ranks, tmp_path, scheme):
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    write_report(tmp_path / "r.html", ranks)
    with Collection.open(home / "photos.vlad", read_only=True) as collection:
        query = str(home / "coffee query.jpg")
        hits = collection.search(query, 3, rerank=3)
    write_search(tmp_path / "s.html", "photos.vlad", [Asked.found(query, None, hits)])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        for name in ("r.html", "s.html"):
            view = browser.new_page(color_scheme=scheme, viewport={"width": 400, "height": 800})
            asked, said = [], []
            view.on("request", lambda request, to=asked: to.append(request.url.split(":")[0]))
            view.on("console", lambda message, to=said: to.append(message.text))
            view.goto((tmp_path / name).as_uri())
            assert set(asked) <= {"file", "data"}
            assert said == []
            wide = "document.documentElement.scrollWidth <= window.innerWidth"
            assert view.evaluate(wide), "it has to be scrolled sideways"
            found = Axe().run(view).response["violations"]
            assert [(v["id"], v["nodes"][0]["html"]) for v in found] == []
        browser.close()
