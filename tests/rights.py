"""Files and folders of other users."""

from __future__ import annotations

import os
from contextlib import contextmanager

import pytest


@contextmanager
def as_nobody():
    """With the rights of a common user; where the tests run as root, of user 65534."""
    if not hasattr(os, "geteuid"):
        pytest.skip("users of another kind")
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(me)


def open_to_all(tmp_path, mode=0o777):
    """Let others come to the test's folder: pytest makes it for one user."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and len(parent.parts) > 2:
            parent.chmod(mode if parent == tmp_path else parent.stat().st_mode | 0o055)
