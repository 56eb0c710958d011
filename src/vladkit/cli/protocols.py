"""`vladkit eval --protocol`: a collection measured as the field does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from vladkit.cli.app import opened
from vladkit.cli.output import print_json, say

if TYPE_CHECKING:
    from vladkit.evaluation.datasets import Outcome
    from vladkit.geometry.verification import Model

__all__ = ["measure"]


def measure(
    file: str,
    path: str,
    name: str,
    rerank: int,
    model: Model,
    n_jobs: int | None,
    as_json: bool,
) -> None:
    """Print the figures of a protocol, a column for each of its levels."""
    with opened(file, others=[path]) as (collection, progress):
        from vladkit.collection.measuring import measure as ask
        from vladkit.evaluation.datasets import read_protocol

        protocol = read_protocol(name, path)
        outcome = ask(
            collection, protocol, rerank=rerank, model=model, n_jobs=n_jobs, progress=progress
        )
    if as_json:
        print_json({"protocol": name} | _as_json(outcome) | {"remarks": outcome.remarks})
        return
    levels = list(outcome.figures)
    if levels != [""]:
        typer.echo(" " * 10 + "".join(f"{level:>9}" for level in levels))
    for figure in outcome.figures[levels[0]]:
        values = "".join(f" {outcome.figures[level][figure]:8.4f}" for level in levels)
        typer.echo(f"{figure:10}{values}")
    counts = ", ".join(f"{n} {level}".rstrip() for level, n in outcome.queries.items())
    typer.echo(f"over {counts} queries; {outcome.failed} failed")
    for remark in outcome.remarks:
        say(remark)


def _as_json(outcome: Outcome) -> dict[str, Any]:
    """One level is not nested; a mean over nothing is null."""
    known = {
        level: {name: round(v, 6) if v == v else None for name, v in figures.items()}
        | {"queries": outcome.queries[level]}
        for level, figures in outcome.figures.items()
    }
    return (known[""] if list(known) == [""] else dict(known)) | {"failed": outcome.failed}
