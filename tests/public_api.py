"""The public names with their signatures, a line each; run it to write the snapshot anew.

python tests/public_api.py > tests/data/public_api.txt
"""

from __future__ import annotations

import inspect

import vladkit


def describe(name: str, value: object) -> list[str]:
    """A function's line, or those of a class and its public methods."""
    if isinstance(value, str):
        return [name]
    lines = [f"{name}{signature(value)}"]
    if inspect.isclass(value):
        for member in sorted(m for m in dir(value) if not m.startswith("_")):
            found = inspect.getattr_static(value, member)
            if isinstance(found, property) or inspect.isdatadescriptor(found):
                lines.append(f"{name}.{member}")
            elif callable(getattr(value, member)):
                lines.append(f"{name}.{member}{signature(getattr(value, member))}")
    return lines


def signature(value: object) -> str:
    """As written, without the types: those are mypy's."""
    try:
        found = inspect.signature(value)  # type: ignore[arg-type]
    except ValueError:
        return "(...)"
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in found.parameters.values()]
    return str(found.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def snapshot() -> str:
    """All of it, sorted."""
    lines = []
    for name in sorted(vladkit.__all__):
        lines += describe(name, getattr(vladkit, name))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(snapshot(), end="")
