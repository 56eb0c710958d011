"""What a run gives, and its form in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vladkit.bench.cases import Case

__all__ = ["LeftOut", "Measured", "Report", "Row"]


@dataclass(frozen=True)
class Row:
    """One way on one case.

    Parameters
    ----------
    way : str
    kind : {"method", "peer", "floor"}
        Ours, somebody else's, or the bare product.
    median_ms, p10_ms, p90_ms : float or None
        Median, and what 10 and 90 % of the calls do not exceed.
    calls : int
        Calls that were counted.
    images : int
        How many of the case's images they were over; if fewer than all, their times are scaled.
    memory_bytes : int or None
        Peak of resident memory above what was held before the call: the result and all in
        between, but not the input. None where scaled, and where it is not known.
    error : float or None
        The largest difference from the oracle, of the first images, over its largest value.
    loop_over_way, way_over_product, way_over_floor : float or None
        Ratios of medians: how many times faster than the loop, how many times slower than the
        bare product and than the floor.
    skipped : str or None
        Why it was not measured; then all figures are None.
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
    """A case with its rows; `bytes_ms` is `Case.floor_bytes` at the rate of a copy.

    The floor is the longer of bare product and bytes.
    """

    case: Case
    product_ms: float
    bytes_ms: float
    rows: tuple[Row, ...]

    @property
    def floor_ms(self) -> float:
        """What a way cannot beat that takes NumPy's product, or finds nothing in cache.

        `fused` sometimes does: its product is its own, and a repeated batch is partly in cache.
        """
        return max(self.product_ms, self.bytes_ms)

    def row(self, way: str) -> Row | None:
        """The row of a way, if it took part."""
        return next((r for r in self.rows if r.way == way), None)

    def by_time(self) -> list[Row]:
        """The rows, the fastest first, skipped ones last."""
        return sorted(self.rows, key=lambda r: float("inf") if r.median_ms is None else r.median_ms)

    def is_scaled(self, row: Row) -> bool:
        """Whether a row was measured on some of the images only."""
        return row.skipped is None and row.images < self.case.t

    def as_json(self) -> dict[str, Any]:
        """Plain values; `Measured.from_json` reads them."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Measured:
        """From what `as_json` gave, after a way through JSON."""
        case = Case(**value["case"] | {"sweeps": tuple(value["case"]["sweeps"])})
        rows = tuple(Row(**row) for row in value["rows"])
        return cls(case, value["product_ms"], value["bytes_ms"], rows)


@dataclass(frozen=True)
class LeftOut:
    """A way that could not take part at all."""

    way: str
    reason: str


@dataclass(frozen=True)
class Report:
    """A whole run.

    Parameters
    ----------
    machine, versions : mapping
        From `vladkit.bench.machine`.
    threads : int
    quick : bool
    seconds : float
        That it took.
    copy_bytes_per_s : float
        Read and written by a copy of large arrays.
    other_cores : float or None
        Cores that other processes kept busy meanwhile, on average; None where not known.
    baseline : str
        The way that is the loop of `Row.loop_over_way`.
    left_out : tuple of LeftOut
    measured : tuple of Measured
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

    def sweep(self, axis: str) -> list[Measured]:
        """The cases that differ in one axis only, in its order."""
        points = [m for m in self.measured if axis in m.case.sweeps]
        return sorted(points, key=lambda m: int(getattr(m.case, axis)))

    def as_json(self) -> dict[str, Any]:
        """For ``--json``: cases and rows flat, each row with its case's name."""
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
        return about | {"cases": cases, "rows": rows}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Report:
        """A run as it was before `as_json`."""
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
        rest = {n: v for n, v in value.items() if n not in ("cases", "rows", "left_out")}
        left_out = tuple(LeftOut(**x) for x in value["left_out"])
        return cls(**rest, left_out=left_out, measured=tuple(measured))
