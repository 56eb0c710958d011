"""Functions that Numba compiles, kept on disk where that is possible."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

__all__ = ["compiled"]


class _Cache(FunctionCache):  # type: ignore[misc]
    """Numba's cache, which is only to save time: what cannot be read or written is no error.

    A folder may become full or lose its rights after Numba has chosen it, and a file may be cut
    off where a machine lost its power.
    """

    def __init__(self, function: Any, beside: Sequence[str] = ()) -> None:
        super().__init__(function)
        if beside:
            self._cache_file = IndexDataCacheFile(
                cache_path=self._cache_path,
                filename_base=self._impl.filename_base,
                source_stamp=(self._impl.locator.get_source_stamp(), _digest(beside)),
            )

    def load_overload(self, *arguments: Any) -> Any:
        try:
            return super().load_overload(*arguments)
        except Exception:  # whatever the damaged bytes bring about: compiled again, and written
            with suppress(Exception):
                self.flush()

    def save_overload(self, *arguments: Any) -> None:
        with suppress(Exception):
            super().save_overload(*arguments)


def _digest(files: Sequence[str]) -> bytes:
    """Hash of the texts of files; of none where one cannot be read, as in an archive."""
    found = blake2b(digest_size=16)
    with suppress(OSError):
        for file in files:
            found.update(Path(file).read_bytes())
    return found.digest()


def compiled(*, beside: Sequence[str] = (), **options: Any) -> Callable[[Any], Any]:
    """Decorator for a function that Numba compiles without the GIL, and keeps if it can.

    For as long as the file is the same that it is in, and those `beside` it whose code it takes.
    """

    def compile_function(function: Any) -> Any:
        dispatcher = numba.njit(nogil=True, **options)(function)
        # Numba would make a folder called "~" where the user has no home.
        if numba.config.CACHE_DIR or os.path.isabs(os.path.expanduser("~")):
            with suppress(RuntimeError):  # no folder that may be written: compiled each time
                dispatcher._cache = _Cache(function, beside)
        return dispatcher

    return compile_function
