"""Segments of episodes that go on from update to update."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from rlgrad import distributed, ranks
from rlgrad.agents import rollouts
from rlgrad.agents.policies import Policy
from rlgrad.agents.rollouts import Player, Rollout, Tape
from rlgrad.environments import Continuing, moments_of, set_moments_of, steps_taken
from rlgrad.errors import RunError


class Segments:
    """Episodes that go on from update to update, `steps` rows at a time, in B slots for each of R replicas.

    When an episode ends, the next one begins in the same slot. The seed of each unfinished episode and its actions so
    far are enough to come to the same state again: `state_dict` contains them, and no pickle. If wrappers normalise, it
    needs their running moments too, from the time before the episode: a later wrapper may keep what they have returned.
    """

    def __init__(self, environments: Continuing, replicas: int, episodes: int, normalise: bool = False):
        """normalise: whether each copy has normalising wrappers of its own."""
        self.environments, self.replicas, self.episodes = environments, replicas, episodes
        slots = replicas * episodes
        self.seeds = np.zeros(slots, np.int64)  # of the unfinished episodes
        self.moments = moments_of(environments) if normalise else None  # [R * B, M] before they began
        self.begun = np.zeros(slots, np.int64)  # at which of the actions below they began
        self.actions: list[np.ndarray] = []  # [R * B, *A] each, as the environment got them
        self.observation: np.ndarray | None = None  # None: nothing has been played yet
        self.ready = np.ones(slots, bool)
        self.earned, self.taken = np.zeros(slots), np.zeros(slots)  # return and steps of the unfinished episodes
        self.finished = np.full((2, slots), np.nan)  # return and steps of the last finished episode in each slot

    @torch.no_grad()
    def play(self, policy: Policy, streams: Sequence[np.random.Generator], steps: int) -> Rollout:
        """Play `steps` rows; noise and the seeds of new episodes come from the replica's own stream.

        Raises RunError if an environment returns something that is not finite.
        """
        player = Player(policy, streams, self.episodes)
        tape = Tape(self.replicas, self.episodes, policy.pictures, policy.precise)
        if self.observation is None:
            self.observation = self.environments.reset(streams)
            if self.environments.repeatable:
                self._restart(np.ones(len(self.seeds), bool), streams)
        own = ranks.own(len(self.seeds))
        for t in range(steps):
            observation, alive = self.observation, self.ready
            action = player.act(observation)
            given = policy.to_environment(action)
            found = rollouts.step(self.environments, given, t)
            over = tape.note(observation, action, alive & own, t == steps - 1, found, steps_taken(self.environments))
            over = distributed.put_together(over)
            self.actions.append(given)
            self.earned += found.reward * alive
            self.taken += alive
            self.observation, self.ready = found.observation, np.ones(len(over), bool)
            if over.any():
                self.finished[:, over] = self.earned[over], self.taken[over]
                self._restart(over, streams)
        self._put_together(steps)
        self._forget()
        return rollouts.together(tape.rollout(steps))

    def _put_together(self, steps: int) -> None:
        """Collect the state of all processes that train together, so that each could go on with any of the episodes."""
        if ranks.here.size > 1:
            assert self.observation is not None
            self.observation = distributed.put_together(self.observation)
            self.earned, self.taken = distributed.put_together(np.stack([self.earned, self.taken]), 1)
            self.finished = distributed.put_together(self.finished, 1)
            if self.moments is not None:
                self.moments = distributed.put_together(self.moments)
            new = slice(len(self.actions) - steps, None)
            self.actions[new] = distributed.put_together(np.stack(self.actions[new]), 1)

    def _restart(self, over: np.ndarray, streams: Sequence[np.random.Generator]) -> None:
        rollouts.draw_seeds(self.seeds, over, streams)
        self.begun[over] = len(self.actions)
        self.earned[over] = self.taken[over] = 0
        if self.moments is not None:
            self.moments[over] = moments_of(self.environments)[over]
        self.observation, self.ready = self.environments.restart(over, self.seeds)

    def _forget(self) -> None:
        """Forget the actions of episodes that have ended, but for one, so that `joined` has one of each slot."""
        first = min(int(self.begun.min()), len(self.actions) - 1)
        self.actions, self.begun = self.actions[first:], self.begun - first

    def state_dict(self) -> dict[str, Tensor]:
        """Return what `load_state_dict` needs, for environments that are `repeatable`."""
        if self.observation is None:
            return {}
        arrays = {
            "seeds": self.seeds, "begun": self.begun, "earned": self.earned, "taken": self.taken,
            "finished": self.finished, "observation": self.observation, "actions": np.stack(self.actions),
        }  # fmt: skip
        if self.moments is not None:
            arrays["moments"] = self.moments
        return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Play the unfinished episodes again. Raises RunError if this leads to other observations."""
        if not state:
            return
        arrays = {name: tensor.numpy().copy() for name, tensor in state.items()}
        self.seeds, self.begun = arrays["seeds"], arrays["begun"]
        self.earned, self.taken, self.finished = arrays["earned"], arrays["taken"], arrays["finished"]
        self.actions = list(arrays["actions"])
        self.moments = arrays.get("moments")  # older checkpoints have none
        if self.moments is not None:
            set_moments_of(self.environments, self.moments, frozen=False)
        observation = self.environments.reset([np.random.default_rng(0)] * self.replicas, begin=False)
        for t in range(len(self.actions) + 1):
            if (due := self.begun == t).any():
                observation, _ = self.environments.restart(due, self.seeds)
            if t < len(self.actions):  # the actions of slots that wait belong to episodes that have ended
                observation = self.environments.step(self.actions[t]).observation
        own = ranks.own(len(self.seeds))
        if not np.array_equal(observation[own], arrays["observation"][own]):
            message = "the environment does not repeat itself: the same seeds and actions have led to another state, "
            raise RunError(message + "so a run in segments cannot be continued")
        self.observation = arrays["observation"]


def axis(name: str) -> int:
    """The axis of the slots in this part of the state."""
    return int(name in ("actions", "finished"))


def joined(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Join the states of several `Segments`, each with the next replicas, as if one had played them all."""
    most = max(len(state["actions"]) for state in states)
    aligned = []
    for state in states:
        actions = state["actions"]
        missing = most - len(actions)  # what stands before a slot's episode begins is never played
        before = actions[:1].expand(missing, *actions.shape[1:])
        aligned.append({**state, "actions": torch.cat([before, actions]), "begun": state["begun"] + missing})
    return {name: torch.cat([state[name] for state in aligned], axis(name)) for name in states[0]}


def part(state: Mapping[str, Tensor], slots: slice) -> dict[str, Tensor]:
    """Return the state of some of the slots."""
    whole = slice(None)
    return {name: tensor[(whole, slots) if axis(name) else slots] for name, tensor in state.items()}
