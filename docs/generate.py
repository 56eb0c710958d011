"""Pages of the site that are made from the code: commands, Python names, network.toml.

`docs/conf.py` calls `write` before each build; git ignores what it writes. `navigation` reads the
order of all pages from docs/README.md, which is the table of contents on a forge, too.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from textwrap import indent
from typing import Any

DOCS = Path(__file__).resolve().parent
COMMAND = "reference/command"
PYTHON = "reference/python"
NETWORK = "reference/network-toml"
GENERATED = (("Commands", f"{COMMAND}s"), ("Python", PYTHON), ("network.toml", NETWORK))
"""Pages that stand first in the section Reference; README.md cannot link to them."""

ENTRY = re.compile(r"^- \[([^\]]+)\]\(([\w/-]+)\.md\)", re.MULTILINE)
PAGE = re.compile(r"\bdocs/([\w/-]+)\.md\b")

MODULES = {
    "vladkit.viz": "Drawings of matches, rankings and words",
    "vladkit.evaluation.metrics": "mAP, recall and precision of rankings",
    "vladkit.evaluation.benchmark": "Queries with their right images",
    "vladkit.evaluation.datasets": "Data sets of the field",
    "vladkit.features": "Features of an image: SIFT, networks",
    "vladkit.images": "Images: decoded, upright, in gray levels",
    "vladkit.collection.recipe": "Settings of a collection",
    "vladkit.errors": "Errors",
}
"""Modules that are documented as wholes, by their `__all__`."""

ROOMS = {
    "aggregation": "Vectors from descriptors",
    "collection": "A collection of images",
    "geometry": "Two images",
    "core": "Arrays",
}
"""Titles of the public names, by the room of `src/vladkit` that they live in."""


# -- navigation -----------------------------------------------------------------------------------


def navigation(text: str) -> dict[str, list[tuple[str, str]]]:
    """Title and name of the pages below each heading of the table of contents, in its order."""
    sections = {}
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heading = part.partition("\n")[0]
        sections[heading] = ENTRY.findall(part)
        if heading == "Reference":
            sections[heading][:0] = GENERATED
    return sections


def toctrees(text: str) -> str:
    """The table of contents as hidden toctrees, for the sidebar."""
    return "".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n"
        + "".join(f"{name} <{page}>\n" for name, page in pages)
        + "```\n"
        for heading, pages in navigation(text).items()
    )


# -- reStructuredText -----------------------------------------------------------------------------


def title(text: str, rule: str = "=") -> str:
    """A heading."""
    return f"{text}\n{rule * len(text)}\n\n"


def prose(text: str) -> str:
    """Plain text in which backticks mark code; names of pages become links."""
    parts = re.split(r"(`[^`]+`)", text)
    for i, part in enumerate(parts):
        if part.startswith("`"):
            parts[i] = f"`{part}`"
        else:
            parts[i] = re.sub(r"([*|\\]|(?<=\w)_(?!\w))", r"\\\1", part)
    return linked("".join(parts))


def linked(text: str) -> str:
    """A text in which docs/x.md is a link to that page."""
    return PAGE.sub(lambda found: f":doc:`/{found[1]}`", text)


def toctree(pages: list[str], *, hidden: bool = True) -> str:
    """A toctree of `pages`."""
    option = "   :hidden:\n" if hidden else ""
    return f".. toctree::\n{option}\n" + "".join(f"   {page}\n" for page in pages) + "\n"


def listing(rows: list[tuple[str, str]]) -> str:
    """A table of two columns without a head."""
    lines = ".. list-table::\n   :widths: 30 70\n   :width: 100%\n\n"
    return lines + "".join(f"   * - {name}\n     - {text}\n" for name, text in rows) + "\n"


# -- commands -------------------------------------------------------------------------------------


def commands() -> tuple[dict[str, list[str]], Any]:
    """Names of the commands by group, and the command itself."""
    import typer

    from vladkit import cli
    from vladkit.cli.app import GROUPS

    return {name: list(names) for name, names in GROUPS.items()}, typer.main.get_command(cli.load())


def users() -> dict[str, list[str]]:
    """How-to pages that run a command, those that run it most first."""
    found: dict[str, Counter[str]] = {}
    for page in sorted(DOCS.glob("how-to/*.md")):
        for name in re.findall(r"^vladkit ([\w-]+)", page.read_text("utf-8"), re.MULTILINE):
            found.setdefault(name, Counter())[f"/how-to/{page.stem}"] += 1
    return {name: [page for page, _ in counts.most_common(4)] for name, counts in found.items()}


def parameters(command: Any, context: Any) -> Iterator[tuple[bool, str, str]]:
    """Each argument and option of a command: whether it is one, how it is given, its help."""
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            given = re.sub(r"\s+", " ", record[0]).replace(" / ", ", ")
            given = re.sub(r"<list\[str\]>", "...", given)
            yield parameter.param_type_name == "option", given, re.sub(r"\s+", " ", record[1])


def command_page(name: str, command: Any, rules: str = "=-~") -> str:
    """A command with all its arguments and options; `rules` underline its headings."""
    context = command.make_context(name, [], resilient_parsing=True)
    context.info_name = name
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    summary, _, rest = inspect.cleandoc(command.help).partition("\n\n")
    text = f"{title(name, rules[0])}{prose(summary)}\n\n.. code-block:: text\n\n   {usage}\n\n"
    text += f"{prose(rest)}\n\n.. program:: {name}\n\n"
    both = list(parameters(command, context))
    for head, wanted in (("Arguments", False), ("Options", True)):
        found = [(given, says) for is_option, given, says in both if is_option == wanted]
        text += title(head, rules[1]) if found else ""
        text += "".join(f".. option:: {given}\n\n   {prose(says)}\n\n" for given, says in found)
    for sub, each in getattr(command, "commands", {}).items():
        text += command_page(f"{name} {sub}", each, rules[1:])
    return text


def command_pages() -> Iterator[tuple[str, str]]:
    """A page for each command, and one that lists them."""
    groups, root = commands()
    used = users()
    listed = title("The command") + (
        "Every command with every option, as ``vladkit COMMAND --help`` prints them. Machine "
        "output goes to stdout, progress and messages to stderr. Exit codes: 0 done, 1 failed, "
        "2 wrong usage, 130 interrupted.\n\n"
    )
    for group, names in groups.items():
        rows = [(f":doc:`vladkit {name} <command/{name}>`",
                 prose(root.commands[name].help.partition("\n")[0])) for name in names]  # fmt: skip
        listed += title(group, "-") + listing(rows)
        for name in names:
            page = command_page(f"vladkit {name}", root.commands[name])
            if name in used:
                page += title("Guides", "-") + "".join(f"- :doc:`{each}`\n" for each in used[name])
            yield f"{COMMAND}/{name}.rst", page
    every = [f"command/{name}" for group in groups.values() for name in group]
    yield f"{COMMAND}s.rst", listed + toctree(every)


# -- Python ---------------------------------------------------------------------------------------


def summary(value: object) -> str:
    """The first line of a docstring, for a table."""
    return prose((inspect.getdoc(value) or "").partition("\n")[0]).replace("``", "`")


def python_pages() -> Iterator[tuple[str, str]]:
    """A page for each public name and each documented module, and one that lists them."""
    import vladkit

    rooms: dict[str, list[str]] = {room: [] for room in ROOMS}
    for name in sorted(vladkit.__all__, key=lambda name: (name.islower(), name)):
        if name != "__version__":
            rooms[getattr(vladkit, name).__module__.split(".")[1]].append(name)
    listed = title("Public names") + (
        "Names of ``vladkit`` itself are stable; they are imported when they are first used. "
        "Arrays carry their axes in their names: t images, l descriptors of an image, N of all, "
        "f dimensions of a descriptor, k centroids, D dimensions of a vector, q queries, n indexed "
        "images, r results. ``vladkit.__version__`` is the version, a str.\n\n"
    )
    for room, names in rooms.items():
        rows = [
            (f":doc:`{name} <python/{name}>`", summary(getattr(vladkit, name))) for name in names
        ]
        listed += title(ROOMS[room], "-") + listing(rows)
        for name in names:
            kind = "autoclass" if inspect.isclass(getattr(vladkit, name)) else "autofunction"
            members = "   :members:\n   :inherited-members:\n" if kind == "autoclass" else ""
            text = f"{title(name)}.. currentmodule:: vladkit\n\n.. {kind}:: {name}\n{members}"
            yield f"{PYTHON}/{name}.rst", text
    rows = [(f":doc:`{module} <python/{module}>`", says) for module, says in MODULES.items()]
    listed += title("Modules", "-") + listing(rows)
    for module in MODULES:
        text = f"{title(module)}.. automodule:: {module}\n   :members:\n"
        yield f"{PYTHON}/{module}.rst", text
    every = [*(name for names in rooms.values() for name in names), *MODULES]
    yield f"{PYTHON}.rst", listed + toctree([f"python/{name}" for name in every])


# -- network.toml ---------------------------------------------------------------------------------


def keys_of(kind: type) -> str:
    """The keys that a dataclass reads, from its fields and the parameters of its docstring."""
    says, _, rest = inspect.cleandoc(kind.__doc__ or "").partition("Parameters\n----------\n")
    text = prose(says.strip()) + "\n\n"
    default = {
        field.name: field.default_factory()
        if callable(field.default_factory)
        else ""
        if field.default is MISSING
        else field.default
        for field in fields(kind)
    }
    rest = re.split(r"^\w+\n-+\n", rest, flags=re.MULTILINE)[0]
    for names, of, about in re.findall(
        r"^([\w, ]+) : (.*)\n((?: {4}.*\n?|\n)*)", rest, re.MULTILINE
    ):
        of = of.partition(", default")[0]
        for name in names.split(", "):
            text += f".. confval:: {name}\n   :type: ``{of}``\n"
            if default[name] not in ("", [], {}):
                text += f"   :default: ``{json.dumps(default[name])}``\n"
            text += "\n" + indent(prose(inspect.cleandoc(about)), "   ") + "\n\n"
    return text


def network_page() -> tuple[str, str]:
    """Keys of a network's description, from the classes that read it."""
    spec = importlib.import_module("vladkit.features.onnx.spec")
    text = title("network.toml: the description of a model") + prose(
        "A network for `--features onnx:FILE` is described by a TOML file of the same name beside "
        "it, or by one that comes with vladkit (`vladkit models`). docs/how-to/networks.md has an "
        "example, and how to try it.\n\n"
    )
    kinds = {"input": spec.InputSpec, "output": spec.OutputSpec, "match": spec.MatchRule}
    for table, kind in kinds.items():
        text += title(f"[{table}]", "-") + keys_of(kind)
    keys = ", ".join(f"``{key}``" for key in spec._RECIPE_KEYS)
    text += title("[recipe]", "-")
    text += f"Defaults for collections that are made with the network: {keys}.\n\n"
    return f"{NETWORK}.rst", text


# -- writing --------------------------------------------------------------------------------------


def pages() -> Iterator[tuple[str, str]]:
    """Name and text of every page that is made here."""
    yield from command_pages()
    yield from python_pages()
    yield network_page()


def write(folder: Path = DOCS) -> None:
    """Write the pages, those that differ; remove pages of names that are gone."""
    made = dict(pages())
    for name, text in made.items():
        page = folder / name
        page.parent.mkdir(parents=True, exist_ok=True)
        if not page.exists() or page.read_text("utf-8") != text:
            page.write_text(text, "utf-8")
    for page in folder.glob("reference/**/*.rst"):
        if page.relative_to(folder).as_posix() not in made:
            page.unlink()
