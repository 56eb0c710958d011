"""Places found by `vladkit localize` beside those of exhaustive matching with pycolmap.

    python benchmarks/localize.py folder-of-images [--home folder] [--cameras folder] [--name NAME]
        [--every 3] [--top 20] [--max-side 1600] [--walk] [--json FILE]

Every third image is held back; COLMAP (pycolmap) makes a model of the others from the pairs of
`vladkit pairs --top 8`. Then each image that was held back is located in it, twice:

- exhaustive: COLMAP's features of the query, matched with those of every image of the model and
  verified, and the pose by pycolmap.estimate_and_refine_absolute_pose;
- vladkit: `Collection.localize` of the file. The model is read before, as the other's is.

Errors are against `--cameras` (Strecha's `NAME.camera` files) after the best similarity of the
model's cameras; without them against a model of all images that COLMAP makes of the exhaustive
matches, which favours those. Positions are shares of the largest distance of two known cameras.
Angles are counted from the mean turn between the model's cameras and the known ones: COLMAP
assumes the principal point in the middle. Times are seconds of CPU for each query, threads summed.
What is in `--home` from a run before is used: model, and features and matches with their time.
`--json` puts the rows into FILE, in place of those of the same name. Needs pycolmap.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pycolmap
from scipy.spatial.transform import Rotation

from vladkit import Collection
from vladkit.collection.sfm_model import SfmModel

Poses = dict[str, tuple[np.ndarray, np.ndarray]]
"""Rotation from the world into the camera, and centre, by name of image."""


def vladkit(*arguments: object) -> None:
    command = [sys.executable, "-m", "vladkit", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


def split(folder: Path, home: Path, every: int) -> None:
    for i, file in enumerate(sorted(folder.glob("*.jpg"))):
        target = home / ("query" if i % every == 1 else "db")
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target / file.name)


def extract(database: Path, images: Path, max_side: int) -> None:
    options = pycolmap.FeatureExtractionOptions(max_image_size=max_side)
    single = pycolmap.CameraMode.SINGLE
    pycolmap.extract_features(database, images, camera_mode=single, extraction_options=options)


def match(database: Path, pairs: Path) -> None:
    pairing = pycolmap.ImportedPairingOptions(match_list_path=str(pairs))
    pycolmap.match_image_pairs(database, pycolmap.FeatureMatchingOptions(), pairing)


def mapped(database: Path, images: Path, target: Path, walk: bool) -> Path:
    """Folder of the largest model."""
    target.mkdir(exist_ok=True)
    options = pycolmap.IncrementalPipelineOptions(random_seed=0, min_model_size=2)
    if walk:  # see benchmarks/reconstruct.py
        options.mapper.init_max_forward_motion = 1.0
        options.mapper.init_min_tri_angle = 4.0
        options.mapper.filter_min_tri_angle = options.triangulation.min_angle = 0.5
    if not any(target.iterdir()):
        pycolmap.incremental_mapping(database, images, target, options)
    return max(target.iterdir(), key=lambda each: pycolmap.Reconstruction(each).num_reg_images())


def poses_of(path: Path) -> Poses:
    model = pycolmap.Reconstruction(path)
    images = [model.image(i) for i in model.reg_image_ids()]
    return {
        each.name: (each.cam_from_world().rotation.matrix(), each.projection_center())
        for each in images
    }


def known_poses(folder: Path) -> Poses:
    """Strecha's files: lines 5 to 7 are the axes of the camera, line 8 is its centre."""
    found = {}
    for file in sorted(folder.glob("*.camera")):
        lines = [line.split() for line in file.read_text().splitlines()]
        found[file.stem] = np.array(lines[4:7], float).T, np.array(lines[7], float)
    return found


def exhaustive(home: Path, model: SfmModel, max_side: int) -> tuple[Poses, float]:
    """Poses of the queries, and seconds of CPU for each."""
    names = sorted(file.name for file in (home / "query").iterdir())
    database, timed = home / "q.db", home / "q.json"
    if not timed.exists():
        shutil.copy(home / "f.db", database)
        begin = time.process_time()
        extract(database, home / "query", max_side)
        pairs = home / "q.txt"
        pairs.write_text("".join(f"{q} {other}\n" for q in names for other in model.names))
        match(database, pairs)
        timed.write_text(json.dumps(time.process_time() - begin))
    begin = time.process_time()
    found = {}
    camera = next(iter(model.reconstruction.cameras.values()))
    points = model.reconstruction.points3D
    with pycolmap.Database.open(database) as opened:
        id_of = {image.name: image.image_id for image in opened.read_all_images()}
        for name in names:
            xy_l2 = opened.read_keypoints(id_of[name])[:, :2]
            xy_m2, xyz_m3 = [], []
            for other, image in model.names.items():
                geometry = opened.read_two_view_geometry(id_of[name], id_of[other])
                for mine, theirs in np.asarray(geometry.inlier_matches).reshape(-1, 2):
                    point = image.points2D[int(theirs)]
                    if point.has_point3D():
                        xy_m2.append(xy_l2[mine])
                        xyz_m3.append(points[point.point3D_id].xyz)
            options = pycolmap.AbsolutePoseEstimationOptions()
            options.ransac.random_seed = 0
            arrays = np.array(xy_m2, float).reshape(-1, 2), np.array(xyz_m3).reshape(-1, 3)
            answer = pycolmap.estimate_and_refine_absolute_pose(*arrays, camera, options)
            if answer is not None:
                pose = answer["cam_from_world"]
                found[name] = pose.rotation.matrix(), pose.inverse().translation
    spent = json.loads(timed.read_text()) + time.process_time() - begin
    return found, spent / len(names)


def ours(home: Path, model: SfmModel, top: int) -> tuple[Poses, float]:
    files = sorted((home / "query").iterdir())
    found = {}
    with Collection.open(home / "c.vlad", read_only=True) as collection:
        collection.localize(files[0], SfmModel(model.path), top=top)  # loads code
        begin = time.process_time()
        for file in files:
            pose = collection.localize(file, model, top=top).pose
            if pose is not None:
                w, x, y, z = pose.qvec
                rotation_33 = Rotation.from_quat([x, y, z, w]).as_matrix()
                found[file.name] = rotation_33, np.array(pose.centre)
        return found, (time.process_time() - begin) / len(files)


def errors(found: Poses, model: Poses, known: Poses, names: list[str]) -> np.ndarray:
    """Error of each query (q, 2): of the position, as a share of the extent; degrees."""
    both = sorted(model.keys() & known.keys())
    ours_n3, known_n3 = (np.array([poses[name][1] for name in both]) for poses in (model, known))
    fit = pycolmap.estimate_sim3d(ours_n3, known_n3)
    if fit is None:
        sys.exit(f"{len(both)} known cameras are in the model: too few, or on a line")
    extent = np.linalg.norm(known_n3[:, None] - known_n3, axis=2).max()

    def turn(pose: tuple[np.ndarray, np.ndarray], name: str) -> Rotation:
        turned_33 = pose[0] @ fit.rotation.matrix().T @ known[name][0].T
        return Rotation.from_matrix(turned_33)

    mean = Rotation.concatenate([turn(model[name], name) for name in both]).mean()
    error_q2 = np.full((len(names), 2), np.inf)
    for q, name in enumerate(names):
        if name in found:
            away = np.linalg.norm(fit * found[name][1] - known[name][1])
            angle = (turn(found[name], name) * mean.inv()).magnitude()
            error_q2[q] = away / extent, np.degrees(angle)
    return error_q2


def row(name: str, error_q2: np.ndarray, seconds: float) -> list[str]:
    n = int(np.isfinite(error_q2[:, 0]).sum())
    position, angle = np.median(error_q2, axis=0)
    worst = error_q2[:, 0].max()
    shares = f"{position:.3%}", f"{worst:.2%}", f"{angle:.3f} deg", f"{seconds:.2f} s"
    return [name, f"{n} of {len(error_q2)}", *(text.replace("%", " %") for text in shares)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--home", type=Path, help="folder that keeps the models")
    parser.add_argument("--cameras", type=Path, help="folder of NAME.camera files")
    parser.add_argument("--name", default="")
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--top", type=int, default=20)
    parser.add_argument("--max-side", type=int, default=1600, help="px that COLMAP reads at")
    parser.add_argument("--walk", action="store_true", help="begin with forward motion")
    parser.add_argument("--json", type=Path, help="file of results to put the rows into")
    args = parser.parse_args()
    pycolmap.logging.minloglevel = 2
    pycolmap.set_random_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        home = args.home or Path(temporary)
        if not (home / "db").exists():
            split(args.folder, home, args.every)
            vladkit("index", home / "db", "-o", home / "c.vlad")
        if not (home / "sparse").exists():
            vladkit("pairs", home / "c.vlad", "--top", 8, "-o", home / "pairs.txt")
            extract(home / "f.db", home / "db", args.max_side)
            match(home / "f.db", home / "pairs.txt")
        model = SfmModel(mapped(home / "f.db", home / "db", home / "sparse", args.walk))
        theirs, their_seconds = exhaustive(home, model, args.max_side)
        found, seconds = ours(home, model, args.top)
        if args.cameras:
            known = known_poses(args.cameras)
        else:
            known = poses_of(mapped(home / "q.db", args.folder, home / "all", args.walk))
        names = [f.name for f in sorted((home / "query").iterdir()) if f.name in known]
        placed = poses_of(Path(model.path))
        name = args.name or args.folder.name
        their_q2 = errors(theirs, placed, known, names)
        our_q2 = errors(found, placed, known, names)
    rows = [row(f"{name}, `vladkit localize`", our_q2, seconds)]
    rows.append(row(f"{name}, exhaustive", their_q2, their_seconds))
    for each in rows:
        print("|", " | ".join(each), "|")
    ratio = np.median(our_q2[:, 0]) / np.median(their_q2[:, 0])
    print(f"position {ratio:.2f} times as far off, in {seconds / their_seconds:.3f} of the time")
    if args.json:
        results = json.loads(args.json.read_text())
        table = results["tables"]["localize"]
        names_now = [each[0] for each in rows]
        table["rows"] = [each for each in table["rows"] if each[0] not in names_now] + rows
        args.json.write_text(f"{json.dumps(results, indent=1)}\n")


if __name__ == "__main__":
    main()
