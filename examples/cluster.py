"""A cluster on one machine: a scheduler, two workers, an index run on them, and the page.

    pip install 'vladkit[dask,web]'
    python examples/cluster.py PHOTOS photos.vlad            # then open the address that it prints
    python examples/cluster.py PHOTOS photos.vlad --no-page  # end when the images are in

The same commands make a cluster of many machines: the scheduler on one, a worker on each, all of
which see the images at one path (or in a bucket, s3://...). Ctrl-C ends all of them.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

BIN = Path(sys.executable).parent
SECONDS = 60
"""Longest time that the scheduler may take to answer."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def start(running: ExitStack, *words: object) -> None:
    """Start a program that ends when this one does."""
    process = subprocess.Popen([*map(str, words)])
    running.callback(process.wait)
    running.callback(process.terminate)


def wait_for(port: int) -> None:
    for _ in range(SECONDS * 10):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"the scheduler does not answer at port {port}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="folder of photos, or s3://BUCKET/FOLDER")
    parser.add_argument("file", help="collection to make or add to")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--no-page", action="store_true", help="do not serve the collection")
    args = parser.parse_args()
    address = f"tcp://127.0.0.1:{(port := free_port())}"
    quiet = "--no-dashboard"
    with ExitStack() as running:
        where = "--host", "127.0.0.1", "--port", port
        start(running, BIN / "dask", "scheduler", *where, quiet)
        wait_for(port)
        threads = "--nworkers", args.workers, "--nthreads", 1
        start(running, BIN / "dask", "worker", address, *threads, quiet)
        index = [BIN / "vladkit", "index", args.source, "-o", args.file, "--cluster", address]
        subprocess.run([*map(str, index)], check=True)
        subprocess.run([str(BIN / "vladkit"), "info", args.file], check=True)
    if not args.no_page:
        subprocess.run([str(BIN / "vladkit"), "serve", args.file], check=True)


if __name__ == "__main__":
    main()
