"""Constraints of parameters: what fits, and the one message of what does not."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

import numpy as np
import pytest

from vladkit.collection.recipe import Recipe
from vladkit.core.params import (
    Interval,
    StrOptions,
    check_parameter,
    check_parameters,
    option,
    wanted,
)
from vladkit.errors import ParameterError


@pytest.mark.parametrize(
    ("constraint", "fits", "does_not", "text"),
    [
        (Interval(int, 1), [1, 10**400, np.int64(3)], [0, 1.0, True, "1"], "an integer from 1"),
        (Interval(int, 0, 9), [0, 9], [-1, 10, np.float32(2)], "an integer from 0 to 9"),
        (Interval(int), [-1, 0], [0.5], "an integer"),
        (
            Interval(float, 0, 1),
            [0, 1, 0.5, np.float32(0.5)],
            [-0.1, 1.1, float("nan"), False, "x", 1j],
            "a number from 0 to 1",
        ),
        (Interval(float, 0, 1, "right"), [0.1, 1], [0, 2], "a number above 0, at most 1"),
        (Interval(float, 0, 1, "left"), [0, 0.9], [1], "a number from 0, below 1"),
        (Interval(float, 0, None, "neither"), [1e9], [0, float("inf")], "a number above 0"),
        (Interval(float, None, 3), [-9, 3], [4, -float("inf")], "a number up to 3"),
        (Interval(float), [2**1000], [10**400, -(10**400)], "a number"),
        (StrOptions("a", "b", "c"), ["a", "c"], ["d", 1, ["a"]], "'a', 'b' or 'c'"),
        (bool, [True, False], [1, None], "True or False"),
        (str, ["", "x"], [1], "a string"),
        ((Interval(int, 1), StrOptions("cell"), None), [1, "cell", None], [0, "x"],
         "an integer from 1, 'cell' or None"),
    ],
)  # fmt: skip
def test_fits_or_says_what_was_wanted(constraint, fits, does_not, text):
    assert wanted(constraint) == text
    for value in fits:
        assert check_parameter("x", value, constraint) == value
    for value in does_not:
        with pytest.raises(ParameterError) as caught:
            check_parameter("x", value, constraint)
        assert str(caught.value) == f"x={value!r}: wanted {text}"


def test_numbers_become_those_of_python():
    assert type(check_parameter("x", np.int8(1), Interval(int))) is int
    assert type(check_parameter("x", np.float32(1), Interval(float))) is float
    assert type(check_parameter("x", 1, Interval(float))) is float
    assert type(check_parameter("x", 1, (Interval(int), None))) is int


def test_attributes_are_checked_together():
    @dataclass
    class Owner:
        a: int = option(2, "Number of a.", flag="--a", constraint=Interval(int, 1))

    (field,) = fields(Owner)
    assert field.metadata["help"] == "Number of a."
    assert field.metadata["flag"] == "--a"
    limits = {"a": field.metadata["constraint"]}
    assert check_parameters(Owner(), limits) == {"a": 2}
    with pytest.raises(ParameterError, match="a=0: wanted an integer from 1"):
        check_parameters(Owner(0), limits)


def test_every_field_of_a_recipe_has_a_constraint_that_its_default_fits():
    flags = []
    for field in fields(Recipe):
        check_parameter(field.name, field.default, field.metadata["constraint"])
        if field.metadata["flag"]:
            assert field.metadata["help"].endswith("."), field.name
            assert len(field.metadata["help"]) <= 72, field.name
            flags.append(field.metadata["flag"])
    assert len(flags) == len(set(flags)) == 21


def test_a_recipe_holds_numbers_of_python():
    given = {"n_clusters": np.int64(8), "position": np.float32(0.5), "max_side": np.int16(200)}
    kept = Recipe.make(given).as_json()
    assert [type(kept[name]) for name in given] == [int, float, int]
    assert Recipe.make(json.loads(json.dumps(kept))) == Recipe.make(given)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("n_clusters", 0, "an integer from 1"),
        ("n_vocabularies", 1.0, "an integer from 1"),
        ("orientation", 11, "a number from 0 to 10"),
        ("dtype", "float64", "'float16' or 'float32'"),
        ("keep_sums", 1, "True or False"),
        ("max_side", 15, "an integer from 16 to 100000 or None"),
        ("contrast_threshold", "low", "a number from 0 to 1"),
    ],
)
def test_a_recipe_refuses(name, value, text):
    with pytest.raises(ParameterError) as caught:
        Recipe.make({name: value})
    assert str(caught.value) == f"{name}={value!r}: wanted {text}"
