"""Compiled code on disk: a folder in its way is no error, no fact of one machine is in it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numba
import pytest

from vladkit.kernels.cached import compiled


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Function that gives a function to compile, each time as a new process has it."""
    folder = str(tmp_path / "cache")
    monkeypatch.setattr(numba.config, "CACHE_DIR", folder)
    monkeypatch.setenv("NUMBA_CACHE_DIR", folder)  # Numba reads it again where others have changed
    module = tmp_path / "module.py"
    module.write_text("def double(x):\n    return 2 * x\n")

    def load(**options):
        spec = importlib.util.spec_from_file_location("module", module)
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return compiled(error_model="numpy", **options)(loaded.double)

    return load


def hits(function):
    assert function(21) == 42
    return sum(function.stats.cache_hits.values())


def test_is_kept(load):
    assert [hits(load()) for _ in range(3)] == [0, 1, 1]


def test_it_is_kept_for_as_long_as_a_file_beside_it_is_the_same(load, tmp_path):
    beside = tmp_path / "vector_code.py"
    found = []
    for text in ("one", "one", "two", "two"):
        beside.write_text(text)
        found.append(hits(load(beside=(str(beside),))))
    assert found == [0, 1, 0, 1]
    beside.unlink()  # as where the package is read from an archive
    assert hits(load(beside=(str(beside),))) == 0


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2]])
def test_a_damaged_file_is_written_again(load, tmp_path, suffix, damage):
    hits(load())
    (path,) = (tmp_path / "cache").rglob(f"*.{suffix}")
    path.write_bytes(damage(path.read_bytes()))
    assert [hits(load()) for _ in range(2)] == [0, 1]


def test_a_folder_that_can_no_longer_be_written(load, tmp_path):
    function = load()
    (tmp_path / "cache").rename(tmp_path / "old")
    (tmp_path / "cache").write_text("in its place")
    assert hits(function) == 0


def test_no_folder_that_can_be_written(load, tmp_path, monkeypatch):
    for name in ("cache", "__pycache__", "home"):
        (tmp_path / name).write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "x"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "home" / "x"))
    monkeypatch.setattr(os.path, "expanduser", lambda path: str(tmp_path / "home" / "x"))
    assert [hits(load()) for _ in range(2)] == [0, 0]


def test_no_home(load, tmp_path, monkeypatch):
    (tmp_path / "__pycache__").write_text("a file")
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    assert [hits(load()) for _ in range(2)] == [0, 0]
    assert not (tmp_path / "~").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit of a file's size")
def test_a_full_disk(tmp_path):
    """With a limit of 0 bytes: a file can be made, and nothing be written to it."""
    script = tmp_path / "script.py"
    script.write_text(
        "import resource\n"
        "from vladkit.kernels.cached import compiled\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))\n"
        "@compiled()\n"
        "def double(x):\n"
        "    return 2 * x\n"
        "print(double(21), type(double._cache).__name__)\n"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("42 _Cache\n", "")


def test_machines_that_share_a_cache_have_one_width():
    """Another processor must not lay out its panels for code of another width."""
    code = (
        "import llvmlite.binding, sys\n"
        "if sys.argv[1:]:\n"
        "    features = llvmlite.binding.get_host_cpu_features()\n"
        "    features |= {name: name in sys.argv for name in (*features, *sys.argv[1:])}\n"
        "    llvmlite.binding.get_host_cpu_features = lambda: features\n"
        "from vladkit.kernels import vector_code\n"
        "print(vector_code.REGISTER_BITS, vector_code.REGISTERS)\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code, *features],
            env=os.environ | {"NUMBA_CPU_NAME": "generic"},
            capture_output=True, text=True, check=True,
        ).stdout
        for features in (["sse2", "avx", "avx512f"], ["sse2"])
    }  # fmt: skip
    assert len(said) == 1
