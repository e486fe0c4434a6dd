"""Every shipped config builds, and improves in its own direction."""

import itertools

import pytest

from rlgrad import updates
from rlgrad.config import SHIPPED, load

WITHOUT_DATA = ("textbook", "horse_colic")  # these are trained in test_textbook.py, where their data is
NAMES = sorted(path.stem for path in SHIPPED.glob("*.yaml") if not path.stem.startswith(WITHOUT_DATA))


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_config_improves_in_its_own_direction(name: str) -> None:
    config = load(name)
    problem, optimizer, schedule = config.build()
    values = []
    for update in itertools.islice(updates(problem, optimizer), 8):
        values.append(update.value.mean())
        if schedule:
            schedule.step()
    first, last = sum(values[:2]), sum(values[-2:])
    assert problem.direction.sign * (last - first) > 0
