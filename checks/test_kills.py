"""A run survives fifty kills without warning, each at a random moment."""

from pathlib import Path

from tests.conftest import one_core, one_thread  # noqa: F401
from tests.run.test_kills import survive


def test_a_run_killed_at_random_instants_ends_in_the_same_bits(tmp_path: Path) -> None:
    survive(50, tmp_path)
