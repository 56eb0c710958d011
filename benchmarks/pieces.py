"""Learn the pieces of SIFT descriptors that come with the package, and what they lose elsewhere.

    python benchmarks/pieces.py -o src/vladkit/collection/rootsift_pieces.npy
    python benchmarks/pieces.py --others kth museum holidays --json docs/results/pieces.json

The images are those that scikit-image ships, whose licences allow it. With --others, folders of
images: the share of the squared lengths that is lost of the descriptors of 40 images of each, with
these pieces and with those learned from the same descriptors.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import skimage

from vladkit.bench.machine import provenance
from vladkit.collection.descriptor_quantizer import DescriptorQuantizer
from vladkit.features import Sift

N_IMAGES = 40
N_BYTES = 32


def described(sift: Sift, folder: Path, n: int | None = None) -> np.ndarray:
    """Descriptors of a folder's images, or of `n` spread over it."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".png", ".jpeg"))
    if n and len(files) > n:
        files = [files[i] for i in np.linspace(0, len(files) - 1, n).astype(int)]
    return np.concatenate([sift.read(file).descriptor_lf for file in files])


def fit(descriptor_Nf: np.ndarray, sift: Sift) -> DescriptorQuantizer | None:
    """Pieces of 32-byte codes that are learned from descriptors; None if these are too few."""
    return DescriptorQuantizer.fit(sift.metric(descriptor_Nf), N_BYTES, sift, seed=0)


def lost(quantizer: DescriptorQuantizer | None, descriptor_Nf: np.ndarray, sift: Sift) -> str:
    """Share of the squared lengths that encoding takes from descriptors."""
    if quantizer is None:
        return "-"
    again_Nf = quantizer.decode(quantizer.encode(descriptor_Nf))
    local_Nf = sift.metric(descriptor_Nf)
    return f"{np.sum((sift.metric(again_Nf) - local_Nf) ** 2) / np.sum(local_Nf**2):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, help="write the pieces")
    parser.add_argument("--others", nargs="*", type=Path, default=[], help="folders of images")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sift = Sift()
    data = Path(skimage.__file__).parent / "data"
    pieces = fit(described(sift, data), sift)
    if pieces is None:
        parser.error(f"{data} has too few images")
    if args.output:
        np.save(args.output, pieces.piece_bkp)
    rows = []
    for folder in args.others:
        descriptor_Nf = described(sift, folder, N_IMAGES)
        both = pieces, fit(descriptor_Nf, sift)
        rows.append([folder.name, *(lost(each, descriptor_Nf, sift) for each in both)])
        print(f"| {' | '.join(rows[-1])} |", flush=True)
    if args.json:
        table = {"columns": ["set", "the package's", "its own"], "rows": rows}
        about = provenance("benchmarks/pieces.py --json")
        args.json.write_text(
            json.dumps({"provenance": about, "tables": {"lost": table}}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
