"""Figures of a run, and their form in JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from vladkit.bench.cases import Case
from vladkit.bench.sum_cases import SumCase

__all__ = ["FisherMeasured", "LeftOut", "Measured", "Report", "Row", "SumRow", "SumsMeasured"]


@dataclass(frozen=True)
class Row:
    """Figures of one way on one case.

    Parameters
    ----------
    way : str
    kind : {"method", "peer", "floor"}
        A method of vladkit, a program of others, or the bare product.
    median_ms, p10_ms, p90_ms : float or None
        Median and percentiles of a call.
    calls : int
        Number of timed calls.
    images : int
        Number of images of a call; if fewer than in the case, times are scaled.
    memory_bytes : int or None
        Peak of resident memory above that before the call: the result and intermediate arrays,
        but not the input. None if scaled or unknown.
    error : float or None
        Largest difference from the oracle over its largest value, on the first images.
    loop_over_way, way_over_product, way_over_floor : float or None
        Ratios of medians: how many times faster than the loop, how many times slower than the
        bare product and than the floor.
    skipped : str or None
        Reason why it was not measured; then all figures are None.
    """

    way: str
    kind: str
    images: int
    calls: int = 0
    median_ms: float | None = None
    p10_ms: float | None = None
    p90_ms: float | None = None
    memory_bytes: int | None = None
    error: float | None = None
    loop_over_way: float | None = None
    way_over_product: float | None = None
    way_over_floor: float | None = None
    skipped: str | None = None


@dataclass(frozen=True)
class Measured:
    """A case with its rows; `bytes_ms` is the time for `Case.floor_bytes` at the rate of a copy."""

    case: Case
    product_ms: float
    bytes_ms: float
    rows: tuple[Row, ...]

    @property
    def floor_ms(self) -> float:
        """The longer of bare product and copy, which bounds ways that use NumPy's product.

        `fused` is sometimes faster: it has its own product, and repeated batches are in cache.
        """
        return max(self.product_ms, self.bytes_ms)

    def row(self, way: str) -> Row | None:
        """The row of a way; None if it took no part."""
        return next((r for r in self.rows if r.way == way), None)

    def by_time(self) -> list[Row]:
        """The rows, the fastest first, skipped ones last."""
        return sorted(self.rows, key=lambda r: float("inf") if r.median_ms is None else r.median_ms)

    def is_scaled(self, row: Row) -> bool:
        """Whether a row was measured on only some of the images."""
        return row.skipped is None and row.images < self.case.t

    def as_json(self) -> dict[str, Any]:
        """Plain values, which `Measured.from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Measured:
        """Read the values of `as_json`, after a round trip through JSON."""
        case = Case(**value["case"] | {"sweeps": tuple(value["case"]["sweeps"])})
        rows = tuple(Row(**row) for row in value["rows"])
        return cls(case, value["product_ms"], value["bytes_ms"], rows)


_NO_OTHERS: Final = ("vladkit", "read")
"""Names that are not of peers: ours, and the floor."""


@dataclass(frozen=True)
class SumRow:
    """Times of one way on one case of sums: median and least; none if it failed (`skipped`)."""

    way: str
    calls: int
    median_ms: float | None = None
    least_ms: float | None = None
    skipped: str | None = None


@dataclass(frozen=True)
class SumsMeasured:
    """A case of sums with a row for each way that does its job."""

    case: SumCase
    rows: tuple[SumRow, ...]

    def ms(self, way: str) -> float | None:
        """Median of a way; None if it was not timed."""
        return next((r.median_ms for r in self.rows if r.way == way), None)

    def over_fastest(self) -> tuple[float, str]:
        """Time of vladkit over that of the fastest other way, and its name."""
        others = {r.way: r.median_ms for r in self.rows if r.median_ms and r.way not in _NO_OTHERS}
        fastest = min(others, key=lambda way: others[way], default="")
        return (self.ms("vladkit") or 0.0) / others.get(fastest, math.inf), fastest

    def as_json(self) -> dict[str, Any]:
        """Plain values, which `SumsMeasured.from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SumsMeasured:
        """Read the values of `as_json`, after a round trip through JSON."""
        return cls(SumCase(**value["case"]), tuple(SumRow(**row) for row in value["rows"]))


@dataclass(frozen=True)
class FisherMeasured:
    """Fisher vectors of one case.

    Parameters
    ----------
    case : str
    ms : mapping
        Median times of vladkit, of the products that it needs, and of scikit-image if installed.
    error : float or None
        Largest distance of a vector to scikit-image's, over its length.
    """

    case: str
    ms: Mapping[str, float]
    error: float | None


@dataclass(frozen=True)
class LeftOut:
    """A way that could not take part, and the reason."""

    way: str
    reason: str


@dataclass(frozen=True)
class Report:
    """Figures of a whole run.

    Parameters
    ----------
    machine, versions : mapping
        Results of `machine` and `versions` in `vladkit.bench.machine`.
    threads : int
    quick : bool
    seconds : float
        Duration of the run.
    copy_bytes_per_s : float
        Rate of a copy of large arrays, bytes read and written.
    other_cores : float or None
        Mean number of cores that other processes kept busy meanwhile; None if unknown.
    baseline : str
        Name of the way that is the loop of `Row.loop_over_way`.
    left_out : tuple of LeftOut
    measured : tuple of Measured
    sums : tuple of SumsMeasured
    fisher : FisherMeasured or None
    """

    machine: Mapping[str, str | int]
    versions: Mapping[str, str | None]
    threads: int
    quick: bool
    seconds: float
    copy_bytes_per_s: float
    other_cores: float | None
    baseline: str
    left_out: tuple[LeftOut, ...]
    measured: tuple[Measured, ...]
    sums: tuple[SumsMeasured, ...] = ()
    fisher: FisherMeasured | None = None

    def sweep(self, axis: str) -> list[Measured]:
        """The cases that differ only in one axis, in its order."""
        points = [m for m in self.measured if axis in m.case.sweeps]
        return sorted(points, key=lambda m: int(getattr(m.case, axis)))

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``--json``: cases, and rows that name their case."""
        cases, rows = [], []
        for m in self.measured:
            facts = {"product_ms": m.product_ms, "bytes_ms": m.bytes_ms, "floor_ms": m.floor_ms}
            cases.append({"case": m.case.name} | asdict(m.case) | facts)
            rows += [{"case": m.case.name} | asdict(r) | {"scaled": m.is_scaled(r)} for r in m.rows]
        about = {
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "threads": self.threads,
            "quick": self.quick,
            "seconds": self.seconds,
            "copy_bytes_per_s": self.copy_bytes_per_s,
            "other_cores": self.other_cores,
            "baseline": self.baseline,
            "left_out": [asdict(x) for x in self.left_out],
        }
        sums = {"sums": [m.as_json() for m in self.sums]} if self.sums else {}
        fisher = {"fisher": asdict(self.fisher)} if self.fisher else {}
        return about | {"cases": cases, "rows": rows} | sums | fisher

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Report:
        """Read the values of `as_json`."""
        measured = []
        for facts in value["cases"]:
            sizes = {n: facts[n] for n in ("t", "l", "f", "k", "dtype")}
            rows = [
                Row(**{n: v for n, v in row.items() if n not in ("case", "scaled")})
                for row in value["rows"]
                if row["case"] == facts["case"]
            ]
            case = Case(**sizes, sweeps=tuple(facts["sweeps"]))
            measured.append(Measured(case, facts["product_ms"], facts["bytes_ms"], tuple(rows)))
        apart = ("cases", "rows", "left_out", "sums", "fisher")
        rest = {n: v for n, v in value.items() if n not in apart}
        fisher = FisherMeasured(**value["fisher"]) if "fisher" in value else None
        left_out = tuple(LeftOut(**x) for x in value["left_out"])
        sums = tuple(map(SumsMeasured.from_json, value.get("sums", ())))
        return cls(**rest, left_out=left_out, measured=tuple(measured), sums=sums, fisher=fisher)
