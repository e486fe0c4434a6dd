"""How a policy sees an observation space, as vectors and pictures; and how JSON describes a space."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Literal, NamedTuple

import numpy as np
from gymnasium import spaces

SMALLEST, DEEPEST = 8, 16  # of a picture: the fewest pixels along each side, and the most colours or frames
EXACT = 2**24  # single precision has all whole numbers up to this one

Path = tuple[str | int, ...]  # where a part stands in a Dict or Tuple: ("camera", 0)
Reading = Literal["auto", "channels_first", "channels_last", "none"]


class Picture(NamedTuple):
    """A Box that is read as a picture, and its place in the flattened observation."""

    path: Path
    box: spaces.Box
    own: slice
    axes: tuple[int, ...]  # of the Box, in the order of frames and colours, height, width

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        *channels, height, width = (self.box.shape[axis] for axis in self.axes)
        return int(np.prod(channels)), height, width

    @property
    def frames(self) -> int:
        """The number of frames that follow each other in memory: of a stack, or channels; 1 if they do not."""
        return int(self.box.shape[0]) if len(self.axes) > 2 and self.axes[0] == 0 else 1

    @property
    def scale(self) -> tuple[Any, Any]:
        """The value that is scaled to 0 (None if it is 0), and its distance to the value that is scaled to 1: numbers,
        or arrays if they differ between elements. Elements with an infinite bound are not scaled."""
        low, high = (end.astype(float) for end in (self.box.low, self.box.high))
        finite = np.isfinite(high - low) & (high > low)
        low, reach = np.where(finite, low, 0.0), np.where(finite, high - low, 1.0)
        same = np.ptp(low) == np.ptp(reach) == 0
        low, reach = (each.flat[0].item() if same else each.astype(np.float32) for each in (low, reach))
        return low if np.any(low) else None, reach

    def __str__(self) -> str:
        channels, height, width = self.shape
        return f"{named(self.path)}{height} x {width}, {channels} channel{'s' * (channels > 1)}"


def visible_space(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Return the space as the policy sees it. If it looks like a picture as a whole, it stays as it is. Everything else
    becomes one vector, with a one-hot code for each choice. Raises TypeError for spaces without a fixed size, such as
    texts, graphs and sequences."""
    if is_picture(space):
        return space
    for _, part in parts(space):
        if not isinstance(part, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
            raise TypeError(f"{part} has no fixed size")
    return space if isinstance(space, spaces.Box) and len(space.shape) == 1 else spaces.flatten_space(space)


def is_picture(space: spaces.Space[Any]) -> bool:
    """Return whether a space looks like a picture: bytes along three axes; or numbers from 0 to 255, or real ones from
    0 to 1, along two or more axes of which two are long."""
    if not isinstance(space, spaces.Box) or len(space.shape) < 2 or not math.prod(space.shape):
        return False
    if space.dtype == np.uint8 and len(space.shape) == 3 and likely(space.shape):
        return True  # whatever the bounds
    real = np.issubdtype(space.dtype, np.floating)
    smallest = 2 * SMALLEST if real and len(space.shape) == 2 else SMALLEST  # a small matrix may be anything
    same = (space.low == 0).all() and space.high.min() == space.high.max()
    brightest = (1, 255) if real else (255,)
    return bool(same and space.high.max() in brightest and sorted(space.shape)[-2] >= smallest)


def ways(shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Return the axes of frames or colours, height, and width, in this order, for each of the two readings."""
    rank = len(shape)
    if not 2 <= rank <= 4:
        return {}
    first, last = tuple(range(rank)), (*range(rank - 3), rank - 1, rank - 3, rank - 2)
    return {"channels_first": first, "channels_last": first if rank == 2 else last}


def likely(shape: Sequence[int]) -> tuple[int, ...] | None:
    """Return the axes of a picture if only one reading is likely: few channels, and many pixels or equal sides."""
    found = set()
    for axes in ways(shape).values():
        *channels, height, width = (shape[axis] for axis in axes)
        few = not channels or 2 * channels[-1] <= min(height, width) or height == width
        if min(height, width) >= SMALLEST and max(channels, default=1) <= DEEPEST and few:
            found.add(axes)
    return found.pop() if len(found) == 1 else None


def pictures(space: spaces.Space[Any], reading: Reading = "auto") -> list[Picture]:
    """Return the parts that are read as pictures. reading: the setting `pictures`. Raises TypeError if a part looks
    like a picture, but it is not clear which axes are height and width."""
    found, start = [], 0
    for path, part in parts(space):
        own = slice(start, start + spaces.flatdim(part))
        start = own.stop
        if reading == "none" or not isinstance(part, spaces.Box):
            continue
        if reading != "auto":
            axes = ways(part.shape).get(reading)
            axes = axes if axes and min(part.shape[axis] for axis in axes[-2:]) >= SMALLEST else None
        elif is_picture(part) and not (axes := likely(part.shape)):
            message = f"{named(path)}{part} looks like a picture, and it is not clear which axes are height and width: "
            raise TypeError(message + "set pictures: channels_first, channels_last, or none to read it as numbers")
        else:
            axes = likely(part.shape) if is_picture(part) else None
        if axes:
            found.append(Picture(path, part, own, axes))
    return found


def parts(space: spaces.Space[Any], path: Path = ()) -> Iterator[tuple[Path, spaces.Space[Any]]]:
    """Yield the path and the space of each part of Dicts and Tuples, in Gymnasium's order."""
    match space:
        case spaces.Dict():
            inside: Any = space.spaces.items()
        case spaces.Tuple():
            inside = enumerate(space.spaces)
        case _:
            yield path, space
            return
    for key, part in inside:
        yield from parts(part, (*path, key))


def tuples(space: spaces.Space[Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the path and the space of each Tuple."""
    if isinstance(space, spaces.Tuple):
        yield path, space
    inside: Any = space.spaces if isinstance(space, spaces.Dict | spaces.Tuple) else {}
    for key, part in inside.items() if isinstance(inside, Mapping) else enumerate(inside):
        yield from tuples(part, (*path, key))


def apart(space: spaces.Space[Any], mask: str | None) -> tuple[Any, Path]:
    """Return the space without the action mask, the part of a Dict with this name: the other parts as a Dict, or if
    there is only one other part, this part and its path."""
    if mask is None or not isinstance(space, spaces.Dict):
        return space, ()
    rest = {key: part for key, part in space.spaces.items() if key != mask}
    return (spaces.Dict(rest), ()) if len(rest) != 1 else next((part, (key,)) for key, part in rest.items())


def named(path: Path) -> str:
    """Return the name of a part for a sentence, with a space after it; empty for the whole observation."""
    return f"the part {'.'.join(map(str, path))} " if path else ""


class InvalidObservation(Exception):
    """An observation does not belong to its space. copy: its number among those that were checked together."""

    def __init__(self, copy: int, path: Path, found: Any, part: Any):
        if isinstance(found, np.ndarray | np.generic):
            shown = f"an array {found.shape} of {found.dtype}" if found.ndim else f"{found.item()!r} of {found.dtype}"
            shown += f", {found.tolist()}" if found.ndim and found.size <= 8 else ""
        else:
            shown = f"{found!r:.60} of {type(found).__name__}"
        space = " ".join(str(part).split())[:100]
        super().__init__(f"an observation that does not fit: {named(path) or 'it '}is {shown}, and must be of {space}")
        self.copy = copy


class ObservationReader:
    """Checks observations, and converts them to what a policy sees. An observation that does not belong to its space is
    refused: nothing is made to fit by broadcasting, wrapping or clipping. Only the bounds of a Box of real numbers are
    not checked, as nothing depends on them, and many environments exceed theirs.
    """

    def __init__(self, space: spaces.Space[Any], mask: str | None = None):
        """mask: the part of a Dict that is an action mask. With it everything is flattened, and the mask comes last."""
        rest, within = apart(space, mask)
        self.seen = visible_space(rest)
        self.whole = is_picture(rest) or self.seen == rest  # nothing is flattened
        real = np.issubdtype(self.seen.dtype, np.floating)
        only = self.seen.dtype == np.uint8 and all(is_picture(part) for _, part in parts(rest))
        numbers = np.float64 if any(long(part) for _, part in parts(rest)) else np.float32
        self.dtype: Any = self.seen.dtype if real or only else numbers  # bytes of pictures stay bytes
        if self.dtype == np.longdouble:  # torch has none
            self.dtype = np.float64
        self.parts: list[tuple[Path, Any, slice]] = []  # each with the elements of the vector that are its own
        for path, part in parts(rest, within):
            start = self.parts[-1][2].stop if self.parts else 0
            self.parts.append((path, part, slice(start, start + (0 if self.whole else spaces.flatdim(part)))))
        self.tuples = [*tuples(space)]
        self.shape: tuple[int, ...] = self.seen.shape or ()  # of one converted observation
        self.mask: tuple[Path, Any] | None = None
        if mask is not None:
            self.mask = (mask,), space[mask]  # type: ignore[index]
            self.shape = (int(np.prod(self.shape)) + int(np.prod(self.mask[1].shape)),)

    def read(self, observations: Sequence[Any]) -> np.ndarray:
        """Return what a policy sees of N observations: [N, ...]. Raises InvalidObservation."""
        columns = []
        for path, part in self._places():
            column = [inside(one, path, part, copy) for copy, one in enumerate(observations)]
            try:
                columns.append(checked(np.array(column), path, part))
            except (InvalidObservation, ValueError):  # also if their shapes differ: find the one that does not fit
                for copy, one in enumerate(column):
                    check_alone(copy, one, path, part)
                raise
        if self.tuples:
            for copy, one in enumerate(observations):
                self._check_tuples(one, copy)
        return self._joined(columns)

    def read_batch(self, batch: Any) -> np.ndarray:
        """Do the same for N observations that come as an array [N, ...] for each part."""
        found = [checked(np.asarray(inside(batch, path, part)), path, part) for path, part in self._places()]
        self._check_tuples(batch)
        return self._joined(found)

    def _check_tuples(self, observation: Any, copy: int = 0) -> None:
        """Raises InvalidObservation if a Tuple has more parts than its space: which are meant is not clear."""
        for path, space in self.tuples:
            if len(found := inside(observation, path, space, copy)) > len(space.spaces):
                raise InvalidObservation(copy, path, found, space)

    def _places(self) -> list[tuple[Path, Any]]:
        """Return the path and the space of each part."""
        return [(path, part) for path, part, _ in self.parts] + ([self.mask] if self.mask else [])

    def part_of(self, element: int) -> str:
        """Return the name of the part that an element of the vector belongs to."""
        return next((named(path) for path, _, own in self.parts if own.start <= element < own.stop), "")

    def _joined(self, columns: Sequence[np.ndarray]) -> np.ndarray:
        if self.mask and len(columns) > len(self.parts):
            mask, (path, part) = columns[-1], self.mask
            if (wrong := (mask != 0) & (mask != 1)).any():
                copy = int(wrong.reshape(len(mask), -1).any(1).argmax())
                raise InvalidObservation(copy, path, mask[copy], spaces.MultiBinary(part.shape))
            found = self._joined(columns[:-1])
            return np.concatenate([x.reshape(len(x), -1).astype(self.dtype) for x in (found, mask)], 1)
        if self.whole:
            return columns[0].astype(self.dtype, copy=False)
        rows = np.zeros((len(columns[0]), *(self.seen.shape or ())), self.dtype)
        for column, (_, part, own) in zip(columns, self.parts, strict=True):
            found = column.reshape(len(rows), -1)
            match part:
                case spaces.Discrete():
                    rows[np.arange(len(rows)), own.start + found[:, 0]] = 1
                case spaces.MultiDiscrete():
                    starts = own.start + part.nvec.cumsum() - part.nvec.flatten()
                    rows[np.arange(len(rows))[:, None], starts + found] = 1
                case _:
                    rows[:, own] = found
        return rows


def long(part: Any) -> bool:
    """Return whether a part has whole numbers that single precision would round."""
    return isinstance(part, spaces.Box) and bool((part.low < -EXACT).any() or (part.high > EXACT).any())


def inside(observation: Any, path: Path, part: Any, copy: int = 0) -> Any:
    """Return a part of an observation. Raises InvalidObservation if it has no part with this name, or lacks values."""
    for key in path:
        if isinstance(observation, Mapping):
            holds = key in observation
        else:
            holds = isinstance(observation, tuple | list) and isinstance(key, int) and key < len(observation)
        if not holds:
            raise InvalidObservation(copy, path, observation, part)
        observation = observation[key]
    if isinstance(observation, np.ma.MaskedArray) and observation.mask.any():  # numpy would show what is masked
        raise InvalidObservation(copy, path, observation, part)
    return observation


def check_alone(copy: int, value: Any, path: Path, part: Any) -> None:
    """Raises InvalidObservation if a part of one observation does not fit."""
    try:
        checked(np.array([value]), path, part)
    except (InvalidObservation, ValueError) as error:
        raise InvalidObservation(copy, path, value, part) from error


def checked(column: np.ndarray, path: Path, part: Any) -> np.ndarray:
    """Return the values [N, ...] of a part; of choices their numbers, from 0. Raises InvalidObservation."""
    box, whole_numbers = isinstance(part, spaces.Box), column.dtype.kind in "iub"
    real = box and np.issubdtype(part.dtype, np.floating)
    if column.shape[1:] != part.shape or not (whole_numbers or (real and column.dtype.kind == "f")):
        raise InvalidObservation(0, path, column[0] if column.ndim else column, part)
    if real or (box and len(part.shape) > 1 and column.dtype == part.dtype == np.uint8):  # a picture's bytes
        return column
    if box:
        found, outside = column, (column < part.low) | (column > part.high)
    elif isinstance(part, spaces.MultiBinary):
        found, outside = column, (column != 0) & (column != 1)
    else:
        found = column.astype(np.int64) - part.start
        outside = (found < 0) | (found >= (part.n if isinstance(part, spaces.Discrete) else part.nvec))
    if outside.any():
        copy = int(outside.reshape(len(column), -1).any(1).argmax())
        raise InvalidObservation(copy, path, column[copy], part)
    return found


def difference(one: spaces.Space[Any], other: spaces.Space[Any], bounds: bool) -> str | None:
    """Return in words how two spaces differ, or None. bounds: whether the bounds of Boxes count, as for actions."""
    for (path, a), (way, b) in zip_longest(parts(one), parts(other), fillvalue=((), None)):
        if isinstance(a, spaces.Box) and isinstance(b, spaces.Box):
            same = a.shape == b.shape and np.dtype(a.dtype).kind == np.dtype(b.dtype).kind
            same = same and (not bounds or (np.allclose(a.low, b.low) and np.allclose(a.high, b.high)))
        else:
            same = a == b
        if path != way or not same:
            return f"{named(path)}{a}, not {named(way)}{b}"
    return None


def described(space: spaces.Space[Any]) -> dict[str, Any]:
    """Return the space as JSON, for `space_from`. Raises TypeError for spaces that no policy serves."""

    def brief(x: np.ndarray) -> Any:
        """One number if all are the same, as the bounds of an image are."""
        return x.flat[0].item() if x.size and (x == x.flat[0]).all() else x.tolist()

    match space:
        case spaces.Box():
            return {"Box": [brief(space.low), brief(space.high), list(space.shape), str(space.dtype)]}
        case spaces.Discrete():
            return {"Discrete": [int(space.n), int(space.start)]}
        case spaces.MultiDiscrete():
            return {"MultiDiscrete": [space.nvec.tolist(), np.asarray(space.start).tolist()]}
        case spaces.MultiBinary():
            return {"MultiBinary": space.shape[0] if len(space.shape) == 1 else list(space.shape)}
        case spaces.Dict():
            return {"Dict": [[name, described(part)] for name, part in space.items()]}
        case spaces.Tuple():
            return {"Tuple": [described(part) for part in space]}
    raise TypeError(f"no policy supports {space}")


def space_from(said: Mapping[str, Any]) -> spaces.Space[Any]:
    """Return the space that was `described`. Any error may be raised if `said` does not describe a space."""
    ((kind, words),) = said.items()
    match kind:
        case "Box":
            low, high, shape, dtype = words
            low, high = (np.broadcast_to(np.asarray(end, dtype), shape) for end in (low, high))
            return spaces.Box(low, high, dtype=np.dtype(dtype).type)
        case "Discrete":
            return spaces.Discrete(words[0], start=words[1])
        case "MultiDiscrete":
            return spaces.MultiDiscrete(words[0], start=words[1])
        case "MultiBinary":
            return spaces.MultiBinary(words)
        case "Dict":
            return spaces.Dict([(name, space_from(part)) for name, part in words])
        case "Tuple":
            return spaces.Tuple([space_from(part) for part in words])
    raise ValueError(f"there is no space {kind!r}")
