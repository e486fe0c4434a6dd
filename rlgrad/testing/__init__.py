"""For tests, ours and yours: what code that learns from segments must get right."""

from rlgrad.testing.conformance import CASES, Learned, conformance, envpool_conformance, expected, script, vectors

__all__ = ["CASES", "Learned", "conformance", "envpool_conformance", "expected", "script", "vectors"]
