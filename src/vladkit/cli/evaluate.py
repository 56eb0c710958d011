"""The command `vladkit eval`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vladkit.cli.app import File, Fundamental, Json, Rerank, Threads, app
from vladkit.cli.output import print_json, say

if TYPE_CHECKING:
    from vladkit.evaluation.benchmark import Outcome
    from vladkit.geometry.verification import Model

__all__: list[str] = []


@app.command("eval")
def evaluate(
    file: File,
    ground_truth: Annotated[
        str,
        typer.Argument(
            metavar="GROUND_TRUTH",
            help="JSON file of queries and their relevant images; with --protocol a data set.",
            show_default=False,
        ),
    ],
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            metavar="NAME",
            help="Evaluate as the field does: vpr, holidays, roxford, rparis, ukbench.",
        ),
    ] = None,
    rerank: Rerank = 0,
    fundamental: Fundamental = False,
    n_jobs: Threads = None,
    as_json: Json = False,
) -> None:
    """Measure mAP and recall, with your queries or a benchmark of the field."""
    from vladkit.cli.process import leave_cores_to_threads

    leave_cores_to_threads()
    from vladkit.cli.progress import progress_bar
    from vladkit.collection.collection import Collection
    from vladkit.evaluation.benchmark import read_ground_truth
    from vladkit.evaluation.datasets import read_benchmark

    model: Model = "fundamental" if fundamental else "homography"
    if protocol is None:
        benchmark = read_ground_truth(ground_truth)
    else:
        benchmark = read_benchmark(protocol, ground_truth)
    with Collection.open(file, read_only=True) as collection, progress_bar() as progress:
        outcome = collection.evaluate(
            benchmark, rerank=rerank, model=model, n_jobs=n_jobs, progress=progress
        )
    if as_json:
        print_json(_as_json(outcome, protocol))
    else:
        _print(outcome, protocol)
    if 2 * outcome.failed > outcome.asked:
        say(
            f"vladkit: {outcome.failed} of {outcome.asked} queries failed, so these figures do not "
            "measure the collection: check the paths in the ground truth, and the files"
        )
        raise typer.Exit(1)


def _as_json(outcome: Outcome, protocol: str | None) -> dict[str, Any]:
    """Figures by name, or by level where there are several; a mean over nothing is null."""
    levels: dict[str, Any] = {
        level: {name: round(v, 6) if v == v else None for name, v in figures.items()}
        | {"queries": outcome.queries[level]}
        for level, figures in outcome.figures.items()
    }
    value: dict[str, Any] = levels.get("", levels)
    if protocol is None:
        value = value | {"not_averaged": outcome.asked - outcome.queries[""]}
    else:
        value = {"protocol": protocol} | value
    return value | {"failed": outcome.failed, "remarks": outcome.remarks}


def _print(outcome: Outcome, protocol: str | None) -> None:
    """Print a line for each figure, with a column for each level."""
    levels = list(outcome.figures)
    if levels != [""]:
        typer.echo(" " * 10 + "".join(f"{level:>9}" for level in levels))
    for name in outcome.figures[levels[0]]:
        values = "".join(f" {outcome.figures[level][name]:8.4f}" for level in levels)
        typer.echo(f"{name:10}{values}")
    counts = ", ".join(f"{n} {level}".rstrip() for level, n in outcome.queries.items())
    not_averaged = ""
    if protocol is None:
        not_averaged = f"{outcome.asked - outcome.queries['']} without a match not averaged, "
    typer.echo(f"over {counts} queries; {not_averaged}{outcome.failed} failed")
    for remark in outcome.remarks:
        say(remark)
