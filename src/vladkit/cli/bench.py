"""`vladkit bench`: ways of encoding, timed on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from vladkit.cli.app import app
from vladkit.cli.options import Json
from vladkit.cli.output import print_json

__all__: list[str] = []


@app.command()
def bench(
    quick: Annotated[
        bool, typer.Option("--quick", help="Half a minute instead of five: fewer sizes.")
    ] = False,
    case: Annotated[
        list[str] | None,
        typer.Option(
            "--case",
            metavar="T,L,F,K[,DTYPE]",
            help="This size instead of the usual ones; can be repeated.",
        ),
    ] = None,
    n_jobs: Annotated[
        int | None,
        typer.Option("--n-jobs", "-j", help="Threads of every way. [default: one for each core]"),
    ] = None,
    plot: Annotated[
        str | None, typer.Option("--plot", metavar="OUT", help="Draw it: PNG, SVG or PDF.")
    ] = None,
    details: Annotated[
        bool, typer.Option("--details", help="Whole tables for every size, not only medians.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Time every way of encoding on this machine's CPU.

    And other libraries that do the same.
    """
    from vladkit.bench.cases import parse_case
    from vladkit.bench.plot import check_target, write_plot
    from vladkit.bench.report import print_report
    from vladkit.bench.run import run
    from vladkit.cli.progress import progress_bar

    cases = [parse_case(text) for text in case or ()]
    if plot is not None:
        check_target(plot)
    try:
        with progress_bar() as progress:
            report = run(cases, threads=n_jobs, quick=quick, progress=progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("what was measured is dropped") from None
    if as_json:
        print_json(report.as_json())
    else:
        print_report(report, details=details)
    if plot is not None:
        write_plot(report, plot)
