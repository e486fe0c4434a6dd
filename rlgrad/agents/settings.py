"""The settings that describe how an agent plays."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveInt

from rlgrad.settings import Evaluation
from rlgrad.settings import Settings as Group

Fraction = Annotated[float, Field(ge=0, le=1)]


class EntropyBonus(Group):
    """A reward for being undecided: the policy's mean entropy, times a coefficient, is added to the objective."""

    coefficient: NonNegativeFloat
    """reward per nat at the first update"""
    final: NonNegativeFloat | None = None
    """the coefficient at the last update, with a straight line between the two; null: it stays the same"""


class HeldOutEpisodes(Evaluation):
    """How often, and on how many new episodes, the greedy policy is evaluated."""

    episodes: PositiveInt = 100
    """episodes of each evaluation, each with an initial state that training never sees"""
