"""For tests, ours and yours: checks of code that learns from segments, and checks of a problem."""

from rlgrad.testing.conformance import CASES, Learned, conformance, envpool_conformance, expected, script, vectors
from rlgrad.testing.problem import check_problem

__all__ = [
    "CASES", "Learned", "check_problem", "conformance", "envpool_conformance", "expected", "script", "vectors",
]  # fmt: skip
