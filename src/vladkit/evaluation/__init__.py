"""Evaluation of retrieval: metrics and the data sets of the field.

Metrics of plain arrays are here; `vladkit.evaluation.metrics` has those of ranks, too.
"""

from vladkit.evaluation.metrics import (
    find_ranks,
    mean_average_precision,
    mean_precision_at,
    order_of,
    recall_at,
)

__all__ = ["find_ranks", "mean_average_precision", "mean_precision_at", "order_of", "recall_at"]
