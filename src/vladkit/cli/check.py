"""`vladkit check`: whether a collection is whole."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Annotated

import typer

from vladkit.cli.app import app, opened
from vladkit.cli.options import File, Json
from vladkit.cli.output import counted, emit, say
from vladkit.core.names import quoted, real

if TYPE_CHECKING:
    from vladkit.collection.collection import Collection

__all__: list[str] = []


@app.command()
def check(
    file: File,
    repair: Annotated[
        bool, typer.Option("--repair", help="Drop what is damaged; `add` indexes it again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check whether a collection is whole.

    Exits with 1 if it is not.
    """
    from vladkit.store.lance.place import is_lance

    with opened(file, write=repair, blas=True) as (collection, progress):
        problems = collection.check(repair=repair, progress=progress)
        n_all = len(collection)
        lost = [] if repair else collection.lost_folders()
        same = [] if repair else _same_folders(collection)
        learned_from = collection.index.describer.learned.get("images")
        is_stale = collection.index.is_stale()
    open_ones = [p for p in problems if not p.repaired]
    found = [{"problem": p.text, "image": p.image, "repaired": p.repaired} for p in problems]
    verdict = counted(len(problems), "problem") if problems else "no problems"
    hint = "; --repair drops what is damaged" if open_ones and not repair else ""
    emit(
        as_json,
        {
            "file": file,
            "images": n_all,
            "problems": found,
            "lost_folders": lost,
            "same_folders": same,
            "stale": is_stale,
        },
        f"{file}: {counted(n_all, 'image')}, {verdict}{hint}",
        lines=(
            f"{'' if p.image is None else f'{p.image}: '}{p.text}{' (repaired)' * p.repaired}"
            for p in problems
        ),
    )
    if not as_json:
        for folder in lost:
            moved = f"vladkit relocate {quoted(file)} {quoted(folder)} NEW"
            say(f"note: {folder} is not there: if it has moved, {moved}")
        for first, *others in same:
            for folder in others:
                # Lance cannot join what was indexed in two folders
                way = f"remove {quoted(file)} {quoted(folder)}"
                if not is_lance(file):
                    way = f"relocate {quoted(file)} {quoted(folder)} {quoted(first)}"
                once = f"to have them once, vladkit {way}"
                say(f"note: {folder} leads to {first}: its images are in here twice; {once}")
        if is_stale:
            images = "fewer" if learned_from is None else counted(learned_from, "image")
            say(f"note: it has learned from {images}: others would be found more surely if all "
                "were indexed into another file")  # fmt: skip
    if open_ones:
        raise typer.Exit(1)


def _same_folders(collection: Collection) -> list[list[str]]:
    """Folders that are one and the same, as links lead, each list with the folder itself first."""
    names = defaultdict(list)
    store = collection.index.store
    counts = store.count_by_source()
    for source in store.sources().values():
        # the images of several files of features may be in one
        if source.images is None and any(counts.get(source.source_id, ())):
            names[real(source.folder)].append(source.folder)
    return [
        sorted(some, key=lambda name: name != folder)
        for folder, some in names.items()
        if len(some) > 1
    ]
