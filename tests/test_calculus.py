"""Derivatives against closed forms and finite differences; what a point is, and how a function curves."""

import math

import pytest
import torch

from rlgrad.surfaces.calculus import Kind, classify, curvature, derivatives, eigenvalues, kinked
from rlgrad.surfaces.expressions import parse


def tensor(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_rosenbrock_in_closed_form():
    points = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x, y = points.unbind(1)
    value, gradient, hessian = derivatives(parse("(1 - x)**2 + 100*(y - x**2)**2"), points)
    torch.testing.assert_close(value, (1 - x) ** 2 + 100 * (y - x * x) ** 2)
    torch.testing.assert_close(gradient, torch.stack([-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)], 1))
    rows = [2 - 400 * (y - 3 * x * x), -400 * x, -400 * x, torch.full_like(x, 200)]
    torch.testing.assert_close(hessian, torch.stack(rows, 1).reshape(-1, 2, 2))


@pytest.mark.parametrize("text", ["sin(x)*exp(-y**2) + z*x", "log(2 + tanh(x*y)) + cosh(z)", "x**y * sqrt(z)"])
def test_finite_differences(text):
    function = parse(text)
    points = 0.5 + torch.rand(10, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    _, gradient, hessian = derivatives(function, points)
    for d, step in enumerate(1e-5 * torch.eye(3, dtype=torch.float64)):
        torch.testing.assert_close(
            gradient[:, d], (function(points + step) - function(points - step)) / 2e-5, rtol=1e-7, atol=1e-8
        )
        ahead, behind = (derivatives(function, points + sign * step).gradient for sign in (1, -1))
        torch.testing.assert_close(hessian[:, d], (ahead - behind) / 2e-5, rtol=1e-7, atol=1e-8)


def test_linear_and_unused_variables():
    value, gradient, hessian = derivatives(parse("2*x", ["x", "y"]), tensor([3, 4], [5, 6]))
    assert value.tolist() == [6, 10]
    assert gradient.tolist() == [[2, 0], [2, 0]]
    assert not hessian.any()


def test_eigenvalues_where_a_hessian_is_not_finite():
    found = eigenvalues(tensor([[2, 1], [1, 2]], [[math.inf, 0], [0, 1]]))
    assert found[0].tolist() == pytest.approx([1, 3])
    assert found[1].isnan().all()


@pytest.mark.parametrize(
    ("gradient", "spectrum", "kind"),
    [
        ([0, 0], [1, 2], Kind.MINIMUM),
        ([0, 0], [-2, -1], Kind.MAXIMUM),
        ([0, 0], [-1, 1], Kind.SADDLE),
        ([0, 0], [0, 1], Kind.DEGENERATE),
        ([0, 0], [-1, 0], Kind.DEGENERATE),
        ([0, 0], [0, 0], Kind.DEGENERATE),
        ([1e-7, 0], [1e-7, 1], Kind.DEGENERATE),  # both within the tolerance
        ([1e-3, 0], [1, 2], Kind.NONE),
        ([math.inf, 0], [1, 2], Kind.KINK),
        ([math.nan, 0], [1, 2], Kind.KINK),
        ([0, 0], [math.nan, math.nan], Kind.DEGENERATE),
    ],
)
def test_classify(gradient, spectrum, kind):
    assert classify(tensor(gradient), tensor(spectrum), 1e-6) == [kind]
    assert classify(tensor(gradient, [0, 0]), tensor(spectrum, [1, 1]), 1e-6) == [kind, Kind.MINIMUM]


@pytest.mark.parametrize(
    ("text", "point", "expected"),
    [
        ("abs(x)", 0, True),
        ("abs(x)", 5e-5, True),
        ("abs(x)", 0.01, False),
        ("-abs(x) + x**2", 0, True),
        ("maximum(x, 0*x)", 0, True),
        ("cbrt(x)**2", 1e-9, True),
        ("x**2", 0, False),
        ("1000*x**2", 0, False),
        ("x*abs(x)", 0, False),  # its gradient is continuous
        ("x**4", 0, False),
        ("sin(50*x)", 0.3, False),
    ],
)
def test_kinks(text, point, expected):
    assert kinked(parse(text), tensor([point]), 1e-4).tolist() == [expected]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x**2 + 3*y**2", "convex"),
        ("-(x**2 + 3*y**2)", "concave"),
        ("x**2 - y**2", "neither convex nor concave"),
        ("2*x - y", "linear"),
        ("abs(x) + y", "convex"),  # all its Hessians are zero: the chords tell
        ("minimum(x, y)", "concave"),
        ("abs(x) - abs(y)", "neither convex nor concave"),
        ("cbrt(x)**2 + y", "neither convex nor concave"),  # concave on either side, but not across
        ("x**4 + y**4", "convex"),
        ("exp(x + y)", "convex"),
        ("(1 - x)**2 + 100*(y - x**2)**2", "neither convex nor concave"),
        ("sqrt(-1 - x**2 - y**2)", "undefined"),
    ],
)
def test_curvature(text, says):
    assert str(curvature(parse(text), tensor([-2, 2], [-1, 3]))) == says


def test_curvature_says_where_it_was_checked():
    whole, half = (curvature(parse("x**3"), tensor([low, 2])) for low in (-2, 0))
    assert (str(whole), str(half)) == ("neither convex nor concave", "convex")
    assert -12 <= whole.lowest < -11.5
    assert 11.5 < whole.highest <= 12
    logarithm = curvature(parse("log(x)"), tensor([-1, 1]), points=100)
    assert str(logarithm) == "concave"
    assert 45 <= logarithm.points <= 55
