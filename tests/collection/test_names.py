"""One file with several names: links, and letters that are composed or not."""

from __future__ import annotations

import json
import os
import shutil
import sys
import unicodedata

import pytest

from commands import run
from small import make, paths
from vladkit import Collection
from vladkit.errors import ParameterError
from vladkit.evaluation.benchmark import ground_truth, read_ground_truth

NFC, NFD = (unicodedata.normalize(form, "é/Å.png") for form in ("NFC", "NFD"))
not_on_macos = pytest.mark.skipif(
    sys.platform == "darwin", reason="its file systems know all spellings"
)


class TestLinks:
    @pytest.fixture
    def linked(self, small):
        """Six images, and three more names of two of them, the links first by name."""
        (small / "- soft.png").symlink_to("0.png")
        (small / "sub").mkdir()
        (small / "sub" / "soft.png").symlink_to(small / "0.png")
        os.link(small / "1.png", small / "9 hard.png")
        return small

    def test_are_not_indexed(self, tmp_path, linked):
        report = make(tmp_path / "c", linked)
        assert (report.indexed, report.skipped) == (6, [])
        assert report.linked == [
            ("- soft.png", "0.png"), ("sub/soft.png", "0.png"), ("9 hard.png", "1.png")
        ]  # fmt: skip
        assert paths(tmp_path / "c") == [f"{i}.png" for i in range(6)]
        again = make(tmp_path / "c", linked, linked / "sub" / "soft.png")
        assert (again.indexed, again.unchanged) == (0, 6)
        with Collection.open(tmp_path / "c") as collection:
            assert collection.find(linked / "sub" / "soft.png").path == "0.png"
            assert collection.duplicates() == []

    def test_are_named(self, tmp_path, linked):
        words = ("index", linked, "-o", tmp_path / "c", "--n-clusters", "8", "--enlarge-to", "0")
        assert (
            "\n  3 links to images, not indexed again: - soft.png (0.png), sub/soft.png (0.png), "
            "9 hard.png (1.png)\n"
        ) in run(*words).stderr
        assert json.loads(run(*words, "--json").stdout)["linked"][2] == {
            "path": "9 hard.png", "image": "1.png"
        }  # fmt: skip

    def test_a_file_goes_by_the_name_that_is_known(self, tmp_path, small):
        make(tmp_path / "c", small)
        os.link(small / "3.png", small / "- first.png")
        report = make(tmp_path / "c", small)
        assert (report.indexed, report.unchanged) == (0, 6)
        assert report.linked == [("- first.png", "3.png")]

    @pytest.mark.parametrize("link", [os.link, os.symlink])
    def test_to_an_image_of_another_folder(self, tmp_path, small, link):
        """That was indexed before, and is not in sight this time."""
        make(tmp_path / "c", small)
        (tmp_path / "links").mkdir()
        link(small / "3.png", tmp_path / "links/a.png")
        shutil.copy2(small / "4.png", tmp_path / "links/copy.png")
        with Collection.open(tmp_path / "c") as collection:
            for n in (1, 0):
                report = collection.add([tmp_path / "links"])
                assert (report.indexed, report.linked) == (n, [("a.png", "3.png")])
            assert len(collection) == 7
            assert collection.add([tmp_path / "links"], force=True).indexed == 1

    @pytest.mark.parametrize("link", [os.link, os.symlink])
    def test_in_another_folder_to_what_was_indexed_before(self, tmp_path, small, link):
        (tmp_path / "others").mkdir()
        link(small / "3.png", tmp_path / "others" / "link.png")
        (tmp_path / "folder").symlink_to(small)
        make(tmp_path / "c", small)
        report = make(tmp_path / "c", tmp_path / "others", tmp_path / "folder" / "4.png")
        assert (report.indexed, report.unchanged) == (0, 0)
        linked = [("link.png", "3.png"), (str(tmp_path / "folder" / "4.png"), "4.png")]
        assert report.linked == linked
        report = make(tmp_path / "c", tmp_path / "others", tmp_path / "folder" / "3.png")
        assert [name for _, name in report.linked] == ["3.png", "3.png"]
        make(tmp_path / "d", tmp_path / "others")  # the link first
        report = make(tmp_path / "d", small)
        assert (report.indexed, report.linked) == (5, [("3.png", "link.png")])

    def test_copies_are_no_links(self, tmp_path, small):
        shutil.copy2(small / "0.png", small / "copy.png")
        report = make(tmp_path / "c", small)
        assert (report.indexed, report.linked) == (7, [])
        shutil.copytree(small, tmp_path / "all")
        report = make(tmp_path / "c", tmp_path / "all")
        assert (report.indexed, report.linked) == (7, [])

    @pytest.mark.parametrize("link", [os.link, os.symlink])
    def test_that_were_indexed_before_are_no_duplicates(self, tmp_path, small, link):
        """As an older version did, or where a copy was replaced by a link."""
        shutil.copy2(small / "5.png", small / "- copy.png")
        make(tmp_path / "c", small)
        with Collection.open(tmp_path / "c") as collection:
            (group,) = collection.duplicates()
            assert [each.path for each in group.others] == ["5.png"]
            (small / "- copy.png").unlink()
            link(small / "5.png", small / "- copy.png")
            assert collection.duplicates() == []
            assert collection.add([small]).linked == []
            assert len(collection) == 7

    def test_a_file_with_three_names_and_a_copy(self, tmp_path, small):
        for name in ("- copy.png", "9.png"):
            shutil.copy2(small / "5.png", small / name)
        make(tmp_path / "c", small)
        (small / "9.png").unlink()
        os.link(small / "5.png", small / "9.png")
        with Collection.open(tmp_path / "c") as collection:
            (group,) = collection.duplicates()
        assert (group.path, [each.path for each in group.others]) == ("- copy.png", ["5.png"])

    def test_a_ground_truth_names_a_link(self, tmp_path, linked):
        make(tmp_path / "c", linked)
        for name in ("9 hard.png", "1.png"):
            truth = ground_truth({str(linked / "2.png"): [str(linked / name)]})
            with Collection.open(tmp_path / "c") as collection:
                (answer,) = collection.assess(truth)[0]
            assert answer.missing == ()
            assert answer.result.n_relevant == 1

    @pytest.mark.parametrize("link", [os.link, os.symlink])
    def test_a_ground_truth_names_a_file_twice_that_is_not_indexed(self, tmp_path, small, link):
        (small / "elsewhere").mkdir()
        (small / "0.png").rename(small / "elsewhere" / "0.png")
        make(tmp_path / "c", small / "1.png", small / "2.png")
        link(small / "elsewhere" / "0.png", small / "0.png")
        names = [str(small / name) for name in ("elsewhere/0.png", "0.png", "1.png")]
        truth = ground_truth({str(small / "2.png"): names})
        with Collection.open(tmp_path / "c") as collection:
            (answer,) = collection.assess(truth)[0]
        assert answer.missing == (os.path.realpath(names[1]),)
        assert answer.result.n_relevant == 2


class TestSpelling:
    @pytest.fixture(params=[(NFC, NFD), (NFD, NFC)])
    def collection(self, request, tmp_path, small):
        """A collection, its folder, how a name in it is spelled, and how else it may be."""
        here, there = request.param
        (small / here).parent.mkdir()
        (small / "0.png").rename(small / here)
        make(tmp_path / "c", small)
        with Collection.open(tmp_path / "c") as opened:
            yield opened, small, here, there

    def test_an_image_is_found(self, collection, tmp_path):
        opened, folder, here, there = collection
        assert opened.find(there).path == opened.find(folder / there).path == here
        assert opened.search(there, 1)[0].path == here
        assert opened.find("è.png") is None
        for part in (here, there, os.path.basename(there)):
            assert [row.path for row in opened.page(contains=part)[1]] == [here]
        mixed = f"{os.path.dirname(here)}/{os.path.basename(there)}"
        assert opened.find(mixed).path == here
        assert opened.remove([os.path.dirname(there)]) == 1
        with pytest.raises(ParameterError, match="not in"):
            opened.remove([there])

    @not_on_macos
    def test_a_file_that_is_spelled_otherwise_now_is_the_same(self, collection):
        opened, folder, here, there = collection
        (folder / os.path.dirname(here)).rename(folder / os.path.dirname(there))
        moved = folder / os.path.dirname(there)
        (moved / os.path.basename(here)).rename(folder / there)
        report = opened.add([folder], prune=True)
        assert (report.indexed, report.unchanged, report.pruned) == (0, 6, 0)
        row = opened.find(there)
        assert row.path == there
        assert os.path.exists(row.file)
        assert len(opened) == 6

    @not_on_macos
    def test_two_files_whose_names_differ_in_that_alone(self, collection):
        opened, folder, here, there = collection
        (folder / there).parent.mkdir()
        shutil.copy(folder / "1.png", folder / there)
        single = opened.add([folder / there])  # without the other one in sight
        assert (single.indexed, single.linked) == (1, [])
        assert opened.find(folder / there).file == str(folder / there)
        assert opened.find(folder / here).file == str(folder / here)
        assert opened.remove([folder / there]) == 1
        assert opened.find(folder / here).path == here

    @not_on_macos
    def test_a_ground_truth_spells_otherwise(self, collection, tmp_path):
        opened, _, _, there = collection
        file = tmp_path / "truth.json"
        queries = [{"query": f"small/{there}", "relevant": ["small/1.png"]}]
        queries += [{"query": "small/1.png", "relevant": [f"small/{there}"]}]
        file.write_text(json.dumps({"database": None, "queries": queries}))
        answers, remarks = opened.assess(read_ground_truth(file))
        assert [answer.failed for answer in answers] == [None, None]
        assert [answer.missing for answer in answers] == [(), ()]
        assert remarks == []
