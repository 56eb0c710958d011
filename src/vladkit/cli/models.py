"""The commands about models of networks: which are known, which are here, and getting them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vladkit.cli.app import Json, app
from vladkit.cli.output import print_json, say

__all__: list[str] = []

_models = typer.Typer(
    help="List networks that vladkit knows, and fetch them: only when asked.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
app.add_typer(_models, name="models")


@_models.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: Json = False) -> None:
    """List networks that vladkit knows, with source and licence, and say which are here."""
    if context.invoked_subcommand is not None:
        return
    from vladkit.features.onnx.zoo import models_folder

    rows, others = _listed()
    if as_json:
        print_json({"folder": str(models_folder()), "models": rows, "others": others})
        return
    for row in rows:
        here = row["file"] or ("can be fetched" if row["url"] else "")
        typer.echo(f"{row['name'] or '(any file)'}: {row['title']}{f'  [{here}]' if here else ''}")
        typer.echo(f"  {row['licence']}; {row['url'] or row['page']}")
        if row["sha256"]:
            typer.echo(f"  {row['bytes']} bytes, sha256 {row['sha256']}")
    for file in others:
        typer.echo(f"also here: {file}")
    say(f"kept in {models_folder()}")


def _listed() -> tuple[list[dict[str, Any]], list[str]]:
    """What is known, with where it is; and files of the folder that are none of those."""
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
        }
        for each in known_networks()
    ]
    return rows, sorted(files.values())


@_models.command()
def fetch(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="As vladkit models lists it.", show_default=False)
    ],
    url: Annotated[
        str, typer.Option("--url", metavar="URL", help="A mirror that has the same file.")
    ] = "",
) -> None:
    """Fetch a model; what comes is kept only if it has the known size and sha256."""
    from vladkit.cli.progress import progress_bar
    from vladkit.features.onnx.zoo import fetch, known_file

    known = known_file(name)
    say(f"{name}: {known.n_bytes / 1e6:.1f} MB, licence: {known.licence}")
    with progress_bar() as progress:
        path = fetch(name, url=url, progress=progress)
    typer.echo(str(path))


@_models.command()
def add(
    file: Annotated[str, typer.Argument(metavar="FILE", help="An ONNX file.", show_default=False)],
) -> None:
    """Keep a copy of a model, so that collections made with it find it, on any machine."""
    from vladkit.features.onnx.zoo import add_model

    typer.echo(str(add_model(file)))
