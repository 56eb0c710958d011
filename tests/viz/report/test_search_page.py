"""The page of a search."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from pages import SCRIPT, Page
from vladkit import Collection
from vladkit.collection.ranked import Hit
from vladkit.images import Region
from vladkit.viz.report import (
    Asked,
    write_search,
)


@pytest.fixture(scope="module")
def asked(home):
    with Collection.open(home / "photos.vlad", read_only=True) as collection:
        query = str(home / "coffee query.jpg")
        plain = str(home / SCRIPT)
        part = Region(20, 30, 200, 200)
        return [
            Asked.found(query, part, collection.search(query, 5, rerank=5, region=part)),
            Asked.found(plain, None, collection.search(plain, 3, rerank=0)),
            Asked("nothing.jpg", failed="no such file"),
        ]


@pytest.fixture(scope="module")
def search_page(asked, tmp_path_factory):
    path = tmp_path_factory.mktemp("search") / "s.html"
    write_search(path, "photos.vlad", asked)
    return Page(path.read_text("utf-8"))


class TestSearchPage:
    def test_matches_are_drawn(self, search_page, asked):
        hit = asked[0].hits[0]
        assert hit.path == "coffee.jpg"
        (drawing,) = search_page.all("svg", class_="matched")
        assert drawing[1]["aria-label"].startswith(f"{hit.inliers} matches of ")
        (lines,) = search_page.all("path", drawing, class_="line")
        assert lines[1]["d"].count("M") == min(60, hit.inliers)
        # the first line in px of the originals, from the drawing's own scale
        ax, ay, bx, by = map(float, re.findall(r"[-\d.]+", lines[1]["d"])[:4])
        left, right = search_page.all("svg", drawing)
        scales = []
        for inner in (left, right):
            width = float(inner[1]["viewbox"].split()[2])
            scales.append(float(inner[1]["width"]) / width)
        bx -= float(right[1]["x"])
        query_2 = (hit.verification.query_xy_m2[0] + 0.5) * scales[0]
        match_2 = (hit.verification.match_xy_m2[0] + 0.5) * scales[1]
        assert (ax, ay) == pytest.approx(query_2.tolist(), abs=0.1)
        assert (bx, by) == pytest.approx(match_2.tolist(), abs=0.1)

    def test_part_and_outline(self, search_page, asked):
        (drawing,) = search_page.all("svg", class_="matched")
        part, outline = (
            e[1]["points"] for e in search_page.all("polygon", drawing, class_="outline")
        )
        assert part == "20.0,30.0 220.0,30.0 220.0,230.0 20.0,230.0"
        corner_42 = asked[0].hits[0].verification.outline_42(asked[0].region)
        got = [tuple(map(float, each.split(","))) for each in outline.split()]
        assert np.allclose(got, corner_42 + 0.5, atol=0.06)

    def test_the_others_are_listed(self, search_page, asked):
        first, second, third = search_page.all("section", class_="search")
        for section, search, n_drawn in ((first, asked[0], 1), (second, asked[1], 0)):
            ranks = search_page.words("span", section, class_="rank")
            assert ranks == [str(i + 1) for i in range(n_drawn, len(search.hits))]
            paths = search_page.words("p", section, class_="path")
            assert paths == [h.path for h in search.hits[n_drawn:]]
        assert "searched by the part 20,30,200,200" in first[2]
        (alone,) = search_page.all("svg", second, class_="marked")
        assert alone[1]["aria-label"].startswith("Query ")
        assert search_page.all("polygon", second) == []
        assert "could not be used: no such file" in third[2]
        assert "<script" not in search_page.text
        assert "http://" not in search_page.text

    def test_who_ranks_a_million_does_not_look_at_them_all(self, home):
        hit = Hit(1, 1.0, 1.0, path="a", file="a")
        search = Asked.found("q", None, [hit] * 1000)
        assert (len(search.hits), search.n_hits) == (200, 1000)

    def test_names_with_characters_that_are_not_seen(self, home, asked, tmp_path):
        """One that turns the writing makes of gpj.exe another name; as the command prints it."""
        from dataclasses import replace

        odd = "a\u202egpj.exe\n\u200b.jpg"
        hits = tuple(replace(hit, path=odd) for hit in asked[0].hits)
        query = str(tmp_path / odd)
        shutil.copy(home / "coffee query.jpg", query)
        some = [replace(asked[0], query=query, hits=hits), replace(asked[1], query=odd)]
        write_search(tmp_path / "s.html", f"{odd}.vlad", some)
        text = (tmp_path / "s.html").read_text("utf-8")
        assert not re.search("[\u202e\u200b]", text)
        page = Page(text)
        shown = r"a\u202egpj.exe\n\u200b.jpg"
        assert page.one("title")[2] == f"Search in {shown}.vlad"
        assert set(page.words("p", class_="path")[: len(hits) - 1]) == {shown}
        (drawing,) = page.all("svg", class_="matched")
        assert drawing[1]["aria-label"].endswith(f"of {tmp_path}/{shown} and {shown}")

    def test_images_that_are_gone(self, asked, tmp_path):
        from dataclasses import replace

        hits = tuple(replace(h, file=str(tmp_path / "gone.jpg")) for h in asked[0].hits)
        write_search(tmp_path / "s.html", "c", [replace(asked[0], hits=hits)])
        page = Page((tmp_path / "s.html").read_text("utf-8"))
        assert page.all("svg", class_="matched") == []
        assert len(page.all("div", class_="gone")) == len(hits)
        (part, _) = page.all("polygon")  # the query is there by itself, with its part
        assert part[1]["points"].startswith("20.0,30.0 220.0,30.0")
        lost = replace(asked[0], query=str(tmp_path / "lost.jpg"))
        write_search(tmp_path / "s.html", "c", [lost])
        page = Page((tmp_path / "s.html").read_text("utf-8"))
        assert page.all("svg", class_="matched") == []
        assert "lost.jpg no such file" in page.words("div", class_="gone")[0]
        named = replace(asked[0], query="by name", files={"by name": str(tmp_path / "lost.jpg")})
        write_search(tmp_path / "s.html", "c", [named])
        page = Page((tmp_path / "s.html").read_text("utf-8"))
        assert "by name no such file" in page.words("div", class_="gone")[0]
