"""The command, run in this process: fast, and enough where text and exit code are looked at.

Signals, imports, encodings and a reader that leaves need a process of their own.
"""

from __future__ import annotations

import os
from contextlib import chdir

from typer.testing import CliRunner

from vladkit.cli import load


def run(*words, code=0, cwd=".", **environment):
    """Run ``vladkit WORDS``: its stdout, stderr, and both as output; the exit code is checked,
    unless it is None.

    Errors that the command does not turn into a message are raised.
    """
    before = os.environ.copy()
    try:
        with chdir(cwd):
            done = CliRunner().invoke(
                load(), [*map(str, words)], env=environment, catch_exceptions=False
            )
    finally:  # a command says how many threads BLAS has: processes that come later inherit it
        os.environ.clear()
        os.environ.update(before)
    assert code is None or done.exit_code == code, (
        f"vladkit {words}: exit code {done.exit_code}\n{done.output}"
    )
    return done
