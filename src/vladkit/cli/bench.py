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
    article: Annotated[
        bool,
        typer.Option(
            "--article", help="Repeat the article in a minute: sums by themselves, then encodings."
        ),
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
    from vladkit.bench.article import print_article
    from vladkit.bench.cases import ARTICLE, parse_case
    from vladkit.bench.plot import check_target, write_plot
    from vladkit.bench.report import print_report
    from vladkit.bench.run import run
    from vladkit.bench.sum_cases import ARTICLE_SUMS
    from vladkit.cli.progress import progress_bar

    cases = [parse_case(text) for text in case or ()]
    sums = ARTICLE_SUMS if article else ()
    cases = cases or (list(ARTICLE) if article else [])
    if plot is not None:
        check_target(plot)
    try:
        with progress_bar() as progress:
            report = run(cases, sums=sums, threads=n_jobs, quick=quick, progress=progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("what was measured is dropped") from None
    if as_json:
        print_json(report.as_json())
    elif article:
        print_article(report)
    else:
        print_report(report, details=details)
    if plot is not None:
        write_plot(report, plot)
