"""What a collection survives: kills at random moments, a full disk, two writers, a busy reader.

    python benchmarks/faults.py [--kills 50] [--seed 0] [--images 120]

Made-up images in a temporary folder. In turn index, remove, add and compact are killed with
SIGKILL at a random time, most of them within 0.2 s of their first write, while another process
searches the file in a loop. After each kill

- `check` must find nothing,
- each image that a reader had seen must be there with the same vector (unless it was being
  removed: then it is there, or gone),
- images that were not to be removed must be there.

In the end everything is indexed once more, and the file must hold the same vectors as one that
nothing happened to. Another file grows from 4 images, so that it learns again and its vectors
become short: each step is killed several times, and the end must be that of a file that grew
undisturbed. Exits with 1 at the first thing that is not so.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from vladkit import Collection
from vladkit.errors import FileFormatError, StorageError

READER = """
import sys, time
from vladkit import Collection
from vladkit.errors import FileFormatError, NothingToIndexError
file, query = sys.argv[1:]
n = 0
while True:
    try:
        with Collection.open(file, read_only=True) as collection:
            hits = collection.search(query, top=0, rerank=0)
            assert len({hit.path for hit in hits}) == len(hits)
            assert len(hits) == 0 or -1.001 < hits[-1].score <= hits[0].score < 1.001
            n += 1
            print(n, flush=True)
    except (FileFormatError, NothingToIndexError) as error:
        if n:
            raise  # once it is a collection with images it stays one
    time.sleep(0.01)
"""

CLUSTERS = 16
GROWTH = (4, 10, 24, 60, 130)
"""Images of the file that grows; from 64 on vectors become short."""


def textured(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC).astype(int)
    return np.clip(image + rng.integers(-30, 31, image.shape), 0, 255).astype(np.uint8)


def vladkit(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "vladkit", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload]


def vectors(file: Path) -> dict[str, bytes]:
    """Vector of each image; empty where there is no collection yet."""
    try:
        with Collection.open(file, read_only=True) as collection:
            if collection.vlad is None:
                return {}
            store = collection.index.store
            with store.reading():
                names = {row.image_id: row.path for row in collection.images()}
                return {
                    names[i]: vector_D.tobytes()
                    for ids, vector_nD in store.vector_blocks()
                    for i, vector_D in zip(ids.tolist(), vector_nD, strict=True)
                }
    except FileFormatError:
        return {}


def numbers(vector: bytes) -> np.ndarray:
    return np.frombuffer(vector, np.float16).astype(np.float32)


def state(file: Path) -> tuple[object, ...]:
    """Learned state that the vectors were made with: where it is another one, so are they."""
    try:
        with Collection.open(file, read_only=True) as collection:
            about = collection.index.store.about()
            return about.get("learned", {}).get("id"), "whitening" in about
    except FileFormatError:
        return ()


def require(condition: bool, text: str) -> None:
    if not condition:
        print(f"FAILED: {text}")
        sys.exit(1)


def check(file: Path) -> None:
    if not file.exists() or not file.stat().st_size:
        return
    try:
        collection = Collection.open(file)
    except FileFormatError as error:
        require("does not exist or is empty" in str(error), str(error))
        return
    with collection:
        problems = collection.check()
    require(not problems, f"check found {problems}")


class Kills:
    """The collection, what must be in it, and the operations that are killed."""

    def __init__(self, home: Path, n_images: int, rng: random.Random) -> None:
        self.home, self.rng = home, rng
        self.size = GROWTH[0]
        self.longest: dict[str, float] = {}
        self.file = home / "c.vlad"
        self.first, self.more = home / "first", home / "more"
        for folder, seeds in (
            (self.first, range(n_images)),
            (self.more, range(1000, 1000 + n_images // 2)),
        ):
            folder.mkdir()
            for seed in seeds:
                cv2.imwrite(str(folder / f"{seed:04}.png"), textured(seed))

    def operation(self, kind: str) -> tuple[list[object], set[str]]:
        """Arguments of the command, and images that it may remove."""
        if kind == "index":
            return ["index", self.first, "-o", self.file, "--n-clusters", CLUSTERS], set()
        if kind == "add":
            return ["add", self.file, self.more], set()
        if kind == "compact":
            return ["compact", self.file], set()
        if kind == "grow":
            files = sorted([*self.first.iterdir(), *self.more.iterdir()])
            return ["index", *files[: self.size], "-o", self.file, "--n-clusters", CLUSTERS], set()
        there = sorted(vectors(self.file))
        some = set(self.rng.sample(there, min(len(there), self.rng.randint(5, 40))))
        return ["remove", self.file, *sorted(some)], some

    def kill(self, kind: str) -> str:
        """Start it, kill it, look; what happened, as a line."""
        arguments, may_go = self.operation(kind)
        before, state_before = vectors(self.file), state(self.file)
        process = vladkit(*arguments)
        delay = self.rng.uniform(0.2, 1.0) * self.longest[kind]
        after_write = self.rng.random() < 0.7
        if after_write:  # soon after it begins to write; else at any time
            self.wait_for_a_write(process)
            delay = self.rng.uniform(0, 0.2) ** 2 * 5
        deadline = time.monotonic() + delay
        seen: dict[str, bytes] = {}
        while time.monotonic() < deadline and process.poll() is None:
            seen = vectors(self.file) if delay > 0.1 else seen
            time.sleep(0.002)
        ended = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        _, stderr = process.communicate()
        if ended:
            require(process.returncode == 0, f"{kind}: {stderr.decode()}")
        check(self.file)
        after, is_as_before = vectors(self.file), state(self.file) == state_before
        for path, vector in (before | seen).items():
            if path not in may_go:
                is_there = after.get(path) == vector if is_as_before else path in after
                require(is_there, f"{kind}: {path} was there and is not any more")
        note = " (had ended)" if ended else ""
        when = "of a write" if after_write else ""
        return (
            f"{kind:8} {delay:6.3f} s {when:10}{note:12} {len(before):4} -> {len(after):4} images"
        )

    def wait_for_a_write(self, process: subprocess.Popen[bytes]) -> None:
        """Until SQLite's log of the collection changes, or the process ends."""
        wal = Path(f"{self.file}-wal")

        def size_and_time() -> tuple[int, int]:
            try:
                status = wal.stat()
            except FileNotFoundError:
                return 0, 0
            return status.st_size, status.st_mtime_ns

        first = size_and_time()
        while size_and_time() == first and process.poll() is None:
            time.sleep(0.0005)

    def time_all(self) -> None:
        """How long the commands take when nothing happens, on a file of its own."""
        file, self.file = self.file, self.home / "timed.vlad"
        for kind in ("index", "add", "remove", "compact"):
            arguments, _ = self.operation(kind)
            begin = time.monotonic()
            require(vladkit(*arguments).wait() == 0, f"{kind} did not end well")
            self.longest[kind] = 1.1 * (time.monotonic() - begin)
        self.file = file

    def grow(self, name: str, n_kills: int) -> dict[str, bytes]:
        """Vectors of a file that grows step by step, each killed before it is done."""
        self.file = self.home / name
        for self.size in GROWTH:
            for _ in range(n_kills):
                print(f"    {self.kill('grow')}", flush=True)
            begin = time.monotonic()
            arguments, _ = self.operation("grow")
            require(vladkit(*arguments).wait() == 0, "it did not grow")
            if not n_kills:
                self.longest["grow"] = time.monotonic() - begin
            check(self.file)
        return vectors(self.file)

    def fill(self) -> None:
        """Index everything, undisturbed."""
        for kind in ("index", "add"):
            arguments, _ = self.operation(kind)
            require(vladkit(*arguments).wait() == 0, f"{kind} did not end well")


KINDS = ("index", "remove", "add", "compact")


def kills(home: Path, n: int, n_images: int, rng: random.Random) -> None:
    run = Kills(home, n_images, rng)
    run.time_all()
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, run.file, run.first / "0003.png"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        for i in range(n):
            if i == n // 5:
                run.fill()
            kind = "index" if i < n // 5 else KINDS[i % len(KINDS)]
            print(f"{i + 1:3} {run.kill(kind)}", flush=True)
            require(reader.poll() is None, "the reader crashed")
        run.fill()
    finally:
        reader.kill()
        stdout, stderr = reader.communicate()
    require(not stderr.strip(), f"the reader said: {stderr.decode()}")
    print(f"{n} kills; the reader searched {len(stdout.splitlines())} times meanwhile")
    check(run.file)
    undisturbed = home / "undisturbed.vlad"
    shutil.copy(run.file, undisturbed)
    with Collection.open(undisturbed) as collection:  # the same codebook, all else made again
        collection.remove(sorted(vectors(undisturbed)))
        collection.add([run.first])
        collection.add([run.more])
    mine, theirs = vectors(run.file), vectors(undisturbed)
    require(mine.keys() == theirs.keys(), "the file has not the images as if nothing had happened")
    # short vectors are made of whole ones in float16 where these were there before the axes
    apart = max(np.abs(numbers(mine[path]) - numbers(theirs[path])).max() for path in mine)
    require(apart < 1e-3, f"vectors differ by {apart} from those as if nothing had happened")
    print(f"all {len(vectors(run.file))} images are there, vectors as if nothing had happened")
    wanted = run.grow("grown.vlad", 0)
    found = run.grow("killed.vlad", max(1, n // 10))
    require(len(wanted) == min(GROWTH[-1], n_images + n_images // 2), "it did not grow whole")
    require(found == wanted, "a file that was killed as it grew is not as one that was not")
    print(f"grown to {len(found)} images, learned again and again: as if nothing had happened")


def two_writers(home: Path) -> None:
    file = home / "two.vlad"
    both = [
        vladkit("index", home / "first", "-o", file, "--n-clusters", CLUSTERS),
        vladkit("index", home / "first", home / "more", "-o", file, "--n-clusters", CLUSTERS),
    ]
    for process in both:
        _, stderr = process.communicate()
        require(process.returncode == 0, stderr.decode())
    check(file)
    n = len(list((home / "first").iterdir())) + len(list((home / "more").iterdir()))
    require(len(vectors(file)) == n, "images are missing")
    print(f"two writers at once: {n} images, all there")


def full_disk(home: Path) -> None:
    """Each command on a disk that has no room for it: an error that names the file."""
    disk = home / "disk"
    disk.mkdir()
    size = home.joinpath("c.vlad").stat().st_size
    mount = ["mount", "-t", "tmpfs", "-o", f"size={2 * size + 3_000_000}", "none", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        print("full disk: left out, a small disk may not be mounted here")
        return
    try:
        file = disk / "c.vlad"
        shutil.copy(home / "c.vlad", file)
        with Collection.open(file) as collection:
            collection.remove([home / "more"])
        left = vectors(file)
        filler = disk / "filler"
        room = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        filler.write_bytes(bytes(max(0, room - 100_000)))
        for arguments in (["add", file, home / "more"], ["compact", file]):
            process = vladkit(*arguments)
            _, stderr = process.communicate()
            text = stderr.decode()
            require(process.returncode == 1, f"{arguments[0]} on a full disk: {text}")
            require("full" in text and str(file) in text, text)
            require("Traceback" not in text, text)
            after = vectors(file)
            require(all(after.get(p) == v for p, v in left.items()), "images were lost")
            check(file)
            print(f"full disk: {text.strip()}")
        filler.unlink()
        process = vladkit("add", file, home / "more")
        _, stderr = process.communicate()
        require(process.returncode == 0, f"with room again: {stderr.decode()}")
        check(file)
        require(len(vectors(file)) == len(vectors(home / "c.vlad")), "images are missing")
        print("full disk: with room again, all is there")
    except StorageError as error:
        require(False, str(error))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        kills(home, args.kills, args.images, random.Random(args.seed))
        two_writers(home)
        full_disk(home)


if __name__ == "__main__":
    main()
