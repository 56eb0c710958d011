"""The command ``vladkit``: a thin door to `vladkit.Collection`."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    from vladkit.cli import commands, improving, keeping  # noqa: F401  (they add themselves to the app)
    from vladkit.cli.app import app
    from vladkit.errors import ParameterError, VladkitError

    for stream in (sys.stdout, sys.stderr):  # names of files may hold bytes that are no text
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="surrogateescape")
    try:
        app()
    except VladkitError as error:
        print(f"vladkit: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2 if isinstance(error, ParameterError) else 1)
    except KeyboardInterrupt:
        print("vladkit: interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    except BrokenPipeError:  # whoever read our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
