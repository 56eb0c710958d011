"""The command ``vladkit``: a thin door to `vladkit.Collection`."""

from __future__ import annotations

import codecs
import errno
import gc
import os
import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import typer

__all__ = ["load", "main"]

_UNWRITTEN = errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO
"""Errors of a full disk that output goes to."""


def load(only: str | None = None) -> typer.Typer:
    """The command with its subcommands, each from the file of its name.

    Parameters
    ----------
    only : str, optional
        Name of the one subcommand to load, which takes 55 ms less than all; all without it, or if
        there is no such one.
    """
    from vladkit.cli.app import GROUPS, app

    known = [name for names in GROUPS.values() for name in names]
    for name in known if only not in known else [only]:
        module = "evaluate" if name == "eval" else name.replace("-", "_")
        import_module(f"vladkit.cli.{module}")
    return app


def main() -> None:
    """Run the command line; exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    _open_closed_streams()
    codecs.register_error("vladkit", _encode_somehow)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="vladkit")
    warnings.formatwarning = _warning_line
    try:
        os.getcwd()
    except OSError as error:
        sys.exit(f"vladkit: the current folder is gone ({error.strerror}): go to one that is there")
    try:
        _run()
    except KeyboardInterrupt:  # before a command began
        print("vladkit: interrupted", file=sys.stderr)  # noqa: T201
        _leave_at_once()
    except BrokenPipeError:  # whoever read our output has gone, as `head` does
        _drop_output()
        sys.exit(1)
    except OSError as error:
        if error.errno not in _UNWRITTEN or error.filename is not None:
            raise
        _drop_output()  # of a file there would be a name
        sys.exit(f"vladkit: cannot write the output: {error.strerror}")


def _open_closed_streams() -> None:
    """Open what a daemon may have closed: a file of ours would get the number, and the messages."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _warning_line(message: Warning | str, *_: object, **__: object) -> str:
    from vladkit.core.names import one_line

    return f"vladkit: {one_line(str(message))}\n"


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _encode_somehow(error: UnicodeError) -> tuple[str | bytes, int]:
    r"""Print a name in any encoding: bytes that are no text as they are, letters that it lacks as
    escapes such as ``\u65e5``.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    first = error.object[error.start]
    if "\udc80" <= first <= "\udcff":  # a byte of a name that is no text
        return bytes([ord(first) - 0xDC00]), error.start + 1
    return first.encode("ascii", "backslashreplace"), error.start + 1


def _run() -> None:
    app = load(sys.argv[1] if len(sys.argv) > 1 else None)
    try:
        app()
    except SystemExit as done:
        if done.code == 130:
            _leave_at_once()
        raise
    finally:
        sys.stdout.flush()
        gc.freeze()  # Python's end would look for garbage in all there is: 40 ms


def _leave_at_once() -> NoReturn:
    """End an interrupted process; all that was open is closed by now.

    Without Python's own end: it would stop a thread in the middle of compiling, which LLVM answers
    with an abort.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(130)
