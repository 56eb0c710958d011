"""`vladkit eval`: mAP and recall of a collection."""

from __future__ import annotations

from typing import Annotated

import typer

from vladkit.cli.app import app, opened
from vladkit.cli.options import File, Fundamental, Json, Rerank, Threads, model_of
from vladkit.cli.output import emit, exit_if_most_failed, finite, say

__all__: list[str] = []


@app.command("eval")
def evaluate(
    file: File,
    ground_truth: Annotated[
        str,
        typer.Argument(
            metavar="GROUND_TRUTH",
            help="JSON of queries with what is relevant, or with --protocol a data set.",
            show_default=False,
        ),
    ],
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            metavar="NAME",
            help="Measure as the field does: vpr, holidays, roxford, rparis, ukbench.",
        ),
    ] = None,
    rerank: Rerank = 0,
    fundamental: Fundamental = False,
    n_jobs: Threads = None,
    as_json: Json = False,
) -> None:
    """Measure mAP and recall against a ground truth.

    Exits with 1 if most queries failed.
    """
    model = model_of(fundamental)
    if protocol is not None:
        from vladkit.cli.protocols import measure

        measure(file, ground_truth, protocol, rerank, model, n_jobs, as_json)
        return
    with opened(file, others=[ground_truth]) as (collection, progress):
        from vladkit.evaluation.metrics import read_ground_truth

        truth = read_ground_truth(ground_truth)
        scores, remarks = collection.evaluate(
            truth, rerank=rerank, model=model, n_jobs=n_jobs, progress=progress
        )
    recall = {f"recall@{k}": value for k, value in scores.recall.items()}
    figures = {"mAP": scores.mean_average_precision} | recall
    counts = {
        "queries": scores.queries,
        "not_averaged": scores.not_averaged,
        "failed": scores.failed,
    }
    lines = [f"{name:10} {value:.4f}" for name, value in figures.items()]
    lines.append(
        f"over {scores.queries} queries; {scores.not_averaged} without a match not averaged, "
        f"{scores.failed} failed"
    )
    emit(as_json, finite(figures) | counts | {"remarks": remarks}, lines=lines)
    if not as_json:
        for remark in remarks:
            say(remark)
    exit_if_most_failed(scores.failed, scores.queries)
