"""Gymnasium's classic control problems, with all copies in one array; tested step for step against Gymnasium's."""

import math
from collections.abc import Sequence

import numpy as np

from rlgrad.environments.interface import Transition


class CartPole:
    """CartPole-v1, with all copies in one array and the equations of Gymnasium's `CartPoleEnv` in its order.

    Barto, Sutton & Anderson 1983; equations from Florian 2007 (https://coneural.org/florian/papers/05_cart_pole.pdf).
    """

    GRAVITY, CART, POLE, LENGTH, FORCE, TAU = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02  # LENGTH is half the pole's
    TOTAL, POLE_LENGTH = CART + POLE, POLE * LENGTH
    BOUNDS = np.array([[2.4], [12 * 2 * math.pi / 360]])  # of position and angle
    MAX_STEPS = 500

    def __init__(self, copies: int):
        self.copies = copies
        self.state = np.empty((4, copies))  # position, its velocity, angle, its velocity
        self.change = np.empty((4, copies))
        self.steps = 0
        self.reward = np.ones(copies, dtype=np.float32)

    def reset(self, streams: Sequence[np.random.Generator]) -> np.ndarray:
        each = self.copies // len(streams)
        self.state = np.concatenate([rng.uniform(-0.05, 0.05, (each, 4)) for rng in streams]).T.copy()
        self.steps = 0
        return self.state.T.astype(np.float32)

    def step(self, action: np.ndarray) -> Transition:
        _, x_dot, theta, theta_dot = self.state
        force = (2 * action - 1) * self.FORCE
        cos, sin = np.cos(theta), np.sin(theta)
        push = (force + self.POLE_LENGTH * np.square(theta_dot) * sin) / self.TOTAL
        theta_acc = (self.GRAVITY * sin - cos * push) / (
            self.LENGTH * (4.0 / 3.0 - self.POLE * np.square(cos) / self.TOTAL)
        )
        self.change[0] = x_dot
        self.change[1] = push - self.POLE_LENGTH * theta_acc * cos / self.TOTAL
        self.change[2] = theta_dot
        self.change[3] = theta_acc
        self.change *= self.TAU
        self.state += self.change
        self.steps += 1
        terminated = np.logical_or.reduce(np.abs(self.state[::2]) > self.BOUNDS)
        truncated = np.full(self.copies, self.steps >= self.MAX_STEPS)
        return Transition(self.state.T.astype(np.float32), self.reward, terminated, truncated)
