"""The photos of scikit-image as a collection, in figures; run it to write the stored ones anew.

OPENBLAS_NUM_THREADS=1 python tests/golden_collection.py > tests/data/golden_collection.json
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import faiss
import numba
import numpy as np
import scipy

import vladkit
from photos import NAMES, altered_files, write_photos

SETTINGS = {
    "default": {"n_clusters": 64},
    "plain": {"n_clusters": 16, "rotation": 0, "orientation": 0.0, "position": 0.0,
              "norm": ["intra", "l2"], "dtype": "float32", "keep_sums": True},
    "two": {"n_clusters": 16, "n_vocabularies": 2},
}  # fmt: skip


def machine() -> dict[str, str]:
    """What the last bits of a vector depend on: processor and libraries."""
    flags = ""
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return {
        "processor": platform.machine(),
        "flags": hashlib.sha256(flags.encode()).hexdigest()[:16],
        "libraries": " ".join(
            f"{m.__name__} {m.__version__}" for m in (np, scipy, numba, cv2, faiss)
        ),
    }


def figures() -> dict[str, Any]:
    """Digests of the vectors, similarities of all pairs, and rankings of altered photos."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder / "photos")
        files = [file for _, file in altered_files(folder, NAMES[::4])]
        queries = {}
        for setting, recipe in SETTINGS.items():
            with vladkit.Collection.create(folder / setting, **recipe) as collection:
                collection.add([folder / "photos"])
                collection.export(folder / f"{setting}.npz")
                # all settings have one extractor: a query's features are found once
                queries = queries or {file.name: collection.extract(file) for file in files}
                ranked = {
                    f"{name}, rerank {rerank}": [
                        [hit.path, round(hit.similarity, 4), hit.inliers]
                        for hit in collection.search(features, top=4, rerank=rerank)
                    ]
                    for name, features in queries.items()
                    for rerank in (0, 5)
                }
            arrays = np.load(folder / f"{setting}.npz")
            vector_nD = arrays["vectors"].astype(np.float64)
            found[setting] = {
                "sha256": hashlib.sha256(arrays["vectors"].tobytes()).hexdigest(),
                "shape": list(vector_nD.shape),
                "paths": arrays["paths"].tolist(),
                "similarities": (vector_nD @ vector_nD.T).round(3).tolist(),
                "rankings": ranked,
            }
    return found


if __name__ == "__main__":
    print(json.dumps({"machine": machine(), "figures": figures()}, indent=None))
