"""The settings of an agent: its networks, how it plays, and how its actions are credited."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, PrivateAttr
from torch import Tensor

from rlgrad.agents.policies import Deviation
from rlgrad.environments import Simulator, describe
from rlgrad.environments.around import Around, find_mask, wrapper
from rlgrad.environments.spaces import Reading
from rlgrad.errors import SettingError
from rlgrad.networks import Activation
from rlgrad.settings import Cell, Each, Evaluation, Importable, Named, NonNegativeInt, Optimizer, RunSettings, Section

Settings = TypeVar("Settings", bound="AgentSettings")
Filter = tuple[PositiveInt, PositiveInt, PositiveInt]
Fraction = Annotated[float, Field(ge=0, le=1)]
Discount = Annotated[float, Field(gt=0, le=1)]


class PolicySettings(Section):
    """The network that gives the probabilities of the actions."""

    hidden: tuple[PositiveInt, ...] = (32,)
    """widths of the hidden layers; []: a linear policy"""
    activation: Activation | Importable = "tanh"
    """activation of the hidden layers: tanh, relu, or your own function of a tensor as module:function"""
    filters: tuple[Filter, ...] | None = None
    """convolutional layers for pictures, each as [number of filters, size, stride]; null: those of Mnih et al. 2015,
    [[32, 8, 4], [64, 4, 2], [64, 3, 1]], and for pictures with a side below 36 pixels [[16, 3, 2], [32, 3, 2]]"""
    network: Importable | None = None
    """your own network, as module:function: (inputs, outputs, streams of the R replicas) -> a module that maps
    [R, ..., inputs] to [R, ..., outputs]; null: a multilayer perceptron"""
    initial_gain: Each[PositiveFloat] = 0.01
    """scale of the last layer's initial weights: if it is small, the first policy is almost uniform"""
    deviation: Deviation = "learned"
    """standard deviation of continuous actions. learned: a number for each element, the same in all states;
    state_dependent: an output of the network"""
    initial_deviation: Each[PositiveFloat] = 1.0
    """standard deviation of continuous actions at the start, where 1 is half the width of their box"""
    squash: bool = False
    """whether a tanh brings continuous actions into their box, instead of clipping"""


class CriticSettings(Section):
    """The network that guesses returns."""

    hidden: tuple[PositiveInt, ...] = (32,)
    """widths of the hidden layers"""
    activation: Activation | Importable = "tanh"
    """activation of the hidden layers: tanh, relu, or your own function of a tensor as module:function"""
    filters: tuple[Filter, ...] | None = None
    """convolutional layers for pictures, as those of the policy; the critic has its own weights"""
    learning_rate: Each[PositiveFloat] | None = None
    """the critic's own learning rate; null: that of the policy"""
    optimizer: Optimizer | None = None
    """the critic's own optimizer, with name and arguments as that of the run; null: that of the run"""
    epochs: PositiveInt = 1
    """number of passes of the critic through all steps of an update; more than 1 needs an optimizer of its own"""
    minibatches: PositiveInt = 1
    """number of parts into which each epoch divides the steps; each part gives one step of the critic's optimizer"""

    @property
    def passes(self) -> int:
        """The number of steps of the critic's optimizer in an update."""
        return self.epochs * self.minibatches


class Wrapper(Named):
    """The name of one of gymnasium.wrappers, or your own wrapper as module:Class; further keys are its arguments."""


class EntropyBonus(Section):
    """A reward for being undecided: the policy's mean entropy, times a coefficient, is added to the objective."""

    coefficient: Each[NonNegativeFloat]
    """reward per nat of entropy at the first update"""
    final: Each[NonNegativeFloat] | None = None
    """the coefficient at the last update, with a straight line between the two; null: it stays the same"""

    def at(self, progress: float) -> float | Tensor:
        """The coefficient at this point of the run: 0 is its first update, 1 its last."""
        final = self.coefficient if self.final is None else self.final
        return self.coefficient + (final - self.coefficient) * min(1.0, progress)


class HeldOutEpisodes(Evaluation):
    """How often, and on how many new episodes, the greedy policy is evaluated."""

    episodes: PositiveInt = 100
    """episodes of each evaluation, each with an initial state that training never sees"""
    episode_limit: PositiveInt = 10_000
    """actions after which an evaluated episode is cut off, and counts as it is then; evaluation/cut_off says so"""
    steps: PositiveInt | None = None
    """for a task without an end: number of actions in each of the `episodes`; the result is the reward per action"""


Baseline = Literal[
    "none", "batch_mean", "leave_one_out", "running_mean", "optimal_constant", "optimal_per_parameter", "critic"
]


class Atari(Section):
    """How an Atari game is played."""

    frame_skip: PositiveInt = 4
    """number of frames that each action is held for; the policy sees the brighter pixels of the last two"""
    size: PositiveInt = 84
    """pixels along each side"""
    grey: bool = True
    """whether pictures are grey, without colours"""
    stack: PositiveInt = 4
    """number of frames in an observation"""
    no_ops: NonNegativeInt = 30
    """an episode begins after a random number of frames without an action, from 1 to this number; 0: none"""
    fire: bool = True
    """whether FIRE is pressed before an episode begins, if the game has this button"""
    sticky: Fraction = 0.0
    """probability that a frame repeats the action of the frame before; 0.25 is often used instead of no_ops"""
    life_loss_ends: bool = True
    """whether the loss of a life ends the episode: in training, not in evaluation"""
    clip_rewards: bool = True
    """whether only the sign of a reward counts: in training, not in evaluation"""


class AgentSettings(RunSettings):
    """What the agent is, and what it plays for an update."""

    environment: str
    """any registered Gymnasium id, such as CartPole-v1; or your own class as module:Class"""
    environment_options: dict[str, Any] = {}
    """keyword arguments of the environment"""
    wrappers: tuple[Wrapper, ...] = ()
    """wrappers around each copy of the environment, the innermost first: [{name: FrameStackObservation, stack_size:
    4}]; those that only change rewards are used in training, not in evaluation"""
    atari: Atari | bool = False
    """for a game of ale-py, such as ALE/Pong-v5. true: the usual preprocessing; a section: with other values"""
    action_mask: str | None = "auto"
    """where the environment says which of its actions are legal. info: in info["action_mask"]; a name: in the part of
    its observations, a Dict, with this name; auto: in info or the part action_mask, if one is there; null: nowhere"""
    simulator: Simulator = "auto"
    """which form of the environment plays. auto: our vectorized form if there is one that fits (docs/environments.md),
    else Gymnasium's; gymnasium: always Gymnasium's, one copy after the other; vector: the vector form that the
    environment brings; envpool: that of the package envpool"""
    pictures: Reading = "auto"
    """which parts of an observation go through convolutions. auto: parts that are clearly pictures
    (docs/environments.md); channels_first, channels_last: all that have at least 8 pixels along both sides; none: no
    part, all are plain numbers"""
    workers: Literal["auto"] | Annotated[int, Field(ge=0, le=1024)] = "auto"
    """number of further processes that step Gymnasium's copies; the results are the same bits. auto: one for each
    further core, if a step of all copies takes long enough to be worth the exchange"""
    action_repeat: PositiveInt = 1
    """number of environment steps that each action is held for; an episode's length, its limit, a segment and the
    discount count actions"""
    episodes: PositiveInt = 32
    """whole episodes that each replica plays for one update; with `segment`, how many it plays side by side"""
    batch_steps: PositiveInt | None = None
    """minimum number of steps in an update: slots play whole episodes, one after the other, until the replica has this
    many steps; needs `baseline: critic`. null: one episode in each of the `episodes` slots"""
    segment: PositiveInt | None = None
    """number of steps of each episode for one update, instead of whole episodes; the next update goes on where this one
    ended. Needs `baseline: critic`, which guesses what comes after them (A2C)"""
    episode_limit: PositiveInt = 100_000
    """number of actions in an episode of an update after which it seems to have no end, and the run fails"""
    policy: PolicySettings = PolicySettings()
    critic: CriticSettings = CriticSettings()
    """used by the baseline `critic`, and by no other"""
    normalise_observations: bool = False
    """whether every feature is scaled to mean 0 and deviation 1, by what each replica has seen in earlier updates. A
    deviation below 1e-4 counts as 1e-4: a feature that hardly moves is not scaled up. The
    scale moves for as long as a run goes on, and the policy with it, even where the learning rate has become 0"""
    evaluation: HeldOutEpisodes = HeldOutEpisodes()

    _given: Callable[..., Any] | None = PrivateAttr(None)  # what makes an environment that was given

    def _at(self, cell: Cell) -> Self:
        found = super()._at(cell)
        found._given = self._given
        return found

    @property
    def flowing(self) -> bool:
        """Whether a slot plays one episode after the other."""
        return bool(self.segment or self.batch_steps)

    @property
    def around(self) -> Around:
        """The wrappers, the action mask and the Atari settings around each copy, and what makes it if that was given.
        Raises SettingError."""
        made = []
        for number, each in enumerate(self.wrappers):
            path = ("wrappers", str(number))
            own = self.named((*path, "name"), each.name) if ":" in each.name else None
            made.append(wrapper(path, each.name, own, each.arguments))
        game = Atari() if self.atari is True else self.atari
        atari = {**game.model_dump(), "training": True} if game else None
        return Around(tuple(made), None if self.action_mask == "auto" else self.action_mask, atari, self._given)

    @property
    def mask(self) -> str | None:
        """The name of the part of the observation that is the action mask; None without a mask."""
        return self.around.key


class CreditSettings(AgentSettings):
    """How much credit each action gets for the rewards."""

    discount: Each[Discount] = 1.0
    """gamma: a reward t steps ahead counts gamma^t"""
    discount_weighting: bool = True
    """whether step t has the weight gamma^t, as in the gradient of the discounted return (most codes leave it out, and
    are biased)"""
    returns: Literal["reward_to_go", "whole"] = "reward_to_go"
    """what an action is credited with: the rewards that come after it, or those of the whole episode (more noise)"""
    baseline: Baseline = "leave_one_out"
    """what is subtracted from the returns. batch_mean, leave_one_out: the mean of all, or of the other, episodes of the
    update at the same step; running_mean: the mean of earlier updates; optimal_constant, optimal_per_parameter: the
    number with the least variance (two more backward passes per episode); critic: a learned value of the state"""
    time_limit: Literal["end", "bootstrap"] = "end"
    """how the rewards after a time limit count. end: not at all; bootstrap: the critic guesses them, as if the episode
    went on"""
    gae_lambda: Each[Fraction] = 1.0
    """with a critic: how far ahead rewards count before its guess replaces them; 1: to the end, which has no bias"""
    standardise_advantages: bool | Literal["per_episode"] = False
    """whether advantages are scaled to mean 0 and deviation 1. true: in every batch, which biases the gradient, and
    makes the size of the rewards irrelevant; per_episode: within each episode, which biases it more"""
    normalise_returns: bool = False
    """whether advantages, and the values that a critic learns, are divided by the deviation of the returns of earlier
    updates. It makes the size of the rewards irrelevant, and keeps the direction of the gradient. A constant in each
    reward makes the returns, and so this unit, depend on the time that is left: subtract it from the rewards"""
    reward_scale: Each[PositiveFloat] = 1.0
    """multiplies the rewards in learning, to give them more weight, as beside an entropy bonus. The objective and all
    returns are logged in the environment's own rewards"""

    def optimizers_of_parts(self) -> dict[tuple[str, ...], Optimizer]:
        own = self.critic.optimizer if self.baseline == "critic" else None
        return {("critic", "optimizer"): own} if own else {}

    @property
    def critic_alone(self) -> bool:
        """Whether there are passes in which only the critic learns."""
        return self.baseline == "critic" and self.critic.passes > 1

    @property
    def weighted(self) -> bool:
        """Whether steps are weighted by γᵗ: the return of a whole episode contains it already."""
        return self.discount_weighting and self.returns == "reward_to_go"


def opened(settings: Settings) -> tuple[Any, Settings]:
    """Return one copy of the environment, as policies see it, and the settings with the place of its action mask.
    Raises SettingError."""
    plain = settings.around._replace(mask=None)
    environment = describe(settings.environment, settings.environment_options, plain)
    mask = find_mask(environment, settings.action_mask)
    if mask and settings.action_repeat > 1:
        message = "an action may become illegal while it is held: set 1, or action_mask: null"
        raise SettingError(("action_repeat",), message)
    return Around(mask=mask).single(environment), settings.model_copy(update={"action_mask": mask})


def check(settings: CreditSettings) -> None:
    """Raises SettingError if settings contradict each other."""
    alone = ("none", "running_mean", "critic")  # these baselines need no other episodes
    if settings.baseline not in alone and settings.episodes < 2:
        message = f"the baseline {settings.baseline} needs at least two episodes an update; set 2 or more, or "
        raise SettingError(("episodes",), message + "baseline: none")
    if settings.baseline != "critic":
        for name, plain in (("gae_lambda", 1.0), ("time_limit", "end"), ("segment", None), ("batch_steps", None)):
            if getattr(settings, name) != plain:
                said = f"set baseline: critic, or {'null' if plain is None else plain}"
                raise SettingError((name,), f"only a critic can estimate the return still to come: {said}")
    elif settings.critic_alone and settings.critic.optimizer is None:
        message = "the critic then learns alone, and needs an optimizer of its own: critic: {optimizer: {name: Adam}}"
        raise SettingError(("critic", "epochs" if settings.critic.epochs > 1 else "minibatches"), message)
    elif settings.critic.optimizer and settings.critic.learning_rate:
        raise SettingError(("critic", "learning_rate"), "the critic's own optimizer has an lr: set critic.optimizer.lr")
    elif settings.returns == "whole":
        raise SettingError(("returns",), "a critic estimates the return still to come: set reward_to_go")
    if settings.returns == "whole" and settings.discount < 1 and not settings.discount_weighting:
        message = "it has no effect: the return of a whole episode counts each reward by gamma^t; leave it out"
        raise SettingError(("discount_weighting",), message)
    if settings.normalise_returns and settings.standardise_advantages and settings.baseline != "critic":
        raise SettingError(("normalise_returns",), "it has no effect with standardise_advantages: leave one out")
    if settings.reward_scale != 1:
        plain = settings.standardise_advantages and settings.baseline != "critic"
        if other := "normalise_returns" if settings.normalise_returns else "standardise_advantages" if plain else None:
            raise SettingError(("reward_scale",), f"it has no effect with {other}: leave one out")
    if settings.segment and settings.batch_steps:
        raise SettingError(("batch_steps",), "it is for whole episodes, but a segment's length is fixed: leave one out")
    if settings.flowing and settings.discount < 1 and settings.discount_weighting:
        message = "a slot plays several episodes, so all states count equally, however late in theirs: set it to false"
        raise SettingError(("discount_weighting",), message)
    if settings.segment and settings.standardise_advantages == "per_episode":
        raise SettingError(("standardise_advantages",), "per_episode needs whole episodes, not segments: set true")
    if settings.flowing and settings.action_repeat > 1 and settings.simulator in ("vector", "envpool"):
        message = f"the simulator {settings.simulator} may begin a slot's next episode while an action is held: "
        raise SettingError(("action_repeat",), message + "use auto or gymnasium")
    if settings.standardise_advantages and settings.baseline.startswith("optimal"):
        raise SettingError(("standardise_advantages",), f"it cannot be used with the baseline {settings.baseline}")


def without_effect(settings: CreditSettings, continuous: bool, pictures: bool) -> list[str]:
    """Return the settings that differ from their defaults, but have no effect beside the others. continuous: whether
    the actions are. pictures: whether there are any.
    A run only names them: they do no harm, for example if an option sets another baseline than the config."""
    unused = [] if settings.baseline == "critic" or settings.critic == CriticSettings() else ["critic"]
    limit = type(settings).model_fields["episode_limit"].default
    unused += ["episode_limit"] if settings.segment and settings.episode_limit != limit else []
    idle = [] if continuous else ["deviation", "initial_deviation", "squash"]
    idle += ["hidden", "activation", "initial_gain"] if settings.policy.network else []
    idle += [] if pictures else ["filters"]
    plain = {name: field.default for name, field in PolicySettings.model_fields.items()}
    given = ((name, getattr(settings.policy, name)) for name in idle)  # a tensor [R] if it is swept
    return unused + [f"policy.{name}" for name, one in given if isinstance(one, Tensor) or one != plain[name]]
