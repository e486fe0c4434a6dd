"""Pictures: how networks see them, and how a rollout keeps them."""

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
    """Which numbers of what is seen, laid out in one row, belong to none of the pictures."""
    rest = np.ones(total, bool)
    for picture in pictures:
        rest[picture.own] = False
    return np.flatnonzero(rest)


def as_number(x: Any) -> Tensor:
    return torch.as_tensor(x, dtype=torch.get_default_dtype())


class Sight(nn.Module):
    """What is seen, as features: [R, ..., *O] -> [R, ..., features]. What is no picture stays as it is; each picture
    goes through convolutions of its own, scaled to [0, 1] by the bounds of its space."""

    def __init__(
        self,
        seen: spaces.Space[Any],
        pictures: Sequence[Picture],
        streams: Sequence[np.random.Generator],
        filters: Filters | None = None,
    ):
        super().__init__()
        self.axes, self.pictures = len(seen.shape or ()), pictures
        self.rest = torch.from_numpy(beside(pictures, math.prod(seen.shape or ())))
        self.lowest, self.reach = list[Tensor | None](), list[Tensor]()
        for low, reach in (each.scale for each in pictures):
            self.lowest.append(None if low is None else as_number(low))
            self.reach.append(as_number(reach))
        self.each = nn.ModuleList(Convolutions(each.shape, streams, filters) for each in pictures)
        self.features = len(self.rest) + sum(each.features for each in self.each)  # type: ignore[misc]

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(x.dim() - self.axes)
        rows = x.flatten(1, -2)  # [R, N, O]
        found = [self.of_one(own, replica) for replica, own in enumerate(rows.unbind())]
        return torch.stack(found).reshape(*x.shape[:-1], self.features)

    def of_one(self, rows: Tensor, replica: int) -> Tensor:
        """[N, O] -> [N, features]. Where nothing is seen, as after an episode's end, that is looked at once."""
        if torch.compiler.is_exporting() or (shown := (rows != 0).any(1)).all():
            return self.looked_at(rows, replica)
        once = torch.cat([torch.zeros_like(rows[:1]), rows[shown]])
        return self.looked_at(once, replica).index_select(0, shown.cumsum(0) * shown)

    def looked_at(self, rows: Tensor, replica: int) -> Tensor:
        kind = torch.get_default_dtype()
        found = [rows[:, self.rest].to(kind)] if len(self.rest) else []
        for picture, low, reach, convolutions in zip(self.pictures, self.lowest, self.reach, self.each, strict=True):
            own = rows[:, picture.own].to(kind).reshape(-1, *picture.box.shape)
            scaled = (own if low is None else own - low) / reach
            upright = scaled.permute(0, *(axis + 1 for axis in picture.axes))
            found.append(convolutions(upright.reshape(-1, *picture.shape), replica))
        return torch.cat(found, 1)


class Frames:
    """Observations [R, T, B, *O] with pictures of bytes, of which each frame is kept once, as bytes: a frame that
    stands in several stacks too. `[...]` puts observations together, and takes what a tensor takes up to the slots."""

    def __init__(self, pictures: Sequence[Picture], frames: Sequence[Tensor], numbers: Sequence[Tensor], rest: Tensor,
                 shape: Sequence[int]):  # fmt: skip
        """frames: [F, pixels] of each picture; the first is empty. numbers: [R, T, B, S] which of them. rest:
        [R, T, B, D] what is no picture. shape: [*O]."""
        self.pictures, self.frames, self.numbers, self.rest = pictures, frames, numbers, rest
        self.shape = torch.Size([*rest.shape[:3], *shape])
        self.beside = torch.from_numpy(beside(pictures, math.prod(shape)))

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
        """Those of some of the B slots."""
        numbers = [each[:, :, episodes] for each in self.numbers]
        return Frames(self.pictures, self.frames, numbers, self.rest[:, :, episodes], self.shape[3:])

    def together(self, alive: Tensor) -> "Frames":
        """With those of all processes that train together. alive: [R, T, B] bool, what this one has."""
        frames, numbers = [], []
        for own, which in zip(self.frames, self.numbers, strict=True):
            counts = distributed.told(len(own))
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
    """Takes in the pictures of one step after the other, of N slots, and keeps each frame once."""

    def __init__(self, picture: Picture, slots: int):
        self.picture = picture
        pixels = (picture.own.stop - picture.own.start) // picture.frames
        self.stack = np.zeros((slots, picture.frames, pixels), np.uint8)  # of the step before
        self.number = np.zeros((slots, picture.frames), np.int32)
        self.numbers: list[np.ndarray] = []
        self.kept, self.count = [np.zeros((1, pixels), np.uint8)], 1

    def take(self, row: np.ndarray, alive: np.ndarray) -> None:
        """row: [N, ...] what is seen, laid out in one row. alive: [N] bool."""
        stack = row[:, self.picture.own].reshape(self.stack.shape).astype(np.uint8, copy=False)
        moved = (stack[:, :-1] == self.stack[:, 1:]).all((1, 2))  # the stack is that of the step before, one frame on
        before = np.pad(self.number[:, 1:], ((0, 0), (0, 1)))
        fresh = np.ones(stack.shape[:2], bool)
        fresh[:, :-1] = ~moved[:, None]
        if stack.shape[1] > 1 and not moved.all():  # it begins with frames that are all empty, or the same
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
        """[F, pixels]. What was kept is let go of on the way, so that it is there only once."""
        whole, end = np.empty((self.count, self.kept[0].shape[1]), np.uint8), self.count
        while self.kept:
            last = self.kept.pop()
            whole[end - len(last) : end] = last
            end -= len(last)
        return torch.from_numpy(whole)
