"""Build the wheel and the sdist, and run vladkit from the wheel as a stranger would.

    python release/check.py                     # without extras, and the demo
    python release/check.py --extras            # each extra by itself, and all of them: gigabytes
    python release/check.py --python python3.12 # another interpreter

`make dist` is the first of these. Each environment is new, and has nothing but the wheel and what
it asks for; a line says what was run in it, and its size.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
BUILD = ROOT / ".venv-dist"

BARE = """
import pathlib, subprocess, sys, cv2, numpy as np, vladkit
images = pathlib.Path("images"); images.mkdir()
noise = np.random.default_rng(0)
for i in range(4):
    small_yx = noise.integers(0, 256, (24, 32), np.uint8)
    cv2.imwrite(f"images/{i}.png", cv2.resize(small_yx, (320, 240), interpolation=cv2.INTER_CUBIC))
command = [str(pathlib.Path(sys.executable).with_name("vladkit"))]
subprocess.run([*command, "index", "images", "-o", "c.vlad"], check=True, capture_output=True)
found = subprocess.run([*command, "search", "c.vlad", "images/2.png"], check=True,
                       capture_output=True, text=True).stdout
assert "2.png" in found.splitlines()[0], found
assert vladkit.encode(np.eye(4)[None], np.eye(4)).shape == (1, 4, 4)
"""
"""What has to work without any extra."""

EXTRAS = {
    "jax": "import jax.numpy as n, vladkit; vladkit.encode(n.eye(4)[None], n.eye(4), method='jax')",
    "torch": "import torch as n, vladkit; vladkit.encode(n.eye(4)[None], n.eye(4), method='torch')",
    "onnx": "import onnxruntime, vladkit.features.onnx",
    "plot": "import vladkit.viz",
    "report": "import jinja2, matplotlib, vladkit.viz.report",
    "hloc": "import h5py",
    "parquet": "import pyarrow.parquet",
    "web": "import vladkit.web.server",
    "cloud": "import fsspec, s3fs, gcsfs, aiohttp",
    "dask": "import dask, distributed",
    "lance": "import lance",
    "postgres": "import psycopg",
    "sfm": "import pycolmap",
    "heic": "import pillow_heif",
    "jxl": "import pillow_jxl",
    "fisher": "import sklearn.mixture",
    "demo": "import skimage",
    "docs": "import furo, myst_parser, sphinx",
}
"""What shows that an extra brings what it is for; "test" and "dev" are for the checkout."""


def run(*words: object, cwd: Path | None = None) -> None:
    done = subprocess.run([*map(str, words)], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{words}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


def build(python: str) -> Path:
    """Build both files and check their metadata; the wheel."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(python, "-m", "venv", BUILD)
    pip = BUILD / "bin" / "python", "-m", "pip", "install", "--quiet"
    run(*pip, "build>=1.2", "twine>=6")
    run(BUILD / "bin" / "python", "-m", "build", "--outdir", DIST, ROOT)
    run(BUILD / "bin" / "python", "-m", "twine", "check", "--strict", *DIST.iterdir())
    (wheel,) = DIST.glob("*.whl")
    run(*pip, wheel)
    return wheel


def installed(python: str, wheel: Path, extra: str, code: str, script: Path | None = None) -> None:
    """Install the wheel with an extra into a new environment, and run something there."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        run(python, "-m", "venv", home / "venv")
        there = home / "venv" / "bin" / "python"
        empty = sum(f.stat().st_size for f in (home / "venv").rglob("*") if f.is_file())
        what = f"{wheel}[{extra}]" if extra else wheel
        run(there, "-m", "pip", "install", "--quiet", "--no-compile", what)
        size = sum(f.stat().st_size for f in (home / "venv").rglob("*") if f.is_file())
        run(there, "-c", code, cwd=home)
        if script is not None:
            run(there, script, "demo", cwd=home)
        print(f"vladkit{f'[{extra}]' if extra else '':12} {(size - empty) / 1e6:7.0f} MB  fine")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--extras", action="store_true", help="try each extra by itself, and all")
    parser.add_argument("--python", default=sys.executable, help="interpreter")
    args = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [e for e in project["optional-dependencies"] if e not in ("test", "dev", "all")]
    untried = sorted(set(extras) - set(EXTRAS))
    if untried:
        raise SystemExit(f"release/check.py does not know how to try {', '.join(untried)}")
    wheel = build(args.python)
    for file in sorted(DIST.iterdir()):
        print(f"{file.name:40} {file.stat().st_size / 1e6:5.1f} MB")
    installed(args.python, wheel, "", BARE)
    installed(args.python, wheel, "demo", BARE, ROOT / "examples" / "demo.py")
    if args.extras:
        for extra in extras:
            installed(args.python, wheel, extra, EXTRAS[extra])
        installed(args.python, wheel, ",".join(extras), "\n".join(EXTRAS.values()))


if __name__ == "__main__":
    main()
