"""The command that writes a page about a collection."""

from __future__ import annotations

from typing import Annotated

import typer

from vladkit.cli.app import File, Fundamental, Json, Rerank, Threads, app
from vladkit.cli.output import print_json, say

__all__: list[str] = []


@app.command()
def report(
    file: File,
    ground_truth: Annotated[
        str | None,
        typer.Argument(
            metavar="[GROUND_TRUTH.json]",
            help="Queries with what is relevant; without it images of the collection are drawn.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT", help="The page to write.")
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
    rerank: Rerank = 0,
    fundamental: Fundamental = False,
    seed: Annotated[
        int, typer.Option("--seed", help="Of the draw, where no ground truth is given.")
    ] = 0,
    n_jobs: Threads = None,
    as_json: Json = False,
) -> None:
    """Write a page that shows how good a collection is: figures, and the worst queries first."""
    from vladkit.cli.process import leave_cores_to_threads

    leave_cores_to_threads()
    from vladkit.cli.progress import progress_bar
    from vladkit.collection.collection import Collection
    from vladkit.geometry.verification import Model
    from vladkit.viz.report import assess, check_target, drawn, read, write_report

    inputs = [file] if ground_truth is None else [file, ground_truth]
    check_target(output, inputs)
    model: Model = "fundamental" if fundamental else "homography"
    with Collection.open(file, read_only=True) as collection, progress_bar() as progress:
        asked = drawn(collection, queries, seed) if ground_truth is None else read(ground_truth)
        data = assess(
            collection, asked, top=top, rerank=rerank, model=model, n_jobs=n_jobs, progress=progress
        )
        n_bytes = write_report(output, data, queries=queries, n_jobs=n_jobs, progress=progress)
    figures = data.figures if data.questions.stated else {}
    known = {name: round(v, 6) if v == v else None for name, v in figures.items()}  # not NaN
    if as_json:
        n = len(data.answers)
        print_json({"file": output, "bytes": n_bytes, "queries": n} | known)
        return
    said = "".join(
        f", {name} {'-' if v is None else format(v, '.4f')}" for name, v in known.items()
    )
    say(f"{output}: {len(data.answers)} queries{said}; {n_bytes / 1e6:.1f} MB")
