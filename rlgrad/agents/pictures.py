"""Pictures: how networks see them, and how a rollout stores them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlgrad import distributed, ranks
from rlgrad.environments.spaces import Picture
from rlgrad.networks import Convolutions, Filters


def beside(pictures: Sequence[Picture], total: int) -> np.ndarray:
    """Return the indices of the numbers in a flattened observation that belong to none of the pictures."""
    rest = np.ones(total, bool)
    for picture in pictures:
        rest[picture.own] = False
    return np.flatnonzero(rest)


class Sight(nn.Module):
    """Turns observations into features: [R, ..., *O] -> [R, ..., features]. Each picture is scaled to [0, 1] by the
    bounds of its space, and goes through its own convolutions; other numbers stay as they are."""

    def __init__(
        self,
        seen: spaces.Space[Any],
        pictures: Sequence[Picture],
        streams: Sequence[np.random.Generator],
        filters: Filters | None = None,
    ):
        super().__init__()
        self.axes, self.pictures = len(seen.shape or ()), pictures
        self.rest = torch.as_tensor(beside(pictures, math.prod(seen.shape or ())))
        kind, scales = torch.get_default_dtype(), [each.scale for each in pictures]
        self.lowest = [None if low is None else torch.as_tensor(low, dtype=kind) for low, _ in scales]
        self.reach = [torch.as_tensor(reach, dtype=kind) for _, reach in scales]
        self.each = nn.ModuleList(Convolutions(each.shape, streams, filters) for each in pictures)
        self.features = len(self.rest) + sum(each.features for each in self.each)  # type: ignore[misc]

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(x.dim() - self.axes)
        rows = x.flatten(1, -2)  # [R, N, O]
        found = [self.of_one(own, replica) for replica, own in enumerate(rows.unbind())]
        return torch.stack(found).reshape(*x.shape[:-1], self.features)

    def of_one(self, rows: Tensor, replica: int) -> Tensor:
        """Return one replica's features, [N, O] -> [N, features]. Empty rows, as after an end, are computed once."""
        if torch.compiler.is_exporting() or (shown := (rows != 0).any(1)).all():
            return self.features_of(rows, replica)
        once = torch.cat([torch.zeros_like(rows[:1]), rows[shown]])
        return self.features_of(once, replica).index_select(0, shown.cumsum(0) * shown)

    def features_of(self, rows: Tensor, replica: int) -> Tensor:
        kind = torch.get_default_dtype()
        found = [rows[:, self.rest].to(kind)] if len(self.rest) else []
        for picture, low, reach, convolutions in zip(self.pictures, self.lowest, self.reach, self.each, strict=True):
            own = rows[:, picture.own].to(kind).reshape(-1, *picture.box.shape)
            scaled = (own if low is None else own - low) / reach
            upright = scaled.permute(0, *(axis + 1 for axis in picture.axes))
            found.append(convolutions(upright.reshape(-1, *picture.shape), replica))
        return torch.cat(found, 1)


class Frames:
    """Observations [R, T, B, *O] with pictures of bytes. Each frame is stored once, as bytes, also if it is in several
    stacks. `[...]` gives observations as a tensor; it takes any index of the axes R, T and B."""

    def __init__(self, pictures: Sequence[Picture], frames: Sequence[Tensor], numbers: Sequence[Tensor], rest: Tensor,
                 shape: Sequence[int]):  # fmt: skip
        """frames: [F, pixels] of each picture; the first is empty. numbers: [R, T, B, S] which of them are in a stack.
        rest: [R, T, B, D] the numbers that belong to no picture. shape: [*O]."""
        self.pictures, self.frames, self.numbers, self.rest = pictures, frames, numbers, rest
        self.shape = torch.Size([*rest.shape[:3], *shape])
        self.beside = torch.as_tensor(beside(pictures, math.prod(shape)))

    def __getitem__(self, where: Any) -> Tensor:
        rest = self.rest[where]
        kind = rest.dtype if len(self.beside) else torch.uint8
        row = torch.empty(*rest.shape[:-1], math.prod(self.shape[3:]), dtype=kind)
        if len(self.beside):
            row[..., self.beside] = rest
        for picture, frames, numbers in zip(self.pictures, self.frames, self.numbers, strict=True):
            chosen = numbers[where]
            row[..., picture.own] = frames.index_select(0, chosen.flatten()).reshape(*chosen.shape[:-1], -1)
        return row.reshape(*row.shape[:-1], *self.shape[3:])

    def slots(self, episodes: slice) -> "Frames":
        """Return the observations of some of the B slots."""
        numbers = [each[:, :, episodes] for each in self.numbers]
        return Frames(self.pictures, self.frames, numbers, self.rest[:, :, episodes], self.shape[3:])

    def together(self, alive: Tensor) -> "Frames":
        """Return the observations of all processes that train together. alive: [R, T, B] bool, steps of this one."""
        frames, numbers = [], []
        for own, which in zip(self.frames, self.numbers, strict=True):
            counts = distributed.gathered(len(own))
            first = sum(counts[: ranks.here.rank])
            all_of_them = own.new_zeros(sum(counts), own.shape[1])
            all_of_them[first : first + len(own)] = own
            frames.append(all_of_them)
            numbers.append(which + (first * alive).to(which.dtype).unsqueeze(3))
        count = len(frames)
        parts = distributed.summed(*frames, *numbers, self.rest)
        return Frames(self.pictures, parts[:count], parts[count:-1], parts[-1], self.shape[3:])

    def numel(self) -> int:
        return self.shape.numel()


class Film:
    """Records the pictures of N slots, step by step, and keeps each frame once."""

    def __init__(self, picture: Picture, slots: int):
        self.picture = picture
        pixels = (picture.own.stop - picture.own.start) // picture.frames
        self.stack = np.zeros((slots, picture.frames, pixels), np.uint8)  # of the step before
        self.number = np.zeros((slots, picture.frames), np.int32)
        self.numbers: list[np.ndarray] = []
        self.kept, self.count = [np.zeros((1, pixels), np.uint8)], 1

    def take(self, row: np.ndarray, alive: np.ndarray) -> None:
        """Record a step. row: [N, ...] the flattened observations. alive: [N] bool."""
        stack = row[:, self.picture.own].reshape(self.stack.shape).astype(np.uint8, copy=False)
        moved = (stack[:, :-1] == self.stack[:, 1:]).all((1, 2))  # the stack of the step before, one frame later
        before = np.pad(self.number[:, 1:], ((0, 0), (0, 1)))
        fresh = np.ones(stack.shape[:2], bool)
        fresh[:, :-1] = ~moved[:, None]
        if stack.shape[1] > 1 and not moved.all():  # a new stack begins with frames that are empty, or the same
            first = np.concatenate([np.zeros_like(stack[~moved, :1]), stack[~moved, :-1]], 1)
            fresh[~moved] = (stack[~moved] != first).any(2)
        fresh &= alive[:, None]
        number = np.where(moved[:, None], before, 0)
        number[fresh] = self.count + np.arange(fresh.sum())
        again = ~moved & alive
        number[again] = np.maximum.accumulate(number[again], 1)
        number[~alive] = 0
        self.kept.append(stack[fresh])
        self.count += int(fresh.sum())
        self.stack, self.number = stack if alive.all() else np.where(alive[:, None, None], stack, 0), number
        self.numbers.append(number)

    def frames(self) -> Tensor:
        """Return all frames [F, pixels]. Their parts are freed one by one, so that memory contains each frame once."""
        whole, end = np.empty((self.count, self.kept[0].shape[1]), np.uint8), self.count
        while self.kept:
            last = self.kept.pop()
            whole[end - len(last) : end] = last
            end -= len(last)
        return torch.as_tensor(whole)
