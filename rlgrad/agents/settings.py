"""The settings of an agent: its networks, how it plays, and how its actions are credited."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from rlgrad.agents.policies import Deviation
from rlgrad.environments import Simulator, describe
from rlgrad.environments.around import Around, find_mask, wrapper
from rlgrad.environments.spaces import Reading
from rlgrad.errors import SettingError
from rlgrad.networks import Activation
from rlgrad.settings import Each, Evaluation, Importable, Named, NonNegativeInt, Optimizer, RunSettings, Section

Settings = TypeVar("Settings", bound="AgentSettings")
Filter = tuple[PositiveInt, PositiveInt, PositiveInt]
Fraction = Annotated[float, Field(ge=0, le=1)]


class PolicySettings(Section):
    """The network that gives the probabilities of the actions."""

    hidden: tuple[PositiveInt, ...] = (32,)
    """widths of the hidden layers; []: a linear policy"""
    activation: Activation | Importable = "tanh"
    """of the hidden layers: tanh, relu, or your own function of a tensor as module:function"""
    filters: tuple[Filter, ...] | None = None
    """of the convolutions that pictures go through first: how many, their size and the stride, for each layer; null:
    those of Mnih et al. 2015, [[32, 8, 4], [64, 4, 2], [64, 3, 1]], and of pictures with a side below 36 pixels
    [[16, 3, 2], [32, 3, 2]]"""
    network: Importable | None = None
    """your own, as module:function: (inputs, outputs, streams of the R replicas) -> a module that maps [R, ..., inputs]
    to [R, ..., outputs]; null: a multilayer perceptron"""
    initial_gain: Each[PositiveFloat] = 0.01
    """size of the last layer's initial weights: where it is small, the first policy is almost uniform"""
    deviation: Deviation = "learned"
    """of continuous actions. learned: a number for each element, the same everywhere; state_dependent: the network's"""
    initial_deviation: Each[PositiveFloat] = 1.0
    """of continuous actions, where 1 is half the width of their box"""
    squash: bool = False
    """whether continuous actions are brought into their box by a tanh, instead of being clipped"""


class CriticSettings(Section):
    """The network that guesses returns."""

    hidden: tuple[PositiveInt, ...] = (32,)
    """widths of the hidden layers"""
    activation: Activation | Importable = "tanh"
    """of the hidden layers: tanh, relu, or your own function of a tensor as module:function"""
    filters: tuple[Filter, ...] | None = None
    """of pictures, as the policy's; its convolutions are its own"""
    learning_rate: Each[PositiveFloat] | None = None
    """its own; null: that of the policy"""
    optimizer: Optimizer | None = None
    """its own, by name and arguments as that of the run; null: it is moved by that of the run"""
    epochs: PositiveInt = 1
    """how often it learns from the steps of an update; more than once needs an optimizer of its own"""
    minibatches: PositiveInt = 1
    """into how many parts an epoch's steps are dealt, for a step of its optimizer each"""

    @property
    def passes(self) -> int:
        """Steps of its optimizer in an update."""
        return self.epochs * self.minibatches


class Wrapper(Named):
    """One of gymnasium.wrappers by its name, or your own as module:Class, and its own arguments as further keys."""


class EntropyBonus(Section):
    """A reward for being undecided: the policy's mean entropy, times a coefficient, is added to the objective."""

    coefficient: Each[NonNegativeFloat]
    """reward per nat at the first update"""
    final: Each[NonNegativeFloat] | None = None
    """the coefficient at the last update, with a straight line between the two; null: it stays the same"""

    def at(self, progress: float) -> float | Tensor:
        """The coefficient when so much of the run is done, from 0 to 1."""
        final = self.coefficient if self.final is None else self.final
        return self.coefficient + (final - self.coefficient) * min(1.0, progress)


class HeldOutEpisodes(Evaluation):
    """How often, and on how many new episodes, the greedy policy is evaluated."""

    episodes: PositiveInt = 100
    """episodes of each evaluation, each with an initial state that training never sees"""
    episode_limit: PositiveInt = 10_000
    """actions after which an evaluated episode is cut off, and counts as it is then; evaluation/cut_off says so"""
    steps: PositiveInt | None = None
    """of a task without an end: so many actions of each of the `episodes`, judged by the reward per action"""


Baseline = Literal[
    "none", "batch_mean", "leave_one_out", "running_mean", "optimal_constant", "optimal_per_parameter", "critic"
]


class Atari(Section):
    """How a game is played."""

    frame_skip: PositiveInt = 4
    """frames that each action is held for; of the last two the brighter pixels are seen"""
    size: PositiveInt = 84
    """pixels along each side"""
    grey: bool = True
    """without colours"""
    stack: PositiveInt = 4
    """of how many frames an observation is made"""
    no_ops: NonNegativeInt = 30
    """at most so many frames pass before an episode begins, at least 1; 0: none"""
    fire: bool = True
    """whether FIRE is pressed then, where there is such a button"""
    sticky: Fraction = 0.0
    """probability with which a frame gets the action of the frame before; 0.25 is often used instead of no_ops"""
    life_loss_ends: bool = True
    """in training, and not in evaluation, the loss of a life ends the episode"""
    clip_rewards: bool = True
    """in training, and not in evaluation, only the sign of a reward counts"""


class AgentSettings(RunSettings):
    """What the agent is, and what it plays for an update."""

    environment: str
    """any registered Gymnasium id, such as CartPole-v1; or your own class as module:Class"""
    environment_options: dict[str, Any] = {}
    """keyword arguments of the environment"""
    wrappers: tuple[Wrapper, ...] = ()
    """what is put around each copy, from the innermost outwards: [{name: FrameStackObservation, stack_size: 4}]; those
    that only change rewards play in training, and not in evaluation"""
    atari: Atari | bool = False
    """of a game of ale-py's, such as ALE/Pong-v5: true, or a section of its own, and it is played as usual"""
    action_mask: str | None = "auto"
    """where the environment says which of its actions are legal. info: in info["action_mask"]; a name: in this part of
    its observations, a Dict; auto: where one of the two is there, with the name action_mask; null: nowhere"""
    simulator: Simulator = "auto"
    """auto: our vectorized form of the environment where there is one that may play it (docs/environments.md), else
    Gymnasium's; gymnasium: always Gymnasium's, copy after copy; vector: the vector form that the environment brings;
    envpool: that of the package envpool"""
    pictures: Reading = "auto"
    """which parts of an observation go through convolutions. auto: what is unmistakably a picture
    (docs/environments.md); channels_first, channels_last: all that have at least 8 pixels along both sides; none: no
    part, all are mere numbers"""
    workers: Literal["auto"] | Annotated[int, Field(ge=0, le=1024)] = "auto"
    """processes that step Gymnasium's copies beside this one, to the same bits. auto: one for each further core, where
    a step of all copies takes long enough to be worth the exchange"""
    action_repeat: PositiveInt = 1
    """for how many steps of the environment each action is held; an episode's length, its limit, a segment and the
    discount count actions"""
    episodes: PositiveInt = 32
    """whole episodes that each replica plays for one update; with `segment`, how many it plays side by side"""
    batch_steps: PositiveInt | None = None
    """whole episodes, as many as it takes to have so many steps in an update: after an episode its slot plays another;
    needs `baseline: critic`. null: one in each of the `episodes` slots"""
    segment: PositiveInt | None = None
    """instead of whole episodes: so many steps of each for one update, which goes on where the last one ended; needs
    `baseline: critic`, which guesses what comes after them (A2C)"""
    episode_limit: PositiveInt = 100_000
    """actions in an episode of an update after which the run fails, as the episode seems to have no end"""
    policy: PolicySettings = PolicySettings()
    critic: CriticSettings = CriticSettings()
    """of the baseline `critic`, and of no other"""
    normalise_observations: bool = False
    """mean 0 and deviation 1 in every feature, by what each replica has seen in earlier updates"""
    evaluation: HeldOutEpisodes = HeldOutEpisodes()

    @property
    def flowing(self) -> bool:
        """Whether a slot plays one episode after the other."""
        return bool(self.segment or self.batch_steps)

    @property
    def around(self) -> Around:
        """What is put around each copy. Raises SettingError."""
        made = []
        for number, each in enumerate(self.wrappers):
            path = ("wrappers", str(number))
            own = self.named((*path, "name"), each.name) if ":" in each.name else None
            made.append(wrapper(path, each.name, own, each.arguments))
        game = Atari() if self.atari is True else self.atari
        atari = {**game.model_dump(), "training": True} if game else None
        return Around(tuple(made), None if self.action_mask == "auto" else self.action_mask, atari)

    @property
    def mask(self) -> str | None:
        """The part of what is observed that is the action mask."""
        return self.around.key


class CreditSettings(AgentSettings):
    """Which action gets how much of what was earned."""

    discount: Each[Annotated[float, Field(gt=0, le=1)]] = 1.0
    """gamma: a reward t steps ahead counts gamma^t"""
    discount_weighting: bool = True
    """weight step t by gamma^t, as the gradient of the discounted return asks (most codes do not, and are biased)"""
    returns: Literal["reward_to_go", "whole"] = "reward_to_go"
    """what an action is credited with: the rewards that come after it, or those of the whole episode (more noise)"""
    baseline: Baseline = "leave_one_out"
    """subtracted from the returns. batch_mean, leave_one_out: the mean of all, or of the other, episodes of the update
    at the same step; running_mean: of earlier updates; optimal_constant, optimal_per_parameter: the number that leaves
    the least variance (two further backward passes an episode); critic: a learned value of the state"""
    time_limit: Literal["end", "bootstrap"] = "end"
    """end: what a time limit cuts off does not count. bootstrap: the critic guesses it, as if the episode went on"""
    gae_lambda: Each[Fraction] = 1.0
    """with a critic: how far ahead rewards count before its guess replaces them; 1: to the end, which has no bias"""
    standardise_advantages: bool | Literal["per_episode"] = False
    """true: mean 0 and deviation 1 in every batch, which biases the gradient, and makes the size of the rewards
    irrelevant; per_episode: within each episode, which biases it more"""
    normalise_returns: bool = False
    """advantages, and what a critic guesses, in units of the deviation of the returns of earlier updates; it makes the
    size of the rewards irrelevant, and leaves the direction of the gradient as it is. A constant in each reward makes
    the returns vary with the time that is left, and this unit with them: subtract it from the rewards"""

    def optimizers_of_parts(self) -> dict[tuple[str, ...], Optimizer]:
        own = self.critic.optimizer if self.baseline == "critic" else None
        return {("critic", "optimizer"): own} if own else {}

    @property
    def critic_alone(self) -> bool:
        """Whether the critic learns in passes of its own."""
        return self.baseline == "critic" and self.critic.passes > 1

    @property
    def weighted(self) -> bool:
        """Whether steps are weighted by γᵗ: the return of a whole episode contains it already."""
        return self.discount_weighting and self.returns == "reward_to_go"


def opened(settings: Settings) -> tuple[Any, Settings]:
    """One copy of the environment, as policies see it, and the settings with its action mask found. Raises
    SettingError."""
    plain = settings.around._replace(mask=None)
    environment = describe(settings.environment, settings.environment_options, plain)
    mask = find_mask(environment, settings.action_mask)
    if mask and settings.action_repeat > 1:
        message = "an action may not be legal any more while it is held: set 1, or action_mask: null"
        raise SettingError(("action_repeat",), message)
    return Around(mask=mask).single(environment), settings.model_copy(update={"action_mask": mask})


def check(settings: CreditSettings) -> None:
    """Raises SettingError where settings contradict each other."""
    alone = ("none", "running_mean", "critic")  # these baselines need no other episodes
    if settings.baseline not in alone and settings.episodes < 2:
        message = f"the baseline {settings.baseline} needs at least two episodes an update; set 2 or more, or "
        raise SettingError(("episodes",), message + "baseline: none")
    if settings.baseline != "critic":
        for name, plain in (("gae_lambda", 1.0), ("time_limit", "end"), ("segment", None), ("batch_steps", None)):
            if getattr(settings, name) != plain:
                said = "null" if plain is None else plain
                raise SettingError((name,), f"only a critic can guess what is to come: set baseline: critic, or {said}")
    elif settings.critic_alone and settings.critic.optimizer is None:
        message = "the critic learns alone then, and needs an optimizer of its own: critic: {optimizer: {name: Adam}}"
        raise SettingError(("critic", "epochs" if settings.critic.epochs > 1 else "minibatches"), message)
    elif settings.critic.optimizer and settings.critic.learning_rate:
        raise SettingError(("critic", "learning_rate"), "the critic's own optimizer has an lr: set critic.optimizer.lr")
    elif settings.returns == "whole":
        raise SettingError(("returns",), "a critic values what is to come: set reward_to_go")
    if settings.returns == "whole" and settings.discount < 1 and not settings.discount_weighting:
        message = "it has no effect: the return of a whole episode counts each reward by gamma^t; leave it out"
        raise SettingError(("discount_weighting",), message)
    if settings.normalise_returns and settings.standardise_advantages and settings.baseline != "critic":
        raise SettingError(("normalise_returns",), "it has no effect beside standardise_advantages: leave one out")
    if settings.segment and settings.batch_steps:
        raise SettingError(("batch_steps",), "it is for whole episodes, and a segment's steps are given: leave one out")
    if settings.flowing and settings.discount < 1 and settings.discount_weighting:
        message = "where a slot plays several episodes all states count alike, however late in theirs: set it to false"
        raise SettingError(("discount_weighting",), message)
    if settings.segment and settings.standardise_advantages == "per_episode":
        raise SettingError(("standardise_advantages",), "per_episode needs whole episodes, not segments: set true")
    if settings.segment and settings.action_repeat > 1 and settings.simulator in ("vector", "envpool"):
        message = f"in segments the simulator {settings.simulator} may begin a new episode while an action is held: "
        raise SettingError(("action_repeat",), message + "use auto or gymnasium")
    if settings.standardise_advantages and settings.baseline.startswith("optimal"):
        raise SettingError(("standardise_advantages",), f"not with the baseline {settings.baseline}")


def without_effect(settings: CreditSettings, continuous: bool, pictures: bool) -> list[str]:
    """The settings that are another than their default, and change nothing beside the others. continuous: the actions.
    pictures: whether there are some.
    They do no harm, as where an option sets another baseline than that of a config: so a run only names them."""
    unused = [] if settings.baseline == "critic" or settings.critic == CriticSettings() else ["critic"]
    idle = [] if continuous else ["deviation", "initial_deviation", "squash"]
    idle += ["hidden", "activation", "initial_gain"] if settings.policy.network else []
    idle += [] if pictures else ["filters"]
    plain = {name: field.default for name, field in PolicySettings.model_fields.items()}
    return unused + [f"policy.{name}" for name in idle if getattr(settings.policy, name) != plain[name]]
