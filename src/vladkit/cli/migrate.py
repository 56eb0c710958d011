"""`vladkit migrate`: a collection of an earlier file format."""

from __future__ import annotations

from vladkit.cli.app import app
from vladkit.cli.options import File, Json
from vladkit.cli.output import emit

__all__: list[str] = []


@app.command()
def migrate(file: File, as_json: Json = False) -> None:
    """Convert a collection of an earlier format, in place."""
    from vladkit.store.migrate import migrate as convert
    from vladkit.store.schema import FORMAT_VERSION

    was = convert(file)
    done = f"converted from format {was} to {FORMAT_VERSION}"
    emit(
        as_json,
        {"file": file, "from": was, "to": FORMAT_VERSION},
        f"{file}: {done if was != FORMAT_VERSION else f'has format {FORMAT_VERSION} already'}",
    )
