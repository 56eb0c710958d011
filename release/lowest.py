"""Constraints by which pip installs the oldest versions that pyproject.toml allows.

    python release/lowest.py > lowest.txt
    pip install -e .[dev] --constraint lowest.txt

A version without a wheel for the Python that runs this (older than the Python) is raised by pip's
own message: run it with the lowest Python, 3.11.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest() -> dict[str, str]:
    """Oldest version of each dependency, of the package and of its extras, by name."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(each for extra in extras for each in extra)]
    found = {}
    for each in wanted:
        match = re.match(r"([A-Za-z0-9_.-]+)(?:\[.*?\])?(?:>=|==)([0-9][0-9A-Za-z.]*)", each)
        if match:
            found[match[1]] = match[2]
    return found


if __name__ == "__main__":
    for name, version in lowest().items():
        print(f"{name}=={version}.*" if version.count(".") < 2 else f"{name}=={version}")
