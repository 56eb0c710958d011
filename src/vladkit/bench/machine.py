"""Name of the machine, versions of libraries, rate of a copy, and work of others."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import numpy as np

from vladkit.core.cores import usable_cores
from vladkit.core.threads import for_each

__all__ = ["OtherWork", "copy_rate", "machine", "provenance", "versions"]

_LIBRARIES: Final = (
    "numpy", "scipy", "numba", "faiss-cpu", "scikit-learn", "jax", "torch", "matplotlib",
)  # fmt: skip

_COPY_BYTES: Final = 256 * 2**20
"""Size of each of two arrays: together more than the caches of any one processor."""


def machine() -> dict[str, str | int]:
    """Processor, cores that this process may use, and operating system."""
    return {
        "cpu": _processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count() or 1,
        "cores_allowed": usable_cores(),
        "system": platform.platform(),
    }


def _processor() -> str:
    try:
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True).stdout.strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def versions() -> dict[str, str | None]:
    """Versions of Python, vladkit, NumPy's BLAS and the libraries compared; None if missing."""
    from vladkit.core.version import __version__

    known: dict[str, str | None] = {"python": platform.python_version(), "vladkit": __version__}
    for name in _LIBRARIES:
        try:
            known[name] = version(name)
        except PackageNotFoundError:
            known[name] = None
    config = np.show_config(mode="dicts")
    blas = config["Build Dependencies"]["blas"] if isinstance(config, dict) else {}
    known["blas"] = f"{blas['name']} {blas['version']}" if "name" in blas else None
    return known


def provenance(script: str) -> dict[str, Any]:
    """Where, when and with which commit (None if this is no checkout) a script measures figures."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:  # no git
        commit = ""
    return {
        "script": script,
        "machine": machine(),
        "versions": versions(),
        "commit": commit or None,
        "date": date.today().isoformat(),
    }


def copy_rate(threads: int) -> float:
    """Bytes read and written per second by `threads` threads that copy; median of 9 runs."""
    source = np.ones(_COPY_BYTES // 8)
    target = np.empty_like(source)
    fence = np.arange(threads + 1) * len(source) // threads

    def copy(i: int) -> None:
        part = slice(fence[i], fence[i + 1])
        np.copyto(target[part], source[part])  # releases the GIL

    times = []
    for _ in range(10):
        begin = time.perf_counter()
        for_each(copy, threads, threads)
        times.append(time.perf_counter() - begin)
    return 2 * source.nbytes / statistics.median(times[1:])  # the first one allocates the pages


class OtherWork:
    """Cores that other processes, or other tenants of the machine, keep busy from now on."""

    def __init__(self) -> None:
        self._wall, self._others = time.perf_counter(), _seconds_of_others()

    def cores(self) -> float | None:
        """Mean number since this object was made; None where the system does not report it."""
        others = _seconds_of_others()
        if others is None or self._others is None:
            return None
        return max(0.0, others - self._others) / (time.perf_counter() - self._wall)


def _seconds_of_others() -> float | None:
    try:
        line = Path("/proc/stat").read_text().splitlines()[0]
        tick = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, line.split()[1:9])
    own = os.times()
    busy = (user + nice + system + irq + softirq + steal) / tick
    return busy - own.user - own.system
