"""Panics of libraries in Rust: errors that Python's ``except Exception`` lets through."""

__all__ = ["is_panic"]


def is_panic(error: BaseException) -> bool:
    """Tell whether an error is a panic of Rust, as pyo3 raises it: no ``Exception``, but no end.

    Examples
    --------
    >>> is_panic(KeyboardInterrupt())
    False
    """
    return type(error).__name__ == "PanicException"
