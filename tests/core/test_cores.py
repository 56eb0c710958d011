"""Cores that a process may use: affinity, CPU quotas of containers, and OMP_NUM_THREADS."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest

from vladkit.core import cores
from vladkit.core.cores import quota, usable_cores
from vladkit.core.threads import resolve_n_jobs
from vladkit.errors import ParameterError

V2 = "34 23 0:28 {root} {folder} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "34 23 0:28 {root} {folder} rw - cgroup cgroup rw,cpu,cpuacct"
OTHERS = ["22 1 8:1 / / rw - ext4 /dev/sda rw", "35 23 0:29 / /none rw - cgroup cgroup rw,memory"]


def process(folder, cgroup, mount, files, root="/"):
    """Folder of a process, and the files of its cgroups, below what is mounted at `root`."""
    mounted = folder / "mounted"
    for name, text in files.items():
        (mounted / name).parent.mkdir(parents=True, exist_ok=True)
        (mounted / name).write_text(text)
    (folder / "cgroup").write_text(f"5:memory:/x\n{cgroup}\n")
    lines = [*OTHERS, mount.format(root=root, folder=mounted)]
    (folder / "mountinfo").write_bytes("\n".join(lines).encode() + b"\n36 1 8:2 / /\xff rw - a b c")
    return str(folder)


def v1(folder, quota, period="100000"):
    return {f"{folder}cpu.cfs_quota_us": quota, f"{folder}cpu.cfs_period_us": period}


V2_CASES = {
    "none": ("0::/", {}, math.inf),
    "max": ("0::/", {"cpu.max": "max 100000\n"}, math.inf),
    "two": ("0::/", {"cpu.max": "200000 100000\n"}, 2.0),
    "half": ("0::/", {"cpu.max": "50000 100000\n"}, 0.5),
    "below": ("0::/a/b", {"a/b/cpu.max": "300000 100000"}, 3.0),
    "around": ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, 1.5),
    "least": ("0::/a/b", {"a/b/cpu.max": "300000 100000", "cpu.max": "400000 100000"}, 3.0),
    "colon": ("0::/a:b", {"a:b/cpu.max": "100000 50000"}, 2.0),
    "neighbour": ("0::/a", {"b/cpu.max": "100000 100000"}, math.inf),
    "outside": ("0::/../../x", {"cpu.max": "100000 100000"}, 1.0),
    "nonsense": ("0::/", {"cpu.max": "many\n"}, math.inf),
    "zero period": ("0::/", {"cpu.max": "100000 0\n"}, math.inf),
}


class TestQuota:
    @pytest.mark.parametrize("name", V2_CASES)
    def test_version_2(self, tmp_path, name):
        cgroup, files, wanted = V2_CASES[name]
        assert quota(process(tmp_path, cgroup, V2, files)) == wanted

    @pytest.mark.parametrize("name", ["cpu", "cpuacct,cpu"])
    @pytest.mark.parametrize(("given", "wanted"), [("-1", math.inf), ("250000", 2.5)])
    def test_version_1(self, tmp_path, name, given, wanted):
        assert quota(process(tmp_path, f"4:{name}:/", V1, v1("", given))) == wanted

    def test_a_container_sees_its_own_group_alone(self, tmp_path):
        """Docker without a namespace of cgroups: the path is the host's, so is the mount's root."""
        files = v1("", "400000") | v1("inner/", "100000", "50000")
        folder = process(tmp_path, "4:cpu:/docker/1/inner", V1, files, root="/docker/1")
        assert quota(folder) == 2.0

    def test_a_group_that_is_not_mounted_here(self, tmp_path):
        folder = process(tmp_path, "4:cpu:/elsewhere", V1, v1("", "100000"), root="/docker/1")
        assert quota(folder) == 1.0

    def test_groups_of_other_controllers_do_not_count(self, tmp_path):
        files = v1("", "100000") | {"cpu.max": "100000 100000"}
        assert quota(process(tmp_path, "4:cpuset:/", V1, files)) == math.inf

    def test_no_linux(self, tmp_path):
        assert quota(str(tmp_path)) == math.inf


class TestUsableCores:
    @pytest.mark.parametrize(
        ("allowed", "limit", "wanted"),
        [(8, math.inf, 8), (8, 2.0, 2), (8, 1.5, 2), (8, 0.1, 1), (2, 64.0, 2)],
    )
    def test_the_lesser_counts(self, monkeypatch, allowed, limit, wanted):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(allowed), raising=False)
        monkeypatch.setattr(cores, "quota", lambda: limit)
        assert usable_cores() == wanted

    def test_a_sandbox_does_not_tell(self, monkeypatch):
        def refuse(_):
            raise PermissionError

        monkeypatch.setattr(os, "sched_getaffinity", refuse, raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: None)
        assert usable_cores() == 1


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("4", 4), (" 4 ", 4), ("4,2", 4), ("4 , 2,1", 4), ("+4", 4), ("04", 4), ("1", 1),
        ("64", 16), ("4" * 5000, 16),
        ("", 16), ("0", 16), ("0,4", 16), ("-4", 16), ("abc", 16), ("4x", 16), ("4.5", 16),
        ("\u00b2", 16), (",4", 16), ("  ", 16),
    ],
)  # fmt: skip
def test_omp_num_threads(monkeypatch, given, wanted):
    monkeypatch.setattr("vladkit.core.threads.usable_cores", lambda: 16)
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert resolve_n_jobs(None) == wanted
    assert resolve_n_jobs(-1) == 16
    assert resolve_n_jobs(3) == 3


@pytest.mark.parametrize("n_jobs", [0, True, np.True_, 1.0, "2", [1], np.array([1, 2])])
def test_what_is_no_number_of_threads(n_jobs):
    with pytest.raises(ParameterError, match=r"n_jobs=.*: wanted an integer other than 0"):
        resolve_n_jobs(n_jobs)
    assert resolve_n_jobs(np.int64(1)) == 1
