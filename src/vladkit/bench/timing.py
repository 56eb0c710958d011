"""Timing in turn, so that a machine whose speed drifts drifts under all that is compared.

A turn of a way is some calls that are not counted, while the threads of the way before it go on
spinning and hold the cores, then calls that are. (A pause instead of calls lets a virtual
machine's cores fall asleep.) OpenBLAS's threads spin for 100 ms after a product, in which `fused`
takes 1.6 ms instead of .56; in the process that `vladkit.bench.run` starts they do for 2.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["FULL", "QUICK", "Plan", "planned", "turns"]


@dataclass(frozen=True)
class Plan:
    """How long things may take, in seconds.

    Parameters
    ----------
    total : float
        For all cases together, once everything is loaded and compiled. Cases share what is left
        of it; each has `least_turns`, so that a slow machine takes longer.
    burn, slot : float
        Of a turn: calls that are not counted (at least one), then calls that are (1 to 20).
    limit : float
        A call that takes longer runs on as many images as take that long, and is scaled.
    limit_alone : float
        The same for cases that are no point of a sweep, the article's among them.
    least_turns, most_turns : int
    """

    total: float
    burn: float
    slot: float
    limit: float
    limit_alone: float
    least_turns: int
    most_turns: int


FULL = Plan(265, 0.05, 0.05, 0.25, 1.0, 3, 7)
QUICK = Plan(15, 0.03, 0.03, 0.03, 0.1, 1, 5)


def planned(second: Mapping[str, float], plan: Plan, seconds: float) -> tuple[dict[str, int], int]:
    """Calls per turn of each way, and turns, for ways whose calls take `second[name]`.

    Examples
    --------
    >>> planned({"fast": 0.001, "slow": 0.25}, FULL, seconds=2)
    ({'fast': 20, 'slow': 1}, 3)
    >>> planned({"fast": 0.001, "slow": 0.25}, FULL, seconds=3)
    ({'fast': 20, 'slow': 1}, 5)
    """
    calls = {name: round(min(20, max(1, plan.slot / s))) for name, s in second.items()}
    one_turn = sum(max(plan.burn, s) + calls[name] * s for name, s in second.items())
    n = int(seconds / max(one_turn, 1e-9))
    return calls, max(plan.least_turns, min(plan.most_turns, n))


def turns(
    ways: Mapping[str, Callable[[], object]],
    calls: Mapping[str, int],
    n: int,
    burn: float,
) -> dict[str, list[float]]:
    """Seconds of each way's counted calls, all ways in turn, `n` times."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(n):
        for name, way in ways.items():
            until = time.perf_counter() + burn
            way()
            while time.perf_counter() < until:
                way()
            for _ in range(calls[name]):
                begin = time.perf_counter()
                way()
                times[name].append(time.perf_counter() - begin)
    return times
