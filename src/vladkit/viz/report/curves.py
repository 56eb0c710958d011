"""Figures of an HTML report, as SVG that takes colours and font from the report's style."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from vladkit.evaluation.metrics import precision_recall, recall_curve
from vladkit.viz.report.rankings import ReportData, split

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Curve", "curves"]

_MOST_RANKS: Final = 100
"""Last rank of the recall curve: nobody looks further down a ranking."""

_BINS: Final = 24
"""Bars of a histogram of scores: a figure is some 300 px wide."""

_LEAST_SCORE: Final = 0.001
_LEAST_PRODUCT: Final = 1e-5
"""Scores from which the logarithmic axis starts, by similarity and by match codes, too: lower ones
are drawn as this."""

# Stand-ins, which no figure has by accident; the report's style says what they are.
_INK, _LINE, _RIGHT, _WRONG, _ACCENT = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
_VARIABLES: Final = {
    _INK: "currentColor",
    _LINE: "var(--line)",
    _RIGHT: "var(--right)",
    _WRONG: "var(--wrong)",
    _ACCENT: "var(--accent)",
}

_RC: Final = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "grid.color": _LINE,
    "legend.frameon": False,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "vladkit",
    "svg.id": None,
}


@dataclass(frozen=True, slots=True)
class Curve:
    """A figure.

    Parameters
    ----------
    title, caption : str
    svg : str
        An ``<svg>`` element.
    """

    title: str
    caption: str
    svg: str


def curves(data: ReportData) -> list[Curve]:
    """All figures for which there are data."""
    drawn = []
    if data.judged:
        drawn += [_recall(data), _precision(data), _average_precision(data)]
    drawn += _scores(data)
    return drawn


def _recall(data: ReportData) -> Curve:
    n = min(_MOST_RANKS, data.info["images"])
    share = recall_curve([a.result for a in data.judged], n)

    def draw(ax: Axes) -> None:
        ax.plot(range(1, n + 1), share, color=_ACCENT, marker="." if n <= 20 else None)
        # from the decade below the lowest: good collections are told apart between 0.9 and 1
        low = max(0.0, math.ceil(share[0] * 10 - 1) / 10)
        ax.set(xlabel="first k results", ylabel="queries", ylim=(low, 1 + 0.02 * (1 - low)))
        if n > 20:
            ax.set_xscale("log")
            ticks = [k for k in (1, 2, 5, 10, 20, 50, 100) if k <= n]
            ax.set_xticks(ticks, [str(k) for k in ticks])
            ax.minorticks_off()
        ax.yaxis.set_major_formatter(_percent)

    stated = [k for k in (1, 5, 10, 100) if k <= n]
    said = ", ".join(f"{share[k - 1]:.1%} at {k}" for k in stated)
    caption = f"Share of queries with a right image among the first k: {said}."
    return Curve("Recall", caption, _svg(draw, "recall", f"Recall: {said}"))


def _precision(data: ReportData) -> Curve:
    points = precision_recall([a.result for a in data.judged])
    recall, precision = zip(*points, strict=True)

    def draw(ax: Axes) -> None:
        ax.plot(recall, precision, color=_ACCENT, marker="o", markersize=4)
        ax.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(0, 1.02))

    caption = "Mean over the queries of the interpolated precision at eleven levels of recall."
    low, middle, high = precision[0], precision[5], precision[10]
    said = f"Precision {low:.2f} at recall 0, {middle:.2f} at 0.5, {high:.2f} at 1"
    return Curve("Precision and recall", caption, _svg(draw, "precision", said))


def _average_precision(data: ReportData) -> Curve:
    each = [a.result.average_precision for a in data.judged]

    def draw(ax: Axes) -> None:
        ax.hist(each, bins=[i / 20 for i in range(21)], color=_ACCENT)
        ax.set_xlabel("average precision of a query")
        _count(ax, "queries")

    perfect = sum(value == 1 for value in each)
    nothing = sum(value < 0.05 for value in each)
    said = f"{len(each)} queries: {perfect} perfect, {nothing} below 0.05"
    return Curve("Average precision", f"{said}.", _svg(draw, "average", said))


def _scores(data: ReportData) -> list[Curve]:
    by_vectors = _LEAST_SCORE if data.rerank else None
    score = _Axis("score", _LEAST_PRODUCT if data.info["words"] else by_vectors)
    answers = data.judged + data.unknown
    if not answers:
        found = [f for a in data.open for f in a.first if f.verdict == "open"]
        if not found:
            return []
        best = [f.score for f in found if f.rank == 1]
        return [
            _one("Best scores", "Score of each query's first result.", best, "queries", score),
            _one(
                "Scores of results",
                f"Scores of the first {data.top} results of all queries.",
                [f.score for f in found],
                "results",
                score,
            ),
        ]
    right, wrong = split(answers)
    if not right and not wrong:  # no query could be read
        return []
    drawn = [
        _two(
            "Best scores",
            "For each query the score of its best right and of its best wrong image: a threshold "
            "between the two groups tells them apart.",
            [a.best_right for a in answers if a.best_right is not None],
            [a.best_wrong for a in answers if a.best_wrong is not None],
            score,
        ),
        _two(
            "Scores of results",
            f"All right images, and the wrong ones among the first {data.top} results, each as "
            "shares of their kind.",
            [found.score for found in right],
            [found.score for found in wrong],
            score,
            shares=True,
        ),
    ]
    if any(found.inliers is not None for found in (*right, *wrong)):
        drawn.append(
            _two(
                "Matches that fit",
                "Matches of those of the same images that were matched with the query feature by "
                "feature; none is drawn as 1.",
                [f.inliers for f in right if f.inliers is not None],
                [f.inliers for f in wrong if f.inliers is not None],
                _Axis("matches that fit one geometry", 1.0),
                shares=True,
            )
        )
    return drawn


@dataclass(frozen=True, slots=True)
class _Axis:
    """Horizontal axis of a histogram; logarithmic from `least` on, if that is given."""

    name: str
    least: float | None

    def drawn(self, values: Sequence[float]) -> list[float]:
        return list(values) if self.least is None else [max(v, self.least) for v in values]

    def bins(self, values: Sequence[float]) -> list[float]:
        drawn = self.drawn(values) or [self.least or 0.0, 1.0]
        low, high = min(drawn), max(drawn)
        if self.least is None:
            edge_b = np.linspace(low, high + (high - low or 1.0) * 1e-3, _BINS + 1)
        else:
            edge_b = np.geomspace(low, max(high * 1.01, 10 * low), _BINS + 1)
        return [float(edge) for edge in edge_b]

    def label(self, ax: Axes) -> None:
        from matplotlib.ticker import NullFormatter

        ax.set_xlabel(self.name)
        if self.least is not None:
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter(_plain)
            ax.xaxis.set_minor_formatter(NullFormatter())


def _two(
    title: str,
    caption: str,
    right: Sequence[float],
    wrong: Sequence[float],
    axis: _Axis,
    *,
    shares: bool = False,
) -> Curve:
    bins = axis.bins([*right, *wrong])

    def draw(ax: Axes) -> None:
        # one filled and one an outline: told apart without colours, too
        for values, colour, filled in ((right, _RIGHT, True), (wrong, _WRONG, False)):
            ax.hist(
                axis.drawn(values),
                bins=bins,
                weights=[1 / len(values) if shares else 1.0 for _ in values],
                histtype="stepfilled" if filled else "step",
                color=colour,
                alpha=0.55 if filled else 1.0,
                linewidth=0 if filled else 1.8,
                label="right" if filled else "wrong",
            )
        ax.legend(loc="upper right")
        axis.label(ax)
        if shares:
            ax.yaxis.set_major_formatter(_percent)
            ax.set_ylabel("share")
        else:
            _count(ax, "queries")

    said = f"right: {_middle(right)}; wrong: {_middle(wrong)}"
    svg = _svg(draw, title, f"{title}; {said}")
    return Curve(title, f"{caption} {said.capitalize()}.", svg)


def _one(title: str, caption: str, values: Sequence[float], counted: str, axis: _Axis) -> Curve:
    def draw(ax: Axes) -> None:
        ax.hist(axis.drawn(values), bins=axis.bins(values), color=_ACCENT)
        axis.label(ax)
        _count(ax, counted)

    said = _middle(values)
    return Curve(title, f"{caption} {said.capitalize()}.", _svg(draw, title, f"{title}: {said}"))


def _middle(values: Sequence[float]) -> str:
    if not values:
        return "none"
    low, middle, high = np.percentile(values, [5, 50, 95])
    return f"median {middle:.3g}, 5 to 95 % from {low:.3g} to {high:.3g}"


def _count(ax: Axes, counted: str) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set_ylabel(counted)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))


def _plain(value: float, _: float) -> str:
    return f"{value:g}"


def _percent(value: float, _: float) -> str:
    return f"{100 * value:.3g} %"


def _svg(draw: Callable[[Axes], None], name: str, said: str) -> str:
    """A figure as an SVG element with ids of its own and the report's colours."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(4.6, 2.9), layout="constrained")
        ax = figure.add_subplot()
        ax.grid(axis="y", linewidth=0.7)
        draw(ax)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    box = re.search(r'viewBox="([^"]*)"', text)
    if box is None:  # never so far; without it the figure has no size
        raise RuntimeError("matplotlib wrote an SVG without a viewBox")
    body = text[text.index(">") + 1 :].strip()
    prefix = re.sub(r"\W+", "-", name.lower())
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{prefix}-', body)
    body = re.sub(r"url\(#", f"url(#{prefix}-", body)
    body = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", body)
    for stand_in, variable in _VARIABLES.items():
        body = body.replace(stand_in, variable)
    label = said.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return f'<svg class="figure" role="img" aria-label="{label}" viewBox="{box[1]}">{body}'
