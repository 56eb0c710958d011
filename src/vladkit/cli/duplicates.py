"""`vladkit duplicates`: groups of images that show the same shot."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from vladkit.cli.app import app, opened
from vladkit.cli.options import File, Json, Threads
from vladkit.cli.output import cosine, counted, emit, shown

__all__: list[str] = []


@app.command()
def duplicates(
    file: File,
    flips: Annotated[bool, typer.Option("--flips", help="Find mirrored copies, too.")] = False,
    candidates: Annotated[
        int,
        typer.Option(
            "--candidates", min=1, help="Most similar images that each one is compared with."
        ),
    ] = 30,
    n_jobs: Threads = None,
    as_json: Json = False,
) -> None:
    """List groups of images that show the same shot; delete nothing.

    The first of each group is the largest image; the others follow with how they differ.
    """
    with opened(file) as (collection, progress):
        groups = collection.duplicates(
            flips=flips, candidates=candidates, n_jobs=n_jobs, progress=progress
        )
        n_all = len(collection)
    lines, listed = [], []
    for group in groups:
        lines.append(shown(group.path, group.file))
        lines += [
            f"  {shown(each.path, each.file)}  ({', '.join(each.kinds)})" for each in group.others
        ]
        others = [asdict(each) | {"similarity": cosine(each.similarity)} for each in group.others]
        listed.append(asdict(group) | {"others": others})
    n_copies = sum(len(group.others) for group in groups)
    copies = f"{counted(len(groups), 'shot')} with {counted(n_copies, 'copy', 'copies')}"
    emit(
        as_json,
        {"file": file, "images": n_all, "groups": listed},
        f"{file}: {counted(n_all, 'image')}, {copies if groups else 'no copies'}",
        lines=lines,
    )
