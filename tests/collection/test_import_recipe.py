"""Collections of features that other programs found: made, searched, kept up, refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image as PilImage

import sources
from commands import run
from images import textured
from paths import SHARED
from photos import NAMES, altered_files, photo, write_photos
from vladkit import Collection
from vladkit.collection.import_recipe import recipe_for
from vladkit.errors import (
    ImageError,
    NothingToIndexError,
    ParameterError,
    RecipeMismatchError,
)
from vladkit.evaluation.benchmark import ground_truth, read_ground_truth
from vladkit.features import Sift, make_extractor
from vladkit.features.imported import Imported
from vladkit.features.pool import extract
from vladkit.images import Image, Region
from waiting import wait_for_rows

h5py = pytest.importorskip("h5py", reason="the test extra has it")
pytest.importorskip("pyarrow", reason="the test extra has it")

KTH = SHARED / "data" / "kth_buildings"


@pytest.fixture(scope="module")
def images():
    return sources.sift_of_photos(8)


def write(kind, folder, images):
    """A source of that kind with those images."""
    folder.mkdir(exist_ok=True)
    if kind == "colmap":
        sources.write_colmap(folder / "d.db", images)
        return f"colmap:{folder / 'd.db'}"
    if kind == "hloc":
        sources.write_hloc(folder / "f.h5", images)
        return f"hloc:{folder / 'f.h5'}"
    if kind == "parquet":
        sources.write_parquet(folder / "p.parquet", images)
        return f"parquet:{folder / 'p.parquet'}"
    for name, features in images.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        if kind == "siftgeo":
            sources.write_siftgeo(file.with_suffix(".siftgeo"), features)
        elif kind == "npz":
            np.savez(file.with_suffix(".npz"), descriptors=features.descriptor_lf)
        else:
            values = features.descriptor_lf.astype("<f4" if kind == "fvecs" else "u1")
            sources.write_vecs(file.with_suffix(f".{kind}"), values)
    return f"{kind}:{folder}"


def make(path, source, **recipe):
    fields, _ = recipe_for(source, n_clusters=16, **recipe)
    with Collection.create(path, **fields) as collection:
        return collection.add([source])


@pytest.mark.parametrize("kind", ["colmap", "hloc", "parquet", "siftgeo", "npz", "fvecs", "bvecs"])
class TestEveryKind:
    def test_makes_a_collection_that_is_searched_by_name(self, kind, images, tmp_path):
        source = write(kind, tmp_path / "s", images)
        report = make(tmp_path / "c", source)
        assert report.indexed == len(images)
        assert make(tmp_path / "c", source).unchanged == len(images)
        with Collection.open(tmp_path / "c", read_only=True) as collection:
            assert collection.recipe.features.startswith(kind)
            for row in list(collection.images())[:3]:
                hits = collection.search(row.path, top=3)
                assert hits[0].path == row.path
                assert hits[0].similarity == pytest.approx(1, abs=2e-3)
            assert collection.check() == []
            if kind in ("npz", "fvecs", "bvecs"):
                assert collection.recipe.keep_features == 0
                with pytest.raises(ParameterError, match="keeps no features"):
                    collection.search(row.path, rerank=3)
            else:
                assert collection.search(row.path, rerank=3)[0].inliers > 100

    def test_adds_what_is_new_redoes_what_has_changed_and_prunes(self, kind, images, tmp_path):
        some = dict(list(images.items())[:6])
        source = write(kind, tmp_path / "s", some)
        make(tmp_path / "c", source)
        with Collection.open(tmp_path / "c") as collection:
            names = sorted(row.path for row in collection.images())
            before = {n: collection.search(n, top=0) for n in names}
        first, second = list(some)[:2]
        changed = {name: f for name, f in images.items() if name != first}
        changed[second] = images[second].strongest(200)
        empty(tmp_path / "s")
        assert write(kind, tmp_path / "s", changed) == source
        with Collection.open(tmp_path / "c") as collection:
            report = collection.add([source], prune=True)
            assert report.pruned == 1
            if kind in ("colmap", "hloc", "parquet"):  # else each file was written again
                assert (report.indexed, report.unchanged) == (3, 4)
            rows = {row.path: row for row in collection.images()}
            assert len(rows) == 7
            assert stem(first, kind) not in rows
            assert rows[stem(second, kind)].n_local == 200
            similarity = collection.search(names[-1])[0].similarity
            assert similarity == pytest.approx(before[names[-1]][0].similarity, abs=1e-4)

    def test_other_features_are_refused(self, kind, images, photos, tmp_path):
        source = write(kind, tmp_path / "s", images)
        make(tmp_path / "c", source)
        np.savez(tmp_path / "other.npz", descriptors=np.ones((9, 64)), lengths=[4, 5])
        other = f"npz:{tmp_path / 'other.npz'}"
        with Collection.open(tmp_path / "c") as collection:
            with pytest.raises(RecipeMismatchError, match="64"):
                collection.add([other])
            with pytest.raises(RecipeMismatchError, match="does not"):
                collection.add([photos])
            assert len(collection) == len(images)
        with pytest.raises(RecipeMismatchError):
            make(tmp_path / "c", other)


def stem(name, kind):
    return name if kind in ("colmap", "hloc", "parquet") else name.removesuffix(".jpg")


def empty(folder):
    for file in sorted(folder.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()


class TestRecipe:
    def test_what_is_not_stated_is_left_out_with_a_note(self, images, tmp_path):
        source = write("hloc", tmp_path / "s", images)
        recipe, notes = recipe_for(source)
        assert recipe["orientation"] == 0
        assert "position" not in recipe  # image_size is there
        assert notes == [f"{source} states no directions of features: orientation is 0"]
        with pytest.raises(ParameterError, match=r"orientation=0.5: .* no directions"):
            recipe_for(source, orientation=0.5)
        source = write("npz", tmp_path / "n", images)
        recipe, notes = recipe_for(source)
        assert (recipe["orientation"], recipe["position"], recipe["keep_features"]) == (0, 0, 0)
        assert len(notes) == 3
        assert recipe_for([tmp_path], n_clusters=3) == ({"n_clusters": 3}, [])

    def test_all_that_colmap_states_is_used(self, images, tmp_path):
        recipe, notes = recipe_for(write("colmap", tmp_path / "s", images))
        assert set(recipe) == {"features", "dimensions", "compare"}
        assert notes == []

    def test_mixtures(self, images, tmp_path):
        colmap = write("colmap", tmp_path / "a", images)
        hloc = write("hloc", tmp_path / "b", images)
        with pytest.raises(ParameterError, match="index them into a file each"):
            recipe_for([colmap, hloc])
        with pytest.raises(ParameterError, match=r"holds features and .* images"):
            recipe_for([colmap, str(tmp_path)])

    def test_two_of_one_kind(self, images, tmp_path):
        halves = [dict(list(images.items())[i::2]) for i in range(2)]
        two = [write("hloc", tmp_path / str(i), half) for i, half in enumerate(halves)]
        fields, _ = recipe_for(two, n_clusters=16)
        with Collection.create(tmp_path / "c", **fields) as collection:
            assert collection.add(two).indexed == len(images)
            assert len(collection.info()["sources"]) == 2

    def test_without_a_recipe_the_way_is_shown(self, images, tmp_path):
        source = write("hloc", tmp_path / "s", images)
        with (
            Collection.create(tmp_path / "c") as collection,
            pytest.raises(RecipeMismatchError, match="recipe_for"),
        ):
            collection.add([source])

    def test_images_are_of_features(self, images, photos, tmp_path):
        source = write("hloc", tmp_path / "s", images)
        with (
            Collection.create(tmp_path / "c") as collection,
            pytest.raises(ParameterError, match="images"),
        ):
            collection.add([photos], images=tmp_path)
        fields, _ = recipe_for(source)
        with (
            Collection.create(tmp_path / "d", **fields) as collection,
            pytest.raises(NothingToIndexError, match="not a folder"),
        ):
            collection.add([source], images=tmp_path / "none")


class TestExtractor:
    def test_ways_to_compare(self):
        local_lf = np.array([[3, 0, 4], [0, 0, 0]], np.uint8)
        made = {
            way: Imported("npz", dimensions=3, compare=way).metric(local_lf)
            for way in ("as-is", "unit", "rootsift")
        }
        np.testing.assert_allclose(made["as-is"], local_lf)
        np.testing.assert_allclose(made["unit"], [[0.6, 0, 0.8], [0, 0, 0]], rtol=1e-6)
        np.testing.assert_allclose(
            made["rootsift"], [[(3 / 7) ** 0.5, 0, (4 / 7) ** 0.5], [0, 0, 0]], rtol=1e-6
        )
        assert {each.dtype for each in made.values()} == {np.dtype(np.float32)}

    @pytest.mark.parametrize(
        "parameters",
        [
            {},
            {"dimensions": 0},
            {"dimensions": 8.0},
            {"dimensions": 8, "compare": "cosine"},
            {"dimensions": 8, "max_features": 0},
            {"dimensions": 8, "sigma": 2},
        ],
    )
    def test_bad_parameters(self, parameters):
        with pytest.raises(ParameterError):
            make_extractor("hloc", **parameters)

    def test_sift_is_made_as_colmap_stores_it(self):
        gray_yx = cv2.cvtColor(photo("coffee"), cv2.COLOR_BGR2GRAY)
        image = Image(gray_yx, *gray_yx.shape[::-1])
        made = make_extractor("colmap:sift", dimensions=128, compare="unit").extract(image)
        found = Sift().extract(image)
        np.testing.assert_array_equal(made.descriptor_lf, sources.rooted(found))
        length_l = np.linalg.norm(made.descriptor_lf.astype(float), axis=1)
        assert np.abs(length_l - 512).max() < 4
        np.testing.assert_array_equal(made.xy_l2, found.xy_l2)

    def test_is_made_again_from_its_parameters(self):
        for name in ("hloc", "colmap:sift", "colmap:aliked-n32"):
            extractor = make_extractor(name, dimensions=128, compare="unit", max_features=7)
            assert make_extractor(name, **extractor.parameters()) == extractor


@pytest.fixture(scope="module")
def colmap_home(tmp_path_factory):
    """A folder with a collection from COLMAP's own database of real photographs."""
    pycolmap = pytest.importorskip("pycolmap", reason="the test extra has it")
    home = tmp_path_factory.mktemp("colmap")
    files = write_photos(home / "images")
    for name in ("retina", "hubble_deep_field", "ihc"):  # large
        files[name].unlink()
    pycolmap.logging.minloglevel = 2
    options = pycolmap.FeatureExtractionOptions()
    options.num_threads = 2
    options.sift.max_num_features = 1000
    pycolmap.extract_features(
        home / "database.db",
        home / "images",
        extraction_options=options,
        device=pycolmap.Device.cpu,
    )
    source = f"colmap:{home / 'database.db'}"
    fields, notes = recipe_for(source, n_clusters=64)
    assert notes == []
    with Collection.create(home / "c", **fields) as collection:
        report = collection.add([source], images=home / "images")
    assert report.indexed == len(NAMES) - 3
    assert not list(home.glob("database.db-*"))
    return home


class TestQueries:
    def test_a_photo_is_searched_for_by_our_own_sift(self, colmap_home, tmp_path):
        with Collection.open(colmap_home / "c", read_only=True) as collection:
            for name, file in altered_files(tmp_path, ["astronaut", "chelsea", "coffee"]):
                hits = collection.search(file, top=3, rerank=3)
                assert hits[0].path == f"{name}.jpg"
                assert hits[0].inliers >= 30
                assert hits[0].file == str(colmap_home / "images" / f"{name}.jpg")

    def test_an_indexed_image_by_name_and_by_file(self, colmap_home, monkeypatch):
        monkeypatch.chdir(colmap_home)
        with Collection.open(colmap_home / "c", read_only=True) as collection:
            by_name = collection.search("coffee.jpg", rerank=3)
            assert by_name[0].path == "coffee.jpg"
            assert by_name[0].similarity == pytest.approx(1, abs=1e-3)
            shown = [(h.path, h.score) for h in by_name]
            for other in (colmap_home / "images/coffee.jpg", "images/coffee.jpg"):
                assert [(h.path, h.score) for h in collection.search(other, rerank=3)] == shown

    def test_mirrored_copies_are_found(self, images, tmp_path):
        gray_yx = cv2.cvtColor(photo("coffee"), cv2.COLOR_BGR2GRAY)
        h, w = gray_yx.shape
        copy = Sift(max_features=300).extract(Image(gray_yx[:, ::-1].copy(), w, h))
        source = write("colmap", tmp_path / "s", images | {"copy.jpg": copy})
        make(tmp_path / "c", source)
        with Collection.open(tmp_path / "c", read_only=True) as collection:
            assert collection.duplicates() == []
            (group,) = collection.duplicates(flips=True)  # no image is there to be opened
            assert {group.path, group.others[0].path} == {"c/coffee.jpg", "copy.jpg"}
            assert group.others[0].kinds == ("flipped",)

    def test_what_others_make_cannot_be_made_here(self, images, photos, tmp_path):
        source = write("hloc", tmp_path / "s", images)
        make(tmp_path / "c", source)
        with Collection.open(tmp_path / "c") as collection:
            with pytest.raises(ImageError, match="search by an image of the collection"):
                collection.search(photos / "coffee.jpg")
            with pytest.raises(ImageError, match="no such file"):
                collection.search("nothing.jpg")

    def test_command(self, images, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        source = write("hloc", tmp_path / "s", images)
        done = run("index", source, "-o", "c", "--n-clusters", 16, "--json")
        assert "note: " in done.stderr
        assert json.loads(done.stdout)["indexed"] == len(images)
        name = next(iter(images))
        done = run("search", "c", name, "nothing.jpg", "--json", "--rerank", 2, code=1)
        found, failed = map(json.loads, done.stdout.splitlines())
        assert found["results"][0]["path"] == name
        assert failed == {"query": "nothing.jpg", "error": "no such file or directory"}
        assert "dimensions 128" in run("info", "c").stdout
        run("add", "c", source)
        assert "no bad.h5" in run("add", "c", "hloc:bad.h5", code=1).stderr
        (tmp_path / "bad.h5").write_text("text" * 100)
        assert "not an HDF5 file" in run("index", "hloc:bad.h5", "-o", "d", code=1).stderr
        assert not (tmp_path / "d").exists()
        run("index", source, "-o", "e", "--compare", "cosine", code=2)
        assert not (tmp_path / "e").exists()
        run("remove", "c", name)
        assert json.loads(run("info", "c", "--json").stdout)["images"] == len(images) - 1


class TestSizeOfImages:
    """Of sources that do not state it."""

    @pytest.fixture
    def source(self, photos, tmp_path):
        """Features of three images by npz: places up to some 40 px before the end."""
        (tmp_path / "npz").mkdir()
        for path in sorted(photos.iterdir())[:3]:
            features = extract(Sift(max_features=300), str(path))
            inside_l = (features.xy_l2 < [features.width - 40, features.height - 40]).all(axis=1)
            np.savez(
                tmp_path / "npz" / f"{path.name}.npz",
                descriptors=features.descriptor_lf[inside_l],
                keypoints=features.xy_l2[inside_l],
            )
        return f"npz:{tmp_path / 'npz'}"

    def test_is_not_known(self, source, tmp_path):
        recipe, _ = recipe_for(source, n_clusters=8, keep_features=500)
        with Collection.create(tmp_path / "c.vlad", **recipe) as collection:
            collection.add([source])
            for row in collection.images():
                assert (row.width, row.height) == (None, None)
                kept = collection.features_of(row.image_id)
                last_2 = kept.xy_l2.max(axis=0)
                assert (kept.width, kept.height) == tuple((last_2 + 1.5).astype(int))
                given = np.load(tmp_path / "npz" / f"{row.path}.npz")["keypoints"]
                np.testing.assert_allclose(kept.xy_l2, given, atol=0.02)
                part = Region(0, 0, kept.width // 2, kept.height)
                assert collection.search(row.path, region=part)[0].path == row.path

    def test_is_that_of_the_images(self, source, photos, tmp_path):
        folder = tmp_path / "photos"
        folder.mkdir()
        first, second, third = sorted(photos.iterdir())[:3]
        shutil.copy(first, folder)
        with PilImage.open(second) as image:  # stored on its side
            exif = PilImage.Exif()
            exif[274] = 6
            image.transpose(PilImage.Transpose.ROTATE_90).save(folder / second.name, exif=exif)
            wanted = {second.name: image.size, third.name: (None, None)}
        with PilImage.open(first) as image:
            wanted[first.name] = image.size
        recipe, _ = recipe_for(source, n_clusters=8, keep_features=500)
        with Collection.create(tmp_path / "c.vlad", **recipe) as collection:
            collection.add([source], images=folder)
            found = {row.path: (row.width, row.height) for row in collection.images()}
            assert found == wanted
            kept = collection.features_of(collection.find(first.name).image_id)
            assert (kept.width, kept.height) == wanted[first.name]


class TestByName:
    """Of every collection, also of images."""

    def test_as_the_file_itself(self, home):
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            named = collection.search("coffee.jpg", top=5, rerank=5)
            filed = collection.search(home / "photos/coffee.jpg", top=5, rerank=5)
            assert named[0].path == filed[0].path == "coffee.jpg"
            assert named[0].similarity == pytest.approx(1, abs=1e-3)
            row = collection.find("coffee.jpg")
            assert collection.find(home / "photos/coffee.jpg") == row
            by_id = collection.search(row, 5, rerank=5)
            assert [(h.path, h.score) for h in by_id] == [(h.path, h.score) for h in named]

    def test_though_the_file_has_gone(self, photos, tmp_path):
        (tmp_path / "p").mkdir()
        for name in ("coffee.jpg", "moon.jpg", "rocket.jpg"):
            shutil.copy(photos / name, tmp_path / "p")
        with Collection.create(tmp_path / "c", n_clusters=32) as collection:
            collection.add([tmp_path / "p"])
            shutil.rmtree(tmp_path / "p")
            assert collection.search(tmp_path / "p/moon.jpg")[0].path == "moon.jpg"
            assert collection.search("moon.jpg", expand=2)[0].path == "moon.jpg"

    def test_a_part_of_it(self, home):
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            row = collection.find("astronaut.jpg")
            part = Region(row.width // 4, 0, row.width // 2, row.height // 2)
            hits = collection.search("astronaut.jpg", region=part, rerank=3)
            assert hits[0].path == "astronaut.jpg"
            points_m2 = hits[0].verification.query_xy_m2
            assert points_m2[:, 0].min() >= part.left - 0.5
            assert points_m2[:, 1].max() < part.top + part.height
            np.testing.assert_array_equal(points_m2, hits[0].verification.match_xy_m2)
            with pytest.raises(ParameterError, match="outside of the image"):
                collection.search("astronaut.jpg", region=Region(10**5, 0, 5, 5))

    def test_a_file_goes_before_a_name(self, home, tmp_path, monkeypatch):
        (tmp_path / "coffee.jpg").write_bytes((home / "photos/moon.jpg").read_bytes())
        monkeypatch.chdir(tmp_path)
        with Collection.open(home / "photos.vlad", read_only=True) as collection:
            assert collection.search("coffee.jpg")[0].path == "moon.jpg"

    def test_a_name_that_two_have(self, tmp_path):
        for seed, name in enumerate("ab"):
            (tmp_path / name).mkdir()
            cv2.imwrite(str(tmp_path / name / "x.png"), textured(120, 90, seed=seed))
        with Collection.create(tmp_path / "c", n_clusters=8) as collection:
            collection.add([tmp_path / "a", tmp_path / "b"])
            with pytest.raises(ParameterError, match=r"2 images .* are called x.png"):
                collection.search("x.png")
            assert collection.find(tmp_path / "b/x.png").path == "x.png"
            assert collection.find("c/x.png") is None


class TestTrouble:
    def test_bad_images_are_skipped_by_name(self, images, tmp_path):
        source = write("hloc", tmp_path / "s", images)
        names = list(images)
        with h5py.File(tmp_path / "s/f.h5", "a") as file:
            file[names[0]]["descriptors"][5, 7] = np.nan
            del file[names[1]]["descriptors"]
            data = file[names[2]]["descriptors"][:64]
            del file[names[2]]["descriptors"]
            file[names[2]]["descriptors"] = data
        report = make(tmp_path / "c", source)
        assert report.indexed == len(images) - 3
        reasons = dict(report.skipped)
        assert "1 of 300 features hold NaN" in reasons[names[0]]
        assert "no descriptors" in reasons[names[1]]
        assert "64 dimensions, those of the collection 128" in reasons[names[2]]
        with h5py.File(tmp_path / "s/f.h5", "a") as file:  # mended
            file[names[0]]["descriptors"][5, 7] = 0
        report = make(tmp_path / "c", source)
        assert (report.indexed, len(report.skipped)) == (1, 2)

    def test_a_database_that_goes_away_meanwhile(self, images, tmp_path):
        source = write("colmap", tmp_path / "s", images)
        make(tmp_path / "c", source)
        (tmp_path / "s/d.db").unlink()
        with Collection.open(tmp_path / "c") as collection:
            with pytest.raises(NothingToIndexError, match="there is no"):
                collection.add([source], prune=True)
            assert len(collection) == len(images)

    def test_moves_with_its_folder(self, images, tmp_path):
        (tmp_path / "home").mkdir()
        source = write("colmap", tmp_path / "home/s", images)
        (tmp_path / "home/images").mkdir()
        fields, _ = recipe_for(source, n_clusters=16)
        with Collection.create(tmp_path / "home/c", **fields) as collection:
            collection.add([source], images=tmp_path / "home/images")
        (tmp_path / "home").rename(tmp_path / "moved")
        moved = source.replace("/home/", "/moved/")
        with Collection.open(tmp_path / "moved/c") as collection:
            name = next(iter(images))
            assert collection.info()["sources"][0]["images"] == str(tmp_path / "moved/images")
            file = collection.find(name).file
            assert file == str(tmp_path / "moved/images" / name)
            assert collection.add([moved]).unchanged == len(images)

    def test_a_kill_and_again_ends_in_the_same(self, images, tmp_path):
        few = {name: f.strongest(60) for name, f in images.items()}
        many = {f"{i}/{name}": f for i in range(12) for name, f in few.items()}
        source = write("colmap", tmp_path / "s", many)
        code = (
            "import sys, time\nfrom vladkit import Collection\n"
            "from vladkit.features.readers.colmap import ColmapReader\n"
            "from vladkit.collection.import_recipe import recipe_for\n"
            "read = ColmapReader.read\n"
            "def slow(self, name):\n    time.sleep(0.02)\n    return read(self, name)\n"
            "ColmapReader.read = slow\n"
            "fields, _ = recipe_for(sys.argv[2], n_clusters=16)\n"
            "with Collection.create(sys.argv[1], **fields) as c: c.add([sys.argv[2]], n_jobs=1)\n"
        )
        process = subprocess.Popen([sys.executable, "-c", code, tmp_path / "c", source])
        wait_for_rows(process, tmp_path / "c", 33)
        process.send_signal(signal.SIGKILL)
        process.wait()
        report = make(tmp_path / "c", source)
        assert 0 < report.indexed < len(many)
        make(tmp_path / "undisturbed", source)
        assert self.everything(tmp_path / "c") == self.everything(tmp_path / "undisturbed")

    def everything(self, path):
        with Collection.open(path) as collection:
            names = {row.image_id: row.path for row in collection.images()}
            ids, vector_nD = collection.vectors()
            return {
                names[i]: vector_D.tobytes()
                for i, vector_D in zip(ids.tolist(), vector_nD, strict=True)
            }


def test_evaluation_takes_indexed_queries_as_they_are(images, tmp_path):
    source = write("hloc", tmp_path / "s", images)
    (tmp_path / "images").mkdir()
    fields, _ = recipe_for(source, n_clusters=16)
    with Collection.create(tmp_path / "c", **fields) as collection:
        collection.add([source], images=tmp_path / "images")
        names = sorted(images)
        truth = {
            "database": names,
            "queries": [
                {"query": name, "relevant": [other]}
                for name, other in zip(names, names[1:] + names[:1], strict=True)
            ],
        }
        (tmp_path / "images/truth.json").write_text(json.dumps(truth))
        outcome = collection.evaluate(read_ground_truth(tmp_path / "images/truth.json"))
    assert outcome.remarks == []
    assert outcome.queries == {"": len(names)}
    assert outcome.failed == 0

    image, query = tmp_path / "images" / names[0], tmp_path / "another name.png"
    image.parent.mkdir(exist_ok=True)
    image.touch()
    os.link(image, query)
    relevant = {str(query): [str(tmp_path / "images" / names[1])]}
    with Collection.open(tmp_path / "c") as collection:
        assert collection.evaluate(ground_truth(relevant)).failed == 0


@pytest.mark.skipif(not KTH.is_dir(), reason=f"no images of buildings in {KTH}")
@pytest.mark.skipif("KTH_DB" not in os.environ, reason="minutes: KTH_DB=FILE.db, of pycolmap")
def test_colmap_ranks_as_well_as_the_images(tmp_path):
    source = f"colmap:{os.environ['KTH_DB']}"
    truth = read_ground_truth(KTH / "ground_truth.json")
    fields, _ = recipe_for(source)
    with Collection.create(tmp_path / "c", **fields) as collection:
        collection.add([source], images=KTH)
        by_colmap = collection.evaluate(truth)
    with Collection.create(tmp_path / "p") as collection:
        collection.add([KTH])
        by_images = collection.evaluate(truth)
    assert by_colmap.figures[""]["mAP"] > by_images.figures[""]["mAP"] - 0.02
