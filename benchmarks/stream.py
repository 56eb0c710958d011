"""Peak of resident memory of `VLAD` on a file of 2,000,000 descriptors that is mapped, not loaded.

    python benchmarks/stream.py [--rows 2000000] [--folder DIR]

Writes 1 GB of float32 as .npy and as .fvecs, and 256 MB of uint8 as .npy and .bvecs, with 1,000
descriptors to an image (in a folder that is removed again); then for each file `fit`, `partial_fit`
in batches and `transform` in a process of their own. Memory is what the kernel says of that
process (VmHWM): pages of the file that are mapped count, as long as they are.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

F, PER_IMAGE, K = 128, 1000, 64

WORK = """
import json, sys, time
import numpy as np
from vladkit import VLAD, Ragged
from vladkit.features.readers import map_vecs

path, way, k, per_image = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def peak():
    with open("/proc/self/status") as file:
        return next(int(l.split()[1]) for l in file if l.startswith("VmHWM")) / 1024

local_Nf = np.load(path, mmap_mode="r") if path.endswith(".npy") else map_vecs(path)
start_T = np.arange(0, len(local_Nf) + 1, per_image)
batch = Ragged(local_Nf, start_T)
vlad = VLAD(k, metric="cosine" if way == "cosine" else "euclidean",
            residual="unit" if way == "unit" else "plain")
begin = time.perf_counter()
if way == "partial_fit":
    for i in range(0, len(batch), 100):
        rows = local_Nf[start_T[i] : start_T[min(i + 100, len(batch))]]
        vlad.partial_fit(Ragged(rows, start_T[i : i + 101] - start_T[i]))
else:
    vlad.fit(batch)
fitted, fit_peak = time.perf_counter(), peak()
vector_tD = vlad.transform(batch)
assert np.allclose(np.linalg.norm(vector_tD, axis=1), 1, atol=1e-4)
print(json.dumps({"fit_s": fitted - begin, "transform_s": time.perf_counter() - fitted,
                  "fit_MB": fit_peak, "peak_MB": peak(), "result_MB": vector_tD.nbytes / 2**20}))
"""


def write(folder: Path, n: int) -> list[Path]:
    """The four files, in pieces."""
    rng = np.random.default_rng(0)
    center_kf = rng.integers(0, 256, (200, F))
    files = []
    for dtype in (np.dtype("<f4"), np.dtype("u1")):
        kind = "fvecs" if dtype.kind == "f" else "bvecs"
        npy, vecs = folder / f"{kind}.npy", folder / f"a.{kind}"
        target_Nf = np.lib.format.open_memmap(npy, "w+", dtype, (n, F))
        with open(vecs, "wb") as file:
            for begin in range(0, n, 50_000):
                m = min(50_000, n - begin)
                noisy_mf = center_kf[rng.integers(0, 200, m)] + rng.normal(0, 20, (m, F))
                target_Nf[begin : begin + m] = noisy_mf.clip(0, 255)
                row_m = np.zeros(m, [("d", "<i4"), ("v", dtype, F)])
                row_m["d"], row_m["v"] = F, target_Nf[begin : begin + m]
                row_m.tofile(file)
        target_Nf.flush()
        files += [npy, vecs]
    return files


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--folder", help="where files are written; default: the system's")
    parser.add_argument("--ways", nargs="+", default=["fit", "partial_fit", "cosine", "unit"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        print("file         MB     way           peak MB   after fit   fit s   transform s")
        for path in write(Path(folder), given.rows):
            for way in given.ways:
                command = [sys.executable, "-c", WORK, path, way, K, PER_IMAGE]
                done = subprocess.run(
                    list(map(str, command)), capture_output=True, text=True, check=False
                )
                if done.returncode:
                    print(path.name, way, done.stderr.strip().splitlines()[-1:])
                    continue
                found = json.loads(done.stdout)
                size = path.stat().st_size / 2**20
                print(
                    f"{path.name:10} {size:6.0f}     {way:12} {found['peak_MB']:8.0f}    "
                    f"{found['fit_MB']:8.0f}   {found['fit_s']:5.1f}   {found['transform_s']:8.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
