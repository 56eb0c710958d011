"""How the code speaks: summary lines that name the thing, and one word for one thing."""

from __future__ import annotations

import ast
import re
from itertools import pairwise

import pytest

from paths import ROOT

SOURCE = ROOT / "src" / "vladkit"
FILES = sorted(SOURCE.rglob("*.py"))
TEXTS = [*FILES, *sorted(SOURCE.rglob("*.html")), *sorted(SOURCE.rglob("*.js"))]

NO_SUMMARY = re.compile(r"(What|Of|As|See|The same|Same)\b")

WORDS = {
    r"[Pp]ictures?": "image",
    r"anew": "again",
    r"mend(s|ed|ing)?": "fix",
    r"so many": "a number, or a name for it",
}
"""Words that are not used, with those that are."""

FORMAT_2 = re.compile(
    r"picture_ids?\b|[A-Z]{3,} .*\bpicture\b|[\"']picture[\"']|format 2.*\bpicture\b"
)
"""Names of tables and columns in a file of format 2, in SQL or by themselves."""


def documented(tree):
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and (doc := ast.get_docstring(node)):
            yield getattr(node, "name", "the module"), doc
        body = getattr(node, "body", [])
        for before, after in pairwise(body) if isinstance(body, list) else ():
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if isinstance(before, (ast.Assign, ast.AnnAssign)) and is_text:
                yield ast.unparse(before).partition("=")[0].strip(), str(after.value.value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_summary_lines_name_the_thing(path):
    docs = list(documented(ast.parse(path.read_text())))
    assert docs or not path.read_text().strip() or path.name == "__init__.py"
    wrong = [f"{name}: {doc.splitlines()[0]}" for name, doc in docs if NO_SUMMARY.match(doc)]
    assert wrong == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(SOURCE)))
def test_one_word_for_one_thing(path):
    wrong = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        in_rooms = path.parent.name in ("store", "postgres", "collection")
        rest = FORMAT_2.sub("", line) if in_rooms else line
        for word, instead in WORDS.items():
            if re.search(rf"\b{word}\b", rest):
                wrong.append(f"{number}: {line.strip()} ({instead})")
    assert wrong == []
