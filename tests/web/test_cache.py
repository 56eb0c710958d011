"""The cache of values that were used last."""

from __future__ import annotations

from vladkit.web.cache import Cache


def test_cache():
    cache = Cache[str](max_bytes=10)
    cache.put("a", "A", 6)
    cache.put("b", "B", 4)
    assert cache.get("a") == "A"
    cache.put("c", "C", 4)  # b was used longest ago
    assert [cache.get(name) for name in "abc"] == ["A", None, "C"]
    cache.put("a", "AA", 11)  # too large: not kept, and the old one is gone
    assert cache.get("a") is None
    cache.put("d", "D", 6)
    assert [cache.get(name) for name in "cd"] == ["C", "D"]
