"""`vladkit draw-matches` as a person or a script calls it, and figures as files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from commands import run
from photos import photo
from vladkit.errors import ParameterError, StorageError
from vladkit.viz.figure_file import check_figure_file, write_figure

H_33 = np.array([[0.62, -0.21, 120.0], [0.19, 0.66, 5.0], [1e-5, -3e-5, 1.0]])
CORNER_42 = np.array([[-0.5, -0.5], [599.5, -0.5], [599.5, 399.5], [-0.5, 399.5]])


def mapped(h_33, xy_m2):
    h_m3 = np.c_[xy_m2, np.ones(len(xy_m2))] @ h_33.T
    return h_m3[:, :2] / h_m3[:, 2:]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """a.jpg, what a homography makes of it as b.jpg, another image, and one that is none."""
    home = tmp_path_factory.mktemp("drawing")
    image = photo("coffee")
    cv2.imwrite(str(home / "a.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    cv2.imwrite(str(home / "b.jpg"), cv2.warpPerspective(image, H_33, (500, 330)))
    cv2.imwrite(str(home / "moon.png"), photo("moon"))
    (home / "broken.jpg").write_text("no image")
    return home


def draw(home, *words, code=0):
    return run("draw-matches", *words, cwd=home, code=code)


def test_a_mirror_image(home):
    cv2.imwrite(str(home / "flipped.png"), cv2.imread(str(home / "a.jpg"))[:, ::-1])
    words = "flipped.png", "a.jpg", "-o", "m.svg", "--json"
    assert json.loads(draw(home, *words).stdout)["verified"] is False
    found = json.loads(draw(home, *words, "--mirrored", "--region", "100,50,400,300").stdout)
    assert (found["mirrored"], found["verified"]) == (True, True)
    points_m4 = np.array(found["points"])
    assert np.median(np.abs(599 - points_m4[:, 0] - points_m4[:, 2])) < 1
    assert points_m4[:, 0].min() >= 100


class TestDrawMatches:
    def test_people(self, home):
        done = draw(home, "a.jpg", "b.jpg", "-o", "out.png")
        found = re.fullmatch(r"a\.jpg in b\.jpg: (\d+) inliers: a match\n", done.stdout)
        assert int(found[1]) > 200
        assert done.stderr == "drawn in out.png\n"
        drawn = cv2.imread(str(home / "out.png")).astype(int)
        assert drawn.shape[1] == 1500
        # the two are left and right, as high as each other
        h, w = drawn.shape[:2]
        left, right = drawn[h // 3 : h // 2, : w // 3], drawn[h // 3 : h // 2, 2 * w // 3 :]
        assert left.std() > 30 < right.std()

    def test_json(self, home):
        done = draw(home, "a.jpg", "b.jpg", "-o", "out.svg", "--json", "--max-features", 800)
        answer = json.loads(done.stdout)
        assert done.stderr == ""
        assert (answer["query"], answer["match"], answer["output"]) == ("a.jpg", "b.jpg", "out.svg")
        assert answer["model"] == "homography"
        assert answer["region"] is None
        assert answer["verified"] is True
        assert answer["inliers"] == len(answer["points"]) > 100
        point_m4 = np.array(answer["points"])
        off_m2 = mapped(H_33, point_m4[:, :2]) - point_m4[:, 2:]
        assert np.median(np.hypot(*off_m2.T)) < 1
        np.testing.assert_allclose(answer["outline"], mapped(H_33, CORNER_42), atol=2)
        np.testing.assert_allclose(answer["transform"], H_33, atol=3)
        assert len((home / "out.svg").read_text()) > 10_000

    def test_most_features(self, home):
        few = ["--max-features", 60, "--json"]
        answer = json.loads(draw(home, "a.jpg", "b.jpg", "-o", "out.svg", *few).stdout)
        assert 8 < answer["inliers"] <= 60

    def test_a_part(self, home):
        done = draw(
            home, "a.jpg", "b.jpg", "-o", "out.pdf", "--json", "--region", "200,100,250,200"
        )
        answer = json.loads(done.stdout)
        assert answer["region"] == [200, 100, 250, 200]
        point_m4 = np.array(answer["points"])
        assert (point_m4[:, :2].min(axis=0) >= (199, 99)).all()
        assert (point_m4[:, :2].max(axis=0) <= (451, 301)).all()
        corner_42 = np.array([[199.5, 99.5], [449.5, 99.5], [449.5, 299.5], [199.5, 299.5]])
        np.testing.assert_allclose(answer["outline"], mapped(H_33, corner_42), atol=2)
        assert (home / "out.pdf").read_bytes().startswith(b"%PDF")

    def test_epipolar_geometry(self, home):
        done = draw(home, "a.jpg", "b.jpg", "-o", "out.jpg", "--json", "--fundamental")
        answer = json.loads(done.stdout)
        assert answer["model"] == "fundamental"
        assert answer["outline"] is None
        assert np.linalg.norm(answer["transform"]) == pytest.approx(1)
        assert (home / "out.jpg").read_bytes().startswith(b"\xff\xd8")

    def test_nothing_matches(self, home):
        done = draw(home, "a.jpg", "moon.png", "-o", "none.png")
        assert done.stdout == "a.jpg in moon.png: 0 inliers: no match (8 are needed)\n"
        assert (home / "none.png").exists()
        answer = json.loads(draw(home, "a.jpg", "moon.png", "-o", "none.png", "--json").stdout)
        assert (answer["inliers"], answer["verified"]) == (0, False)
        assert (answer["transform"], answer["outline"], answer["points"]) == (None, None, [])

    def test_fewer_lines(self, home):
        files, few = {}, ["--max-features", 100]
        for n in (0, 5):
            draw(home, "a.jpg", "b.jpg", "-o", "n.svg", "--max-lines", n, *few)
            files[n] = (home / "n.svg").read_text()
        assert "lines for the 5 clearest" in files[5]
        assert files[5].count("<path") - files[0].count("<path") == 10  # each with a halo

    def test_equal_files_for_equal_images(self, home):
        for kind in ("svg", "pdf"):
            for name in ("one", "two"):
                draw(home, "a.jpg", "b.jpg", "-o", f"{name}.{kind}", "--max-features", 100)
            one, two = ((home / f"{name}.{kind}").read_bytes() for name in ("one", "two"))
            assert one == two, kind

    @pytest.mark.parametrize("name", ["日本 $x$.jpg", b"\xff\xfe.jpg"])
    def test_names_that_the_font_has_not(self, home, name, caplog):
        """Matplotlib would warn, which is an error here, or log."""
        copy = os.fsdecode(name)
        shutil.copy(home / "b.jpg", os.path.join(home, copy))
        done = draw(home, "a.jpg", copy, "-o", "names.png", "--json")
        assert done.stderr == ""
        assert caplog.records == []

    @pytest.mark.parametrize(
        ("arguments", "code", "lines"),
        [
            (["no.jpg", "b.jpg", "-o", "x.png"], 1, ["vladkit: no.jpg: no such file or directory"]),
            (["no.jpg", "broken.jpg", "-o", "x.png"], 1,
             ["vladkit: no.jpg: no such file or directory",
              "vladkit: broken.jpg: not an image that can be decoded"]),
            (["no.jpg", "b.jpg", "-o", "x.gif"], 2,
             ["vladkit: cannot draw x.gif: its name has to end in .png, .jpg, .jpeg, .svg, .pdf"]),
            (["no.jpg", "b.jpg", "-o", "no/x.png"], 1, ["vladkit: cannot write no/x.png: "
             "No such file or directory"]),
            (["a.jpg", "b.jpg", "-o", "b.jpg"], 2, ["vladkit: b.jpg is read here: "
             "give another file to write to"]),
            (["a.jpg", "b.jpg", "-o", "x.png", "--region", "1,2"], 2,
             ["vladkit: region '1,2': give left,top,width,height in whole px"]),
            (["a.jpg", "b.jpg", "-o", "x.png", "--region", "700,0,9,9"], 2,
             ["vladkit: region 700,0,9,9 is outside of the image of 600x400 px"]),
            (["a.jpg", "b.jpg", "-o", "x.png", "--max-features", "0"], 2,
             ["vladkit: max_features=0: wanted an integer from 1 to 1000000"]),
        ],
    )  # fmt: skip
    def test_refused(self, home, arguments, code, lines):
        before = (home / "b.jpg").read_bytes()
        done = draw(home, *arguments, code=code)
        assert done.stdout == ""
        assert done.stderr.splitlines() == lines
        assert not (home / "x.png").exists()
        assert (home / "b.jpg").read_bytes() == before

    def test_without_matplotlib(self, home):
        code = (
            "import sys; sys.modules['matplotlib'] = None\n"
            "sys.argv = ['vladkit', 'draw-matches', 'no.jpg', 'b.jpg', '-o', 'x.png']\n"
            "from vladkit.cli import main; main()"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=home, capture_output=True, text=True
        )
        assert done.returncode == 1
        assert done.stderr == (
            "vladkit: draw-matches needs matplotlib, which is not installed: "
            "pip install 'vladkit[plot]'\n"
        )


class Broken:
    """A figure that fails in the middle of its file."""

    def savefig(self, file, **options):
        file.write(b"half")
        raise OSError(28, "No space left on device")


class TestFigureFile:
    def test_what_was_there_stays_if_it_cannot_be_written(self, tmp_path):
        target = tmp_path / "a.png"
        target.write_bytes(b"before")
        with pytest.raises(StorageError, match=r"cannot write .*a\.png: No space left"):
            write_figure(Broken(), target)
        assert target.read_bytes() == b"before"
        assert [p.name for p in tmp_path.iterdir()] == ["a.png"]

    def test_checked_before(self, tmp_path):
        for name in ("a.PNG", "a.jpeg", "a.Svg", "a.pdf"):
            check_figure_file(tmp_path / name, "a test")
        assert not list(tmp_path.iterdir())
        for name in ("a.tif", "png", "a.png.gz"):
            with pytest.raises(ParameterError, match=r"has to end in \.png"):
                check_figure_file(tmp_path / name, "a test")
        (tmp_path / "folder.png").mkdir()
        with pytest.raises(StorageError, match="is a folder"):
            check_figure_file(tmp_path / "folder.png", "a test")
