"""Environments, many copies at a time: R replicas of B episodes each.

`make` finds the fastest form of a Gymnasium id: one of ours where there is one (tested step for step against
Gymnasium's), and otherwise Gymnasium's own, one copy after the other. Both begin their episodes from the replicas'
streams, so what replica k plays does not depend on how many others play beside it.
"""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import gymnasium

from rlgrad.environments.classic import Acrobot, CartPole, MountainCar, MountainCarContinuous, Pendulum
from rlgrad.environments.held import Held
from rlgrad.environments.interface import Continuing, Environments, Transition
from rlgrad.environments.mdp import MDPS, LinearQuadratic
from rlgrad.environments.small import Regulators, TabularEnvironments
from rlgrad.environments.toy_text import Tables
from rlgrad.environments.vector import GymnasiumEnvironments, VectorEnvironments
from rlgrad.errors import SettingError, blame, called

__all__ = [
    "OURS", "Continuing", "Environments", "GymnasiumEnvironments", "Simulator", "Transition", "VectorEnvironments",
    "describe", "given_id", "make", "register",
]  # fmt: skip

Simulator = Literal["auto", "gymnasium", "vector", "envpool"]

EXTRAS = ("box2d", "mujoco")  # of this project and of Gymnasium, by the same names

OURS: dict[str, Callable[[int], Environments]] = {  # by the number of copies
    "Acrobot-v1": Acrobot,
    "CartPole-v1": CartPole,
    "MountainCar-v0": MountainCar,
    "MountainCarContinuous-v0": MountainCarContinuous,
    "Pendulum-v1": Pendulum,
    **{id: partial(Tables, id) for id in ("CliffWalking-v1", "FrozenLake-v1", "FrozenLake8x8-v1")},
}

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


def make(
    id: str,
    replicas: int,
    episodes: int,
    *,
    options: Mapping[str, Any],
    simulator: Simulator = "auto",
    action_repeat: int = 1,
    continuing: bool = False,
) -> Environments:
    """`episodes` copies of the environment for each of the replicas.

    options: keyword arguments of the environment (an environment of ours has none, so any calls for Gymnasium's).
    simulator: auto: ours if there is one, else Gymnasium's; gymnasium: one copy after the other; vector: the vector
    form that the environment brings itself; envpool: that of the package envpool.
    action_repeat: for how many steps each action is held.
    continuing: whether its copies have to be `Continuing`, which some of ours are not.

    Raises SettingError where the environment has no such form.
    """
    made: Environments | None = None
    if simulator == "auto" and not options and id in OURS:
        made = OURS[id](replicas * episodes)
    elif simulator == "vector":
        made = VectorEnvironments(partial(vector_form, id, options), replicas, episodes)
    elif simulator == "envpool":
        made = VectorEnvironments(partial(pool, id, options), replicas, episodes, anew=True)
    if made is None or (continuing and not isinstance(made, Continuing)):
        made = GymnasiumEnvironments(id, replicas * episodes, options)
    return made if action_repeat == 1 else Held(made, action_repeat)


def given_id(factory: Callable[..., Any]) -> str:
    """The id of an environment that is given as a class or a function."""
    return f"given/{re.sub(r'[^a-zA-Z0-9_.]+', '_', called(factory))}-v0"


def register(factory: Callable[..., Any]) -> str:
    """Register an environment that is given as a class or a function, anew if it was registered before: its id."""
    id = given_id(factory)
    gymnasium.registry.pop(id, None)
    gymnasium.register(id, entry_point=factory)
    return id


def vector_form(id: str, options: Mapping[str, Any], seeds: Sequence[int]) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    if gymnasium.spec(id).vector_entry_point is None:
        raise SettingError(("simulator",), f"{id} brings no vector form of its own: use auto or gymnasium")
    return gymnasium.make_vec(id, num_envs=len(seeds), vectorization_mode="vector_entry_point", **options)


def pool(id: str, options: Mapping[str, Any], seeds: Sequence[int]) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    try:
        import envpool
    except ImportError as error:
        raise SettingError(("simulator",), "envpool is not installed: pip install 'rlgrad[envpool]'") from error
    with warnings.catch_warnings(action="ignore"):
        try:
            made: Any = envpool.make(id, env_type="gymnasium", num_envs=len(seeds), seed=list(seeds), **options)
        except (AssertionError, TypeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise SettingError(("simulator",), f"envpool cannot make {id}: {reason}") from error
    return made  # type: ignore[no-any-return]


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
    except gymnasium.error.DependencyNotInstalled as error:
        named = re.search(rf"gymnasium\[({'|'.join(EXTRAS)})\]", str(error))
        how = f"install the extra: pip install 'rlgrad[{named[1]}]'" if named else " ".join(str(error).split())
        raise SettingError(("environment",), f"{id} needs what is not installed; {how}") from error
    except Exception as error:  # an environment may raise anything
        text = " ".join(str(error).split())
        reason = (
            text if isinstance(error, gymnasium.error.Error | ImportError | TypeError | ValueError) else blame(error)
        )
        message = f"Gymnasium cannot make {id!r}: {reason}"
        raise SettingError(("environment",), message) from error
