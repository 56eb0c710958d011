"""`vladkit eval`: mAP and recall of a collection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vladkit.cli.app import app, opened
from vladkit.cli.options import Device, File, Fundamental, Json, Rerank, Threads, Trust, model_of
from vladkit.cli.output import emit, exit_if_most_failed, finite, say

if TYPE_CHECKING:
    from vladkit.evaluation.benchmark import Outcome

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
    rerank: Rerank = None,
    fundamental: Fundamental = False,
    n_jobs: Threads = None,
    device: Device = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Measure mAP and recall, with your queries or a benchmark.

    Exits with 1 if most queries failed.
    """
    with opened(file, others=[ground_truth], trust=trust, device=device) as (collection, progress):
        from vladkit.evaluation.benchmark import read_ground_truth
        from vladkit.evaluation.datasets import read_benchmark

        if protocol is None:
            benchmark = read_ground_truth(ground_truth)
        else:
            benchmark = read_benchmark(protocol, ground_truth)
        outcome = collection.evaluate(
            benchmark, rerank=rerank, model=model_of(fundamental), n_jobs=n_jobs, progress=progress
        )
    emit(as_json, _as_json(outcome, protocol), lines=_lines(outcome, protocol))
    if not as_json:
        for remark in outcome.remarks:
            say(remark)
    exit_if_most_failed(outcome.failed, outcome.asked)


def _as_json(outcome: Outcome, protocol: str | None) -> dict[str, Any]:
    """Figures by name, or by level where there are several; a mean over nothing is null."""
    levels: dict[str, Any] = {
        level: finite(figures) | {"queries": outcome.queries[level]}
        for level, figures in outcome.figures.items()
    }
    value: dict[str, Any] = levels.get("", levels)
    if protocol is None:
        value = value | {"not_averaged": outcome.asked - outcome.queries[""]}
    else:
        value = {"protocol": protocol} | value
    return value | {"failed": outcome.failed, "remarks": outcome.remarks}


def _lines(outcome: Outcome, protocol: str | None) -> list[str]:
    """A line for each figure, with a column for each level, and the numbers of queries."""
    levels = list(outcome.figures)
    lines = []
    if levels != [""]:
        lines.append(" " * 10 + "".join(f"{level:>9}" for level in levels))
    for name in outcome.figures[levels[0]]:
        values = "".join(f" {outcome.figures[level][name]:8.4f}" for level in levels)
        lines.append(f"{name:10}{values}")
    counts = ", ".join(f"{n} {level}".rstrip() for level, n in outcome.queries.items())
    not_averaged = ""
    if protocol is None:
        not_averaged = f"{outcome.asked - outcome.queries['']} without a match not averaged, "
    return [*lines, f"over {counts} queries; {not_averaged}{outcome.failed} failed"]
