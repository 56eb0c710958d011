"""`app`: the root of the command and its groups; `opened`: a collection for a command."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from vladkit.cli.output import one_line, print_json, say
from vladkit.core.names import absolute
from vladkit.core.remote import local_path
from vladkit.errors import ParameterError, VladkitError

if TYPE_CHECKING:
    from vladkit.collection.collection import Collection, Progress
    from vladkit.collection.recipe import Recipe

__all__ = ["GROUPS", "Commands", "app", "opened"]

GROUPS: Final = {
    "Index": ("index", "add", "remove", "info", "codebook", "merge", "frames"),
    "Search": ("search", "serve", "pairs", "localize", "duplicates"),
    "Evaluate": ("eval", "report", "draw-matches"),
    "Improve": ("whiten", "augment", "adapt", "build-ann"),
    "Maintain": ("check", "compact", "relocate", "migrate", "export"),
    "Other": ("models", "bench"),
}
"""Commands in the order in which a person meets them; each is in the file of its name."""


@contextmanager
def _named_interrupt() -> Iterator[None]:
    """Say that the command was interrupted: typer would exit without a word."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        say(": ".join(["vladkit: interrupted", *map(str, interrupt.args)]))
        raise typer.Exit(130) from None


class Commands(TyperGroup):
    """The commands in groups; their errors and interrupts become a message and an exit code."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands, in the order of `GROUPS`."""
        return [name for names in GROUPS.values() for name in names if name in self.commands]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the groups into ``--help``, in columns that are aligned with each other."""
        width = max(map(len, self.commands))
        for title, names in GROUPS.items():
            helps = [self.commands[name].get_short_help_str(formatter.width) for name in names]
            with formatter.section(title):
                formatter.write_dl([(n.ljust(width), h) for n, h in zip(names, helps, strict=True)])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line; a ``file://`` URL is a path like any other."""
        with _named_interrupt():  # typer's coercion is loaded here: 60 ms
            return super().parse_args(ctx, [local_path(each) for each in args])

    def invoke(self, ctx: Any) -> Any:
        """Run a command; exit with 2 after wrong usage, 1 after a failure, 130 when interrupted."""
        with _named_interrupt():
            try:
                return super().invoke(ctx)
            except VladkitError as error:
                say(f"vladkit: {error}")
                raise typer.Exit(2 if isinstance(error, ParameterError) else 1) from error


app = typer.Typer(
    name="vladkit",
    help="Find images with an image: VLAD vectors of a photo collection in one file.",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="With --version: versions of all that vladkit uses, as JSON."),
    ] = False,
) -> None:
    if version and as_json:
        from vladkit.core.installed import installed

        print_json(installed())
        raise typer.Exit
    if version:
        from vladkit.core.version import __version__

        typer.echo(f"vladkit {__version__}")
        raise typer.Exit
    if as_json:
        raise ParameterError("--json: give it with --version, or after a command")


@contextmanager
def opened(
    file: str,
    *,
    write: bool = False,
    recipe: Recipe | None = None,
    fields: Mapping[str, Any] = MappingProxyType({}),
    codebook: str | None = None,
    blas: bool = False,
    others: Sequence[str] = (),
    trust: bool | None = None,
    shows: bool = False,
    url: bool = False,
    schema: str | None = None,
    device: str | None = None,
    batch: int | None = None,
    output: str | None = None,
) -> Iterator[tuple[Collection, Progress]]:
    """An open collection, and the callable that reports progress on stderr.

    Parameters
    ----------
    file : str
        The collection.
    write : bool
        Open it for writing. An interrupt then says what is in the file.
    recipe : Recipe, optional
        Make the file if it does not exist; else open it.
    fields : mapping
        Fields of the recipe that were given: an existing file has to have the same.
    codebook : str or None
        Codebook file to make the collection with.
    blas : bool
        Let BLAS have its threads: the work is large matrix products.
    others : sequence of str
        The other arguments, one of which may be the collection by mistake.
    trust : bool or None
        For commands that show images or run networks: ``--trust``; without it, ask.
    shows : bool
        Whether this one shows images.
    url : bool
        Whether `file` may be the URL of a database.
    schema : str or None
        ``--schema``, for such a URL.
    device, batch
        ``--device`` and ``--batch``, for networks; which device "auto" takes is said.
    output : str or None
        File that is written at the end, which may be no image of the collection.
    """
    if not blas:
        from vladkit.cli.process import leave_cores_to_threads

        leave_cores_to_threads()
    from vladkit.cli.hints import collection_hint
    from vladkit.cli.progress import progress_bar
    from vladkit.collection.collection import Collection
    from vladkit.features.vectors import devices_of
    from vladkit.store.postgres.address import is_database, shown_url, with_schema

    if is_database(file) and not url:
        raise ParameterError(
            f"{shown_url(file)} is in PostgreSQL, which search and info take: use its file here, "
            "and export it again if that has changed"
        )
    file = with_schema(file, schema)
    try:
        if recipe is None:
            open_it = partial(
                Collection.open, file, read_only=not write, device=device, batch=batch
            )
            collection = open_it(trust=bool(trust))
            if trust is False and _is_trusted(file, collection.strangers(images=shows)):
                collection.close()
                collection = open_it(trust=True)
        else:
            # without fields any recipe that the file has will do
            made = recipe if fields else None
            collection = Collection.create(
                file, made, codebook=codebook, device=device, batch=batch, **fields
            )
    except VladkitError as error:
        # a file that is to be made is like others on purpose
        if recipe is None and (hint := collection_hint(file, others)):
            error.args = (f"{error}{hint}",)
        raise
    if device == "auto":
        say(f"note: networks run on {', '.join(devices_of(collection.extractor))}")
    with collection, progress_bar() as progress:
        if output is not None and collection.find(absolute(output)) is not None:
            raise ParameterError(f"{output} is an image of {file}: give another file to write to")
        before = collection.stamp()
        try:
            yield collection, progress
        except KeyboardInterrupt:
            if not write:
                raise
            raise KeyboardInterrupt(_kept(file, collection, before)) from None


def _is_trusted(file: str, strangers: Sequence[str]) -> bool:
    """Ask, where there is somebody to ask, whether to use what another machine indexed with."""
    if not strangers:
        return False
    from vladkit.store.postgres.address import shown_url

    some = ", ".join(strangers[:3]) + (", ..." if len(strangers) > 3 else "")
    what = one_line(f"{shown_url(file)} was made elsewhere, or by another user; it names {some}")
    if sys.stdin.isatty() and sys.stderr.isatty():
        return typer.confirm(f"{what}: show these images, and run the network?", err=True)
    say(f"{what}: not used (--trust)")
    return False


def _kept(file: str, collection: Collection, before: str) -> str:
    """Say in what state an interrupted writer leaves the file."""
    if not len(collection):
        return f"no image is in {file} yet; run again to start"
    if collection.stamp() == before:
        return f"{file} is as it was"
    return f"{len(collection)} images are in {file}; run again to go on"
