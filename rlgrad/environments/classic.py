"""Gymnasium's classic control problems, with all copies in one array; tested step for step against Gymnasium's."""

import math
from collections.abc import Sequence

import numpy as np

from rlgrad.environments.interface import Environments, Transition


class Control(Environments):
    """The base class: a state [D, N] that starts at random in a box, is moved by actions, and has a time limit.
    Copies begin all at once, or one by one (`Continuing`).

    LOW, HIGH: the box in which initial states are uniformly distributed.
    """

    LOW: Sequence[float]
    HIGH: Sequence[float]
    MAX_STEPS: int
    state: np.ndarray
    repeatable = True

    def __init__(self, copies: int, max_episode_steps: int | None = None):
        """max_episode_steps: instead of MAX_STEPS; -1: no limit."""
        self.copies, limit = copies, max_episode_steps or self.MAX_STEPS
        self.limit = limit if limit > 0 else math.inf

    def reset(self, streams: Sequence[np.random.Generator], begin: bool = True) -> np.ndarray:
        size = (self.copies // len(streams), len(self.LOW))
        self.state = np.concatenate([rng.uniform(self.LOW, self.HIGH, size) for rng in streams]).T.copy()
        self.steps = np.zeros(self.copies, dtype=np.int64)
        return self.observe()

    def restart(self, over: np.ndarray, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        for k in np.flatnonzero(over):
            self.state[:, k] = np.random.default_rng(seeds[k]).uniform(self.LOW, self.HIGH)
        self.steps[over] = 0
        return self.observe(), np.ones(self.copies, dtype=bool)

    def step(self, action: np.ndarray) -> Transition:
        reward, terminated = self.move(action)
        self.steps += 1
        return Transition(self.observe(), reward, terminated, self.steps >= self.limit)

    def observe(self) -> np.ndarray:
        """Return the observations [N, ...] of the state."""
        return self.state.T.astype(np.float32)

    def move(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Change the state by the actions [N, ...]. Return reward and terminated [N]."""
        raise NotImplementedError


class CartPole(Control):
    """CartPole-v1, with the equations of Gymnasium's `CartPoleEnv` in its order.

    Barto, Sutton & Anderson 1983; equations from Florian 2007 (https://coneural.org/florian/papers/05_cart_pole.pdf).
    """

    GRAVITY, CART, POLE, LENGTH, FORCE, TAU = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02  # LENGTH is half the pole's
    TOTAL, POLE_LENGTH = CART + POLE, POLE * LENGTH
    BOUNDS = np.array([[2.4], [12 * 2 * math.pi / 360]])  # of position and angle
    LOW, HIGH = [-0.05] * 4, [0.05] * 4  # position, its velocity, angle, its velocity
    MAX_STEPS = 500

    def __init__(self, copies: int, max_episode_steps: int | None = None):
        super().__init__(copies, max_episode_steps)
        self.change = np.empty((4, copies))
        self.reward = np.ones(copies, dtype=np.float32)

    def move(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        _, x_dot, theta, theta_dot = self.state
        force = (2 * action - 1) * self.FORCE
        cos, sin = np.cos(theta), np.sin(theta)
        push = (force + self.POLE_LENGTH * np.square(theta_dot) * sin) / self.TOTAL
        inertia = self.LENGTH * (4.0 / 3.0 - self.POLE * np.square(cos) / self.TOTAL)
        theta_acc = (self.GRAVITY * sin - cos * push) / inertia
        self.change[0] = x_dot
        self.change[1] = push - self.POLE_LENGTH * theta_acc * cos / self.TOTAL
        self.change[2] = theta_dot
        self.change[3] = theta_acc
        self.change *= self.TAU
        self.state += self.change
        return self.reward, np.logical_or.reduce(np.abs(self.state[::2]) > self.BOUNDS)


class Acrobot(Control):
    """Acrobot-v1: a double pendulum, driven at the joint between its links, has to swing its tip up.

    The equations of Sutton & Barto's book, with all masses and lengths 1, and the Runge-Kutta method of fourth order.
    """

    GRAVITY, TIME = 9.8, 0.2
    BOUNDS = np.array([[4 * math.pi], [9 * math.pi]])  # of the velocities
    LOW, HIGH = [-0.1] * 4, [0.1] * 4  # angle of the first link, of the second relative to it, and their velocities
    MAX_STEPS = 500

    def __init__(self, copies: int, max_episode_steps: int | None = None):
        super().__init__(copies, max_episode_steps)
        self.angles = np.empty((3, copies))  # of the first link, of the joint, of the second link

    def move(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        torque, state, dt = action - 1.0, self.state, self.TIME
        k1 = self.slope(state, torque)
        k2 = self.slope(state + dt / 2 * k1, torque)
        k3 = self.slope(state + dt / 2 * k2, torque)
        k4 = self.slope(state + dt * k3, torque)
        k2 += k3
        self.state = state + dt / 6 * (k1 + 2 * k2 + k4)  # angles go on beyond π, where Gymnasium's jump to −π
        np.clip(self.state[2:], np.negative(self.BOUNDS), self.BOUNDS, out=self.state[2:])
        heights = np.cos(self.turned(self.state)[::2])
        terminated = heights.sum(0) < -1.0
        return terminated - 1.0, terminated

    def observe(self) -> np.ndarray:
        seen = np.empty((self.copies, 6), dtype=np.float32)
        seen[:, 0:4:2] = np.cos(self.state[:2]).T
        seen[:, 1:4:2] = np.sin(self.state[:2]).T
        seen[:, 4:] = self.state[2:].T
        return seen

    def turned(self, state: np.ndarray) -> np.ndarray:
        """The angles [3, N] of the first link, of the joint, and of the second link; 0 is down."""
        self.angles[:2] = state[:2]
        np.add(state[0], state[1], out=self.angles[2])
        return self.angles

    def slope(self, state: np.ndarray, torque: np.ndarray) -> np.ndarray:
        """The derivative of the state with respect to time."""
        sin1, sin2, sin12 = np.sin(self.turned(state))
        v1, v2 = state[2], state[3]
        half_cos2, half_sin2 = np.cos(state[1]) / 2, sin2 / 2
        d1, d2 = 3.5 + 2 * half_cos2, 1.25 + half_cos2
        phi2 = self.GRAVITY / 2 * sin12
        phi1 = phi2 + 1.5 * self.GRAVITY * sin1 - half_sin2 * v2 * (v2 + 2 * v1)
        share = d2 / d1
        slope = np.empty_like(state)
        slope[:2] = state[2:]
        slope[3] = (torque + share * phi1 - half_sin2 * np.square(v1) - phi2) / (1.25 - d2 * share)
        slope[2] = np.negative(d2 * slope[3] + phi1) / d1
        return slope


class Pendulum(Control):
    """Pendulum-v1: a pendulum, driven by a torque too weak to lift it at once, has to stand upright."""

    GRAVITY, TIME, SPEED, TORQUE = 10.0, 0.05, 8.0, 2.0
    LOW, HIGH = [-math.pi, -1.0], [math.pi, 1.0]  # angle, where 0 is up, and its velocity
    MAX_STEPS = 200

    def move(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        angle, velocity = self.state
        torque = action[:, 0].clip(-self.TORQUE, self.TORQUE)
        wrapped = (angle + math.pi) % (2 * math.pi) - math.pi
        cost = np.square(wrapped) + 0.1 * np.square(velocity) + 0.001 * np.square(torque)
        velocity += (1.5 * self.GRAVITY * np.sin(angle) + 3.0 * torque) * self.TIME
        np.clip(velocity, -self.SPEED, self.SPEED, out=velocity)
        angle += velocity * self.TIME
        return np.negative(cost), np.zeros(self.copies, dtype=bool)

    def observe(self) -> np.ndarray:
        seen = np.empty((self.copies, 3), dtype=np.float32)
        angle, seen[:, 2] = self.state
        seen[:, 0], seen[:, 1] = np.cos(angle), np.sin(angle)
        return seen


class MountainCar(Control):
    """MountainCar-v0: an engine too weak for the hill; the car has to gain speed on the other side of the valley.

    Moore 1990 (https://www.cl.cam.ac.uk/techreports/UCAM-CL-TR-209.pdf).
    """

    GRAVITY, POWER, GOAL = 0.0025, 0.001, 0.5
    LEFT, RIGHT, SPEED = -1.2, 0.6, 0.07
    LOW, HIGH = [-0.6, 0.0], [-0.4, 0.0]  # position and velocity
    MAX_STEPS = 200

    def __init__(self, copies: int, max_episode_steps: int | None = None):
        super().__init__(copies, max_episode_steps)
        self.reward = np.full(copies, -1.0)

    def move(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.reward, self.drive((action - 1) * self.POWER)

    def drive(self, push: np.ndarray) -> np.ndarray:
        """Move the cars, and return which of them are up the hill [N]. push: [N] the engine's change of velocity."""
        position, velocity = self.state
        velocity += push - self.GRAVITY * np.cos(3 * position)
        np.clip(velocity, -self.SPEED, self.SPEED, out=velocity)
        position += velocity
        np.clip(position, self.LEFT, self.RIGHT, out=position)
        velocity[(position == self.LEFT) & (velocity < 0)] = 0
        return np.asarray((position >= self.GOAL) & (velocity >= 0))


class MountainCarContinuous(MountainCar):
    """MountainCarContinuous-v0: a hill of the same form, but the cost is fuel, and the top is worth 100."""

    POWER, GOAL = 0.0015, 0.45
    MAX_STEPS = 999

    def move(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        force = action[:, 0].astype(np.float64)
        arrived = self.drive(force.clip(-1, 1) * self.POWER)
        return 100.0 * arrived - 0.1 * np.square(force), arrived
