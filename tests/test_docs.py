"""The pages are true: what they name exists, their code runs, their figures have a source."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import os
import pkgutil
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import vladkit
from commands import run
from paths import ROOT
from photos import write_photos

DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + DOCS


def page_id(page):
    return page.relative_to(ROOT).as_posix()


FOLDERS = ("src", "tests", "benchmarks", "examples", "docs")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"(?<![\w/.-])(?:src|tests|benchmarks|examples|docs)/[\w./*-]*[\w/*]")


def prose(text):
    """A page without its blocks of code."""
    return FENCE.sub("", text)


def spans(text):
    """What stands in backticks, each on one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(text))]


def blocks(text, language):
    return [code for name, code in FENCE.findall(text) if name == language]


def shell_lines(text):
    """Commands of the page's shell blocks, continued lines joined."""
    for block in blocks(text, "sh"):
        yield from block.replace("\\\n", " ").splitlines()


def load_figures():
    spec = importlib.util.spec_from_file_location("figures", ROOT / "docs" / "figures.py")
    figures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(figures)
    return figures


# -- names and paths ------------------------------------------------------------------------------


def resolve(dotted):
    """The object of a dotted name that begins with a module; AttributeError if there is none."""
    module, rest = dotted, []
    while True:
        try:
            found = importlib.import_module(module)
            break
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("vladkit") or "." not in module:
                raise
            module, _, name = module.rpartition(".")
            rest.insert(0, name)
    for name in rest:
        found = member(found, name)
    return found


def member(owner, name):
    """An attribute; of a class also the fields, parameters, and what `fit` sets."""
    if isinstance(owner, type) and not hasattr(owner, name):
        fields = (
            {f.name for f in dataclasses.fields(owner)} if dataclasses.is_dataclass(owner) else ()
        )
        if name in fields or name in getattr(owner, "__annotations__", {}) or name.endswith("_"):
            return None
    return getattr(owner, name)


def missing_names(text):
    """Names in backticks that look like ours and do not exist."""
    for span in spans(text):
        for dotted in re.findall(r"(?<![\w./-])(?:[A-Za-z_]\w*\.)+\w+", span):
            first = dotted.split(".")[0]
            if re.fullmatch(r"vladkit\.toml|.*\.(?:vlad|py|md|json|txt)", dotted):
                continue
            if first == "vladkit":
                name = dotted
            elif first in vladkit.__all__ and isinstance(getattr(vladkit, first), type):
                name = f"vladkit.{dotted}"
            else:
                continue
            try:
                resolve(name)
            except (ImportError, AttributeError):
                yield dotted


def missing_paths(text):
    """Paths of the repository, anywhere on a page, and modules in backticks, that do not exist."""
    for path in PATH.findall(re.sub(r"\w+://\S+", "", text)):
        if not list(ROOT.glob(path.rstrip("/"))):
            yield path
    for span in spans(text):
        for name in re.findall(r"(?<![\w/.*])(\w+\.py)\b", span):
            if not any(next((ROOT / folder).rglob(name), None) for folder in FOLDERS):
                yield name


@pytest.mark.parametrize("page", PAGES, ids=page_id)
class TestNames:
    def test_names_exist(self, page):
        assert list(missing_names(page.read_text())) == []

    def test_paths_exist(self, page):
        assert list(missing_paths(page.read_text())) == []


def test_a_name_or_path_that_does_not_exist_is_found():
    text = (
        "`vladkit.VLAD` `VLAD.nothing` `vladkit.nothing.at_all(x)` `Collection.search`, `VLAD.fit`"
    )
    assert list(missing_names(text)) == ["VLAD.nothing", "vladkit.nothing.at_all"]
    text = (
        "see benchmarks/nothing.py, `encode.py`, `none_such.py`, docs/*.md and `src/vladkit/core/`"
    )
    assert list(missing_paths(text)) == ["benchmarks/nothing.py", "none_such.py"]
    assert sum(len(spans(page.read_text())) for page in PAGES) > 500


# -- commands and options -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def command():
    """The command with all that it has."""
    from vladkit import cli

    for module in pkgutil.iter_modules(cli.__path__):
        importlib.import_module(f"vladkit.cli.{module.name}")
    return typer.main.get_command(importlib.import_module("vladkit.cli.app").app)


def options_of(command):
    known = {"--help"}
    for parameter in command.params:
        known |= {*parameter.opts, *parameter.secondary_opts}
    return known


def all_commands(command):
    yield command
    for each in getattr(command, "commands", {}).values():
        yield from all_commands(each)


def words_of(line):
    """The words of a line that begins with our command; none for other lines."""
    line = line.strip()
    return shlex.split(line, comments=True)[1:] if re.match(r"vladkit\s", line) else []


def problem(command, words, *, whole):
    """What is wrong with the words behind `vladkit`; None if nothing. `whole`: arguments, too."""
    name = "vladkit"
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        name, words = words[0], words[1:]
        if name.isupper():
            return None  # `vladkit COMMAND --help`
        if name not in command.commands:
            return f"there is no command {name}"
        command = command.commands[name]
    given = {word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
    unknown = given - options_of(command)
    if unknown:
        return f"{name} has no {unknown}"
    if whole:
        try:
            command.make_context(name, list(words))
        except Exception as error:
            if not hasattr(error, "format_message"):  # click's, or typer's copy of it
                raise
            return f"{name}: {error.format_message()}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=page_id)
class TestCommands:
    def test_commands_of_shell_blocks_can_be_parsed(self, page, command):
        for line in shell_lines(page.read_text()):
            if words := words_of(line):
                assert problem(command, words, whole=True) is None, line

    def test_commands_in_sentences_and_their_options_exist(self, page, command):
        for span in spans(page.read_text()):
            if words := words_of(span):
                assert problem(command, words, whole=False) is None, span

    def test_options_in_sentences_exist(self, page, command):
        known = set().union(*map(options_of, all_commands(command)))
        for script in [*ROOT.glob("benchmarks/*.py"), ROOT / "docs" / "figures.py"]:
            known |= set(re.findall(r"\"(--[\w-]+)\"", script.read_text()))
        if page.name == "CHANGELOG.md":
            known |= set(re.findall(r"\(was `(--[\w-]+)`\)", page.read_text()))
        for span in spans(page.read_text()):
            if span.startswith("-"):
                assert set(re.findall(r"(?:^| )(--[\w-]+)", span)) <= known, span


def test_a_command_or_option_that_does_not_exist_is_found(command):
    assert problem(command, ["serch", "a"], whole=False)
    assert problem(command, ["search", "--nothing"], whole=False)
    assert problem(command, ["search", "a.vlad"], whole=True)
    assert problem(command, ["search", "a.vlad", "b", "--rerank", "-1"], whole=True)
    assert problem(command, ["models", "nothing"], whole=False)
    assert problem(command, ["search", "a.vlad", "b", "--rerank=5"], whole=True) is None
    assert (
        sum(bool(words_of(line)) for page in PAGES for line in shell_lines(page.read_text())) > 25
    )
    assert sum(bool(words_of(span)) for page in PAGES for span in spans(page.read_text())) > 60


# -- links ----------------------------------------------------------------------------------------


def anchors(page):
    """Anchors of a page's headings, as GitHub makes them."""
    for heading in re.findall(r"^#+ (.*)$", prose(page.read_text()), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


LANDING = ROOT / "docs" / "index.md"
MADE = ("reference/python.rst",)
"""Pages that `make docs` makes, linked to from the site's first page, which no forge shows."""


def broken_links(page, text):
    for target in LINK.findall(prose(text)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if page == LANDING and path in MADE:
            continue
        if not file.exists() or (anchor and anchor not in anchors(file)):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_and_images_are_there(page):
    assert list(broken_links(page, page.read_text())) == []


def test_a_broken_link_is_found_and_pages_have_links():
    page = ROOT / "README.md"
    why = "docs/explanation/why.md"
    text = f"[a](docs/nothing.md) ![b](docs/images/demo.jpg) [c]({why}#nothing) [d](#in-python)"
    assert list(broken_links(page, text)) == ["docs/nothing.md", f"{why}#nothing"]
    assert sum(len(LINK.findall(each.read_text())) for each in PAGES) > 60
    pictured = {ROOT / "docs" / "images" / name.rpartition("/")[2] for each in PAGES
                for name in LINK.findall(each.read_text()) if "images/" in name}  # fmt: skip
    assert pictured == set((ROOT / "docs" / "images").iterdir()), "images that no page shows"


# -- figures and words ----------------------------------------------------------------------------


def test_figures_are_those_of_their_sources():
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "figures.py", "--check"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_changed_figure_is_found():
    figures = load_figures()
    text = (ROOT / "README.md").read_text()
    assert figures.filled(text) == text
    for mark in (figures.TABLE, figures.VALUE):
        found = mark.search(text)
        changed = text[: found.start(3)] + "0.123\n" + text[found.end(3) :]
        assert figures.filled(changed) == text


def test_every_table_of_the_results_is_shown():
    figures = load_figures()
    text = "".join(page.read_text() for page in PAGES)
    shown = {m[2].partition("/")[0::2] for m in figures.TABLE.finditer(text)}
    shown |= {tuple(m[2].split("/")[:2]) for m in figures.VALUE.finditer(text)}
    stored = set()
    for file in figures.RESULTS.glob("*.json"):
        assert json.loads(file.read_text())["provenance"].keys() >= {"script", "machine", "commit"}
        stored |= {(file.stem, key) for key in figures.tables(file.stem)}
    assert len(stored) > 20
    assert shown == stored


WORDS = r"\b(?:pictures?|turned|anew|mend(?:ed|s)?|so many|is said|is told|is meant)\b"


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "CONTRIBUTING.md"],
                         ids=page_id)  # fmt: skip
def test_words_and_numbers(page):
    """image, rotated, again, fix; 0.84."""
    text = re.sub(r"`[^`]+`|<!--.*?-->", "", prose(page.read_text()))
    if page.name == "CHANGELOG.md":
        text = text.replace("image, not picture", "")
    assert re.findall(WORDS, text, re.IGNORECASE) == []
    assert re.findall(r"(?<![\w.])\.\d+", text) == []


# -- code -----------------------------------------------------------------------------------------


class TestReadme:
    text = (ROOT / "README.md").read_text()

    def test_it_is_short(self):
        assert len(self.text.splitlines()) <= 130

    def test_python_example_runs(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (example,) = blocks(self.text, "python")
        assert len(example.strip().splitlines()) <= 16
        exec(compile(example, "README.md", "exec"), {"__name__": "readme"})

    def test_commands_run(self, tmp_path):
        """All of them, one after the other, as a reader would."""
        write_photos(tmp_path / "photos", ["chelsea", "coffee", "coins", "moon"])
        shutil.copy(tmp_path / "photos" / "coffee.jpg", tmp_path / "query.jpg")
        query = {"query": "query.jpg", "relevant": ["photos/coffee.jpg"]}
        (tmp_path / "ground_truth.json").write_text(json.dumps({"queries": [query]}))
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        commands = [line for line in shell_lines(self.text) if line.startswith("vladkit ")]
        assert len(commands) >= 7
        for command in commands:
            words = shlex.split(command.replace("--open", "--port 0"), comments=True)
            if words[1] == "serve":  # runs until it is stopped
                process = {"cwd": tmp_path, "env": environment, "stdout": subprocess.PIPE}
                with subprocess.Popen(words, text=True, **process) as server:
                    assert server.stdout.readline().startswith("http://127.0.0.1:"), command
                    server.send_signal(signal.SIGINT)
                    assert server.communicate(timeout=60) == ("", None)
                assert server.returncode == 0
            else:
                run(*words[1:], cwd=tmp_path)
        assert (tmp_path / "pairs.txt").stat().st_size
        assert (tmp_path / "report.html").stat().st_size

    def test_test_command_is_what_ci_runs(self):
        assert "make test" in self.text
        assert "make test" in (ROOT / ".ci" / "run").read_text()


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory):
    """The folder that the first tutorial makes: photos, query.jpg and photos.vlad."""
    folder = tmp_path_factory.mktemp("tutorial")
    (code,) = blocks((ROOT / "docs" / "tutorial" / "first-search.md").read_text(), "python")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(code, "first-search.md", "exec"), {"__name__": "page"})
    run("index", "photos", "-o", "photos.vlad", cwd=folder)
    return folder


@pytest.mark.parametrize(
    "page", [page for page in DOCS if page.name not in ("first-search.md", "in-python.md")],
    ids=page_id,
)  # fmt: skip
def test_snippets_run(page, tutorial, tmp_path, monkeypatch):
    """All Python blocks of a page, one after the other, as a reader who follows the tutorial would.

    test_site.py runs the tutorials of photographs, with their commands.
    """
    monkeypatch.chdir(tmp_path)
    codes = blocks(page.read_text(), "python")
    if re.search(r"photos(/|\.vlad)", "".join(codes)):
        shutil.copytree(tutorial, ".", dirs_exist_ok=True)
        with vladkit.Collection.open("photos.vlad") as collection:
            collection.relocate(tutorial / "photos", "photos")
    namespace = {"__name__": "page"}
    for code in codes:
        exec(compile(code, page.name, "exec"), namespace)
