"""Environments, many copies at a time: R replicas of B episodes each.

`make` returns the fastest form of a Gymnasium id. That is our own form if there is one, and if the id still stands for
the environment that this form was tested against, step for step. Otherwise it is Gymnasium's, one copy after the other.
Both begin their episodes from the replicas' streams, so what replica k plays does not depend on how many others play
beside it.
"""

import copy
import inspect
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator

from rlgrad.environments.around import NOTHING, Around
from rlgrad.environments.atari import vector_options
from rlgrad.environments.classic import Acrobot, CartPole, MountainCar, MountainCarContinuous, Pendulum
from rlgrad.environments.held import Held, steps_taken
from rlgrad.environments.interface import Continuing, Environments, Transition
from rlgrad.environments.mdp import MDPS, LinearQuadratic
from rlgrad.environments.moments import moments, recall
from rlgrad.environments.packages import get_ready
from rlgrad.environments.processes import Crew, Processes, cores
from rlgrad.environments.small import Regulators, TabularEnvironments
from rlgrad.environments.spaces import difference
from rlgrad.environments.toy_text import Tables
from rlgrad.environments.vector import GymnasiumEnvironments, VectorEnvironments
from rlgrad.errors import SettingError, blame, called, strange, text_of

__all__ = [
    "OURS", "Continuing", "Crew", "Environments", "GymnasiumEnvironments", "Processes", "Simulator", "Transition",
    "VectorEnvironments", "cores", "describe", "given_id", "make", "moments_of", "played", "played_by", "register",
    "set_moments_of", "steps_taken",
]  # fmt: skip

Simulator = Literal["auto", "gymnasium", "vector", "envpool"]

EXTRAS = ("box2d", "mujoco")  # they have the same names in this project and in Gymnasium


class Own(NamedTuple):
    """Our own form of an environment, and the registration that it was tested against."""

    form: Callable[..., Environments]  # its arguments: the number of copies, and the options that it knows
    spec: EnvSpec


DECISIVE = ("entry_point", "kwargs", "max_episode_steps", "order_enforce", "additional_wrappers")  # must be the same

OURS: dict[str, Own] = {}


def tested(id: str, form: Callable[..., Environments], entry_point: str, limit: int | None, **kwargs: Any) -> EnvSpec:
    OURS[id] = Own(form, EnvSpec(id, entry_point, max_episode_steps=limit, kwargs=kwargs))
    return copy.deepcopy(OURS[id].spec)


_control, _text, _small = "gymnasium.envs.classic_control", "gymnasium.envs.toy_text", "rlgrad.environments.small"
_car = f"{_control}.continuous_mountain_car:Continuous_MountainCarEnv"
tested("Acrobot-v1", Acrobot, f"{_control}.acrobot:AcrobotEnv", 500)
tested("CartPole-v1", CartPole, f"{_control}.cartpole:CartPoleEnv", 500)
tested("MountainCar-v0", MountainCar, f"{_control}.mountain_car:MountainCarEnv", 200)
tested("MountainCarContinuous-v0", MountainCarContinuous, _car, 999)
tested("Pendulum-v1", Pendulum, f"{_control}.pendulum:PendulumEnv", 200)
for _id, _class, _limit, _kwargs in (
    ("CliffWalking-v1", "cliffwalking:CliffWalkingEnv", None, {}),
    ("FrozenLake-v1", "frozen_lake:FrozenLakeEnv", 100, {"map_name": "4x4"}),
    ("FrozenLake8x8-v1", "frozen_lake:FrozenLakeEnv", 200, {"map_name": "8x8"}),
):
    tested(_id, partial(Tables, _id), f"{_text}.{_class}", _limit, **_kwargs)
for _name, _mdp in MDPS.items():
    _id, _form = f"rlgrad/{_name}-v0", partial(TabularEnvironments, _mdp)
    gymnasium.registry[_id] = tested(_id, _form, f"{_small}:Tabular", _mdp.steps, name=_name)
_id = "rlgrad/LinearQuadratic-v0"
gymnasium.registry[_id] = tested(_id, Regulators, f"{_small}:Regulator", LinearQuadratic().steps)


def make(
    id: str,
    replicas: int,
    episodes: int,
    *,
    options: Mapping[str, Any],
    simulator: Simulator = "auto",
    action_repeat: int = 1,
    continuing: bool = False,
    pool: list[Any] | None = None,
    around: Around = NOTHING,
    crew: Crew | None = None,
) -> Environments:
    """Make `episodes` copies of the environment for each of the replicas.

    options: keyword arguments of the environment. Our own forms know few; with other options Gymnasium's form plays.
    simulator: auto: our own form if there is one that fits, else Gymnasium's; gymnasium: one copy after the other;
    vector: the vector form that the environment brings itself; envpool: that of the package envpool.
    action_repeat: the number of steps that each action is held for.
    continuing: whether the copies have to be `Continuing`; some of our own forms are not.
    pool: single copies of Gymnasium's form that may play again; missing ones are added to it.
    around: what is put around each copy. Our own forms have nothing around them.
    crew: workers that step some of Gymnasium's copies, beside this process.

    Raises SettingError if the environment has no such form.
    """
    made: Environments | None = None
    if simulator == "auto" and id in OURS and not unlike_ours(id, options, around):
        made = OURS[id].form(replicas * episodes, **options)
    elif simulator in ("vector", "envpool"):
        if around.wrappers:
            raise SettingError(("simulator",), f"wrappers need single copies, and {simulator} has none: use auto")
        form = vector_form if simulator == "vector" else pooled
        own = options if around.atari is None else {**vector_options(simulator, around.atari), **options}
        made = VectorEnvironments(partial(form, id, own), replicas, episodes, simulator == "envpool", around)
        try:
            check_alike(made, id, options, around)
        except BaseException:
            made.close()
            raise
    if made is None or (continuing and not isinstance(made, Continuing)):
        if crew and replicas * episodes > 1:
            made = Processes(id, replicas * episodes, options, pool, around, crew, episodes)
        else:
            made = GymnasiumEnvironments(id, replicas * episodes, options, pool, around)
    return made if action_repeat == 1 else Held(made, action_repeat)


def unlike_ours(id: str, options: Mapping[str, Any], around: Around = NOTHING) -> str | None:
    """Return why an environment is not the one that our own form was tested against; None if it is."""
    if around != NOTHING:
        return f"our own form does not support {'action masks' if around.mask else 'wrappers'}"
    form, tested = OURS[id]
    now = gymnasium.spec(id)
    if changed := [name for name in DECISIVE if getattr(now, name) != getattr(tested, name)]:
        return f"it is registered with another {' and '.join(changed)} than Gymnasium has"
    made: Any = load_env_creator(str(tested.entry_point))
    whose = {each.__globals__["__name__"] for each in vars(made).values() if inspect.isfunction(each)}
    if whose | {made.__module__} != {str(tested.entry_point).partition(":")[0]}:
        return "code of another module replaces its own"
    try:
        inspect.signature(form).bind(1, **options)
    except TypeError:
        return "our own form does not support its options"
    return None


def played(made: Environments) -> list[Any]:
    """Return the environments of Gymnasium that play in this process, single or vectorized; none for our own forms."""
    match made:
        case Processes():
            return made.here.copies
        case Held():
            return played(made.inner)
        case GymnasiumEnvironments():
            return made.copies
        case VectorEnvironments():
            return made.each
    return []


def moments_of(made: Environments) -> np.ndarray:
    """Return the running moments [N, M] of the normalising wrappers of these environments, as `moments` does."""
    made = made.inner if isinstance(made, Held) else made
    return made.moments() if isinstance(made, Processes) else moments(played(made))


def set_moments_of(made: Environments, rows: np.ndarray, frozen: bool) -> None:
    """Give these environments the moments [N, M]. They update them with what they see, unless they are frozen."""
    made = made.inner if isinstance(made, Held) else made
    if isinstance(made, Processes):
        made.set_moments(rows, frozen)
    else:
        recall(played(made), rows, frozen)


def played_by(made: Environments, id: str, options: Mapping[str, Any], simulator: Simulator = "auto",
              around: Around = NOTHING) -> str:  # fmt: skip
    """Return in words which form of an environment was made, and why not our own, if there is one."""
    made = made.inner if isinstance(made, Held) else made
    if isinstance(made, VectorEnvironments):
        return "envpool" if simulator == "envpool" else "its own vector form"
    if not isinstance(made, GymnasiumEnvironments):
        return "our own vectorized form"
    said = "Gymnasium's, copy after copy"
    if simulator == "auto" and id in OURS:
        said += f": {unlike_ours(id, options, around) or 'ours begins all episodes at once, which segments do not'}"
    return said


def given_id(factory: Callable[..., Any]) -> str:
    """Return the id of an environment that is given as a class or a function."""
    return f"given/{re.sub(r'[^a-zA-Z0-9_.]+', '_', called(factory))}-v0"


def register(factory: Callable[..., Any]) -> str:
    """Register an environment that is given as a class or a function, in place of an earlier one of that name; return
    its id. What is in use is made from `Around.given`, so a later one changes nothing in it."""
    id = given_id(factory)
    gymnasium.registry[id] = EnvSpec(id, entry_point=factory)  # at once: another thread may look it up
    return id


def check_alike(made: VectorEnvironments, id: str, options: Mapping[str, Any], around: Around) -> None:
    """Raises SettingError if a vector environment differs from the single environment, which the policy is made for."""
    single = describe(id, options, around)
    single.close()
    for what, one, other in (
        ("observations", made.observation_space, single.observation_space),
        ("actions", made.action_space, single.action_space),
    ):
        if found := difference(one, other, bounds=what == "actions"):
            message = f"the vector form of {id} has other {what} than the environment itself: {found}; use auto"
            raise SettingError(("simulator",), message)
    if (count := made.each[0].num_envs) != made.episodes:
        raise SettingError(("simulator",), f"the vector form of {id} has {count} copies, not {made.episodes}")


def check_original(id: str, form: str) -> None:
    """Raises SettingError if the id does not stand for Gymnasium's environment any more: `form` plays only this one."""
    spec = gymnasium.spec(id)
    theirs = isinstance(spec.entry_point, str) and spec.entry_point.startswith(("gymnasium.envs.", "ale_py."))
    if not theirs or spec.additional_wrappers:
        now = spec.entry_point if isinstance(spec.entry_point, str) else called(spec.entry_point)
        with_it = " with wrappers" if spec.additional_wrappers else ""
        message = f"{form} plays the original {id}, and here the id stands for {now}{with_it}: use auto"
        raise SettingError(("simulator",), message)


def vector_form(id: str, options: Mapping[str, Any], seeds: Sequence[int]) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    """Make the vector form that the environment brings itself. Raises SettingError if there is none."""
    if gymnasium.spec(id).vector_entry_point is None:
        raise SettingError(("simulator",), f"{id} has no vector form of its own: use auto or gymnasium")
    if str(gymnasium.spec(id).vector_entry_point).startswith("gymnasium.envs."):
        check_original(id, "Gymnasium's vector form")
    return gymnasium.make_vec(id, num_envs=len(seeds), vectorization_mode="vector_entry_point", **options)


def pooled(id: str, options: Mapping[str, Any], seeds: Sequence[int]) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    """Make envpool's form of the environment. Raises SettingError if that is not possible."""
    try:
        import envpool
    except ImportError as error:
        raise SettingError(("simulator",), "envpool is not installed: pip install 'rlgrad[envpool]'") from error
    check_original(id, "envpool")
    if limit := gymnasium.spec(id).max_episode_steps:
        options = {"max_episode_steps": limit, **options}
    with warnings.catch_warnings(action="ignore"):
        try:
            made: Any = envpool.make(
                id.removeprefix("ALE/"), env_type="gymnasium", num_envs=len(seeds), seed=list(seeds), **options
            )
        except (AssertionError, TypeError, ValueError, KeyError) as error:
            reason = text_of(error)
            raise SettingError(("simulator",), f"envpool cannot make {id}: {reason}") from error
    return made  # type: ignore[no-any-return]


def describe(id: str, options: Mapping[str, Any], around: Around = NOTHING) -> gymnasium.Env[Any, Any]:
    """Make one copy, for its spaces and its specification. Raises SettingError with one line if it cannot be made."""
    return around.single(bare(id, around.inside(id, options), around))  # type: ignore[no-any-return]


def bare(id: str, options: Mapping[str, Any], around: Around = NOTHING) -> gymnasium.Env[Any, Any]:
    get_ready(id)
    if ":" in id:
        message = f"{id!r} would import a module, and a config runs no code; name an environment that is registered"
        raise SettingError(("environment",), message)
    if id not in gymnasium.registry:  # of a name without a version Gymnasium makes the newest, and warns
        raise SettingError(("environment",), f"Gymnasium knows no environment {id!r}", gymnasium.registry, id)
    try:
        return gymnasium.make(around.spec(id) or id, **options)
    except gymnasium.error.DependencyNotInstalled as error:
        named = re.search(rf"gymnasium\[({'|'.join(EXTRAS)})\]", str(error))
        how = f"install the extra: pip install 'rlgrad[{named[1]}]'" if named else text_of(error)
        raise SettingError(("environment",), f"{id} needs a package that is not installed; {how}") from error
    except BaseException as error:
        if not strange(error):
            raise
        plain = isinstance(error, gymnasium.error.Error | ImportError | TypeError | ValueError)
        reason = (plain and text_of(error)) or blame(error)
        message = f"Gymnasium cannot make {id!r}: {reason}"
        raise SettingError(("environment",), message) from error
