"""What a collection survives on a cluster and in a bucket: kills, and a store that goes away.

    python benchmarks/cluster_faults.py [--kills 30] [--images 120] [--stores lance sqlite]

Made-up images lie in a bucket of moto's S3 server on this machine. A Dask cluster of two workers
indexes them, by `vladkit index --cluster`, into a collection of Lance in the same bucket, and then
into a file. In turn, at a random time, often when the first images have just been committed,

- the command is killed with SIGKILL,
- a worker is killed with SIGKILL (its nanny starts another one),
- the store closes its port for up to 4 s, with all connections,

and images are removed again, now and then by a command that is killed, too. After each fault every
image that a reader had seen must be there with the same vector, and `check` must find nothing.
After a worker's death the command must end well; after a fault of the store it ends well, or says
what is wrong, and the next one goes on. In the end the collection must hold the same vectors as a
file that one process made of a folder, bit for bit. Exits with 1 at the first thing that is not so.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2

from elsewhere import KEYS
from faults import CLUSTERS, require, textured, vectors, vladkit
from vladkit import Collection

BIN = Path(sys.executable).parent
WAIT_S = 120
"""Longest time that a command may take."""
PHOTOS = "s3://faults/photos"


def serve() -> None:
    """Answer like S3; "stop S" on stdin closes the port and all connections for S seconds."""
    import logging

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto, away = DomainDispatcherApplication(create_backend_app), threading.Event()

    def answer(environ, start_response):
        if away.is_set():  # on a connection from before: it ends without an answer
            raise ConnectionAbortedError
        return moto(environ, start_response)

    port = 0
    server = make_server("127.0.0.1", port, answer, threaded=True)
    port = server.server_port
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    print(port, flush=True)
    for line in sys.stdin:
        away.set()
        server.shutdown()
        server.server_close()
        time.sleep(float(line))
        away.clear()
        server = make_server("127.0.0.1", port, answer, threaded=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        print("back", flush=True)


@contextmanager
def bucket() -> Iterator[subprocess.Popen[str]]:
    """The server's process, and its address in the environment."""
    command = [sys.executable, __file__, "--serve"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, **pipes) as process:
        port = process.stdout.readline().strip()
        address = f"http://127.0.0.1:{port}"
        os.environ.update(KEYS, AWS_ENDPOINT_URL=address, AWS_ALLOW_HTTP="true")
        yield process
        process.stdin.close()


@contextmanager
def cluster() -> Iterator[tuple[str, int]]:
    """Address of a scheduler with two workers, and the process whose children the workers are."""
    import socket

    from distributed import Client

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    scheduler = ["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    worker = ["worker", address, "--nworkers", "2", "--nthreads", "1", "--no-dashboard"]
    with ExitStack() as running:
        processes = []
        for words in (scheduler, worker):
            process = subprocess.Popen([str(BIN / "dask"), *words], stderr=subprocess.DEVNULL)
            running.callback(process.wait)
            running.callback(process.terminate)
            processes.append(process.pid)
        with Client(address, timeout=60) as client:
            client.wait_for_workers(2)
        yield address, processes[1]


def workers(nannies: int) -> list[int]:
    """Processes of the workers, which their nannies have started."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True)
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()[1:]]
    return [int(pid) for pid, parent, words in rows if int(parent) == nannies and "spawn" in words]


class Faults:
    """A collection, what must be in it, and what happens to it."""

    def __init__(
        self, file: str, server: subprocess.Popen[str], cluster: tuple[str, int], rng: random.Random
    ) -> None:
        self.file, self.server, self.rng = file, server, rng
        self.address, self.nannies = cluster
        self.longest = 0.0

    def time_all(self) -> None:
        """Seconds that indexing takes when nothing happens, into a collection of its own."""
        file, begin = f"timed-{Path(self.file).name}", time.monotonic()
        given = "--codebook", "words.npz", "--cluster", self.address
        code, stderr = self.ends(self.start("index", PHOTOS, "-o", file, *given))
        require(code == 0, stderr)
        self.longest = time.monotonic() - begin

    def vectors(self) -> dict[str, bytes]:
        """Vector of each image."""
        return vectors(self.file)  # type: ignore[arg-type]

    def start(self, *words: object) -> subprocess.Popen[bytes]:
        """Start a command; by default the one that indexes."""
        if not words:
            given = "--codebook", "words.npz", "--cluster", self.address
            words = "index", PHOTOS, "-o", self.file, *given
        return vladkit(*words)

    def ends(self, process: subprocess.Popen[bytes]) -> tuple[int, str]:
        """Exit status and messages of a command."""
        try:
            _, stderr = process.communicate(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            require(False, f"it does not end: {process.communicate()[1].decode()[-2000:]}")
        return process.returncode, stderr.decode()

    def look(self, before: dict[str, bytes], may_go: set[str]) -> int:
        """That nothing is lost or damaged; number of images that are there."""
        after = self.vectors()
        for path, vector in before.items():
            require(path in may_go or after.get(path) == vector, f"{path} was there: it is lost")
        if after:
            with Collection.open(self.file, read_only=True) as collection:
                problems = collection.check()
            require(not problems, f"check found {problems}")
        return len(after)

    def wait_for_images(self, n: int, process: subprocess.Popen[bytes]) -> dict[str, bytes]:
        """The images that a reader sees, as soon as there are more than n."""
        while process.poll() is None and len(self.vectors()) <= n:
            time.sleep(0.05)
        return self.vectors()

    def happen(self, kind: str, n: int) -> str:
        """Index, and let something happen meanwhile; what came of it, as a line."""
        before = self.vectors()
        process, seen = self.start(), dict(before)
        if self.rng.random() < 0.4:
            seen |= self.wait_for_images(len(before), process)
            time.sleep(self.rng.uniform(0, 0.3))
        else:
            time.sleep(self.rng.uniform(0.3, 1.0) * self.longest)
        running = process.poll() is None
        note = "" if running else "had ended"
        if kind == "command":
            process.kill()
        elif kind == "worker":
            there = workers(self.nannies)
            require(bool(there), "there is no worker")
            os.kill(self.rng.choice(there), signal.SIGKILL)
        else:
            away = self.rng.uniform(0.5, 4)
            self.server.stdin.write(f"{away}\n")
            self.server.stdin.flush()
            require(self.server.stdout.readline() == "back\n", "the store does not come back")
            note += f" away {away:.1f} s"
        code, stderr = self.ends(process)
        require("Traceback" not in stderr, stderr)
        if kind == "worker" or not running:
            require(code == 0, stderr)
        if kind == "store" and code:
            require(code == 1 and "vladkit: " in stderr, f"{code}: {stderr}")
            note += f", it said: {stderr.strip().splitlines()[-1][:100]}"
        skipped = stderr.count("skipped: ") if kind == "store" else 0
        return f"{n:3} {kind:8} {len(before):4} -> {self.look(seen, set()):4} images {note}" + (
            f", {skipped} skipped" if skipped else ""
        )

    def remove(self, *, kill: bool) -> None:
        """Remove some images, by a command that may be killed."""
        before = self.vectors()
        some = set(self.rng.sample(sorted(before), min(len(before), self.rng.randint(20, 60))))
        process = self.start("remove", self.file, *sorted(some))
        if kill:
            time.sleep(self.rng.uniform(0.5, 2.5))
            process.kill()
        code, stderr = self.ends(process)
        require(kill or code == 0, stderr)
        self.look(before, some)


KINDS = ("command", "worker", "store")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="faults for each store")
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stores", nargs="+", default=["lance", "sqlite"])
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve()
        return
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as home, bucket() as server:
        os.chdir(home)
        Path("photos").mkdir()
        for i in range(args.images):
            cv2.imwrite(f"photos/{i:04}.png", textured(i))
        import fsspec

        files = fsspec.filesystem("s3")
        files.mkdir("faults")
        files.put("photos/", "faults/photos/", recursive=True)
        words = "photos", "-o", "words.npz", "--n-clusters", CLUSTERS
        require(vladkit("codebook", *words).wait() == 0, "there is no codebook")
        one = vladkit("index", "photos", "-o", "one.vlad", "--codebook", "words.npz")
        require(one.wait() == 0, "one process makes no file")
        wanted = vectors(Path("one.vlad"))
        require(len(wanted) == args.images, f"{len(wanted)} images are in the file of one process")
        with cluster() as running:
            for store in args.stores:
                file = {"lance": "s3://faults/c.lance", "sqlite": "c.vlad"}[store]
                faults = Faults(file, server, running, rng)
                faults.time_all()
                for n in range(args.kills):
                    if len(faults.vectors()) > args.images // 2:
                        faults.remove(kill=rng.random() < 0.3)
                    print(f"{store:6} {faults.happen(KINDS[n % len(KINDS)], n + 1)}", flush=True)
                code, stderr = faults.ends(faults.start())
                require(code == 0, stderr)
                faults.look({}, set())
                require(faults.vectors() == wanted, "the end is not that of one process")
                print(f"{store}: {args.kills} faults, the end is that of one process: bit for bit")


if __name__ == "__main__":
    main()
