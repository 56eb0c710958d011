"""The house: imports point down, start-up is light, and what the README says is true."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import vladkit
from photos import write_photos
from vladkit import errors

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "vladkit"

# Lower floors first; a module imports from its own floor (only within one folder) or below.
FLOORS = [
    ["errors", "axes"],
    ["mapped"],
    ["ragged", "workers", "safe_write", "normalize", "evaluate"],
    ["kinds", "aggregates", "contract", "expansion", "figures"],
    ["kernels"],
    ["encoding", "features", "collection"],
    ["augmentation", "bench", "codebook", "discover", "protocols", "thumbnails", "whitening"],
    ["agreement", "estimators", "extraction", "matching"],
    ["vocabularies", "verification", "importing"],
    ["recipe"],
    ["describe", "duplicates", "retouching"],
    ["indexing", "rewriting", "searching"],
    ["assessing", "grouping", "pairing"],
    ["pipeline"],
    ["measuring", "plot", "report", "web"],
    ["cli"],
    ["__main__"],
]


def floor_of(module):
    room = module.split(".")[1] if "." in module else "__init__"
    return next((i for i, floor in enumerate(FLOORS) if room in floor), None), room


def imports(path):
    """(module, at run time) of every import of vladkit's own in a file."""
    tree = ast.parse(path.read_text())
    typing_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vladkit"):
            names = [f"{node.module}.{a.name}" if node.module == "vladkit" else node.module
                     for a in node.names]  # fmt: skip
            yield from ((name, node not in typing_only) for name in names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("vladkit"):
                    yield alias.name, node not in typing_only


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE))
)
def test_imports_point_down(path):
    module = ".".join(("vladkit", *path.relative_to(SOURCE).with_suffix("").parts))
    if module == "vladkit.__init__":
        return
    mine, room = floor_of(module)
    assert mine is not None, f"{module} has no floor: give it one"
    for imported, at_run_time in imports(path):
        if imported == "vladkit.__version__" or not at_run_time:
            continue
        theirs, their_room = floor_of(imported)
        assert theirs is not None, f"{imported} has no floor"
        assert theirs < mine or their_room == room, (
            f"{module} imports {imported}, which is above it"
        )


HEAVY = ["numba", "scipy", "faiss", "cv2", "torch", "jax", "matplotlib", "jinja2", "sklearn"]
HEAVY += ["pandas", "onnxruntime"]


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import vladkit", [*HEAVY, "numpy", "typer", "rich"]),
        ("import vladkit; vladkit.encode; vladkit.Ragged; vladkit.VLAD", HEAVY),
        ("import vladkit; vladkit.Collection", HEAVY),
        ("import vladkit.features", HEAVY),
        ("import vladkit.cli.commands", [*HEAVY, "numpy", "rich"]),
        ("import vladkit.cli.models", [*HEAVY, "numpy", "rich"]),
    ],
)
def test_imports_are_light(code, heavy):
    code += f"; import sys; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_search_loads_neither_numba_nor_faiss_nor_scipy(tmp_path):
    write_photos(tmp_path / "p")
    code = (
        "import sys\nfrom vladkit import Collection\n"
        "with Collection.open('c', read_only=True) as c: c.search('p/moon.jpg')\n"
        f"print([n for n in {HEAVY!r} if n in sys.modules and n != 'cv2'])"
    )
    index = [sys.executable, "-m", "vladkit", "index", "p", "-o", "c"]
    subprocess.run(index, cwd=tmp_path, check=True, capture_output=True)
    search = [sys.executable, "-c", code]
    done = subprocess.run(search, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_public_names():
    assert len(set(vladkit.__all__)) == len(vladkit.__all__)
    assert dir(vladkit) == sorted(vladkit.__all__)
    for name in vladkit.__all__:
        assert getattr(vladkit, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = vladkit.nothing


def test_error_tree_is_drawn_as_it_is():
    drawn = re.findall(r"(\w+)(?: \(([\w, ]+)\))?(?: {2,}|$)", errors.__doc__ or "", re.MULTILINE)
    drawn = {name: bases for name, bases in drawn if name.endswith("Error")}
    assert set(drawn) == set(errors.__all__)
    for name, bases in drawn.items():
        real = [b.__name__ for b in getattr(errors, name).__mro__]
        for base in filter(None, bases.split(", ")):
            assert base in real, f"{name} is drawn with base {base}"


class TestReadme:
    text = (ROOT / "README.md").read_text()

    def blocks(self, language):
        return re.findall(rf"```{language}\n(.*?)```", self.text, re.DOTALL)

    def test_python_example_runs(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (example,) = self.blocks("python")
        assert len(example.strip().splitlines()) <= 16
        exec(compile(example, "README.md", "exec"), {"__name__": "readme"})

    def test_commands_run(self, tmp_path):
        write_photos(tmp_path / "photos")
        shutil.copy(tmp_path / "photos" / "coffee.jpg", tmp_path / "query.jpg")
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        commands = [
            c for b in self.blocks("sh") for c in b.splitlines() if c.startswith("vladkit ")
        ]
        assert len(commands) >= 2
        for command in commands:
            words = command.split("#")[0].replace("--open", "--port 0")  # no browser is opened
            if "ground_truth" in words:
                continue
            if words.startswith("vladkit serve"):  # goes on until it is stopped
                server = subprocess.Popen(
                    shlex.split(words), cwd=tmp_path, env=environment, stdout=subprocess.PIPE
                )
                assert server.stdout.readline().startswith(b"http://127.0.0.1:"), command
                server.send_signal(signal.SIGINT)
                assert server.communicate(timeout=30) == (b"", None)
                assert server.returncode == 0
                continue
            done = subprocess.run(
                words, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, (command, done.stderr)

    def test_test_command_is_what_ci_runs(self):
        assert "make test" in self.text
        assert "make test" in (ROOT / ".ci" / "run").read_text()

    def test_links_and_pictures_are_there(self):
        for target in re.findall(r"\]\(([^)#]+)\)", self.text):
            if "://" not in target:
                assert (ROOT / target).exists(), target


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
class TestPages:
    def test_snippets_run(self, page, tmp_path, monkeypatch):
        """All Python blocks of a page, one after the other, as a reader would."""
        monkeypatch.chdir(tmp_path)
        blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
        if any("photos.vlad" in block for block in blocks):
            write_photos(tmp_path / "photos")
            with vladkit.Collection.create("photos.vlad", n_clusters=16) as collection:
                collection.add(["photos"])
        namespace = {"__name__": "page"}
        for block in blocks:
            exec(compile(block, page.name, "exec"), namespace)

    def test_links_and_pictures_are_there(self, page):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), target
