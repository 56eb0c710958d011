"""Functions that Numba compiles, kept on disk where that is possible."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numba
from numba.core.caching import FunctionCache

__all__ = ["compiled"]


class _Cache(FunctionCache):  # type: ignore[misc]
    """Numba's cache, which is only to save time: what cannot be read or written is no error.

    A folder may become full or lose its rights after Numba has chosen it, and a file may be cut
    off where a machine lost its power.
    """

    def load_overload(self, *arguments: Any) -> Any:
        try:
            return super().load_overload(*arguments)
        except Exception:  # whatever the damaged bytes bring about: compiled again, and written
            with suppress(Exception):
                self.flush()

    def save_overload(self, *arguments: Any) -> None:
        with suppress(Exception):
            super().save_overload(*arguments)


def compiled(**options: Any) -> Callable[[Any], Any]:
    """Decorator for a function that Numba compiles without the GIL, and keeps if it can."""

    def compile_function(function: Any) -> Any:
        dispatcher = numba.njit(nogil=True, **options)(function)
        # Numba would make a folder called "~" where the user has no home.
        if numba.config.CACHE_DIR or os.path.isabs(os.path.expanduser("~")):
            with suppress(RuntimeError):  # no folder that may be written: compiled each time
                dispatcher._cache = _Cache(function)
        return dispatcher

    return compile_function
