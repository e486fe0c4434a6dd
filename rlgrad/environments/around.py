"""What is put around each copy of an environment: wrappers, and one that adds an action mask to the observations.

It also knows the class or function that makes a copy, if one was given instead of an id.

An action mask says which actions are legal now, in zeros and ones [A]; the masks of several choices follow each other.
It is a part of a Dict of observations, or it is in `info["action_mask"]`: then a wrapper makes it such a part, and no
other code needs to know the difference.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers
from gymnasium.envs.registration import EnvSpec

from rlgrad.environments.atari import Atari
from rlgrad.errors import SettingError, called, said, strange

KEY = "action_mask"  # in `info`, and as a part of the observation
PATH = ("action_mask",)  # of the setting
REFUSED = {
    "Autoreset": "episodes already begin again by themselves",
    "HumanRendering": "rlgrad play shows a trained policy",
    "RecordVideo": "a config names no file to write: rlgrad play --to film.gif makes a film",
    "RenderCollection": "it would keep every picture: rlgrad play --to film.gif makes a film",
}
REFUSED |= dict.fromkeys(
    ("ArrayConversion", "JaxToNumpy", "JaxToTorch", "NumpyToTorch"), "observations are numpy arrays"
)


class Around(NamedTuple):
    """What is put around each copy, and what makes the innermost environment if that is not what its id stands for."""

    wrappers: tuple[Callable[[Any], Any], ...] = ()  # the first is the innermost
    mask: str | None = None  # where the action mask is: "info", or the part of the observations of this name
    atari: Mapping[str, Any] | None = None  # how a game of ale-py's is played, before the wrappers
    given: Callable[..., Any] | None = None  # the class or function of a given environment: others may have its id

    @property
    def key(self) -> str | None:
        """The name of the part of the observation that is the mask."""
        return KEY if self.mask == "info" else self.mask

    def spec(self, id: str) -> EnvSpec | None:
        """Return the registration of a given environment; None: it is the one that Gymnasium has for its id."""
        return None if self.given is None else EnvSpec(id, entry_point=self.given)

    def inside(self, id: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of the innermost environment."""
        game = self.atari is not None and id.startswith("ALE/")
        return {**({"repeat_action_probability": 0.0} if game else {}), **options}

    def single(self, env: Any) -> Any:
        """Put everything around one environment. Raises SettingError if a wrapper does not fit."""
        if self.atari is not None:
            try:
                env = Atari(env, **self.atari)
            except TypeError as error:
                raise SettingError(("atari",), str(error)) from error
        for number, wrap in enumerate(self.wrappers):
            try:
                env = wrap(env)
            except BaseException as error:
                if not strange(error):
                    raise
                name = called(wrap).rpartition(".")[2]
                raise SettingError(("wrappers", str(number)), f"{name}: {said(error)}") from error
        return MaskSeen(env) if self.mask == "info" else env

    def vector(self, env: Any) -> Any:
        return MasksSeen(env) if self.mask == "info" else env

    def without_rewards(self) -> "Around":
        """Return it without the wrappers that only change rewards: evaluations count the environment's own rewards."""
        atari = None if self.atari is None else {**self.atari, "training": False}
        return self._replace(wrappers=tuple(wrap for wrap in self.wrappers if not changes_rewards(wrap)), atari=atari)


NOTHING = Around()


def changes_rewards(wrap: Any) -> bool:
    """Return whether a wrapper only changes rewards."""
    cls = wrap.func if isinstance(wrap, partial) else wrap
    return isinstance(cls, type) and issubclass(cls, gymnasium.RewardWrapper | wrappers.NormalizeReward)


def wrapper(path: tuple[str, ...], name: str, given: Any, arguments: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return Gymnasium's wrapper of this name, with its arguments. given: the user's own class instead. Raises
    SettingError."""
    if given is None:
        offered = [each for each in wrappers.__all__ if each not in REFUSED and each[0].isupper()]
        if name in REFUSED:
            raise SettingError((*path, "name"), f"{name} cannot be used here: {REFUSED[name]}")
        if name not in offered and name in wrappers.vector.__all__:
            raise SettingError((*path, "name"), f"{name} wraps only vector environments, and these are single")
        if name not in offered:
            raise SettingError((*path, "name"), f"gymnasium.wrappers has no {name!r}", offered, name)
    cls = given or getattr(wrappers, name)
    if not (isinstance(cls, type) and issubclass(cls, gymnasium.Wrapper)):
        raise SettingError((*path, "name"), f"{name} must be a class that derives from gymnasium.Wrapper")
    _, *known = inspect.signature(cls).parameters.values()
    named = {each.name: each for each in known if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
    for argument in arguments if len(named) == len(known) else ():
        if argument not in named:
            raise SettingError((*path, argument), f"{name} has no such argument", named, argument)
    if needed := [each for each in named.values() if each.default is each.empty and each.name not in arguments]:
        message = f"{name}: its argument {needed[0].name} is missing"
        if "Callable" in str(needed[0].annotation):
            message = f"{name} needs a function, which a config cannot hold: write a wrapper of your own (module:Class)"
        raise SettingError(path, message)
    changed = {key: as_asked(value, named[key].annotation if key in named else "") for key, value in arguments.items()}
    return partial(cls, **changed)


def as_asked(value: Any, annotation: Any) -> Any:
    """Convert a list from a config to an array or a tuple, as the annotation asks."""
    if isinstance(value, list | tuple):
        return np.array(value, np.float32) if "ndarray" in str(annotation) else tuple(value)
    return value


class MaskSeen(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment with the action mask as a part of its observations."""

    def __init__(self, env: gymnasium.Env[Any, Any]):
        super().__init__(env)
        self.nothing = np.zeros(sum(choices(env.action_space)), np.int8)
        self.observation_space = beside(env.observation_space, self.nothing)

    def reset(self, **how: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**how)
        return {"observation": observation, KEY: flattened(info.get(KEY))}, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        mask = self.nothing if terminated or truncated else flattened(info.get(KEY))  # after an end no mask is needed
        return {"observation": observation, KEY: mask}, reward, terminated, truncated, info


class MasksSeen(gymnasium.vector.VectorWrapper[Any, Any, Any, Any, Any]):
    """A vector environment with the action masks as a part of its observations. Its info has the masks of all copies,
    and says which of them are new."""

    def __init__(self, env: gymnasium.vector.VectorEnv[Any, Any, Any]):
        super().__init__(env)
        self.masks = np.zeros((env.num_envs, sum(choices(env.single_action_space))), np.int8)
        self.single_observation_space = beside(env.single_observation_space, self.masks[0])

    def reset(self, **how: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**how)
        return self.seen(observation, info, np.ones(self.num_envs, bool)), info

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        over = terminated | truncated
        if "final_obs" in info:
            last = np.full(self.num_envs, None)
            for k in np.flatnonzero(over):
                last[k] = {"observation": info["final_obs"][k], KEY: np.zeros_like(self.masks[k])}
            info = {**info, "final_obs": last}
        return self.seen(observation, info, over), reward, terminated, truncated, info

    def seen(self, observation: Any, info: Mapping[str, Any], excused: np.ndarray) -> dict[str, Any]:
        """Return the observations with their masks. excused: [N] the copies that do not need a mask now."""
        masks: Any = info.get(KEY)
        new = np.asarray(info.get(f"_{KEY}", np.full(self.num_envs, masks is not None)))
        self.masks = np.where((new | excused)[:, None], self.masks, -1)  # -1 is not a mask
        for k in np.flatnonzero(new):
            found = flattened(masks[k])
            self.masks[k] = found if found.dtype.kind in "iub" else -1  # int8 would round a half to 0
        return {"observation": observation, KEY: self.masks}


def beside(space: spaces.Space[Any], mask: np.ndarray) -> spaces.Dict:
    return spaces.Dict({"observation": space, KEY: spaces.MultiBinary(len(mask))})


def flattened(mask: Any) -> np.ndarray:
    """Return a mask as one array. Of several choices it is a tuple of arrays, as Gymnasium's spaces take masks."""
    found = np.concatenate(mask, -1) if isinstance(mask, tuple) else np.asarray(mask)
    real = found.dtype.kind == "f" and np.isin(found, (0, 1)).all()  # others stay, and are refused later
    return found.astype(np.int8) if real else found


def choices(actions: spaces.Space[Any]) -> list[int]:
    """Return the number of actions in each choice; an empty list if masks are not possible."""
    match actions:
        case spaces.Discrete():
            return [int(actions.n)]
        case spaces.MultiDiscrete():
            return [int(n) for n in actions.nvec.flatten()]
    return []


def forbidding(seen: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Return where [N] the mask, at the end of `seen` [N, D + A], forbids all actions of a choice of these sizes."""
    legal = np.add.reduceat(seen[:, -sum(sizes) :] != 0, np.cumsum([0, *sizes[:-1]]), 1)
    return np.asarray((legal == 0).any(1))


def legal_sample(actions: Any, mask: np.ndarray) -> np.ndarray:
    """Draw a random action that a mask [A] allows."""
    parts = np.split(mask, np.cumsum(choices(actions))[:-1])
    drawn = [actions.np_random.choice(np.flatnonzero(part)) for part in parts]
    return np.asarray(np.reshape(drawn, actions.shape) + actions.start)


def made_legal(actions: Any, given: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return the actions `given` [N, *A], with the first legal one for each choice that the mask, at the end of `seen`
    [N, D + A], forbids."""
    sizes, rows = choices(actions), np.arange(len(given))
    masks = np.split(seen[:, -sum(sizes) :] != 0, np.cumsum(sizes)[:-1], 1)
    chosen = (given - actions.start).reshape(len(given), -1).T
    legal = [np.where(mask[rows, own], own, mask.argmax(1)) for mask, own in zip(masks, chosen, strict=True)]
    return np.asarray(np.stack(legal, 1).reshape(given.shape) + actions.start)


def find_mask(env: gymnasium.Env[Any, Any], asked: str | None) -> str | None:
    """Return where an environment's action mask is, as in `Around.mask`. asked: the place that is asked for; auto: the
    only place that has a mask. Raises SettingError, also if its size is not the number of actions."""
    size = sum(choices(env.action_space))
    if asked is None:
        return None
    if not size:
        if asked == "auto" and KEY not in parts_of(env.observation_space) and not any(sizes_in_info(env)):
            return None
        there = "the environment gives a mask, but " if asked == "auto" else ""
        actions = f"{env.action_space!s:.60}"
        message = f"{there}only Discrete and MultiDiscrete actions have masks, not {actions}: set null to go without"
        raise SettingError(PATH, message)
    parts, hint = parts_of(env.observation_space), ""
    given, later = sizes_in_info(env) if asked in ("auto", "info") else (0, 0)
    if asked == "auto":
        if not (given or later or KEY in parts):
            return None
        if given and KEY in parts:
            raise SettingError(PATH, f"info and the observations both have {KEY!r}: set info, {KEY}, or null")
        asked, hint = KEY if KEY in parts else "info", "; set null if it is no mask"
    if asked == "info" and given != size:
        there = f"{given} elements" if given else "nothing"
        after = "a reset, only after a step" if later else "a reset"
        raise SettingError(PATH, f"info[{KEY!r}] has {there} after {after}, but there are {size} actions{hint}")
    if asked != "info" and parts.get(asked) != size:
        raise SettingError(PATH, f"the observations have no part {asked!r} of {size} elements, one per action{hint}")
    if [*parts] == [asked]:
        raise SettingError(PATH, "the observations are nothing but the mask: set null, and the policy sees it")
    return asked


def sizes_in_info(env: gymnasium.Env[Any, Any]) -> tuple[int, int]:
    """Return the number of elements of the mask in the info of a reset and, if there is none, of a step."""

    def size(info: Mapping[str, Any]) -> int:
        return 0 if info.get(KEY) is None else flattened(info[KEY]).size

    env.action_space.seed(0)  # the same actions at each call
    for _ in range(5):  # an action without a mask may be illegal
        try:
            first = size(env.reset(seed=0)[1])
            return first, 0 if first else size(env.step(env.action_space.sample())[4])
        except BaseException as error:
            if not strange(error):
                raise  # any other error the run itself will find
    return 0, 0


def parts_of(space: spaces.Space[Any]) -> dict[str, int]:
    """Return the number of elements of each part of a Dict of observations; 0 if it has no fixed size."""
    parts = space.spaces.items() if isinstance(space, spaces.Dict) else ()
    return {name: 0 if part.shape is None else int(np.prod(part.shape)) for name, part in parts}
