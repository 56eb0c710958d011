"""Constraints of parameters, declared as data, and the one message of those that do not fit.

As scikit-learn's ``_param_validation``; light, because the command reads its options from here.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from vladkit.errors import ParameterError

__all__ = [
    "Constraint",
    "Constraints",
    "Interval",
    "StrOptions",
    "check_parameter",
    "check_parameters",
    "check_type",
    "listed",
    "option",
    "store_checked",
    "wanted",
]


@dataclass(frozen=True)
class Interval:
    """Integers or finite numbers between two bounds; NumPy's are accepted too, booleans never.

    Parameters
    ----------
    kind : int or float
        float accepts integers as well.
    least, most : number or None
        Bounds; None is none.
    closed : {"both", "left", "right", "neither"}
        Bounds that belong to the interval.

    Examples
    --------
    >>> wanted(Interval(int, 1)), wanted(Interval(float, 0, 1, closed="right"))
    ('an integer from 1', 'a number above 0, at most 1')
    """

    kind: type[int] | type[float]
    least: float | None = None
    most: float | None = None
    closed: Literal["both", "left", "right", "neither"] = "both"

    def __contains__(self, value: object) -> bool:
        kind = numbers.Integral if self.kind is int else numbers.Real
        if isinstance(value, bool) or not isinstance(value, kind):
            return False
        number: Any = value
        above = self.least is None or number > self.least or self._holds("left", number, self.least)
        below = self.most is None or number < self.most or self._holds("right", number, self.most)
        return above and below and (self.kind is int or _is_finite(number))

    def _holds(self, side: str, value: float, bound: float) -> bool:
        return self.closed in ("both", side) and value == bound

    def __str__(self) -> str:
        noun = "an integer" if self.kind is int else "a number"
        has_least, has_most = self.closed in ("both", "left"), self.closed in ("both", "right")
        if self.least is None and self.most is None:
            return noun
        if self.least is None:
            return f"{noun} {'up to' if has_most else 'below'} {self.most}"
        least = f"{noun} {'from' if has_least else 'above'} {self.least}"
        if self.most is None:
            return least
        if has_least and has_most:
            return f"{least} to {self.most}"
        return f"{least}, {'at most' if has_most else 'below'} {self.most}"


def _is_finite(number: Any) -> bool:
    """Whether a number is one of floating point: an integer may be larger than all of these."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


class StrOptions:
    """One of a few strings; "" among them stands for none, and messages do not name it.

    Examples
    --------
    >>> wanted(StrOptions("hard", "soft"))
    "'hard' or 'soft'"
    """

    def __init__(self, *options: str) -> None:
        self.options: Final = options

    def __contains__(self, value: object) -> bool:
        return isinstance(value, str) and value in self.options

    def __str__(self) -> str:
        return listed(map(repr, filter(None, self.options)))


Constraint: TypeAlias = Container[Any] | type[Any] | None
"""One way in which a value fits: in an interval, among a few strings or in another container whose
``str`` names its values; bool or str; None; object is anything, for what is checked elsewhere."""

Constraints: TypeAlias = Constraint | tuple[Constraint, ...]
"""Ways in which a value fits, of which one is enough."""


def listed(names: Iterable[str]) -> str:
    """Names as text: ``a``, ``a or b``, ``a, b or c``."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def wanted(constraint: Constraints) -> str:
    """Values that fit, in the words of a message.

    Examples
    --------
    >>> wanted((Interval(int, 16), None))
    'an integer from 16 or None'
    """
    each = constraint if isinstance(constraint, tuple) else (constraint,)
    return listed(_NOUNS[c] if isinstance(c, type) else str(c) for c in each)


_NOUNS: Final[dict[type[Any], str]] = {
    bool: "True or False",
    str: "a string",
    object: "anything",
}


def check_parameter(name: str, value: Any, constraint: Constraints) -> Any:
    """Check a parameter; returns its value, a NumPy number as Python's, for JSON.

    Raises
    ------
    ParameterError
        The value does not fit.

    Examples
    --------
    >>> check_parameter("sigma", 2, Interval(float, 0))
    2.0
    >>> check_parameter("n_clusters", 0, Interval(int, 1))
    Traceback (most recent call last):
    ...
    vladkit.errors.ParameterError: n_clusters=0: wanted an integer from 1
    """
    for each in constraint if isinstance(constraint, tuple) else (constraint,):
        if each is None:
            if value is None:
                return value
        elif isinstance(each, type):
            if isinstance(value, each):
                return value
        elif value in each:
            return each.kind(value) if isinstance(each, Interval) else value
    raise ParameterError(f"{name}={value!r}: wanted {wanted(constraint)}")


def check_type(name: str, value: object, kind: type[Any], source: str) -> None:
    """Check that an argument is an object of a class of ours; `source` says what gives one.

    Raises
    ------
    ParameterError
        The value is another object.

    Examples
    --------
    >>> check_type("query", "a.jpg", dict, "json.loads")
    Traceback (most recent call last):
    ...
    vladkit.errors.ParameterError: query is a str, wanted dict: what json.loads gives
    """
    if not isinstance(value, kind):
        raise ParameterError(
            f"{name} is a {type(value).__name__}, wanted {kind.__name__}: what {source} gives"
        )


def check_parameters(owner: object, constraints: Mapping[str, Constraints]) -> dict[str, Any]:
    """Attributes of an object that have a constraint, as `check_parameter` gives them."""
    return {
        name: check_parameter(name, getattr(owner, name), constraint)
        for name, constraint in constraints.items()
    }


def store_checked(owner: object, constraints: Mapping[str, Constraints]) -> None:
    """Check the attributes of a frozen dataclass, and store them as `check_parameter` gives them.

    So 10 and 10.0 are not two different parameters in a file.
    """
    for name, value in check_parameters(owner, constraints).items():
        object.__setattr__(owner, name, value)


def option(
    default: Any, text: str = "", *, flag: str | None = None, constraint: Constraints = object
) -> Any:
    """A field of a dataclass that says what fits it and how the command offers it.

    Parameters
    ----------
    default : object
        Default of the field.
    text : str
        One line for ``--help``, without the default.
    flag : str or None
        Name of the command's option; None: the command has none.
    constraint : Constraint or tuple of them
        Values that fit.

    Returns
    -------
    dataclasses.Field
        Its ``metadata`` holds ``help``, ``flag`` and ``constraint``.
    """
    metadata = {"help": text, "flag": flag, "constraint": constraint}
    return dataclasses.field(default=default, metadata=metadata)
