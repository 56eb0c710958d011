"""Duplicates in a collection of real photographs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from commands import run
from photos import photo, write_photos
from stored import sql
from vladkit import Collection, Difference
from vladkit.collection import duplicates as module
from vladkit.errors import NothingToIndexError, ParameterError
from vladkit.geometry.photometric import agrees, retouching
from vladkit.images import Image


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """All photographs, copies of some, and another view of one."""
    home = tmp_path_factory.mktemp("copies")
    folder = home / "photos"
    write_photos(folder)
    coffee, rocket, chelsea = photo("coffee"), photo("rocket"), photo("chelsea")
    w = coffee.shape[1]
    half = cv2.resize(coffee, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(folder / "coffee half.jpg"), half)
    cv2.imwrite(str(folder / "coffee left.jpg"), coffee[:, : w // 2])
    cv2.imwrite(
        str(folder / "coffee rotated.jpg"), cv2.rotate(coffee, 0), [cv2.IMWRITE_JPEG_QUALITY, 80]
    )
    cv2.imwrite(str(folder / "coffee bad.jpg"), coffee, [cv2.IMWRITE_JPEG_QUALITY, 25])
    dark = (rocket * 0.6).astype(np.uint8)
    cv2.imwrite(str(folder / "rocket dark.jpg"), dark, [cv2.IMWRITE_JPEG_QUALITY, 80])
    signed = cv2.resize(photo("astronaut"), None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    cv2.putText(signed, "SAMPLE", (40, 250), cv2.FONT_HERSHEY_SIMPLEX, 2, (255, 255, 255), 5)
    cv2.imwrite(str(folder / "astronaut signed.jpg"), signed)
    cv2.imwrite(str(folder / "chelsea flipped.jpg"), chelsea[:, ::-1])
    cv2.imwrite(str(folder / "motorcycle_right.jpg"), photo("motorcycle_right"))
    with Collection.create(home / "photos.vlad", n_clusters=64) as collection:
        collection.add([folder])
    return home


@pytest.fixture(scope="module")
def found(home):
    """Groups of all photographs, and the steps that were reported."""
    steps = []
    before = (home / "photos.vlad").read_bytes()
    with Collection.open(home / "photos.vlad", read_only=True) as collection:
        groups = collection.duplicates(progress=lambda *step: steps.append(step))
    assert (home / "photos.vlad").read_bytes() == before
    return groups, steps


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Two photographs, the half of one and the mirror image of the other."""
    few = tmp_path_factory.mktemp("few")
    write_photos(few / "photos", ["chelsea", "coffee"])
    half = cv2.resize(photo("coffee"), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(few / "photos" / "coffee half.jpg"), half)
    cv2.imwrite(str(few / "photos" / "chelsea flipped.jpg"), photo("chelsea")[:, ::-1])
    with Collection.create(few / "photos.vlad", n_clusters=16) as collection:
        collection.add([few / "photos"])
    return few


COFFEE = {
    "coffee bad.jpg": ("re-compressed",),
    "coffee half.jpg": ("resized",),
    "coffee left.jpg": ("cropped",),
    "coffee rotated.jpg": ("rotated",),
}


class TestDuplicates:
    def test_groups_with_what_differs(self, home, found):
        groups, steps = found
        assert [each.path for each in groups] == ["astronaut.jpg", "coffee.jpg", "rocket.jpg"]
        astronaut, coffee, rocket = groups
        assert [other.kinds for other in astronaut.others] == [("resized", "watermarked")]
        assert {other.path: other.kinds for other in coffee.others} == COFFEE
        assert [(other.path, other.kinds) for other in rocket.others] == [
            ("rocket dark.jpg", ("brightness",))
        ]
        assert rocket.file == str(home / "photos" / "rocket.jpg")
        assert all(0.05 < other.similarity < 1 for other in coffee.others)
        assert steps[-1] == ("duplicates", 23, 23)

    def test_sizes_to_decide_by(self, home, found):
        (_, coffee, _), _ = found
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            row_of = {row.path: row for row in collection.images()}
        for each in (coffee, *coffee.others):
            row = row_of[each.path]
            assert (each.width, each.height) == (row.width, row.height)
            assert each.n_bytes == os.path.getsize(each.file)
        half = next(each for each in coffee.others if each.path == "coffee half.jpg")
        assert (half.width, half.height) == (coffee.width // 2, coffee.height // 2)

    def test_flips(self, home):
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            groups = collection.duplicates(flips=True)
        assert [each.path for each in groups] == [
            "astronaut.jpg", "chelsea flipped.jpg", "coffee.jpg", "rocket.jpg",
        ]  # fmt: skip
        assert [(o.path, o.kinds) for o in groups[1].others] == [("chelsea.jpg", ("flipped",))]

    def test_after_removing_and_without_features(self, home, tmp_path):
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            collection.copy(tmp_path / "c")
        with Collection.open(tmp_path / "c") as collection:
            collection.remove(["rocket.jpg"])
            with collection.index.store.writing():
                sql = "DELETE FROM feature WHERE picture_id IN (SELECT picture_id FROM picture "
                collection.index.store.connection.execute(sql + "WHERE path = 'coffee left.jpg')")
            _, group = collection.duplicates(candidates=5)
        assert group.path == "coffee.jpg"
        assert sorted(o.path for o in group.others) == sorted(set(COFFEE) - {"coffee left.jpg"})

    def test_errors(self, home, tmp_path):
        with (
            Collection.open(home / "photos.vlad", read_only=True) as collection,
            pytest.raises(ParameterError, match="candidates=0"),
        ):
            collection.duplicates(candidates=0)
        with Collection.create(tmp_path / "new", keep_features=0) as collection:
            with pytest.raises(NothingToIndexError):
                collection.duplicates()
            collection.add([home / "photos" / "moon.jpg"])
            with pytest.raises(ParameterError, match="keeps no features"):
                collection.duplicates()

    def test_command(self, few):
        done = run("duplicates", "photos.vlad", cwd=few)
        lines = done.stdout.splitlines()
        assert "photos/coffee.jpg" in lines
        assert "  photos/coffee half.jpg  (resized)" in lines
        assert "4 images, 1 shot with 1 copy" in done.stderr
        found = json.loads(run("duplicates", "photos.vlad", "--flips", "--json", cwd=few).stdout)
        assert len(found["groups"]) == 2
        assert found["groups"][0]["others"][0]["kinds"] == ["flipped"]

    def test_where_the_files_are_gone(self, home, tmp_path):
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            collection.copy(tmp_path / "c")
        with Collection.open(tmp_path / "c") as collection:
            rockets = {"rocket.jpg", "rocket dark.jpg"}
            others = [row.path for row in collection.images() if row.path not in rockets]
            collection.remove(others[4:])
            with collection.index.store.writing():
                sql = "UPDATE source SET root = '/nowhere', relative = NULL"
                collection.index.store.connection.execute(sql)
            *_, rocket = collection.duplicates()
        assert rocket.others[0].kinds == ("altered",)


class TestEqualFiles:
    @pytest.fixture
    def copies(self, home, tmp_path):
        """A photograph three times in two folders, beside its half and another one."""
        for name in ("a/coffee.jpg", "a/coffee 2.jpg", "b/coffee.jpg", "b/half.jpg", "b/moon.jpg"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            source = {"half.jpg": "coffee half.jpg", "moon.jpg": "moon.jpg"}
            shutil.copy(home / "photos" / source.get(name[2:], "coffee.jpg"), tmp_path / name)
        with Collection.create(tmp_path / "c", n_clusters=16) as collection:
            collection.add([tmp_path / "a", tmp_path / "b"])
        return tmp_path

    def found(self, folder, **options):
        with Collection.open(folder / "c", read_only=True) as collection:
            return collection.duplicates(**options)

    def test_are_joined_without_being_matched(self, copies, monkeypatch):
        compared = []
        real = module.same_shot

        def counted(a, b, extractor, **options):
            compared.append((len(a), len(b)))
            return real(a, b, extractor, **options)

        monkeypatch.setattr(module, "same_shot", counted)
        steps = []
        (group,) = self.found(copies, progress=lambda *step: steps.append(step))
        assert group.path == "coffee 2.jpg"
        assert [(other.path, other.kinds) for other in group.others] == [
            ("coffee.jpg", ("identical",)),
            ("coffee.jpg", ("identical",)),
            ("half.jpg", ("resized",)),
        ]
        # coffee, half and moon with each other, and once more to describe half
        assert len(compared) == 3 + 1
        assert steps[-1] == ("duplicates", 5, 5)

    def test_the_same_groups_as_by_matching(self, copies, monkeypatch):
        known = self.found(copies, flips=True)
        monkeypatch.setattr(module, "digest_of", lambda row, within: None)
        assert self.found(copies, flips=True) == known

    def test_a_file_that_has_changed_is_matched(self, copies):
        file = copies / "a" / "coffee 2.jpg"
        status = file.stat()
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
        with Collection.open(copies / "c", read_only=True) as collection:
            rows = {row.path: row for row in collection.images()}
        assert module.digest_of(rows["coffee 2.jpg"]) is None
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert module.digest_of(rows["coffee 2.jpg"]) is not None
        file.unlink()
        assert module.digest_of(rows["coffee 2.jpg"]) is None
        (group,) = self.found(copies)
        assert "coffee 2.jpg" in {group.path, *(other.path for other in group.others)}

    def test_without_features_enough_to_match(self, tmp_path):
        """Smooth images match in nothing; equal bytes are copies all the same."""
        (tmp_path / "p").mkdir()
        blank = np.full((120, 160), 90, np.uint8)
        cv2.circle(blank, (80, 60), 20, 200, -1)
        for name in ("one.png", "two.png"):
            cv2.imwrite(str(tmp_path / "p" / name), blank)
        write_photos(tmp_path / "p", ["chelsea", "coffee"])
        with Collection.create(tmp_path / "c", n_clusters=16) as collection:
            collection.add([tmp_path / "p"])
        (group,) = self.found(tmp_path)
        assert (group.path, group.others[0].path) == ("one.png", "two.png")
        assert group.others[0].kinds == ("identical",)

    def test_files_without_a_vector(self, tmp_path, monkeypatch):
        """Blank, too small, damaged: copies if their bytes are equal; empty files are not."""
        monkeypatch.chdir(tmp_path)
        noise_yx = np.random.default_rng(0).integers(0, 256, (96, 96), dtype=np.uint8)
        blank_yx = np.full((96, 96), 255, np.uint8)
        images = {"icon": noise_yx[:12, :12], "blank": blank_yx, "image": noise_yx}
        for name, image_yx in images.items():
            cv2.imwrite(f"{name} a.png", image_yx)
        cv2.imwrite("blank small.png", blank_yx[1:])
        Path("cut a.png").write_bytes(Path("image a.png").read_bytes()[:500])
        Path("empty a.png").touch()
        for name in (*images, "cut", "empty"):
            shutil.copy(f"{name} a.png", f"{name} b.png")
        with Collection.create("c", n_clusters=4) as collection:
            collection.add(["."])
            groups = collection.duplicates()
        assert [(group.path, [each.path for each in group.others]) for group in groups] == [
            (f"{name} a.png", [f"{name} b.png"]) for name in ("blank", "cut", "icon", "image")
        ]
        for (other,) in (group.others for group in groups):
            assert (other.kinds, other.similarity) == (("identical",), pytest.approx(1, abs=1e-5))


class TestRemembered:
    """Pairs that are no copies are not compared again."""

    @pytest.fixture
    def compared(self, few, tmp_path, monkeypatch):
        """A collection of its own, and the number of comparisons of each run."""
        shutil.copytree(few / "photos", tmp_path / "photos")
        shutil.copy(few / "photos.vlad", tmp_path / "c")
        calls = []
        real = module.same_shot
        monkeypatch.setattr(
            module, "same_shot", lambda *a, **o: (calls.append(a), real(*a, **o))[1]
        )

        def run(**options):
            calls.clear()
            with Collection.open(tmp_path / "c", **options) as collection:
                found = collection.duplicates(flips=True)
            return found, len(calls)

        return run

    def test_a_second_run_compares_copies_alone(self, compared, tmp_path):
        first, n_first = compared()
        second, n_second = compared(read_only=True)
        assert second == first
        assert [len(group.others) for group in first] == [1, 1]
        assert n_second < n_first / 2
        (tmp_path / "c.compared").write_bytes(b"PK damaged")
        assert compared() == (first, n_first)
        assert compared() == (first, n_second)

    def test_a_changed_image_is_compared_again(self, compared, tmp_path):
        _, n_first = compared()
        _, n_second = compared()
        sql(tmp_path / "c", "UPDATE picture SET mtime_ns = 1 WHERE path = 'chelsea.jpg'")
        assert n_second < compared()[1] < n_first

    def test_what_was_compared_before_an_interrupt_is_kept(self, compared, tmp_path, monkeypatch):
        def stop(*_):
            raise KeyboardInterrupt

        with Collection.open(tmp_path / "c") as collection, pytest.raises(KeyboardInterrupt):
            collection.duplicates(flips=True, progress=stop)
        assert compared()[1] == compared()[1]

    def test_where_nothing_can_be_written(self, compared, monkeypatch, tmp_path):
        (tmp_path / "c.compared").mkdir()
        assert compared() == compared()

    def test_that_of_another_collection_does_not_count(self, compared, tmp_path):
        first, n_first = compared()
        with Collection.open(tmp_path / "c") as collection, collection.index.store.writing():
            collection.index.store.set_about(id="another")
        assert compared() == (first, n_first)


class TestRetouching:
    """On a real photograph, whose copies are made here."""

    same_23 = np.array([[1.0, 0, 0], [0, 1, 0]])

    def kinds(self, copy, affine_23=same_23, **options):
        image = cv2.cvtColor(photo("chelsea"), cv2.COLOR_BGR2GRAY)
        height, width = image.shape
        a = Image(image, width, height)
        return retouching(a, Image(copy, *copy.shape[::-1]), affine_23, **options)

    def gray(self):
        return cv2.cvtColor(photo("chelsea"), cv2.COLOR_BGR2GRAY)

    def test_nothing(self):
        assert self.kinds(self.gray()) == ()
        saved = cv2.imencode(".jpg", self.gray(), [cv2.IMWRITE_JPEG_QUALITY, 20])[1]
        assert self.kinds(cv2.imdecode(saved, cv2.IMREAD_GRAYSCALE)) == ()
        half = cv2.resize(self.gray(), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        assert self.kinds(half, self.same_23 / 2 - np.array([[0, 0, 0.25]])) == ()
        assert self.kinds(self.gray()[:, ::-1].copy(), flipped=True) == ()

    @pytest.mark.parametrize(("gain", "offset"), [(0.8, 0), (1.0, 15), (1.1, 5), (0.9, -3)])
    def test_brightness(self, gain, offset):
        copy = np.clip(self.gray() * gain + offset, 0, 255).astype(np.uint8)
        assert self.kinds(copy) == ("brightness",)

    def test_written_over(self):
        copy = cv2.putText(self.gray(), "VLAD", (60, 150), 0, 3, 255, 6)
        assert self.kinds(copy) == ("watermarked",)
        copy = (copy * 0.8).astype(np.uint8)
        assert self.kinds(copy) == ("brightness", "watermarked")

    @pytest.mark.parametrize("tone", [0, 128, 255])
    def test_opaque_box_over_either_image(self, tone):
        """White and black are not taken for what was cut off there."""
        box = cv2.rectangle(self.gray(), (110, 150), (340, 180), tone, -1)
        image, covered = (Image(gray, *gray.shape[::-1]) for gray in (self.gray(), box))
        assert retouching(image, covered, self.same_23) == ("watermarked",)
        assert retouching(covered, image, self.same_23) == ("watermarked",)

    @pytest.mark.parametrize(("gain", "offset"), [(1.7, 10), (1.4, -80), (0.7, -60)])
    def test_tones_that_were_cut_off_are_not_written_over(self, gain, offset):
        cut_off = np.clip(self.gray() * gain + offset, 0, 255).astype(np.uint8)
        image, copy = (Image(gray, *gray.shape[::-1]) for gray in (self.gray(), cut_off))
        assert retouching(image, copy, self.same_23) == ("brightness",)
        assert retouching(copy, image, self.same_23) == ("brightness",)

    def test_small_lights_that_were_cut_off_are_not_written_over(self):
        night = self.gray() // 2
        for x, y in np.random.default_rng(0).integers((10, 10), (440, 290), (150, 2)).tolist():
            cv2.circle(night, (x, y), 2, 240, -1)
        lighter = np.clip(night * 2.4, 0, 255).astype(np.uint8)
        image, copy = (Image(gray, *gray.shape[::-1]) for gray in (night, lighter))
        assert retouching(image, copy, self.same_23) == ("brightness",)
        assert retouching(copy, image, self.same_23) == ("brightness",)

    def test_too_little_in_common(self):
        assert self.kinds(self.gray(), self.same_23 + np.array([[0, 0, 10_000]])) == ()

    @pytest.mark.parametrize("alter", [
        lambda gray: gray,
        lambda gray: (gray * 0.6).astype(np.uint8),
        lambda gray: cv2.putText(gray.copy(), "VLAD", (60, 150), 0, 3, 255, 6),
        lambda gray: np.clip(gray * 1.25 + 20, 0, 255).astype(np.uint8),
    ])  # fmt: skip
    def test_copies_agree(self, alter):
        a, b = self.gray(), alter(self.gray())
        size = a.shape[1], a.shape[0]
        assert agrees(Image(a, *size), Image(b, *size), self.same_23)

    def test_others_do_not_agree_even_with_the_same_words_on_them(self):
        def signed(image):
            gray = cv2.cvtColor(cv2.resize(image, (400, 300)), cv2.COLOR_BGR2GRAY)
            return Image(cv2.putText(gray, "SAMPLE", (20, 200), 0, 3, 255, 8), 400, 300)

        y, x = np.mgrid[:300, :400]
        sky = np.dstack([(200 - y / 2).astype(np.uint8)] * 3)
        sea = np.dstack([(90 + 60 * np.sin(x / 90) + y / 4).astype(np.uint8)] * 3)
        images = [sky, sea, photo("chelsea"), photo("coffee")]
        for i, first in enumerate(images):
            for j, second in enumerate(images):
                assert agrees(signed(first), signed(second), self.same_23) == (i == j), (i, j)

    def test_a_wrong_pair_does_not_join_groups(self, home, monkeypatch):
        """Features that are taken for those of one shot, of images that are not."""
        real = module.same_shot

        def fooled(a, b, extractor, **options):
            found = real(a, b, extractor, **options)
            if found is None and options.get("plain"):
                return Difference(("altered",), self.same_23, 20, 0.1, 1.0)
            return found

        monkeypatch.setattr(module, "same_shot", fooled)
        (home / "photos.vlad.compared").unlink(missing_ok=True)
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            groups = collection.duplicates(candidates=3)
        assert {each.path for each in groups} >= {"astronaut.jpg", "coffee.jpg", "rocket.jpg"}
        assert max(len(each.others) for each in groups) == 4
