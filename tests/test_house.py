"""The house: imports point down, start-up is light, public names are those of the snapshot."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

import public_api
import vladkit
from paths import DATA, ROOT
from vladkit import errors

SOURCE = ROOT / "src" / "vladkit"

# Lower rooms first; a file imports from its own room or from a lower level.
LEVELS = [
    ["errors"],
    ["core"],
    ["images"],
    ["features", "store", "evaluation", "kernels"],
    ["geometry", "aggregation"],
    ["collection"],
    ["viz"],
    ["web", "bench"],
    ["cli"],
    ["__main__"],
]


def is_typing_only(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imported_names(tree):
    """Dotted names that a file imports when it runs: at its top, inside functions, by name."""
    nodes = list(ast.walk(tree))
    typing_only = {c for n in nodes if is_typing_only(n) for c in ast.walk(n)}
    for node in nodes:
        if node in typing_only:
            continue
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            name = node.args[0]
            if isinstance(name, ast.Constant):
                yield name.value
            elif isinstance(name, ast.JoinedStr) and isinstance(name.values[0], ast.Constant):
                yield name.values[0].value + "*"  # any of a package


def import_graph(source, package):
    """The files of a package, and for each the ones it imports: {module: {module, ...}}."""
    modules = {}
    for path in source.rglob("*.py"):
        parts = path.relative_to(source).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        modules[".".join((package, *parts))] = path
    graph = {}
    for module, path in modules.items():
        targets = set()
        for name in imported_names(ast.parse(path.read_text())):
            if name.endswith("*"):
                targets |= {m for m in modules if m.startswith(name[:-1])}
                continue
            while name not in modules and "." in name:  # a name in a module
                name = name.rpartition(".")[0]
            targets.add(name)
        graph[module] = targets & set(modules) - {module}
    return graph


def circle(graph):
    """Some files that import each other in a circle; empty if there are none."""
    done, path = set(), []

    def visit(module):
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return []
        path.append(module)
        found = next(filter(None, map(visit, sorted(graph[module]))), [])
        path.pop()
        done.add(module)
        return found

    return next(filter(None, map(visit, sorted(graph))), [])


@pytest.fixture(scope="module")
def graph():
    return import_graph(SOURCE, "vladkit")


def test_no_circle_among_files(graph):
    assert len(graph) > 100
    assert circle(graph) == []


@pytest.mark.parametrize(
    "back",
    [
        "from house.room.a import x",
        "def f():\n    from house.room.a import x",
        "def f():\n    import house.room.a as a",
        "from importlib import import_module\nimport_module('house.room.a')",
        "import importlib\ndef f(x):\n    importlib.import_module(f'house.room.{x}')",
        "from house.room import a",
    ],
)
def test_a_circle_is_found_in_a_room_and_by_a_lazy_import(tmp_path, back):
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "__init__.py").write_text("")
    (tmp_path / "room" / "a.py").write_text("from house.room.b import y\nx = 1\n")
    (tmp_path / "room" / "b.py").write_text("from house.room.c import z\ny = 1\n")
    (tmp_path / "room" / "c.py").write_text("z = 1\n")
    assert circle(import_graph(tmp_path, "house")) == []
    (tmp_path / "room" / "c.py").write_text(f"{back}\nz = 1\n")
    assert set(circle(import_graph(tmp_path, "house"))) >= {"house.room.a", "house.room.c"}
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.room.a import x\n"
    (tmp_path / "room" / "c.py").write_text(typed)
    assert circle(import_graph(tmp_path, "house")) == []


def test_arrows_point_down(graph):
    level = {room: i for i, rooms in enumerate(LEVELS) for room in rooms}
    rooms = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - {"__init__", "__pycache__", "py"} == set(level)
    assert len(level) <= 20
    for module, targets in graph.items():
        if module == "vladkit":
            continue  # it names the public ones
        room = module.split(".")[1]
        for target in targets - {"vladkit"}:
            other = target.split(".")[1]
            assert other == room or level[other] < level[room], f"{module} imports {target}"


def test_no_file_imports_the_top(graph):
    """`from vladkit import encode` is for users: inside, names are had from where they are."""
    assert [module for module, targets in graph.items() if "vladkit" in targets] == []


HEAVY = ["numba", "scipy", "faiss", "cv2", "torch", "jax", "matplotlib", "jinja2", "sklearn"]
HEAVY += ["pandas", "onnxruntime", "dask", "distributed", "lance", "pyarrow", "psycopg"]
HEAVY += ["fsspec", "s3fs", "aiohttp", "pycolmap", "PIL", "pillow_heif"]


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import vladkit", [*HEAVY, "numpy", "typer", "rich"]),
        ("import vladkit; vladkit.encode; vladkit.Ragged; vladkit.VLAD", HEAVY),
        ("import vladkit; vladkit.Collection", HEAVY),
        ("import vladkit.features", HEAVY),
        ("from vladkit.cli import load; load()", [*HEAVY, "numpy", "rich"]),
    ],
)
def test_imports_are_light(code, heavy):
    code += f"; import sys; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_search_loads_neither_numba_nor_faiss_nor_scipy(home):
    code = (
        "import sys\nfrom vladkit import Collection\n"
        "with Collection.open('photos.vlad', read_only=True) as c: c.search('photos/moon.jpg')\n"
        f"print([n for n in {HEAVY!r} if n in sys.modules and n != 'cv2'])"
    )
    search = [sys.executable, "-c", code]
    done = subprocess.run(search, cwd=home, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_an_image_is_indexed_without_numba(home, tmp_path):
    code = (
        "import sys\nfrom vladkit import Collection\n"
        "with Collection.create(sys.argv[1], n_clusters=2) as c: c.add(['photos/moon.jpg'])\n"
        "print('numba' in sys.modules)"
    )
    command = [sys.executable, "-c", code, tmp_path / "c.vlad"]
    done = subprocess.run(command, cwd=home, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_public_names():
    assert len(set(vladkit.__all__)) == len(vladkit.__all__)
    assert dir(vladkit) == sorted(vladkit.__all__)
    for name in vladkit.__all__:
        assert getattr(vladkit, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = vladkit.nothing


def test_public_names_and_signatures_are_those_of_the_snapshot():
    """A change of these is a change for users: `python tests/public_api.py` writes it again."""
    stored = (DATA / "public_api.txt").read_text()
    assert public_api.snapshot() == stored


def test_error_tree_is_drawn_as_it_is():
    drawn = re.findall(r"(\w+)(?: \(([\w, ]+)\))?(?: {2,}|$)", errors.__doc__ or "", re.MULTILINE)
    drawn = {name: bases for name, bases in drawn if name.endswith(("Error", "Warning"))}
    assert set(drawn) == set(errors.__all__)
    for name, bases in drawn.items():
        real = [b.__name__ for b in getattr(errors, name).__mro__]
        for base in filter(None, bases.split(", ")):
            assert base in real, f"{name} is drawn with base {base}"
