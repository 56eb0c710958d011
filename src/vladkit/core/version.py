"""Version of the package, by itself, so that every module may read it."""

__all__ = ["__version__"]

__version__ = "0.2.0"
