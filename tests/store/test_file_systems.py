"""File systems that lack what SQLite uses: POSIX locks, or memory maps that processes share."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import closing

import pytest

from vladkit.store.database import _lacking, connect
from vladkit.store.store import Store

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and a C compiler"
)

# As network drives and volumes answer: NFS without its lock daemon (ENOLCK), Lustre without
# -o flock (ENOSYS), FUSE with direct_io and 9p without a cache (ENODEV).
SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
static int lacks(const char *what, int fd) {
  const char *mode = getenv("LACKS");
  char link[64], path[4096];
  if (!mode || !strstr(mode, what)) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  path[n < 0 ? 0 : n] = 0;
  return strstr(path, "/drive/") != 0;
}
static int control(const char *name, int fd, int command, void *argument) {
  int (*real)(int, int, ...) = dlsym(RTLD_NEXT, name);
  int is_lock = command == F_SETLK || command == F_SETLKW || command == F_GETLK;
  if (is_lock && lacks("ENOLCK", fd)) { errno = ENOLCK; return -1; }
  if (is_lock && lacks("ENOSYS", fd)) { errno = ENOSYS; return -1; }
  return real(fd, command, argument);
}
#define CONTROL(NAME) int NAME(int fd, int command, ...) { va_list all; va_start(all, command); \\
  void *argument = va_arg(all, void *); va_end(all); return control(#NAME, fd, command, argument); }
CONTROL(fcntl)
CONTROL(fcntl64)
#define MAP(NAME) void *NAME(void *at, size_t n, int rights, int flags, int fd, off_t offset) { \\
  void *(*real)(void *, size_t, int, int, int, off_t) = dlsym(RTLD_NEXT, #NAME); \\
  if ((flags & MAP_SHARED) && lacks("ENODEV", fd)) { errno = ENODEV; return MAP_FAILED; } \\
  return real(at, n, rights, flags, fd, offset); }
MAP(mmap)
MAP(mmap64)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    (folder / "lacks.c").write_text(SOURCE)
    made = folder / "lacks.so"
    command = ["cc", "-shared", "-fPIC", "-o", made, folder / "lacks.c", "-ldl"]
    subprocess.run(command, check=True)
    return made


@pytest.fixture(params=["ENOLCK", "ENOSYS", "ENODEV", "ENOSYS ENODEV"])
def on_drive(request, library, tmp_path):
    """Function that runs code in a process for which `drive` lacks something."""
    (tmp_path / "drive").mkdir()

    def run(code):
        start = (
            "import os, signal, sys\nfrom pathlib import Path\nfrom vladkit.store import database\n"
            "from vladkit.store.store import Store\nfrom vladkit.errors import StorageError\n"
            "path = Path(sys.argv[1])\n"
        )
        environment = os.environ | {"LD_PRELOAD": str(library), "LACKS": request.param}
        return subprocess.run(
            [sys.executable, "-c", start + code, tmp_path / "drive" / "c.vlad"],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip

    run.lacks = "maps" if request.param == "ENODEV" else "locks"
    run.path = tmp_path / "drive" / "c.vlad"
    return run


def journal(path):
    with Store.open(path, read_only=True) as store:
        return store.connection.execute("PRAGMA journal_mode").fetchone()[0]


def test_a_collection_is_made_changed_copied_and_read(on_drive):
    done = on_drive("""
with Store.create(path, a=1) as store, Store.open(path) as other:
    with store.writing():
        store.set_about(b=2)
    with other.writing():
        other.set_about(c=3)
    with Store.open(path, read_only=True) as reader, reader.reading():
        assert {name: reader.about()[name] for name in "abc"} == {"a": 1, "b": 2, "c": 3}
    store.copy(f"{path}.copy")
    store.compact()
with Store.open(f"{path}.copy") as store, store.writing():
    store.set_about(d=4)
print(database._lacking(path.parent), sorted(os.listdir(path.parent)))
""")
    assert done.stdout == f"{on_drive.lacks} ['c.vlad', 'c.vlad.copy']\n", done.stderr
    assert journal(on_drive.path) == journal(f"{on_drive.path}.copy") == "delete"
    with Store.open(on_drive.path) as store:
        assert store.about()["c"] == 3
    assert journal(on_drive.path) == "wal"  # where it can be


def test_a_collection_in_wal_mode_that_a_killed_writer_left(on_drive, tmp_path):
    with Store.create(tmp_path / "c.vlad") as store:
        with store.writing():
            store.set_about(a=1)
        for name in ("c.vlad", "c.vlad-wal"):
            shutil.copy(tmp_path / name, on_drive.path.parent / name)
    assert (on_drive.path.parent / "c.vlad-wal").stat().st_size > 0
    for read_only in (True, False):
        done = on_drive(f"print(Store.open(path, read_only={read_only}).about()['a'])")
        assert done.stdout == "1\n", done.stderr
    assert os.listdir(on_drive.path.parent) == ["c.vlad"]


def test_a_writer_is_killed(on_drive):
    done = on_drive("""
store = Store.create(path, a=1)
with store.writing():
    store.set_about(a=2)
    os.kill(os.getpid(), signal.SIGKILL)
""")
    assert done.returncode == -signal.SIGKILL
    lock = on_drive.path.with_name("c.vlad.lock")
    assert lock.is_dir() == (on_drive.lacks == "locks")
    read = "print(Store.open(path).about()['a'])"
    if lock.is_dir():
        done = on_drive("database.BUSY_SECONDS = 0.1\n" + read)
        assert done.stderr.endswith(
            "try again later, or, if no program uses it, remove "
            f"{lock}: one that was killed has left it\n"
        )
        lock.rmdir()
    assert on_drive(read).stdout == "1\n"


def test_a_whole_file_system_is_used_as_ever(tmp_path):
    assert _lacking(tmp_path) == ""
    assert _lacking(tmp_path / "none") == ""
    with closing(connect(tmp_path / "c.vlad", "rwc")) as connection:
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (30_000,)
    with Store.create(tmp_path / "d.vlad") as store:
        assert store.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
