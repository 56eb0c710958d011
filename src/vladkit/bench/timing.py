"""Timing in turn, so that changes in the speed of a machine affect all ways alike.

A turn of a way is some calls that are not timed, while threads of the previous way still spin and
occupy the cores, then calls that are timed. (A pause instead of calls lets the cores of a virtual
machine fall asleep.) Threads of OpenBLAS spin for 100 ms after a product, in which `fused` takes
1.6 ms instead of 0.56; in the process that `vladkit.bench.run` starts they spin for 2 ms.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["ARTICLE_PLAN", "FULL", "QUICK", "Plan", "planned", "turns"]


@dataclass(frozen=True)
class Plan:
    """Time limits in seconds.

    Parameters
    ----------
    total : float
        Time for all cases together, after loading and compiling. Cases share the time that is
        left; each has `least_turns`, so that a slow machine takes longer.
    burn, slot : float
        Times in a turn: for calls that are not timed (at least one), then for 1 to 20 that are.
    limit : float
        Longest call; a longer one runs on fewer images, and its time is scaled.
    limit_alone : float
        Longest call for cases outside of the sweeps, such as the article's.
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
ARTICLE_PLAN = Plan(25, 0.03, 0.03, 0.1, 0.5, 2, 7)  # and as long for the sums


def planned(second: Mapping[str, float], plan: Plan, seconds: float) -> tuple[dict[str, int], int]:
    """Calls per turn of each way, and number of turns, from the seconds that a call takes.

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
    """Seconds of the timed calls of each way; all ways run in turn, `n` times."""
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
