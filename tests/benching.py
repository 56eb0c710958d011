"""Processes of `vladkit bench` that end soon: each way once, without libraries not asked for."""

from __future__ import annotations

from vladkit.bench import run

_ONCE = (
    "from vladkit.bench import machine, timing; machine._COPY_BYTES = 2**20; "
    "timing.QUICK = timing.Plan(15, 0, 0.001, 0.03, 0.1, 1, 1); "
)
_WORKER = "from vladkit.bench.worker"

QUICKER = run._START.replace(_WORKER, _ONCE + _WORKER)
"""How often each way is timed in a real run is `planned`'s business."""

WITHOUT_PEERS = QUICKER.replace(_ONCE, "sys.modules['sklearn'] = None; " + _ONCE)
"""Importing scikit-learn takes 3 s, for a loop to compare with."""
