"""Versions of vladkit, Python, and all that vladkit may use, for reports of faults."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version

from vladkit.core.version import __version__

__all__ = ["installed"]


def installed() -> dict[str, str | None]:
    """Versions by name, of dependencies and of those that extras bring; None: not installed.

    Examples
    --------
    >>> installed()["vladkit"] == __version__
    True
    """
    found: dict[str, str | None] = {
        "vladkit": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
    }
    try:
        wanted = requires("vladkit") or []
    except PackageNotFoundError:  # run from its sources
        wanted = []
    names = {re.split(r"[^A-Za-z0-9_.-]", each, maxsplit=1)[0] for each in wanted}
    for name in sorted(names - {"vladkit"}, key=str.lower):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
