"""What commands print: text for people, JSON for scripts; messages go to stderr."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from vladkit.collection.collection import Collection
    from vladkit.collection.indexing import AddReport

__all__ = ["add_to", "pairs", "print_json", "say", "say_report"]


def add_to(
    collection: Collection,
    source: list[str],
    file: str,
    prune: bool,
    n_jobs: int | None,
    images: str | None = None,
) -> AddReport:
    """`Collection.add` with a progress bar; an interrupt says what is kept."""
    from vladkit.cli.progress import progress_bar

    try:
        with progress_bar() as progress:
            return collection.add(
                source, prune=prune, images=images, n_jobs=n_jobs, progress=progress
            )
    except KeyboardInterrupt:
        say(f"interrupted: {len(collection)} images are in {file}; run again to go on")
        raise typer.Exit(130) from None


def say_report(file: str, n_all: int, report: AddReport, as_json: bool) -> None:
    """What became of the images."""
    if as_json:
        skipped = [{"path": path, "reason": reason} for path, reason in report.skipped]
        print_json(
            {
                "file": file,
                "images": n_all,
                "indexed": report.indexed,
                "unchanged": report.unchanged,
                "pruned": report.pruned,
                "skipped": skipped,
                "unreadable": [{"folder": f, "reason": r} for f, r in report.unreadable],
                "seconds": round(report.seconds, 3),
            }
        )
        return
    rate = f" ({report.indexed / report.seconds:.1f}/s)" if report.indexed else ""
    pruned = f", {report.pruned} forgotten" if report.pruned else ""
    say(
        f"{file}: {n_all} images; {report.indexed} indexed in {report.seconds:.1f} s{rate}, "
        f"{report.unchanged} unchanged{pruned}, {len(report.skipped)} skipped"
    )
    for reason, n in report.reasons():
        examples = [path for path, why in report.skipped if why == reason]
        more = f" and {n - 3} more" if n > 3 else ""
        say(f"  skipped {n}: {reason}: {', '.join(examples[:3])}{more}")
    for folder, reason in report.unreadable:
        say(f"  cannot list {folder}: {reason}")


def pairs(values: dict[str, Any]) -> str:
    """``name value, name value``."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def say(text: str) -> None:
    """A message for a person, on stderr."""
    typer.echo(text, err=True)


def print_json(value: Any, indent: int | None = 1) -> None:
    """One JSON value and a line end."""
    json.dump(value, sys.stdout, indent=indent)
    sys.stdout.write("\n")
