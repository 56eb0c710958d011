"""Marks by which a user's machine knows the folders and networks that it indexed with.

A collection may come from anybody. It names folders, whose images `vladkit serve` would show, and
perhaps a network to run. Those that this user gave are marked with a key that only this user has;
the others are left alone until somebody says that they are to be trusted.
"""

from __future__ import annotations

import hmac
import os
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["is_own", "mark"]

_FOLDER: Final = "VLADKIT_STATE"
"""Environment variable: the folder that keeps the key."""

_KEY_BYTES: Final = 32


def mark(kind: str, name: str) -> str:
    """Mark of what the user gave; "" where no key can be kept.

    Parameters
    ----------
    kind : str
        "folder" or "network".
    name : str
        Absolute path of a folder, or sha256 of a network.
    """
    key = _key() or _new_key()
    return "" if key is None else _digest(key, kind, name)


def is_own(kind: str, name: str, given: object) -> bool:
    """Whether `mark` of this user gave that mark."""
    key = _key()
    return (
        key is not None
        and isinstance(given, str)
        and hmac.compare_digest(_digest(key, kind, name).encode(), given.encode(errors="replace"))
    )


def _digest(key: bytes, kind: str, name: str) -> str:
    # HMAC-SHA-256 (RFC 2104)
    return hmac.new(key, f"{kind}\0{name}".encode(errors="surrogateescape"), "sha256").hexdigest()


def _file() -> Path:
    if given := os.environ.get(_FOLDER):
        return Path(given) / "key"
    if sys.platform == "win32":
        state = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        state = Path.home() / "Library" / "Application Support"
    else:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state / "vladkit" / "key"


def _key() -> bytes | None:
    try:
        key = _file().read_bytes()
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    return key if len(key) == _KEY_BYTES else None


def _new_key() -> bytes | None:
    key = secrets.token_bytes(_KEY_BYTES)
    try:
        file = _file()
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent)  # for this user alone
        with open(handle, "wb") as opened:
            opened.write(key)
        os.replace(name, file)
    except (OSError, RuntimeError):
        return None
    return key
