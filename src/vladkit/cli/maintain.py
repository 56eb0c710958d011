"""The commands that change or look after a collection."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from vladkit.cli.app import File, Images, Json, Prune, Sources, Threads, app
from vladkit.cli.output import add_to, print_json, say, say_report

__all__: list[str] = []


@app.command()
def add(
    file: File,
    source: Sources,
    prune: Prune = False,
    images: Images = None,
    n_jobs: Threads = None,
    as_json: Json = False,
) -> None:
    """Add images to a collection that is there; those that have changed are done again."""
    from vladkit.cli.process import leave_cores_to_threads

    leave_cores_to_threads()
    from vladkit.collection.collection import Collection
    from vladkit.collection.discover import check_sources
    from vladkit.core.threads import resolve_n_jobs

    resolve_n_jobs(n_jobs)
    check_sources(source)
    with Collection.open(file) as collection:
        report = add_to(collection, source, file, prune, n_jobs, images)
        n_all = len(collection)
    say_report(file, n_all, report, as_json)


@app.command()
def remove(
    file: File,
    path: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Images as they were indexed, or files, or folders of them.",
            show_default=False,
        ),
    ],
    as_json: Json = False,
) -> None:
    """Forget images; their files stay where they are."""
    from vladkit.collection.collection import Collection

    with Collection.open(file) as collection:
        n = collection.remove(path)
        n_all = len(collection)
    if as_json:
        print_json({"file": file, "removed": n, "images": n_all})
    else:
        say(f"{file}: {n} removed, {n_all} images")


@app.command()
def check(
    file: File,
    repair: Annotated[
        bool, typer.Option("--repair", help="Drop what is damaged; `add` indexes it again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Look whether a collection is whole; exits with 1 if it is not."""
    from vladkit.cli.progress import progress_bar
    from vladkit.collection.collection import Collection

    with Collection.open(file, read_only=not repair) as collection, progress_bar() as progress:
        problems = collection.check(repair=repair, progress=progress)
        n_all = len(collection)
    open_ones = [p for p in problems if not p.repaired]
    if as_json:
        found = [{"problem": p.text, "image": p.image, "repaired": p.repaired} for p in problems]
        print_json({"file": file, "images": n_all, "problems": found})
    else:
        for p in problems:
            where = f"{p.image}: " if p.image is not None else ""
            typer.echo(f"{where}{p.text}{' (repaired)' if p.repaired else ''}")
        verdict = f"{len(problems)} problems" if problems else "no problems"
        hint = "; --repair drops what is damaged" if open_ones and not repair else ""
        say(f"{file}: {n_all} images, {verdict}{hint}")
    if open_ones:
        raise typer.Exit(1)


@app.command()
def duplicates(
    file: File,
    flips: Annotated[bool, typer.Option("--flips", help="Mirrored copies, too.")] = False,
    candidates: Annotated[
        int, typer.Option("--candidates", min=1, help="Images that each is compared with.")
    ] = 30,
    n_jobs: Threads = None,
    as_json: Json = False,
) -> None:
    """List groups of images that show the same shot; deletes nothing."""
    from vladkit.cli.process import leave_cores_to_threads

    leave_cores_to_threads()
    from vladkit.cli.progress import progress_bar
    from vladkit.collection.collection import Collection

    with Collection.open(file, read_only=True) as collection, progress_bar() as progress:
        groups = collection.duplicates(
            flips=flips, candidates=candidates, n_jobs=n_jobs, progress=progress
        )
        n_all = len(collection)
    if as_json:
        print_json({"file": file, "images": n_all, "groups": [asdict(g) for g in groups]})
        return
    for each in groups:
        typer.echo(each.path)
        for other in each.others:
            typer.echo(f"  {other.path}  ({', '.join(other.kinds)})")
    copies = sum(len(each.others) for each in groups)
    say(f"{file}: {n_all} images, {len(groups)} shots with {copies} copies")


@app.command()
def compact(file: File, as_json: Json = False) -> None:
    """Give the space of removed images back to the disk."""
    from vladkit.collection.collection import Collection

    with Collection.open(file) as collection:
        n_bytes = collection.compact()
    if as_json:
        print_json({"file": file, "freed": n_bytes})
    else:
        say(f"{file}: {n_bytes / 1e6:.1f} MB freed")


@app.command()
def export(
    file: File,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT", help="NAME.npz, .fvecs, .faiss or .h5.")
    ],
    root: Annotated[
        str | None,
        typer.Option("--root", metavar="FOLDER", help="Names in .h5 are relative to this."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the vectors for other programs: NumPy, texmex' fvecs, a FAISS index, hloc."""
    from vladkit.collection.collection import Collection
    from vladkit.store.export import check_target

    check_target(output)
    with Collection.open(file, read_only=True) as collection:
        written = [str(path) for path in collection.export(output, root=root)]
        n_all, d = len(collection), collection.n_dimensions
    if as_json:
        print_json({"file": file, "images": n_all, "dimensions": d, "written": written})
    else:
        say(f"{n_all} vectors of {d} dimensions: {', '.join(written)}")


@app.command()
def migrate(file: File, as_json: Json = False) -> None:
    """Convert a collection of an earlier vladkit's format, in place."""
    from vladkit.store.migrate import migrate as convert
    from vladkit.store.schema import FORMAT_VERSION

    was = convert(file)
    if as_json:
        print_json({"file": file, "from": was, "to": FORMAT_VERSION})
    elif was == FORMAT_VERSION:
        say(f"{file}: has format {FORMAT_VERSION} already")
    else:
        say(f"{file}: converted from format {was} to {FORMAT_VERSION}")
