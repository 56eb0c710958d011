"""`vladkit index` of a bucket against the same images in a folder, by the latency of the store.

    python benchmarks/elsewhere.py [FOLDER] [--latency 0 20 100] [--rounds 3]

The store is moto's S3 server in a process of its own on this machine, and waits before each answer.
Every run is a process of its own; all are given one codebook, so that each image is read once.
Seconds are medians, by the clock and of the processor, of the process that indexes. Without a
folder: crops of the photographs that scikit-image ships.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from index import write_crops

KEYS = {
    "AWS_ACCESS_KEY_ID": "any",
    "AWS_SECRET_ACCESS_KEY": "any",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def serve() -> None:
    """Answer like S3 on a free port, each object after the seconds that stdin's last line says."""
    import logging
    import threading

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = DomainDispatcherApplication(create_backend_app)
    latency = 0.0

    def slow(environ, start_response):
        time.sleep(latency)
        return moto(environ, start_response)

    server = make_server("127.0.0.1", 0, slow, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    for line in sys.stdin:
        latency = float(line)
        print(latency, flush=True)


@contextmanager
def store() -> Iterator[subprocess.Popen[str]]:
    """The server's process, and its address in the environment."""
    command = [sys.executable, __file__, "--serve"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        port = process.stdout.readline().strip()
        os.environ.update(KEYS, AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}")
        yield process
        process.stdin.close()


def timed(source: str, words: str) -> tuple[float, float]:
    """Seconds by the clock, and of the processor, to index a source into a new file."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "vladkit", "index", source, "-o", f"{folder}/c.vlad"]
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([*command, "--codebook", words], check=True, stderr=subprocess.DEVNULL)
        wall = time.perf_counter() - begin
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, used


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--latency", type=float, nargs="+", default=[0, 20, 100], help="ms")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve()
        return
    with tempfile.TemporaryDirectory() as made, store() as server:
        folder = args.folder or f"{made}/crops"
        if args.folder is None:
            Path(folder).mkdir()
            write_crops(Path(folder))
        import fsspec

        files = fsspec.filesystem("s3")
        files.mkdir("photos")
        files.put(f"{folder.rstrip('/')}/", "photos/a/", recursive=True)
        words = f"{made}/words.npz"
        subprocess.run(
            [sys.executable, "-m", "vladkit", "codebook", folder, "-o", words],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        times: dict[str, list[tuple[float, float]]] = {}
        for _ in range(args.rounds):
            times.setdefault("folder", []).append(timed(folder, words))
            for ms in args.latency:
                server.stdin.write(f"{ms / 1000}\n")
                server.stdin.flush()
                server.stdout.readline()
                times.setdefault(f"s3, {ms:g} ms", []).append(timed("s3://photos/a", words))
        n = sum(each.is_file() for each in Path(folder).rglob("*"))
        print(f"{n} images, {args.rounds} rounds\n\n| images in | s | CPU s | of the folder's |")
        print("|---|---|---|---|")
        wall = {name: statistics.median(w for w, _ in each) for name, each in times.items()}
        for name, each in times.items():
            used = statistics.median(cpu for _, cpu in each)
            ratio = wall[name] / wall["folder"]
            print(f"| {name} | {wall[name]:.1f} | {used:.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
