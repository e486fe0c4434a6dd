"""Environments, many copies at a time: R replicas of B episodes each.

`make` finds the fastest form of a Gymnasium id: one of ours where there is one (tested step for step against
Gymnasium's), and otherwise Gymnasium's own, one copy after the other. Both begin their episodes from the replicas'
streams, so what replica k plays does not depend on how many others play beside it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gymnasium

from rlgrad.environments.classic import CartPole
from rlgrad.environments.interface import Environments, Transition
from rlgrad.environments.small import Regulators, TabularEnvironments
from rlgrad.environments.vector import GymnasiumEnvironments
from rlgrad.mdp import MDPS, LinearQuadratic
from rlgrad.settings import SettingError

__all__ = ["OURS", "Environments", "Transition", "describe", "make"]

OURS: dict[str, Callable[[int], Environments]] = {"CartPole-v1": CartPole}  # by the number of copies

for _name, _mdp in MDPS.items():
    gymnasium.register(
        f"rlgrad/{_name}-v0",
        "rlgrad.environments.small:Tabular",
        max_episode_steps=_mdp.steps,
        kwargs={"name": _name},
    )
    OURS[f"rlgrad/{_name}-v0"] = partial(TabularEnvironments, _mdp)

gymnasium.register(
    "rlgrad/LinearQuadratic-v0", "rlgrad.environments.small:Regulator", max_episode_steps=LinearQuadratic().steps
)
OURS["rlgrad/LinearQuadratic-v0"] = Regulators


def make(id: str, replicas: int, episodes: int, *, options: Mapping[str, Any], ours: bool = True) -> Environments:
    """`episodes` copies of the environment for each of the replicas.

    options: keyword arguments of the environment (an environment of ours has none, so any calls for Gymnasium's).
    ours: False asks for Gymnasium's environment even where there is one of ours.
    """
    if ours and not options and id in OURS:
        return OURS[id](replicas * episodes)
    return GymnasiumEnvironments(id, replicas * episodes, options)


def describe(id: str, options: Mapping[str, Any]) -> gymnasium.Env:
    """One copy, for its spaces and its specification. Raises SettingError in one line if it cannot be made."""
    if ":" in id:
        message = f"{id!r} would import a module, and a config runs no code; name an environment that is registered"
        raise SettingError(("environment",), message)
    try:
        return gymnasium.make(id, **options)
    except gymnasium.error.UnregisteredEnv as error:
        message = f"Gymnasium knows no environment {id!r}"
        raise SettingError(("environment",), message, gymnasium.registry, id) from error
    except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
        message = f"Gymnasium cannot make {id!r}: {' '.join(str(error).split())}"
        raise SettingError(("environment",), message) from error
