"""Writes the two drawings of docs/explanation/scatter-reduce.md: scatter.svg and ragged.svg.

python docs/drawings.py
"""

from __future__ import annotations

from pathlib import Path

IMAGES = Path(__file__).resolve().parent / "images"
BLUE, RED, GREEN, YELLOW, ROSE = "#4477aa", "#cc3311", "#228833", "#ccbb44", "#cc6677"


def text(
    x: float,
    y: int,
    says: object,
    *,
    size: int = 12,
    fill: str = "#333",
    anchor: str = "middle",
    family: str = "sans-serif",
    weight: str = "normal",
) -> str:
    """A line of text."""
    return (
        f'<text x="{x}" y="{y}" font-family="{family}" font-size="{size}" '
        f'text-anchor="{anchor}" fill="{fill}" font-weight="{weight}">{says}</text>'
    )


def svg(height: int, label: str, parts: list[str]) -> str:
    """A drawing 640 px wide."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {height}" width="640" '
        f'height="{height}" role="img" aria-label="{label}">'
        '<rect width="100%" height="100%" fill="#fff"/>' + "".join(parts) + "</svg>\n"
    )


def cells(x: int, y: int, values: list[object], fills: list[str], *, step: int) -> list[str]:
    """Numbers in boxes, side by side."""
    parts = []
    for i, (value, fill) in enumerate(zip(values, fills, strict=True)):
        parts.append(
            f'<rect x="{x + i * step}" y="{y}" width="34" height="26" rx="3" fill="{fill}"/>'
        )
        ink = "#333" if fill == "#eeeeee" else "#fff"
        parts.append(text(x + i * step + 17, y + 18, value, fill=ink))
    return parts


def arrow(x1: int, y1: int, x2: int, y2: int, stroke: str = "#888") -> str:
    """A line with a head."""
    ends = f"M{x1} {y1} L{x2} {y2}"
    return f'<path d="{ends}" stroke="{stroke}" stroke-width="1.5" marker-end="url(#a)"/>'


def scatter() -> str:
    """Indexed addition beside `np.add.at`."""
    parts = [
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#888"/></marker></defs>'
    ]
    mono = {"anchor": "start", "family": "monospace"}
    sides = (
        (16, "x[[1, 1, 2]] += 1", "read + 1", ["0+1", "0+1", "0+1"], [0, 1, 1, 0],
         ["All is read before anything is stored: both rows of",
          "bucket 1 store a 1, and one of them is lost."]),
        (336, "np.add.at(x, [1, 1, 2], 1)", "in turn", ["0+1", "1+1", "0+1"], [0, 2, 1, 0],
         ["Each row reads what the one before has stored."]),
    )  # fmt: skip
    for x, title, step, terms, result, says in sides:
        parts.append(text(x, 24, title, size=14, weight="bold", **mono))
        parts.append(text(x, 62, "x", size=13, **mono))
        parts += cells(x + 70, 44, [0] * 4, ["#eeeeee"] * 4, step=42)
        parts += [text(x + 87 + 42 * i, 40, i, size=10, fill="#888") for i in range(4)]
        parts.append(text(x, 112, step, anchor="start"))
        parts += cells(x + 70, 94, terms, [BLUE, RED, GREEN], step=62)
        for i, bucket in enumerate((1, 1, 2)):
            at, stored = x + 87 + 62 * i, x + 87 + 42 * bucket
            parts += [arrow(stored, 71, at, 92), arrow(at, 121, stored, 162)]
        if step == "in turn":
            parts.append(arrow(x + 106, 107, x + 130, 107, RED))
        parts.append(text(x, 182, "x", size=13, **mono))
        parts += cells(x + 70, 164, result, ["#eeeeee", RED, GREEN, "#eeeeee"], step=42)
        parts += [
            text(x, 216 + 16 * i, line, anchor="start", fill="#555") for i, line in enumerate(says)
        ]
    label = (
        "x[[1, 1, 2]] += 1 reads, adds and stores once for each bucket; "
        "np.add.at adds row after row"
    )
    return svg(250, label, parts)


def ragged() -> str:
    """A ragged batch of four images, one of them empty; its labels; its rows, sorted."""
    start_t, label_n = [0, 5, 5, 12, 15], [1, 0, 2, 1, 1, 2, 0, 0, 1, 2, 2, 0, 0, 2, 0]
    color = {0: BLUE, 2: GREEN, 3: YELLOW}
    image_n = [i for i in range(4) for _ in range(start_t[i], start_t[i + 1])]

    def left(row: int) -> int:
        return 150 + 26 * row

    def box(place: int, y: int, value: object, *, size: int, ink: str, style: str) -> list[str]:
        at = f'<rect x="{left(place)}" y="{y}" width="24" height="26" rx="3" {style}/>'
        return [at, text(left(place) + 12.0, y + 18, value, size=size, fill=ink)]

    mono = {"family": "monospace", "size": 13}
    parts = [text(16, 66, "local_Nf", anchor="start", **mono)]
    for row, image in enumerate(image_n):
        ink = "#222" if image == 3 else "#fff"
        parts += box(row, 48, row, size=11, ink=ink, style=f'fill="{color[image]}"')
    parts.append(text(16, 104, "start_T", anchor="start", **mono))
    for i, post in enumerate(start_t):
        x = left(post) - 1
        line = f'<line x1="{x}" y1="42" x2="{x}" y2="90" stroke="#333" stroke-width="1.6"/>'
        parts += [line, text(x + {1: -7, 2: 9}.get(i, 0), 104, post, **mono)]
    for i, fill in ((0, BLUE), (1, ROSE), (2, GREEN), (3, YELLOW)):
        middle = (left(start_t[i]) + left(start_t[i + 1])) / 2
        empty = start_t[i] == start_t[i + 1]
        name = f"image {i}: none" if empty else f"image {i}"
        parts.append(text(middle, 24 if empty else 38, name, size=11, fill=fill, weight="bold"))
        if empty:
            parts.append(f'<line x1="{middle}" y1="28" x2="{middle}" y2="42" stroke="{fill}"/>')
    parts.append(text(16, 168, "label_N", anchor="start", **mono))
    for row, label in enumerate(label_n):
        parts += box(row, 150, label, size=12, ink="#333", style='fill="#eee" stroke="#bbb"')
    note = {"anchor": "start", "size": 11, "fill": "#666"}
    parts.append(
        text(150, 192, "the nearest centroid of each row; bucket = image x k + label", **note)
    )
    parts.append(text(16, 246, "sorted rows", anchor="start", size=13))
    order = sorted(range(len(label_n)), key=lambda row: (image_n[row], label_n[row]))
    for place, row in enumerate(order):
        image, label = image_n[row], label_n[row]
        ink = "#222" if image == 3 or label == 2 else "#fff"
        opacity = ("1", "0.72", "0.5")[label]
        style = f'fill="{color[image]}" fill-opacity="{opacity}"'
        parts += box(place, 228, row, size=11, ink=ink, style=style)
    runs = [(image_n[row], label_n[row]) for row in order]
    for run in dict.fromkeys(runs):
        first, last = left(runs.index(run)), left(runs.index(run) + runs.count(run) - 1) + 24
        parts.append(f'<path d="M{first},258 v5 H{last} v-5" fill="none" stroke="#333"/>')
        parts.append(
            text((first + last) / 2, 277, f"{run[0]},{run[1]}", family="monospace", size=11)
        )
    says = (
        "(image, centroid) of each run; image 1 has none: "
        "a bucket without rows has no run, and must be 0"
    )
    parts.append(text(150, 298, says, **note))
    label = "A ragged batch: stacked rows, fence posts, labels, and rows sorted into runs"
    return svg(318, label, parts)


DRAWINGS = {"scatter.svg": scatter, "ragged.svg": ragged}

if __name__ == "__main__":
    for name, draw in DRAWINGS.items():
        (IMAGES / name).write_text(draw(), "utf-8")
