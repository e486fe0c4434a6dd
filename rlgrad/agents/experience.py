"""The episodes that are played, for updates and for evaluations."""

from collections.abc import Mapping
from contextlib import closing
from functools import cached_property
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from torch import Tensor, nn

from rlgrad import distributed, ranks
from rlgrad.agents.policies import Policy
from rlgrad.agents.rollouts import Rollout, play, returns_of
from rlgrad.agents.segments import Segments
from rlgrad.agents.settings import AgentSettings
from rlgrad.environments import Crew, cores, make, moments_of, played, played_by, set_moments_of
from rlgrad.environments.moments import moments, set_moments
from rlgrad.environments.trial import memory, pace
from rlgrad.environments.vector import check_spaces
from rlgrad.errors import SettingError, strange
from rlgrad.streams import Purpose, stream

WORTHWHILE = 1e-3  # seconds: if a step of all copies takes longer, workers are worth the exchange with them


class Experience:
    """Plays whole episodes for each of R replicas, or segments of episodes that go on in the next update.

    Environments are made when they are needed, and again after `close`. The same single copies play for updates and for
    evaluations, unless an episode depends on earlier ones: an evaluation must not change what a run learns from.

    moments: the running moments of Gymnasium's normalising wrappers, if there are any: the buffer `numbers` [R, N, M],
    for the N environments that play a replica's updates. Each update changes them, evaluations do not.
    """

    def __init__(self, settings: AgentSettings, spaces: tuple[Space[Any], Space[Any]]):
        """spaces: the spaces of observations and actions that the policy is made for."""
        self.settings, self.spaces, self.seeds = settings, spaces, settings.seeds
        self.single = settings.simulator in ("auto", "gymnasium")
        self._environments: dict[tuple[int, Purpose | None], Any] = {}  # by the number of whole episodes, and for what
        self._pool: list[Any] = []  # single copies
        self._unfinished: Mapping[str, Tensor] = {}  # unfinished episodes of segments
        options, simulator = settings.environment_options, settings.simulator
        with closing(self._one()) as one:
            self.played_by = played_by(one, settings.environment, options, simulator, settings.around)
            self.ours = not played(one)
            if settings.segment and not one.repeatable:  # no run could go on from a checkpoint
                message = f"{settings.simulator} cannot begin an episode again from a seed, as segments need: use auto"
                raise SettingError(("simulator",), message)
            row = np.zeros((1, 0)) if self.ours else moments(played(one))
        self.crew = self._crew()
        self.moments: nn.Module | None = None
        if row.size:
            self.moments = nn.Module()
            rows = np.tile(row, (settings.replicas, settings.episodes if self.single else 1, 1))
            self.moments.register_buffer("numbers", torch.from_numpy(rows))

    @cached_property
    def segments(self) -> Segments | None:
        """The episodes of segments, which go on from where they were closed or saved; None without segments."""
        settings = self.settings
        if not settings.segment:
            return None
        environments = self._copies(settings.episodes, continuing=True, crew=self.workers[0])
        normalise = self.moments is not None and self.single
        made = Segments(environments, settings.replicas, settings.episodes, normalise)
        try:
            self._recall(environments, settings.episodes, frozen=True)  # unless its episodes bring their own
            made.load_state_dict(self._unfinished)
            self._recall(environments, settings.episodes, frozen=False)
        except BaseException:
            environments.close()
            raise
        return made

    @cached_property
    def memory(self) -> str | None:
        """What an episode depends on besides its seed and its actions, in words; None: a short trial found nothing."""

        def one() -> Any:
            made = self._one()
            for env in played(made):
                set_moments(env, moments([env])[0], frozen=True)  # episodes depend on these moments, as is known
            return made

        try:
            return None if self.ours else memory(one, self.spaces[1], self.settings.mask is not None)
        except BaseException as error:
            if not strange(error):
                raise
            return None  # the run itself will find this error, and report it

    def _crew(self) -> Crew | str:
        """Return workers for the environment, or why there can be none. Raises SettingError if workers that are not
        possible are asked for."""
        settings, id = self.settings, self.settings.environment
        if self.ours or not self.single:
            return "none: all copies play at once already" if settings.workers not in ("auto", 0) else ""
        try:
            return Crew(id, settings.environment_options, settings.around, settings.imports)
        except TypeError as error:
            reason = f"no other process can make {id}, as {error}"
            if settings.workers in ("auto", 0):
                return f"none: {reason}"
            raise SettingError(("workers",), f"{reason}; or set workers: 0") from error

    @cached_property
    def workers(self) -> tuple[Crew | None, str]:
        """The workers that step environments beside this process, and in words their number, or why there are none."""
        wanted, copies = self.settings.workers, self.settings.replicas * self.settings.episodes
        if isinstance(self.crew, str):
            return None, self.crew
        if wanted == "auto":
            wanted = min(copies, max(1, cores() // ranks.beside())) - 1
            if wanted and copies * pace(self._one, self.spaces[1], self.settings.mask is not None) < WORTHWHILE:
                return None, f"none: a step of all {copies} copies is too short for workers to be worth it"
        self.crew.count = wanted
        return (self.crew, f"{wanted}, in addition to this process") if wanted else (None, "")

    def close(self) -> None:
        """Close all environments. New ones are made when they are needed; segments go on from where they were."""
        if segments := vars(self).pop("segments", None):
            self._unfinished = segments.state_dict()
            segments.environments.close()
        while self._environments:
            self._environments.popitem()[1].close()

    def sample(self, policy: Policy, step: int) -> Rollout:
        """Play B whole episodes for each replica, or the next segment in each of B slots, with the current policy."""
        if self.segments:
            drawn, steps = self.streams(Purpose.SAMPLE, step), self.settings.segment or 0
            rollout = self.segments.play(policy, drawn, steps)
            self._remember(self.segments.environments)
            return rollout._replace(step=step)
        environments = self._environments_of(self.settings.episodes)
        self._recall(environments, self.settings.episodes, frozen=False)
        drawn = self.streams(Purpose.SAMPLE, step)
        limit, least = self.settings.episode_limit, self.settings.batch_steps or 0
        rollout = play(policy, environments, drawn, self.settings.episodes, limit=limit, least=least)
        self._remember(environments)
        return rollout._replace(step=step)

    def returns(
        self, policy: Policy, purpose: Purpose, step: int, episodes: int, **how: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Play whole episodes, and return only what `returns_of` returns: returns, lengths and cuts [R, B]."""
        environments = self._environments_of(episodes, purpose)
        self._recall(environments, episodes, frozen=True)
        return returns_of(policy, environments, self.streams(purpose, step), episodes, **how)

    def finished(self, batch: Rollout) -> tuple[Tensor, Tensor]:
        """The return and the length [R, B] of each episode of an update, or their means [R, 1] if a slot plays several.
        In segments: of the last episode that ended in each slot, NaN before the first one."""
        length = batch.length.to(batch.reward.dtype)
        if self.settings.batch_steps:
            count = batch.over.sum((1, 2))
            return (batch.reward.sum((1, 2)) / count).unsqueeze(1), (length.sum(1) / count).unsqueeze(1)
        if self.segments is None:
            return batch.reward.sum(1), length
        returns, taken = torch.as_tensor(self.segments.finished).to(length.dtype).reshape(2, *length.shape)
        return returns, taken

    def streams(self, purpose: Purpose, step: int = 0) -> list[np.random.Generator]:
        """One random stream for each replica."""
        return [stream(seed, purpose, step) for seed in self.seeds]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the unfinished episodes of segments."""
        return self.segments.state_dict() if self.segments else {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Play the unfinished episodes again. Raises RunError if this does not lead to the same state."""
        if self.settings.segment:
            self.close()
            self._unfinished = state
            assert self.segments  # make them now: this raises if it is not possible

    def _copies(
        self, episodes: int, replicas: int | None = None, continuing: bool = False, judged: bool = False, **how: Any
    ) -> Any:
        """Make copies of the environment. judged: for evaluations, without wrappers that change rewards. how: pool and
        crew, as in `make`."""
        settings = self.settings
        made = make(
            settings.environment,
            replicas or settings.replicas,
            episodes,
            options=settings.environment_options,
            simulator=settings.simulator,
            action_repeat=settings.action_repeat,
            continuing=continuing,
            around=settings.around.without_rewards() if judged else settings.around,
            **how,
        )
        try:
            for env in played(made) if self.single else ():
                check_spaces(env, *self.spaces)
        except BaseException:
            made.close()
            raise
        return made

    def _one(self) -> Any:
        return self._copies(1, 1, continuing=self.settings.flowing)

    def _environments_of(self, episodes: int, purpose: Purpose | None = None) -> Any:
        """purpose: of what is played beside updates, on which these must not depend."""
        judged = purpose is Purpose.EVALUATE and self.settings.around != self.settings.around.without_rewards()
        key = episodes, purpose if self.memory or judged else None
        if key not in self._environments:
            pool = None if self.memory or judged else self._pool
            continuing, crew = self.settings.batch_steps is not None, self.workers[0]
            self._environments[key] = self._copies(episodes, None, continuing, judged, pool=pool, crew=crew)
        return self._environments[key]

    def _recall(self, environments: Any, episodes: int, frozen: bool) -> None:
        """Give the copies of each replica, however many, the moments of the copies that play for updates."""
        if self.moments is None:
            return
        rows = self.moments.get_buffer("numbers").numpy()
        each = np.arange(episodes if self.single else 1) % rows.shape[1]
        set_moments_of(environments, rows[:, each].reshape(-1, rows.shape[2]), frozen)

    def _remember(self, environments: Any) -> None:
        if self.moments is not None:
            numbers, rows = self.moments.get_buffer("numbers"), moments_of(environments)
            rows = distributed.put_together(rows) if self.single else rows
            numbers.copy_(torch.from_numpy(rows).reshape(numbers.shape))
