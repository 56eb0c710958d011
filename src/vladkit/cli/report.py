"""`vladkit report`: an HTML report about a collection."""

from __future__ import annotations

from typing import Annotated

import typer

from vladkit.cli.app import app, opened
from vladkit.cli.options import File, Fundamental, Json, Rerank, Threads, Trust, model_of
from vladkit.cli.output import counted, emit, exit_if_most_failed, finite
from vladkit.cli.process import leave_cores_to_threads

__all__: list[str] = []


@app.command()
def report(
    file: File,
    ground_truth: Annotated[
        str | None,
        typer.Argument(
            metavar="[GROUND_TRUTH.json]",
            help="Queries with the images to find; without it images of the collection are drawn.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT", help="HTML report to write.")
    ] = "report.html",
    top: Annotated[
        int, typer.Option("--top", "-n", min=1, help="Results shown of each query.")
    ] = 10,
    queries: Annotated[
        int,
        typer.Option(
            "--queries", min=0, help="Queries shown with images, the worst first; all count."
        ),
    ] = 50,
    rerank: Rerank = None,
    fundamental: Fundamental = False,
    seed: Annotated[
        int, typer.Option("--seed", help="Random seed for drawing queries without a ground truth.")
    ] = 0,
    n_jobs: Threads = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Write an HTML report: figures, and the worst queries first.

    Exits with 1 if most queries failed.
    """
    leave_cores_to_threads()
    from vladkit.errors import ParameterError
    from vladkit.viz.report import assess, check_target, drawn, read, write_report

    if ground_truth is None and not queries:
        raise ParameterError(
            "--queries 0 leaves nothing to report: give 1 or more, or a ground truth"
        )

    inputs = [file] if ground_truth is None else [file, ground_truth]
    check_target(output, inputs)
    with opened(file, others=inputs[1:], trust=trust, shows=True, output=output) as (
        collection,
        progress,
    ):
        asked = drawn(collection, queries, seed) if ground_truth is None else read(ground_truth)
        data = assess(
            collection,
            asked,
            top=top,
            rerank=rerank,
            model=model_of(fundamental),
            n_jobs=n_jobs,
            progress=progress,
        )
        n_bytes = write_report(output, data, queries=queries, n_jobs=n_jobs, progress=progress)
    n = len(data.answers)
    figures = finite(data.figures) if data.questions.stated else {}
    written = [f", {name} {'-' if v is None else f'{v:.4f}'}" for name, v in figures.items()]
    emit(
        as_json,
        {"file": output, "bytes": n_bytes, "queries": n} | figures,
        f"{output}: {counted(n, 'query', 'queries')}{''.join(written)}; {n_bytes / 1e6:.1f} MB",
    )
    failed = sum(answer.failed is not None for answer in data.answers)
    exit_if_most_failed(failed, n, stated=data.questions.stated)
