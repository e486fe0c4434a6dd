"""For tests, ours and yours: what code that learns from segments must get right, and what a problem must keep."""

from rlgrad.testing.conformance import CASES, Learned, conformance, envpool_conformance, expected, script, vectors
from rlgrad.testing.problem import check_problem

__all__ = [
    "CASES", "Learned", "check_problem", "conformance", "envpool_conformance", "expected", "script", "vectors",
]  # fmt: skip
