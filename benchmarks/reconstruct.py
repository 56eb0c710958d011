"""A folder reconstructed from the pairs of `vladkit pairs`, and from all pairs, side by side.

    python benchmarks/reconstruct.py folder-of-images [--top 8] [--rerank 0] [--sequential 0]
        [--connected] [--cameras folder] [--max-side 1600] [--jobs -1]
        [--walk] [--seed 0]

COLMAP does the rest through pycolmap: features once, then for each list of pairs matching and
incremental mapping, the largest model counts. Index and pairs are made by the command, so nothing
but the file passes between the two. `--cameras` compares the camera centres with known ones
(Strecha's `NAME.camera` files) after the best similarity; the extent is the largest distance of two
known centres. `--walk` is for streets, where what lies ahead is seen from nearly one direction:
COLMAP may begin with two images of which one was taken in front of the other, 4 degrees apart,
and keeps points of half a degree. Needs pycolmap.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap


@dataclass(frozen=True)
class Row:
    """One reconstruction: its largest model, and seconds."""

    name: str
    pairs: int
    matching: float
    mapping: float
    model: pycolmap.Reconstruction | None


def vladkit(*arguments: object) -> float:
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "vladkit", *map(str, arguments)], check=True, capture_output=True
    )
    return time.perf_counter() - begin


def reconstruct(
    name: str, database: Path, args: argparse.Namespace, pairs: Path | None, n_pairs: int
) -> Row:
    """From a database that holds the features; `pairs` None matches all with all."""
    own = database.with_name(f"{name}.db")
    shutil.copy(database, own)
    matching = pycolmap.FeatureMatchingOptions(num_threads=args.jobs)
    begin = time.perf_counter()
    if pairs is None:
        pycolmap.match_exhaustive(own, matching)
    else:
        pairing = pycolmap.ImportedPairingOptions(match_list_path=str(pairs))
        pycolmap.match_image_pairs(own, matching, pairing)
    matched = time.perf_counter()
    models = database.with_name(name)
    models.mkdir()
    options = pycolmap.IncrementalPipelineOptions(num_threads=args.jobs, random_seed=args.seed)
    if args.walk:
        options.mapper.init_max_forward_motion = 1.0
        options.mapper.init_min_tri_angle = 4.0
        options.mapper.filter_min_tri_angle = options.triangulation.min_angle = 0.5
    found = pycolmap.incremental_mapping(own, args.folder, models, options)
    best = max(found.values(), key=lambda model: model.num_reg_images(), default=None)
    return Row(name, n_pairs, matched - begin, time.perf_counter() - matched, best)


def known_centres(folder: Path) -> dict[str, np.ndarray]:
    """Camera centres by image: the eighth line of Strecha's files."""
    files = sorted(folder.glob("*.camera"))
    return {f.stem: np.array(f.read_text().splitlines()[7].split(), float) for f in files}


def centre_errors(model: pycolmap.Reconstruction, known: dict[str, np.ndarray]) -> np.ndarray:
    """Errors of the known cameras, as shares of the extent; infinite where not registered."""
    registered = {model.image(i).name: model.image(i) for i in model.reg_image_ids()}
    names = sorted(set(registered) & set(known))
    ours = np.array([registered[name].projection_center() for name in names])
    true = np.array([known[name] for name in names])
    everyone = np.array(list(known.values()))
    extent = np.linalg.norm(everyone[:, None] - everyone, axis=2).max()
    errors = np.full(len(known), np.inf)
    if len(names) >= 3 and (fit := pycolmap.estimate_sim3d(ours, true)) is not None:
        moved = np.array([fit * point for point in ours])
        errors[: len(names)] = np.linalg.norm(moved - true, axis=1) / extent
    return errors


def report(row: Row, known: dict[str, np.ndarray]) -> str:
    if row.model is None:
        return f"{row.name:12} {row.pairs:6}      nothing registered"
    text = (
        f"{row.name:12} {row.pairs:6} {row.model.num_reg_images():10} {row.model.num_points3D():8} "
        f"{row.model.compute_mean_reprojection_error():8.2f} px "
        f"{row.matching:8.1f} s {row.mapping:8.1f} s"
    )
    if known:
        errors = centre_errors(row.model, known)
        text += f"  centres off by {np.median(errors):.2%} (median), {errors.max():.2%} (worst)"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--top", type=int, default=8)
    parser.add_argument("--rerank", type=int, default=0)
    parser.add_argument("--sequential", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0, help="of COLMAP")
    parser.add_argument("--walk", action="store_true", help="begin with forward motion")
    parser.add_argument("--connected", action="store_true")
    parser.add_argument("--cameras", type=Path, help="folder of NAME.camera files")
    parser.add_argument("--max-side", type=int, default=1600, help="px that COLMAP reads at")
    parser.add_argument("--jobs", type=int, default=-1)
    args = parser.parse_args()
    pycolmap.logging.minloglevel = 2
    pycolmap.set_random_seed(args.seed)
    known = known_centres(args.cameras) if args.cameras else {}

    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        collection, pairs = home / "images.vlad", home / "pairs.txt"
        indexing = vladkit("index", args.folder, "-o", collection)
        chosen = ["--top", args.top, "--rerank", args.rerank, "--sequential", args.sequential]
        chosen += ["--connected"] * args.connected
        pairing = vladkit("pairs", collection, *chosen, "-o", pairs)
        database = home / "features.db"
        begin = time.perf_counter()
        pycolmap.extract_features(
            database,
            args.folder,
            camera_mode=pycolmap.CameraMode.SINGLE,
            extraction_options=pycolmap.FeatureExtractionOptions(
                max_image_size=args.max_side, num_threads=args.jobs
            ),
        )
        extracting = time.perf_counter() - begin
        with pycolmap.Database.open(database) as opened:
            n = opened.num_images()
        print(f"{n} images: vladkit index {indexing:.1f} s, vladkit pairs {pairing:.1f} s,")
        print(f"COLMAP's features {extracting:.1f} s; then")
        print(
            f"{'':12} {'pairs':>6} {'registered':>10} {'points':>8} {'off by':>11} "
            f"{'matching':>10} {'mapping':>10}"
        )
        n_pairs = len(pairs.read_text().splitlines())
        chosen_row = reconstruct("vladkit", database, args, pairs, n_pairs)
        print(report(chosen_row, known), flush=True)
        all_pairs = n * (n - 1) // 2
        row = reconstruct("exhaustive", database, args, None, all_pairs)
        print(report(row, known))


if __name__ == "__main__":
    main()
