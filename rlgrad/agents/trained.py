"""A trained policy of one replica, ready for use: it takes observations as the environment gives them."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlgrad.agents.agent import make_agent
from rlgrad.agents.policies import Policy
from rlgrad.agents.settings import CreditSettings
from rlgrad.environments import describe
from rlgrad.environments.around import choices, flattened, forbidding
from rlgrad.environments.held import HeldActions
from rlgrad.environments.moments import set_moments
from rlgrad.environments.spaces import InvalidObservation, ObservationReader, described, space_from


def description(settings: CreditSettings, observation: spaces.Space[Any], action: spaces.Space[Any]) -> dict[str, Any]:
    """Return what is needed to use a policy, besides its tensors."""
    free = {"initial_gain"} if settings.policy.deviation == "state_dependent" else {"initial_gain", "initial_deviation"}
    network = settings.policy.model_dump(mode="json", exclude=free)
    form = {"kind": "policy", "actions": type(action).__name__, "policy": network}
    mask = {"action_mask": settings.action_mask} if settings.mask else {}
    return {"form": form, "observations": described(observation), "actions": described(action), **mask}


class TrainedPolicy:
    """The policy that one replica has learned, with its normalisers.

    origin: where it comes from, in words. settings: those of its run. observation_space, action_space: those of the
    environment. policy: the module, of one replica. rng: `predict` draws from it; replace it to draw the same again.
    """

    origin = "a policy"

    def __init__(
        self, settings: CreditSettings, tensors: Mapping[str, Tensor], said: Mapping[str, Any], given: nn.Module | None
    ):
        """tensors: [1, ...] each. said: the description saved with them. given: a network for one replica, if the run
        was given one from Python."""
        self.settings = settings.alone(0).model_copy(update={"action_mask": said.get("action_mask")})
        self.observation_space, self.action_space = space_from(said["observations"]), space_from(said["actions"])
        self.rng = np.random.default_rng(settings.seed)
        agent = make_agent(self.settings, self.observation_space, self.action_space, [self.rng], given)
        self.moments = tensors.get("moments.numbers")  # [1, N, M] of wrappers that normalise; the first of N is used
        agent.load_state_dict({name: tensor for name, tensor in tensors.items() if name != "moments.numbers"})
        self.policy: Policy = agent.policy.requires_grad_(False)
        self.reader = ObservationReader(self.observation_space, self.settings.mask)
        self.visible, precision = self.reader.seen, str(next(self.policy.parameters()).dtype).removeprefix("torch.")
        precision = "float64" if self.policy.precise and self.visible.dtype == np.float64 else precision
        self.precision = "uint8" if self.reader.dtype == np.uint8 else precision  # of the network's inputs
        self._act = self.policy.actor()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.origin}>"

    def description(self) -> dict[str, Any]:
        """Return the description that is saved with the weights."""
        return description(self.settings, self.observation_space, self.action_space)

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_mask: Any = None,
    ) -> tuple[Any, Any]:
        """Return the action for an observation, or the actions [N, ...] for a batch of N, and the state as given.

        deterministic: take the most probable action, instead of drawing one. state, episode_start: for code that calls
        every policy in the same way, as Stable-Baselines3 does; this one has no memory. action_mask: which actions are
        legal, [A] or [N, A], for a policy that learned with masks; it may be a part of the observation instead.
        Raises ValueError if it is not an observation of the environment, or a mask is missing or forbids everything.
        """
        if action_mask is not None:
            observation = self.with_mask(observation, action_mask)
        seen, alone = self.seen(observation)
        noise = None if deterministic else self.policy.noise(self.rng, len(seen))[None]
        action = self.policy.to_environment(self._act(seen[None], noise)[0])
        return (action[0] if alone else action), state

    def distribution(self, observation: Any) -> Any:
        """Return the distribution over actions for a batch of N: its `log_prob` and `entropy` are [1, N], for one
        replica. Its actions are in the policy's own form; `predict` brings them into the action space."""
        return self.policy(torch.as_tensor(self.seen(observation)[0])[None])

    def with_mask(self, observation: Any, mask: Any) -> dict[str, Any]:
        """Return an observation, or a batch of them, in the policy's form: a Dict with the mask as one of its parts."""
        key = self.settings.mask
        if key is None:
            raise ValueError("this policy learned without action masks: it cannot obey one")
        beside = {"observation": observation} if self.settings.action_mask == "info" else observation
        return {**beside, key: flattened(mask)}

    def seen(self, observation: Any) -> tuple[np.ndarray, bool]:
        """Return observations as the network sees them, [N, *O], and whether it was a single one. Raises ValueError."""
        part, space, key = observation, self.observation_space, self.settings.mask
        if key and not (isinstance(observation, Mapping) and key in observation):
            raise ValueError("this policy learned with action masks: predict(observation, action_mask=mask)")
        while isinstance(space, spaces.Dict | spaces.Tuple):
            first: Any = next(iter(space)) if isinstance(space, spaces.Dict) else 0
            if not isinstance(part, Mapping | tuple):
                raise ValueError(f"an observation has the parts of {space}, but this has the shape {np.shape(part)}")
            part, space = part[first], space[first]
        shape = np.shape(part)
        alone = shape == space.shape
        if not alone and shape[1:] != space.shape:
            raise ValueError(f"an observation has the shape {space.shape}, or (N, ...) in a batch: not {shape}")
        try:
            x = self.reader.read([observation]) if alone else self.reader.read_batch(observation)
        except InvalidObservation as invalid:
            raise ValueError(str(invalid)) from invalid
        if key and forbidding(x, choices(self.action_space)).any():
            raise ValueError("an action mask forbids every action")
        return x.astype(self.precision, copy=False), alone

    def make_environment(self, **options: Any) -> gymnasium.Env[Any, Any]:
        """Return one copy of the environment that it was trained in, with the same `action_repeat`.

        options: further options, such as render_mode="human". Raises SettingError if it cannot be made.
        """
        settings, options = self.settings, {**self.settings.environment_options, **options}
        made = describe(settings.environment, options, settings.around.without_rewards())
        if self.moments is not None:
            set_moments(made, self.moments[0, 0].numpy(), frozen=True)
        return made if settings.action_repeat == 1 else HeldActions(made, settings.action_repeat)
