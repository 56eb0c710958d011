"""Cache of the values that were used last, of bounded size."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Cache"]

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """Values that were used last; several threads may use it at once.

    Parameters
    ----------
    max_bytes : int
        Beyond this size the least recently used values are dropped; a larger value is not kept.

    Examples
    --------
    >>> cache = Cache[str](max_bytes=10)
    >>> for name in "abc":
    ...     cache.put(name, name.upper(), 4)
    >>> cache.get("a"), cache.get("b"), cache.get("c")
    (None, 'B', 'C')
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._n_bytes = 0
        self._kept: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()

    def get(self, key: Hashable) -> Value | None:
        """The value of a key; None if it is not there any more."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: Hashable, value: Value, n_bytes: int) -> None:
        """Keep a value that takes `n_bytes`."""
        with self._lock:
            if key in self._kept:
                self._n_bytes -= self._kept.pop(key)[1]
            if n_bytes > self.max_bytes:
                return
            self._kept[key] = value, n_bytes
            self._n_bytes += n_bytes
            while self._n_bytes > self.max_bytes:
                _, (_, freed) = self._kept.popitem(last=False)
                self._n_bytes -= freed
