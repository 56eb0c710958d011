"""Number of cores that this process may use, by affinity and by the CPU quota of its cgroups."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

__all__ = ["quota", "usable_cores"]


def usable_cores() -> int:
    """Number of cores that this process may use, at least 1; a part of a core counts as one."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not Linux, or a sandbox that does not tell
        allowed = os.cpu_count() or 1
    return math.ceil(min(allowed, quota()))


@lru_cache
def quota(process: str = "/proc/self") -> float:
    """CPU quota of the process's cgroups in cores, above 0; infinity without one.

    A container with ``--cpus=2`` sees all cores of the machine, and may use two of them at a
    time. The least of all levels counts, as far as they can be seen. Read once: it takes 0.8 ms.

    Parameters
    ----------
    process : str
        Folder that describes the process, with the files cgroup and mountinfo.

    References
    ----------
    The kernel's cgroup-v2.rst (``cpu.max``) and sched-bwc.rst (version 1: ``cpu.cfs_quota_us``).
    """
    try:
        groups, mounts = (
            Path(process, name).read_text(errors="replace").splitlines()
            for name in ("cgroup", "mountinfo")
        )
    except OSError:  # not Linux
        return math.inf
    found = [math.inf]
    for _, controllers, path in (line.split(":", 2) for line in groups):
        if controllers and "cpu" not in controllers.split(","):  # none: version 2
            continue
        for mount in map(str.split, mounts):
            kind = mount[mount.index("-", 6) + 1]
            if kind == "cgroup" and controllers:
                fits = "cpu" in mount[-1].split(",")
            else:
                fits = kind == "cgroup2" and not controllers
            if fits:
                found += map(_quota_at, _levels(mount[4], os.path.relpath(path, mount[3])))
    return min(found)


def _levels(folder: str, below: str) -> Iterator[str]:
    """Folders of a cgroup and of those around it, up to where they are mounted."""
    if not below.startswith(".."):  # else the group is outside of what is mounted here
        while below not in ("", "."):
            yield os.path.join(folder, below)
            below = os.path.dirname(below)
    yield folder


def _quota_at(folder: str) -> float:
    try:
        try:
            given = Path(folder, "cpu.max").read_text()
        except FileNotFoundError:
            parts = (Path(folder, f"cpu.cfs_{part}_us") for part in ("quota", "period"))
            given = " ".join(part.read_text() for part in parts)
        amount, period = map(float, given.split())
    except (OSError, ValueError):  # none here, or "max"
        return math.inf
    return amount / period if amount > 0 and period > 0 else math.inf
