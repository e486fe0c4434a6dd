"""Every shipped config builds, and improves in its own direction."""

import itertools
import math
from pathlib import Path

import pytest

from rlgrad import updates
from rlgrad.config import load_config
from rlgrad.errors import UsageError
from rlgrad.usage import SHIPPED

WITHOUT_DATA = ("textbook", "horse_colic")  # these are trained in test_textbook.py, where their data is
NAMES = sorted(path.stem for path in SHIPPED.glob("*.yaml") if not path.stem.startswith(WITHOUT_DATA))


FEW = {"critic.epochs": 3, "critic.minibatches": 3}
# Smaller where episodes are long, and longer where the first reward comes late, or the critic has to learn first.
SETTINGS = {
    "acrobot": {"replicas": 1, "episodes": 8, "updates": 10},
    "frozen_lake": {"replicas": 4, "updates": 24},
    "half_cheetah": {"replicas": 1, "episodes": 2, "environment_options.max_episode_steps": 300, "updates": 5, **FEW},
    "hopper": {"replicas": 1, "episodes": 6, "segment": 64, "updates": 5, **FEW},
    "inverted_pendulum": {"replicas": 4, "updates": 6},
    "lunar_lander": {"replicas": 1, "episodes": 4, "updates": 2},
    "ppo_cartpole": {"replicas": 4, "updates": 4},
    "walker2d": {"replicas": 1, "batch_steps": 300, "updates": 5, **FEW},
    "pendulum": {"replicas": 2, "episodes": 8, "updates": 4},
    "pong": {"episodes": 2, "segment": 8, "updates": 2},
}
# These improve within hundreds of updates only, as benchmarks/configs.py shows, or within hours: here they have to run.
SLOW = ("pendulum", "lunar_lander", "pong")


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_config_improves_in_its_own_direction(name: str) -> None:
    settings = SETTINGS.get(name, {}).copy()
    few = settings.pop("updates", 8)
    try:
        problem, optimizer, schedule = load_config(name, settings).build()
    except UsageError as error:
        if "install the extra" in str(error):
            pytest.skip(str(error))
        raise
    values = []
    for update in itertools.islice(updates(problem, optimizer), few):
        values.append(update.value.mean())
        if schedule:
            schedule.step()
    first, last = sum(values[:2]), sum(values[-2:])
    assert math.isfinite(last)
    assert name in SLOW or problem.direction.sign * (last - first) > 0


def test_what_is_trained_for_the_table_of_results_are_configs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every task and every way to learn; they are only read here."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import learning

    for task, column in itertools.product(learning.asked()["tasks"], learning.COLUMNS):
        settings = load_config(learning.settings_of(task, column)).settings
        assert (settings.steps, settings.environment) == (learning.asked()["tasks"][task]["budgets"][-1], task)
