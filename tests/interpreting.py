"""Triton's interpreter, but it patches Triton's language once and not at every call of a function:
a third of the time. For scripts that run under TRITON_INTERPRET=1 and do nothing else.
"""

from __future__ import annotations

from types import SimpleNamespace

from triton.runtime import interpreter

_patch = interpreter._patch_lang
_patched = set()


def _patch_once(function):
    if id(function.__globals__) not in _patched:
        _patched.add(id(function.__globals__))
        _patch(function)
    return SimpleNamespace(restore=lambda: None)


interpreter._patch_lang = _patch_once
