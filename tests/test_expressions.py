"""Expressions mean what Python's own arithmetic says they mean, and nothing but arithmetic gets in."""

import ast
import builtins
import math
import time

import numpy as np
import pytest
import torch

from rlgrad.surfaces.calculus import derivatives
from rlgrad.surfaces.expressions import CONSTANTS, FUNCTIONS, MAX_DEPTH, MAX_LENGTH, PAIRS, ExpressionError, parse


def at(text, *point, variables=None):
    return parse(text, variables)(torch.tensor(point, dtype=torch.float64)).item()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x**2 + 3*y**2", 1.3**2 + 3 * 0.7**2),
        ("-x**2 + y", -(1.3**2) + 0.7),  # a power binds closer than a sign
        ("(-x)**2 + y", 1.3**2 + 0.7),
        ("2**3**x + y", 2 ** (3**1.3) + 0.7),  # powers associate to the right
        ("x - y - 1", 1.3 - 0.7 - 1),
        ("x / y / 2", 1.3 / 0.7 / 2),
        ("+x*y**-1.5", 1.3 * 0.7**-1.5),
        ("x**y + 1e-3", 1.3**0.7 + 1e-3),
        ("x + 1/2*pi - y*e", 1.3 + math.pi / 2 - 0.7 * math.e),
        ("minimum(x, y) + 2*maximum(x, 3*y)", 0.7 + 2 * 2.1),
        ("  x +\n   y ", 2.0),
    ],
)
def test_value(text, expected):
    assert at(text, 1.3, 0.7) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_those_of_numpy(name):
    reference = {"sigmoid": lambda x: 1 / (1 + np.exp(-x)), "atan": np.arctan}.get(name) or getattr(np, name)
    for x in (0.3, 1.0, 2.5):
        assert at(f"{name}(x)", x) == pytest.approx(float(reference(x)), rel=1e-14)


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("sin(x)*exp(-x**2)", lambda x: (math.cos(x) - 2 * x * math.sin(x)) * math.exp(-(x**2)), None),
        ("x**3", lambda x: 3 * x**2, lambda x: 6 * x),
        ("log(cosh(x))", math.tanh, lambda x: 1 / math.cosh(x) ** 2),
        ("cbrt(x)", lambda x: abs(x) ** (-2 / 3) / 3, lambda x: -2 / 9 * np.sign(x) * abs(x) ** (-5 / 3)),
        ("sqrt(1 + x**2)", lambda x: x / math.sqrt(1 + x * x), lambda x: (1 + x * x) ** -1.5),
        ("2**x", lambda x: math.log(2) * 2**x, lambda x: math.log(2) ** 2 * 2**x),
    ],
)
def test_derivatives_in_closed_form(text, first, second):
    for x in (-1.7, -0.2, 0.4, 2.0):
        _, gradient, hessian = derivatives(parse(text), torch.tensor([[x]], dtype=torch.float64))
        assert gradient.item() == pytest.approx(first(x), rel=1e-12)
        if second:
            assert hessian.item() == pytest.approx(second(x), rel=1e-12)


def test_cube_root_is_odd_and_vertical_at_zero():
    values, gradient, _ = derivatives(parse("cbrt(x)"), torch.tensor([[-27.0], [0.0], [27.0]], dtype=torch.float64))
    assert values.tolist() == pytest.approx([-3, 0, 3], rel=1e-15)
    assert gradient[1].item() == math.inf
    assert gradient[0] == gradient[2] == pytest.approx(1 / 27)


def test_many_points_at_once_and_the_order_of_variables():
    points = torch.arange(12, dtype=torch.float64).reshape(2, 3, 2)
    assert parse("a - 2*b").variables == ("a", "b")
    assert torch.equal(parse("b - 2*a", ["b", "a"])(points), points[..., 0] - 2 * points[..., 1])
    assert at("x + 1", 2, 5, variables=["x", "unused"]) == 3


NASTY = [
    "__import__('os')", "__import__('os').system('true')", "x.__class__", "x.__class__.__bases__[0]", "().__class__",
    "[x for x in y]", "{x for x in y}", "{x: y}", "(x for x in y)", "lambda: 0", "(lambda: 0)()", "(y := x)",
    "f'{x}'", "'x'", "b'x'", "x[0]", "x[0:1]", "*x", "x, y", "[x]", "x if y else 1", "x and y", "not x", "~x", "x @ y",
    "x // 2", "x % 2", "x << 2", "x | y", "x < y", "x == y", "x in y", "None", "True + x", "x**True", "...", "1j*x",
    "await x", "yield x", "sin(x=x)", "sin(*x)", "sin(x)(y)", "sin()", "sin(x, y)", "minimum(x)", "sin", "x + cos",
    "eval(x)", "exec(x)", "open(x)", "getattr(x, y)", "x; y", "x = 1", "import os", "", " ", "#", "x +", "(x", "x)",
    "x y", "2x", "x\0", "x + \ud800", "𝔁 + 1", "х**2", "x²", "e + pi", "3", "10**10**10", "9**9**9**9", "x + 1e999",
    "x + " + "9" * 400, "x^2", "x + 1_0_", "x" * 5000, "9" * 5000, "(" * 400 + "x" + ")" * 400, "-" * 400 + "x",
    "+".join("x" * 400), "sin(" * 150 + "x" + ")" * 150, "\\", "`x`", "$x", "x!", "x?", "0777 + x", "0x + x",
]  # fmt: skip


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_nasty_expressions_are_refused_in_one_short_line(text, monkeypatch):
    for name in ("eval", "exec"):
        monkeypatch.setattr(builtins, name, lambda *_: pytest.fail("executed"))
    began = time.perf_counter()
    with pytest.raises(ExpressionError) as error:
        parse(text)
    assert time.perf_counter() - began < 1
    message = str(error.value)
    assert "\n" not in message
    assert 0 < len(message) < 300


def test_only_floats_are_computed_with():
    """As integers of Python these would fill the memory; as floats they are infinite at once."""
    assert at("x + 10**10**10", 1) == math.inf
    assert at("x + 9**9**9**9", 1) == math.inf
    assert at("(((x**99)**99)**99)**99", 3) == math.inf


def test_limits_are_no_tighter_than_said():
    assert at("+".join("x" * MAX_DEPTH), 1) == MAX_DEPTH
    with pytest.raises(ExpressionError, match="deep"):
        parse("+".join("x" * (MAX_DEPTH + 1)))
    assert at("(" + "x" * (MAX_LENGTH - 2) + ")", 4) == 4
    with pytest.raises(ExpressionError, match="characters"):
        parse("(" + "x" * (MAX_LENGTH - 1) + ")")


@pytest.mark.parametrize(
    ("text", "variables", "says"),
    [
        ("sni(x)", None, "no function 'sni'; did you mean sin"),
        ("max(x, y)", None, "maximum"),
        ("alpha + bete", ["alpha", "beta"], "no variable 'bete'; did you mean beta"),
        ("x + y.real", None, "'y.real'"),
        ("x^2", None, "written \\*\\*"),
        ("sin + x", None, "sin is a function"),
        ("x", ["pi", "x"], "'pi' cannot be the name"),
        ("x", ["x y", "x"], "'x y' cannot be the name"),
        ("x²", None, "'²'"),
    ],
)
def test_errors_name_the_piece(text, variables, says):
    with pytest.raises(ExpressionError, match=says):
        parse(text, variables)


def test_names_are_disjoint():
    assert not set(FUNCTIONS) & set(PAIRS)
    assert not (set(FUNCTIONS) | set(PAIRS)) & set(CONSTANTS)
    assert all(isinstance(ast.parse(name, mode="eval").body, ast.Name) for name in {*FUNCTIONS, *PAIRS, *CONSTANTS})
