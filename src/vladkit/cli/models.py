"""`vladkit models`: the networks that vladkit knows, and their files."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vladkit.cli.app import app
from vladkit.cli.options import Json
from vladkit.cli.output import emit, say, show

__all__: list[str] = []

_models = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
)
app.add_typer(_models, name="models")


@_models.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: Json = False) -> None:
    """List networks for --features onnx:NAME, and fetch them.

    With source and licence, and where the file is if it is on this machine. Nothing is fetched
    unless asked for.
    """
    if context.invoked_subcommand is not None:
        return
    from vladkit.features.onnx.zoo import models_folder

    rows, others = _listed()
    lines = []
    for row in rows:
        here = row["file"] or ("can be fetched" if row["url"] else "")
        here = f"  [{here}]" if here else ""
        named = ", ".join(f"{stem}*.onnx" for stem in row["stems"])
        lines.append(f"{row['name'] or named or '(any file)'}: {row['title']}{here}")
        lines.append(f"  {row['licence']}; {row['url'] or row['page']}")
        if row["sha256"]:
            lines.append(f"  {row['bytes']} bytes, sha256 {row['sha256']}")
    emit(
        as_json,
        {"folder": str(models_folder()), "models": rows, "others": others},
        f"kept in {models_folder()}",
        lines=[*lines, *(f"also here: {file}" for file in others)],
    )


def _listed() -> tuple[list[dict[str, Any]], list[str]]:
    """Known networks with where their files are; and files of the folder that are none of those."""
    from vladkit.features.onnx.spec import known_networks
    from vladkit.features.onnx.zoo import kept_models, sha256_of

    files = {sha256_of(path): str(path) for path in kept_models()}
    rows = [
        {
            "name": each.name if each.sha256 else "",
            "title": each.title,
            "licence": each.licence,
            "page": each.page,
            "url": each.url,
            "bytes": each.n_bytes,
            "sha256": each.sha256,
            "file": files.pop(each.sha256, None),
            "stems": each.stems,
        }
        for each in known_networks()
    ]
    return rows, sorted(files.values())


@_models.command()
def fetch(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Name, see `vladkit models`.", show_default=False),
    ],
    url: Annotated[
        str, typer.Option("--url", metavar="URL", help="Mirror that has the same file.")
    ] = "",
) -> None:
    """Fetch a model.

    It is kept only if it has the known size and sha256.
    """
    from vladkit.cli.progress import progress_bar
    from vladkit.features.onnx.zoo import fetch, known_file

    known = known_file(name)
    say(f"{name}: {known.n_bytes / 1e6:.1f} MB, licence: {known.licence}")
    with progress_bar() as progress:
        path = fetch(name, url=url, progress=progress)
    show(str(path))


@_models.command()
def add(
    file: Annotated[str, typer.Argument(metavar="FILE", help="An ONNX file.", show_default=False)],
) -> None:
    """Keep a copy of a model where collections made with it find it."""
    from vladkit.features.onnx.zoo import add_model

    show(str(add_model(file)))
