"""The site: every page is in its sidebar, its reference is whole, its tutorials run as written."""

from __future__ import annotations

import importlib.util
import io
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stdout

import pytest

import vladkit
from commands import run
from paths import ROOT

DOCS = ROOT / "docs"
PUBLIC = (ROOT / "tests" / "data" / "public_api.txt").read_text().splitlines()
NAMES = [re.match(r"[\w.]+", line)[0] for line in PUBLIC]


def load(name):
    """A script of docs/."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load("generate")


def pages():
    """Names of the pages that are written by hand."""
    found = {page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md")}
    return found - {"README", "index"}


# -- the sidebar ----------------------------------------------------------------------------------


def test_every_page_is_in_the_sidebar_once():
    sections = generate.navigation((DOCS / "README.md").read_text())
    assert list(sections) == ["Tutorial", "How to", "Reference", "Explanation", "Results"]
    listed = [name for entries in sections.values() for _, name in entries]
    assert sorted(listed) == sorted(pages() | {name for _, name in generate.GENERATED})


def test_no_page_links_out_of_the_site():
    for name in [*pages(), "index"]:
        page = DOCS / f"{name}.md"
        for target in re.findall(r"\]\(([^)\s#]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).resolve().is_relative_to(DOCS), f"{name}: {target}"


def test_pages_that_the_code_names_are_there():
    named = {
        found
        for file in [*(ROOT / "src").rglob("*.py"), *ROOT.glob("*/*.py")]
        for found in re.findall(r"\bdocs/[\w/-]+\.md\b", file.read_text())
    } - {"docs/nothing.md", "docs/x.md"}
    assert len(named) > 5
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_drawings_are_those_of_their_script():
    drawings = load("drawings")
    for name, draw in drawings.DRAWINGS.items():
        assert draw() == (drawings.IMAGES / name).read_text()


def test_the_contents_say_what_makes_each_image():
    table = (DOCS / "README.md").read_text().partition("| images | made by |")[2]
    assert set(re.findall(r"[\w-]+\.(?:jpg|svg)(?=[ ,])", table)) == {
        file.name for file in (DOCS / "images").iterdir()
    }


# -- the reference --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference():
    """Text of each generated page."""
    return dict(generate.pages())


def test_every_public_name_has_a_page(reference):
    names = sorted(set(vladkit.__all__) - {"__version__"})
    listed = reference["reference/python.rst"]
    assert len(names) > 20
    for name in names:
        page = reference[f"reference/python/{name}.rst"]
        assert re.search(rf"^\.\. auto(class|function):: {name}$", page, re.MULTILINE)
        assert re.search(rf"\* - :doc:`{name} <python/{name}>`\n     - \S", listed)


def test_every_command_and_option_is_in_the_reference(reference):
    groups, root = generate.commands()
    assert sorted(name for names in groups.values() for name in names) == sorted(root.commands)

    def check(command, page):
        for parameter in command.params:
            if not getattr(parameter, "hidden", False):
                given = parameter.opts if parameter.param_type_name == "option" else ()
                for option in [*given, *parameter.secondary_opts]:
                    assert re.search(rf"^\.\. option:: .*{option}\b", page, re.MULTILINE), option
        for sub in getattr(command, "commands", {}).values():
            check(sub, page)

    for name, command in root.commands.items():
        check(command, reference[f"reference/command/{name}.rst"])
        assert f"<command/{name}>" in reference["reference/commands.rst"]


def test_keys_of_a_network_have_their_defaults(reference):
    page = reference["reference/network-toml.rst"]
    assert ".. confval:: overlap\n   :type: ``int``\n   :default: ``64``" in page
    for name in ("InputSpec", "OutputSpec", "MatchRule"):
        kind = getattr(generate.importlib.import_module("vladkit.features.onnx.spec"), name)
        for field in generate.fields(kind):
            assert f".. confval:: {field.name}\n" in page


def test_pages_of_names_that_are_gone_are_removed(tmp_path):
    gone = tmp_path / "reference" / "python" / "Gone.rst"
    gone.parent.mkdir(parents=True)
    gone.write_text("Gone")
    generate.write(tmp_path)
    assert not gone.exists()
    assert (tmp_path / "reference" / "python" / "VLAD.rst").exists()


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    """And every public name is on the page of its class."""
    pytest.importorskip("furo")
    words = ["-m", "sphinx", "--fail-on-warning", "--nitpicky", "--quiet", "-d", "doctrees"]
    done = subprocess.run(
        [sys.executable, *words, DOCS, "site"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        if name != "__version__":
            first, _, member = name.partition(".")
            page = (tmp_path / "site" / "reference" / "python" / f"{first}.html").read_text()
            assert f'id="vladkit.{name}"' in page or f"<strong>{member}</strong>" in page, name
    assert "searchindex.js" in {file.name for file in (tmp_path / "site").iterdir()}


def test_every_name_has_an_example():
    """As the tutorial says."""
    named = [getattr(vladkit, name) for name in vladkit.__all__]
    without = [each for each in named if callable(each) and ">>> " not in each.__doc__]
    assert without == []
    assert len(named) > 20


# -- the tutorials --------------------------------------------------------------------------------


def shape(text):
    """Lines without what differs from machine to machine: numbers, and images that only rank."""
    for line in text.splitlines():
        line = re.sub(r"-?\d+(?:\.\d+)?", "0", " ".join(line.split()))
        line = re.sub(r"matches photos/.*", "matches", line)
        yield re.sub(r"^\S+( 0 0 False)$", r"\1", line)


def follow(page):
    """Run all blocks of a page, one after the other, as a reader would; outputs are as printed."""
    output, namespace, n_compared = "", {"__name__": "page"}, 0
    for kind, code in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.M | re.S):
        if kind == "python":
            with redirect_stdout(io.StringIO()) as printed:
                exec(compile(code, page.name, "exec"), namespace)
            output = printed.getvalue()
        elif kind == "sh":
            for line in code.splitlines():
                if line.startswith("vladkit "):
                    output += run(*shlex.split(line)[1:]).output
                else:
                    assert line.startswith("python -m pip install "), line
        elif kind == "text":
            assert sorted(shape(output)) == sorted(shape(code))
            output, n_compared = "", n_compared + 1
    return n_compared


def test_tutorials_run_as_they_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert follow(DOCS / "tutorial" / "first-search.md") == 5
    assert (tmp_path / "matches.png").stat().st_size
    assert follow(DOCS / "tutorial" / "in-python.md") == 1
