"""A real client: COLMAP reconstructs a scene from the file that `vladkit pairs` writes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from commands import run
from paths import SHARED

SCENE = SHARED / "data" / "sfm" / "fountain-P11"
NAMES = [f"{i:04}.jpg" for i in range(1, 10)]
SIDE = 512

pycolmap = pytest.importorskip("pycolmap", reason="COLMAP is what this is about")
pytestmark = pytest.mark.skipif(not SCENE.exists(), reason="images that are not redistributed")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Nine images of a fountain, small, in two folders as people have them."""
    images = tmp_path_factory.mktemp("sfm") / "images"
    for i, name in enumerate(NAMES):
        large = cv2.imread(str(SCENE / "images" / name))
        small = cv2.resize(large, None, fx=SIDE / large.shape[1], fy=SIDE / large.shape[1],
                           interpolation=cv2.INTER_AREA)  # fmt: skip
        folder = images / ("left" if i % 2 else "right")
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), small, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return images


def test_as_many_cameras_as_with_all_pairs_and_in_their_places(images, tmp_path):
    pycolmap.logging.minloglevel = 3
    pycolmap.set_random_seed(0)
    run("index", images, "-o", tmp_path / "c.vlad", "--n-clusters", "32")
    run("pairs", tmp_path / "c.vlad", "--top", 3, "-o", tmp_path / "pairs.txt")
    lines = (tmp_path / "pairs.txt").read_text().splitlines()
    n = len(NAMES)
    assert len(lines) <= n * (n - 1) // 2 * 0.6

    database = tmp_path / "colmap.db"
    pycolmap.extract_features(
        database,
        images,
        camera_mode=pycolmap.CameraMode.SINGLE,
        extraction_options=pycolmap.FeatureExtractionOptions(
            num_threads=2, sift=pycolmap.SiftExtractionOptions(max_num_features=1500)
        ),
    )
    pycolmap.match_image_pairs(
        database,
        pycolmap.FeatureMatchingOptions(num_threads=2),
        pycolmap.ImportedPairingOptions(match_list_path=str(tmp_path / "pairs.txt")),
    )
    with pycolmap.Database.open(database) as opened:
        assert opened.num_matched_image_pairs() == len(lines)  # every line was understood
    (tmp_path / "models").mkdir()
    options = pycolmap.IncrementalPipelineOptions(num_threads=2, random_seed=0, min_model_size=3)
    models = pycolmap.incremental_mapping(database, images, tmp_path / "models", options)
    best = max(models.values(), key=lambda model: model.num_reg_images())
    assert best.num_reg_images() == n

    registered = [best.image(i) for i in best.reg_image_ids()]
    ours_n3 = np.array([image.projection_center() for image in registered])
    true_n3 = np.array([_known_centre(Path(image.name).name) for image in registered])
    aligned = pycolmap.estimate_sim3d(ours_n3, true_n3)
    off_n = np.linalg.norm(np.array([aligned * c for c in ours_n3]) - true_n3, axis=1)
    extent = np.linalg.norm(true_n3[:, None] - true_n3, axis=2).max()
    assert off_n.max() < 0.01 * extent


def _known_centre(name):
    """The eighth line of a `.camera` file is where the camera was."""
    lines = (SCENE / "gt_dense_cameras" / f"{name}.camera").read_text().splitlines()
    return [float(x) for x in lines[7].split()]
