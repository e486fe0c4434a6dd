"""What is played for an update, and to find out how good a policy is."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlgrad.agents.policies import Policy
from rlgrad.agents.rollouts import Rollout, play, returns_of
from rlgrad.agents.segments import Segments
from rlgrad.agents.settings import AgentSettings
from rlgrad.environments import make, played_by
from rlgrad.errors import SettingError
from rlgrad.streams import Purpose, streams


class Experience:
    """Whole episodes, or segments of episodes that go on, of each of R replicas; environments are made when needed."""

    def __init__(self, settings: AgentSettings):
        self.settings = settings
        environments = self._copies(settings.episodes, continuing=settings.segment is not None)
        self._environments = {settings.episodes: environments}  # by the number of episodes
        options, simulator = settings.environment_options, settings.simulator
        self.played_by = played_by(environments, settings.environment, options, simulator)
        self.segments: Segments | None = None
        if settings.segment:
            if not environments.repeatable:  # then no checkpoint could be gone on from
                message = f"{settings.simulator} cannot begin an episode again from a seed, as segments need: use auto"
                raise SettingError(("simulator",), message)
            self._environments = {}  # what is evaluated in between must not touch the episodes that go on
            self.segments = Segments(environments, settings.replicas, settings.episodes)

    def sample(self, policy: Policy, step: int) -> Rollout:
        """B whole episodes for each replica, or the next segment of B, played with the policy as it is."""
        if self.segments:
            drawn, steps = self.streams(Purpose.SAMPLE, step), self.settings.segment or 0
            return self.segments.play(policy, drawn, steps)._replace(step=step)
        played: Rollout = self._play(play, policy, Purpose.SAMPLE, step, self.settings.episodes)
        return played._replace(step=step)

    def returns(
        self, policy: Policy, purpose: Purpose, step: int, episodes: int, *, greedy: bool = False, discount: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Returns and lengths [R, B] of whole episodes, of which nothing else is kept."""
        return self._play(returns_of, policy, purpose, step, episodes, greedy=greedy, discount=discount)  # type: ignore[no-any-return]

    def finished(self, batch: Rollout) -> tuple[Tensor, Tensor]:
        """Return and length [R, B] of the episodes of an update; in segments of the last one that has ended in each
        slot, NaN before any."""
        length = batch.length.to(batch.reward.dtype)
        if not self.segments:
            return batch.reward.sum(1), length
        returns, taken = torch.from_numpy(self.segments.finished).to(length.dtype).reshape(2, *length.shape)
        return returns, taken

    def streams(self, purpose: Purpose, step: int = 0) -> list[np.random.Generator]:
        """Of each replica."""
        return streams(self.settings.seed, self.settings.replicas, purpose, step)

    def state_dict(self) -> dict[str, Tensor]:
        """The episodes that segments have not finished."""
        return self.segments.state_dict() if self.segments else {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Raises RunError where the environment does not come to the same state again."""
        if self.segments:
            self.segments.load_state_dict(state)

    def _copies(self, episodes: int, continuing: bool = False) -> Any:
        settings = self.settings
        return make(
            settings.environment,
            settings.replicas,
            episodes,
            options=settings.environment_options,
            simulator=settings.simulator,
            action_repeat=settings.action_repeat,
            continuing=continuing,
        )

    def _play(self, how: Any, policy: Policy, purpose: Purpose, step: int, episodes: int, **options: Any) -> Any:
        """how: play, or returns_of, with its options."""
        if episodes not in self._environments:
            self._environments[episodes] = self._copies(episodes)
        environments, drawn = self._environments[episodes], self.streams(purpose, step)
        return how(policy, environments, drawn, episodes, limit=self.settings.episode_limit, **options)
