"""Files that a release is made with agree with the package."""

from __future__ import annotations

import runpy
import tomllib
from pathlib import Path

import pytest

from commands import run
from vladkit import __version__
from vladkit.core.installed import installed

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def script(name):
    """Names of a script of release/, which comes with the checkout alone."""
    path = ROOT / "release" / name
    if not path.exists():
        pytest.skip("no checkout")
    return runpy.run_path(str(path))


def test_every_extra_is_tried():
    extras = set(PROJECT["optional-dependencies"]) - {"test", "dev", "all"}
    assert set(script("check.py")["EXTRAS"]) == extras


def test_lowest_versions_are_those_of_every_dependency():
    lowest = script("lowest.py")["lowest"]()
    assert lowest["numpy"] == "1.26"
    assert {"jax", "fastapi", "pytest"} < set(lowest)
    assert not {name for name in lowest if name.startswith("vladkit")}


def test_every_dependency_has_a_lowest_version():
    everything = list(PROJECT["dependencies"])
    for extra in PROJECT["optional-dependencies"].values():
        everything += extra
    named = {each.split(">")[0].split("=")[0] for each in everything}
    named = {name.partition("[")[0] for name in named} - {"vladkit"}
    assert named == set(script("lowest.py")["lowest"]())


def test_versions_of_everything():
    found = installed()
    assert found["vladkit"] == __version__
    assert found["numpy"]
    assert list(found)[:3] == ["vladkit", "python", "system"]
    assert '"numba": "' in run("--version", "--json").stdout
    assert "give it with --version" in run("--json", code=2).stderr


def test_citation_has_the_version():
    citation = ROOT / "CITATION.cff"
    if not citation.exists():
        pytest.skip("no checkout")
    assert f"\nversion: {__version__}\n" in citation.read_text(encoding="utf-8")
