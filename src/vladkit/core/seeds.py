"""Random seeds for libraries that take fewer of them than vladkit does."""

from __future__ import annotations

import numpy as np

__all__ = ["seed_of_31_bits"]


def seed_of_31_bits(seed: int) -> int:
    """Seed that faiss and scikit-learn take: the same below 2^31, else a hash of all its digits.

    That two seeds give one is no likelier than for numbers drawn at random, 1 in 2^31; the lowest
    31 bits alone are 0 for each multiple of 2^31.

    Examples
    --------
    >>> seed_of_31_bits(7), seed_of_31_bits(2**40) == seed_of_31_bits(2**70)
    (7, False)
    """
    if seed < 2**31:
        return int(seed)
    return int(np.random.SeedSequence(int(seed)).generate_state(1)[0] >> 1)
