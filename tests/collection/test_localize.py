"""Places found in a model: a rendered scene whose poses are known, and a scatter that is."""

from __future__ import annotations

import json
import re
import shutil
import sys
import unicodedata
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import scene
from commands import run
from photos import write_photos
from vladkit import Collection
from vladkit.collection import localize as localizing
from vladkit.collection.import_recipe import recipe_for
from vladkit.collection.sfm_files import check_model_files
from vladkit.collection.sfm_model import SfmModel
from vladkit.errors import FileFormatError, ImageError, MissingDependencyError, ParameterError
from vladkit.features import Sift
from vladkit.images import read_image

pycolmap = pytest.importorskip("pycolmap", reason="places are found with pycolmap")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """images/, query.png and model/ of the scene, c.vlad of the images, and another photo."""
    home = tmp_path_factory.mktemp("places") / "home"
    scene.write_scene(home)
    write_photos(home / "other", ["rocket"])
    with Collection.create(home / "c.vlad", n_clusters=8, n_vocabularies=1) as collection:
        collection.add([home / "images"])
    return home


@pytest.fixture(scope="module")
def collection(home):
    with Collection.open(home / "c.vlad", read_only=True) as collection:
        yield collection


def test_files_of_cameras_on_a_rig_are_walked_to_their_end(tmp_path):
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_points3D = 2, 3, 9
    pycolmap.synthesize_dataset(options).write(str(tmp_path))
    check_model_files(tmp_path)
    for name in ("rigs", "frames", "images", "points3D"):
        data = (tmp_path / f"{name}.bin").read_bytes()
        (tmp_path / f"{name}.bin").write_bytes(data[:-1])
        with pytest.raises(FileFormatError, match=f"{name}.bin cannot be read"):
            check_model_files(tmp_path)
        (tmp_path / f"{name}.bin").write_bytes(data)


def test_the_place_is_where_the_camera_was(home, collection):
    found = collection.localize(home / "query.png", home / "model", top=4)
    rotation_33, centre_3 = scene.QUERY
    pose = found.pose
    off = np.linalg.norm(pose.centre - centre_3)
    assert off < 0.005  # of a scene that is 5 away
    assert off < 4 * pose.position_error
    w, *xyz = pose.qvec
    ours_33 = pycolmap.Rotation3d(np.array([*xyz, w])).matrix()
    assert np.degrees(np.linalg.norm(cv2.Rodrigues(ours_33 @ rotation_33.T)[0])) < 0.1
    assert np.allclose(-ours_33.T @ pose.tvec, pose.centre)
    assert found.camera["source"] == "model"
    assert found.camera["params"] == [600, 320, 240]
    assert len(found.images) == 4
    assert found.inliers <= found.matches <= sum(each.matches for each in found.images)
    assert all(each.inliers > 50 for each in found.images)
    assert found == collection.localize(home / "query.png", SfmModel(home / "model"), top=4)


def test_a_focal_length_that_is_not_known_is_estimated(home, collection, tmp_path):
    image = cv2.resize(
        cv2.imread(str(home / "query.png")), (520, 390), interpolation=cv2.INTER_AREA
    )
    file = tmp_path / "a.webp"  # which COLMAP does not read
    file.write_bytes(cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, 101])[1])
    found = collection.localize(file, home / "model")
    assert found.camera["source"] == "guessed"
    assert found.camera["params"][0] == pytest.approx(600 * 520 / 640, rel=0.02)
    assert np.linalg.norm(found.pose.centre - scene.QUERY[1]) < 4 * found.pose.position_error < 0.4
    given = collection.localize(
        image[:, :, ::-1].copy(), home / "model", camera="simple_pinhole,487.5,260,195"
    )
    assert given.camera["source"] == "given"
    assert given.pose.position_error < found.pose.position_error / 2


def test_another_camera_than_the_models_is_taken_from_exif(home, collection, tmp_path):
    image = pytest.importorskip("PIL.Image").open(home / "query.png").resize((520, 390))
    exif = image.getexif()
    exif.get_ifd(0x8769)[0xA405] = round(600 / 640 * 36)  # of a film of 36 mm, 35 would be 36 %
    image.save(tmp_path / "q.jpg", quality=95, exif=exif)
    found = collection.localize(tmp_path / "q.jpg", home / "model")
    assert found.camera["source"] == "exif"
    assert found.camera["params"][0] == pytest.approx(600 * 520 / 640, rel=0.02)
    exif[0x0112] = 6  # stored on its side, as phones do
    image.rotate(90, expand=True).save(tmp_path / "r.jpg", quality=95, exif=exif)
    found = collection.localize(tmp_path / "r.jpg", home / "model")
    assert found.camera["source"] == "exif"
    assert (found.camera["width"], found.camera["height"]) == (520, 390)
    assert found.camera["params"][1:3] == [260, 195]
    assert np.linalg.norm(found.pose.centre - scene.QUERY[1]) < 4 * found.pose.position_error


def test_images_that_are_panoramas_in_the_model(home, collection, tmp_path):
    """Of which COLMAP's camera has two parameters and no focal length."""
    model = pycolmap.Reconstruction(str(home / "model"))
    camera = model.cameras[1]
    camera.model = pycolmap.CameraModelId.EQUIRECTANGULAR
    camera.params = [640, 480]
    model.write(str(tmp_path))
    found = collection.localize(home / "query.png", tmp_path)
    assert (found.pose, found.images, found.camera["source"]) == (None, (), "guessed")
    done = run("localize", home / "c.vlad", tmp_path, home / "query.png", code=1)
    assert "no image of it could be matched" in done.stderr


@pytest.mark.parametrize("name", sorted({*pycolmap.CameraModelId.__members__} - {"INVALID"}))
def test_a_camera_that_is_cut_off(home, tmp_path, name):
    """COLMAP takes what it can of its parameters, and zeros."""
    model = pycolmap.Reconstruction(str(home / "model"))
    camera = pycolmap.Camera.create_from_model_name(1, name, 600, 640, 480)
    model.cameras[1].model, model.cameras[1].params = camera.model, camera.params
    model.write(str(tmp_path))
    assert len(SfmModel(tmp_path).names) == 7
    (tmp_path / "cameras.bin").write_bytes((tmp_path / "cameras.bin").read_bytes()[:-1])
    with pytest.raises(FileFormatError, match=r"cameras.bin cannot be read"):
        SfmModel(tmp_path)


def test_a_model_of_a_part_of_the_collection(home, tmp_path, monkeypatch):
    """Its images are found, whatever is beside them and however many others are more similar."""
    (tmp_path / "others").mkdir()
    for i in range(6):
        shutil.copy(home / "query.png", tmp_path / "others" / f"{i}.png")
    with Collection.create(tmp_path / "c.vlad", n_clusters=8, n_vocabularies=1) as collection:
        collection.add([home / "images", tmp_path / "others"])
        monkeypatch.setattr(localizing, "_RANKED", 5)
        with pytest.raises(ParameterError, match="as --root"):
            collection.localize(home / "query.png", home / "model")
        options = {"top": 4, "root": home / "images"}
        found = collection.localize(home / "query.png", home / "model", **options)
        assert np.linalg.norm(found.pose.centre - scene.QUERY[1]) < 0.005
        assert len(found.images) == 4
        options["top"] = 7
        assert len(collection.localize(home / "query.png", home / "model", **options).images) == 7


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_may_be_spelled_otherwise_in_a_model(home, tmp_path, forms):
    here, there = (unicodedata.normalize(form, "caf\u00e9") for form in forms)
    shutil.copytree(home / "images", tmp_path / "images" / here)
    model = pycolmap.Reconstruction(str(home / "model"))
    for image in model.images.values():
        image.name = f"{there}/{image.name}"
    (tmp_path / "model").mkdir()
    model.write(str(tmp_path / "model"))
    with Collection.create(tmp_path / "c.vlad", n_clusters=8, n_vocabularies=1) as collection:
        collection.add([tmp_path / "images"])
        found = collection.localize(home / "query.png", tmp_path / "model", top=4)
        assert np.linalg.norm(found.pose.centre - scene.QUERY[1]) < 0.005
        assert all(each.name.startswith(f"{there}/") for each in found.images)
        assert len(collection.pairs(1, queries=tmp_path / "model")) > 0


def test_an_image_of_another_place_is_not_found(home, collection):
    found = collection.localize(home / "other" / "rocket.jpg", home / "model")
    assert found.pose is None
    assert found.inliers == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"camera": "SIMPLE_PINHOLE,1"}, ParameterError, "SIMPLE_RADIAL,f,cx,cy,k"),
        ({"camera": "NO_SUCH,1,2,3"}, ParameterError, "SIMPLE_RADIAL,f,cx,cy,k"),
        ({"camera": "OPENCV,1"}, ParameterError, "SIMPLE_RADIAL,f,cx,cy,k"),
        ({"camera": "SIMPLE_RADIAL,-900,500,333,0"}, ParameterError, "with f above 0"),
        ({"camera": "PINHOLE,900,0,500,333"}, ParameterError, "with f above 0"),
        ({"camera": "SIMPLE_RADIAL,nan,500,333,0"}, ParameterError, "of finite numbers"),
        ({"camera": "SIMPLE_RADIAL,900,500,333,inf"}, ParameterError, "of finite numbers"),
        ({"top": 0}, ParameterError, "top=0"),
        ({"root": ".."}, ParameterError, "as --root"),
        ({"model": "images"}, FileFormatError, "such as sparse/0"),
    ],
)
def test_wrong_arguments(home, collection, change, error, message):
    model = home / change.pop("model", "model")
    if "root" in change:
        change["root"] = home
    with pytest.raises(error, match=message):
        collection.localize(home / "query.png", model, **change)


def test_a_damaged_model_and_no_pycolmap(home, tmp_path, monkeypatch):
    (tmp_path / "images.bin").write_bytes(b"no")
    with pytest.raises(FileFormatError, match="cannot be read as a model"):
        SfmModel(tmp_path)
    for file in (home / "model").glob("*.bin"):  # COLMAP would take 4 GB, or never end
        for damage in (lambda d: d[:20], lambda d: d[:-1], lambda d: b"\xff\xff\xff" + d[3:]):
            shutil.copytree(home / "model", tmp_path / "model", dirs_exist_ok=True)
            (tmp_path / "model" / file.name).write_bytes(damage(file.read_bytes()))
            with pytest.raises(FileFormatError, match=f"{file.name} cannot be read as a model"):
                SfmModel(tmp_path / "model")
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(MissingDependencyError, match=r"vladkit\[sfm\]"):
        SfmModel(home / "model")


@pytest.mark.parametrize(
    ("file", "pattern", "change", "reason"),
    [
        ("cameras.txt", " 640 480 ", " 0 480 ", "camera 1 is one of 0 x 480 px"),
        ("cameras.txt", " 480 600 ", " 480 0 ", "focal length"),
        ("points3D.txt", "(?m)^[0-9].*", "#", "observations of 0.png"),
    ],
)
def test_a_model_that_does_not_fit_together(home, tmp_path, file, pattern, change, reason):
    pycolmap.Reconstruction(str(home / "model")).write_text(str(tmp_path))
    text = (tmp_path / file).read_text()
    (tmp_path / file).write_text(re.sub(pattern, change, text))
    with pytest.raises(FileFormatError, match=reason):
        SfmModel(tmp_path).seen("0.png")


def test_a_model_without_points_is_drawn(home):
    from vladkit.viz.places import draw_places

    model = SfmModel(home / "model")
    for points in ({}, {1: SimpleNamespace(xyz=np.array([np.nan, 1e300, 0]))}):
        model.reconstruction = SimpleNamespace(points3D=points)
        assert draw_places(model, {}).axes[0].get_title(loc="left") == "7 cameras, 0 found"


def test_images_of_another_size_fit_and_rotated_ones_do_not(home):
    seen = SfmModel(home / "model").seen("3.png")
    assert seen.is_of_size(1280, 960)
    assert not seen.is_of_size(480, 640)
    place_l2 = np.array([[400.0, 300.0]])
    xyz, known = seen.lift(place_l2, 640, 480, 0.02)
    twice, _ = seen.lift(2 * place_l2 + 0.5, 1280, 960, 0.02)
    assert known.all()
    assert np.allclose(xyz, twice)


def test_features_without_a_size_are_of_an_image_of_the_models_size(home, tmp_path):
    (tmp_path / "f").mkdir()
    for file in [*sorted((home / "images").iterdir()), home / "query.png"]:
        found = Sift().extract(read_image(file))
        # none near the right and the lower edge: a size that they reach to is no image's
        near = (found.xy_l2 < [480, 360]).all(axis=1)
        named = {"keypoints": found.xy_l2, "sizes": found.size_l, "angles": found.angle_l}
        some = {name: array[near] for name, array in named.items()}
        np.savez(tmp_path / "f" / f"{file.name}.npz", descriptors=found.descriptor_lf[near], **some)
    recipe, _ = recipe_for(f"npz:{tmp_path / 'f'}", n_clusters=8, compare="rootsift")
    with Collection.create(tmp_path / "f.vlad", **recipe) as collection:
        collection.add([f"npz:{tmp_path / 'f'}"])
        with pytest.raises(ImageError, match="its size is not known, and so not its camera"):
            collection.localize("query.png", home / "model")
        given = {"camera": "SIMPLE_PINHOLE,600,320,240"}
        found = collection.localize("query.png", home / "model", **given)
    assert np.linalg.norm(found.pose.centre - scene.QUERY[1]) < 0.005


def test_the_error_bar_is_the_scatter():
    rng = np.random.default_rng(0)
    camera = pycolmap.Camera(
        model="SIMPLE_PINHOLE", width=1500, height=1000, params=[1400, 750, 500]
    )
    xyz_m3 = rng.uniform([-3, -2, 5], [3, 2, 9], (120, 3))
    xy_m2 = camera.img_from_cam(xyz_m3)
    centres, errors, angles, turns = [], [], [], []
    for _ in range(40):
        noisy_m2 = (xy_m2 + rng.normal(0, 1, xy_m2.shape) - 0.5).astype(np.float32)
        used = SimpleNamespace(
            features=SimpleNamespace(xy_l2=noisy_m2, width=1500, height=1000),
            images=[("a", "a")],
            arrays=lambda: (np.zeros(120, int), np.arange(120), xyz_m3),
        )
        pose = localizing._solve(used, camera, "given").pose
        centres.append(pose.centre)
        errors.append(pose.position_error)
        angles.append(pose.angle_error)
        turns.append(2 * np.degrees(np.linalg.norm(pose.qvec[1:])))
    scatter = np.sqrt((np.array(centres) ** 2).sum(axis=1).mean())
    assert 0.7 < np.mean(errors) / scatter < 1.3
    assert 0.7 < np.mean(angles) / np.sqrt(np.mean(np.square(turns))) < 1.3


def test_command(home, tmp_path):
    plot = tmp_path / "above.svg"
    done = run("localize", "c.vlad", "model", "query.png", "--plot", plot, cwd=home)
    x, y, z = map(float, done.stdout.split()[:3])
    assert np.abs(np.array([x, y, z]) - scene.QUERY[1]).max() < 0.005
    assert "query.png" in plot.read_text()
    images = "query.png", "other/rocket.jpg", "gone.jpg"
    done = run("localize", "c.vlad", "model", *images, "--json", cwd=home, code=1)
    found, lost, gone = map(json.loads, done.stdout.splitlines())
    assert found["found"]
    assert found["centre"] == pytest.approx(scene.QUERY[1].tolist(), abs=0.005)
    assert found["images"][0]["path"] == found["images"][0]["name"]
    assert not lost["found"]
    assert "error" in gone
    done = run("localize", "c.vlad", "model", "other/rocket.jpg", cwd=home, code=1)
    assert "other/rocket.jpg: not found in model" in done.stderr


def test_pairs_with_a_models_images_and_with_those_that_are_near(home, collection):
    model = SfmModel(home / "model")
    places = {name: image.projection_center() for name, image in model.names.items()}
    found = collection.pairs(0, gps=1, positions=places)
    wanted = {
        tuple(
            sorted((a, min(places, key=lambda b: (a == b, np.linalg.norm(places[a] - places[b])))))
        )
        for a in places
    }
    assert {(pair.first, pair.second) for pair in found} == wanted
    found = collection.pairs(0, gps=2, positions=places, queries=["0.png"])
    assert {pair.first for pair in found} == {"0.png"}
    with pytest.raises(ParameterError, match=r"no image of the model .* 'images/0.png' here"):
        collection.pairs(2, database=home / "model", root=home)
    (home / "none.txt").write_text("# a comment\n")
    with pytest.raises(ParameterError, match="queries: 0 of 0 names: give some"):
        collection.pairs(2, queries=home / "none.txt")
    run("pairs", "c.vlad", "--database", "model", "--queries", "3", "-o", "p.txt", cwd=home)
    assert len((home / "p.txt").read_text().splitlines()) == 6
    done = run("pairs", "c.vlad", "--top", 0, "--sequential", 2, "--quadratic", cwd=home)
    assert len(done.stdout.splitlines()) == 6 + 5
    with pytest.raises(ParameterError, match="give sequential"):
        collection.pairs(rigs=True)
    assert "give positions" in run("pairs", "c.vlad", "--gps", 2, cwd=home, code=2).stderr
