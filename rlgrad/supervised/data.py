"""Data sets for classifiers, as tensors."""

import functools
import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlgrad.errors import SettingError, printable, short
from rlgrad.supervised import columns, labels, tables
from rlgrad.supervised.columns import CATEGORIES, FEW, Column
from rlgrad.supervised.labels import SHOWN
from rlgrad.supervised.preprocessing import Measured, Preprocessing, fitted, measured
from rlgrad.supervised.settings import BUNDLED, OPENML, DataSettings, is_path
from rlgrad.supervised.tables import Table


class Dataset(NamedTuple):
    """The training part and the held-out part of a data set."""

    x: Tensor  # [N, D] the training part, or [R, N, D] if each replica has prepared its own
    y: Tensor  # [N] class numbers 0 … K-1, floats if K = 2, else integers; or numbers
    test_x: Tensor  # [M, D]
    test_y: Tensor  # [M]
    classes: int  # K; 1 if labels are numbers
    labels: Sequence[int | str] = ()  # [K] the labels of the class numbers
    preprocessing: Preprocessing = Preprocessing((), "error")  # from the source's features to D
    identity: Mapping[str, str] = {}  # number of rows and digests of what was read
    sample_weight: Tensor | None = None  # [N] or [M, N] of the training examples; None: 1 for all
    facts: Mapping[str, str] = {}  # facts about the data, in words
    validation: tuple[Tensor, Tensor] | None = None  # x [V, D] or [R, V, D], y [V]: the validation part
    groups: np.ndarray | None = None  # [N] the number of each training example's group
    drawn: Tensor | None = None  # [M, N] how often each replica has each example; then `sample_weight` is [M, N]
    own: Sequence[Preprocessing] = ()  # [R] of each replica's own x
    prepare: Callable[[np.ndarray], tuple[Preprocessing, Tensor, Tensor]] | None = None  # by rows with counts [N]
    class_weight: Tensor | None = None  # [N] the factor in `sample_weight` by the class; None: 1, or `drawn`

    def held_out(self) -> Iterator[tuple[slice, Tensor, Tensor, Tensor | None]]:
        """What replicas are judged on: a slice of replicas, x, y, and how often they have each training example [N]."""
        drawn = [] if self.drawn is None else list(self.drawn)
        if not drawn:
            yield slice(None), self.test_x, self.test_y, None
        for number, times in enumerate(drawn):
            x = self.x[number] if self.own else self.x
            yield slice(number, None, len(drawn)), x[times == 0], self.y[times == 0], times


class Part(NamedTuple):
    """Examples as in the source."""

    y: np.ndarray  # [N] numbers, or class numbers
    blocks: Callable[[Sequence[Column]], Iterator[np.ndarray]]  # reads the features [n, D], NaN if a value is missing
    weight: np.ndarray | None = None  # [N] of the examples; None: 1 for all
    groups: np.ndarray | None = None  # [N] the number of each example's group

    def within(self, found: Sequence[Column], counts: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the blocks with each row as often as `counts` [rows] says."""
        start = 0
        for x in self.blocks(found):
            yield np.repeat(x, counts[start : start + len(x)], axis=0)
            start += len(x)


class Source(NamedTuple):
    """A data set before preprocessing."""

    train: Part
    test: Part | None  # None: a part of `train` will be held out
    columns: Sequence[Column]  # [D]
    labels: Sequence[int | str]  # [K] the labels of the class numbers; empty for numbers
    facts: Mapping[str, str] = {}
    keep_constant: bool = True  # whether constant columns are inputs, too


def load_dataset(settings: DataSettings, numeric: bool = False, intercept: bool = True) -> Dataset:
    """Load the examples that the settings describe. Raises SettingError if there is no such data.

    Everything that is measured on examples (medians, means, deviations, categories) is measured only on the training
    part.

    numeric: whether labels are numbers instead of classes. intercept: whether the model has one. Without an intercept
    a constant column is kept, because it can serve as one, and no column is centred.
    """
    bundle = settings.data in BUNDLED
    source = bundled(settings, numeric) if bundle else tabular(settings.spelt_out(), numeric)
    source = source._replace(keep_constant=bundle or not intercept or settings.formula is not None)
    place, stop, end = split(source, settings)
    found, known, facts = informative(source, place < stop)
    names = {"columns": ", ".join(column.name for column in found), "classes": ", ".join(map(str, source.labels))}
    prepared = functools.partial(preparing, source, found, place, settings)
    done, x, y, identity = prepared(place < stop, known, intercept)
    if source.test:
        test_x, test_y, digests = matrix(source.test, found, done, np.arange(len(source.test.y)), settings)
        identity |= {f"held-out {name}": text for name, text in digests.items()}
    else:
        test_x, test_y = (x[end:], y[end:]) if end < len(y) else (x[:stop], y[:stop])
    held = [(test_x, test_y), (x[stop:end], y[stop:end])]
    whole = [~np.isnan(x).any(1) for x, _ in held]
    if settings.missing_values == "drop" and (count := sum((~kept).sum() for kept in whole)):
        facts["dropped"] = f"{count} held-out rows with categories that the training part does not have"
        held = [(x[kept], y[kept]) for (x, y), kept in zip(held, whole, strict=True)]

    def prepare(times: np.ndarray) -> tuple[Preprocessing, Tensor, Tensor]:
        counts = np.append(times, np.zeros(len(place) - stop)).astype(int)[place]
        again, x, *_ = prepared(counts, measured(source.train.within(found, counts)), intercept, done.indicated)
        drawn = x[:stop][times > 0]
        if not source.keep_constant:  # 0 has the effect of leaving a constant column out
            x[:, (drawn == drawn[0]).all(0)] = 0.0
        return again, torch.as_tensor(x[:stop]), torch.as_tensor(x[stop:end][whole[1]])

    kind = getattr(torch, settings.dtype) if len(source.labels) in (0, 2) else torch.long
    parts = [(x[:stop], y[:stop]), *held]
    train, test, validation = ((torch.as_tensor(x), torch.as_tensor(y, dtype=kind)) for x, y in parts)
    rows, counts, groups = np.argsort(place)[:stop], source.train.weight, source.train.groups
    weight = None if counts is None else torch.as_tensor(counts[rows].astype(settings.dtype))
    groups = None if groups is None else np.unique(groups[rows], return_inverse=True)[1]
    return Dataset(
        *train, *test, len(source.labels) or 1, source.labels, done, names | identity, weight,
        {**source.facts, **facts}, validation if end > stop else None, groups, prepare=prepare,
    )  # fmt: skip


def preparing(
    source: Source, found: Sequence[Column], place: np.ndarray, settings: DataSettings, counts: np.ndarray, *known: Any
) -> tuple[Preprocessing, np.ndarray, np.ndarray, dict[str, str]]:
    """The preprocessing, fitted to examples with counts [rows], and the `matrix` of all examples after it."""
    measured, *more = known
    done = fitted(functools.partial(source.train.within, found, counts), found, measured, settings, *more)
    return done, *matrix(source.train, found, done, place, settings)


def matrix(
    part: Part, found: Sequence[Column], done: Preprocessing, place: np.ndarray, settings: DataSettings
) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """The model's inputs [N, D'] and y [N], each row at its place; and digests of the source's values, which are the
    same on every machine."""
    x, y = np.empty((len(part.y), len(done.columns)), settings.dtype), np.empty_like(part.y)
    y[place] = part.y
    sums, start = hashlib.sha256(), 0
    for block in part.blocks(found):
        sums.update(zlib.crc32(np.ascontiguousarray(block).data).to_bytes(4, "big"))
        with np.errstate(over="ignore"):
            ready = done(block).astype(settings.dtype)
        if (infinite := np.isinf(ready)).any():
            name = done.columns[int(infinite.any(0).argmax())]
            raise SettingError(("dtype",), f"a value of {name} is too large for {settings.dtype}; float64 holds more")
        x[place[start : start + len(block)]] = ready
        start += len(block)
    known = {"labels": part.y, "weights": part.weight, "groups": part.groups}
    whole = {name: hashlib.sha256(each.tobytes()) for name, each in known.items() if each is not None}
    digests = {f"digest of the {name}": each.hexdigest()[:12] for name, each in {"values": sums, **whole}.items()}
    return x, y, {"rows": str(len(y)), **digests}


def informative(source: Source, own: np.ndarray) -> tuple[list[Column], Measured, dict[str, str]]:
    """The features that are not constant in the training part, with its categories; what is measured of them; and
    what was left out, in words. own: [rows] which ones those are. Raises SettingError if nothing is left."""
    found, rows = list(source.columns), int(own.sum())
    for k, column in enumerate(found):
        if column.categories is not None:
            found[k] = present(column, source.train.within([column], own), rows)
    known = measured(source.train.within(found, own))
    if source.keep_constant:
        return found, known, {}
    same = (known.known == 0) | (known.known == known.rows) & (known.low == known.high)
    if same.all():
        raise SettingError(("data",), "no column is left to learn from: each is constant or empty in the training part")
    kept = [column for column, gone in zip(found, same, strict=True) if not gone]
    names = several([column.name for column, gone in zip(found, same, strict=True) if gone], ", ")
    known = Measured(known.rows, *(values[~same] for values in known[1:]))
    return kept, known, {"left out": f"{names} (constant in the training part)"} if names else {}


def present(column: Column, blocks: Iterator[np.ndarray], rows: int) -> Column:
    """The column with the categories that occur in the blocks. Raises SettingError if they are too many."""
    codes = np.unique(np.concatenate([np.unique(x) for x in blocks]))
    words = [(column.categories or ())[int(code)] for code in codes if code == code]
    if len(words) > CATEGORIES or 2 * len(words) > max(rows, 2 * FEW):
        many = f"{len(words)} different words in {rows} rows, such as {short(repr(words[0]))}, are too many"
        hint = f"for categories; `drop: [{column.name}]` leaves the column out"
        raise SettingError(("data",), f"{column.name}: {many} {hint}")
    return column._replace(categories=words)


def bundled(settings: DataSettings, numeric: bool) -> Source:
    """Load a data set of scikit-learn, unchanged. Raises SettingError."""
    import sklearn.datasets  # importing takes more than a second

    if numeric:
        raise SettingError(("family",), f"{settings.data} has classes: its labels are not numbers")
    plain, free = DataSettings(data=settings.data), ("data", "missing_values", "standardise", "dtype", "split_seed")
    for name in [*DataSettings.model_fields, "grouping"]:
        if not name.endswith("_fraction") and name not in free and getattr(settings, name) != getattr(plain, name):
            path = "replicas" if name == "grouping" else name
            raise SettingError((path,), f"it is only for data from a file; {settings.data} is used as it is")
    found = getattr(sklearn.datasets, f"load_{settings.data}")()
    features = [Column(str(name)) for name in found.feature_names]
    part = Part(found.target, lambda _: iter([found.data]))
    return Source(part, None, features, list(range(len(found.target_names))))


def tabular(settings: DataSettings, numeric: bool) -> Source:
    """Load the examples of a file or of OpenML, and those of the test file if there is one. Raises SettingError."""
    table = opened(settings)
    label, asked, counted, grouped = chosen(table, settings)
    forced = table.grouped | {*tables.positions(table, settings.categorical, "categorical")}
    read = dict.fromkeys([*asked, label, *counted, *grouped])  # the weight may be the group, too
    table.keep(list(read), forced | {*grouped} | (set() if numeric else {label}))
    places, features, empty = list[int](), list[Column](), list[str]()
    for place, (known, has_numbers) in zip(asked, columns.vocabulary(table, asked, forced), strict=True):
        if not has_numbers and all(map(settings.absent, known)) and settings.missing_values != "error":
            empty.append(table.name(place))
            continue
        places.append(place)
        told = settings.absent, table.decimal, place in forced
        features.append(columns.kind(table.name(place), known, has_numbers, *told))
    if not places or (settings.formula and empty):
        what = "no column to learn from has a value" if not places else f"{empty[0]} has no value"
        raise SettingError(("data",), f"{table.source}: {what}")
    named = labels.Labels(table, label, settings, numeric)
    facts = {"data": f"{table.words}; {len(table.names)} columns{named.words()}"} | listed(table, features, empty)
    train = examples(table, places, features, named.y, settings, counted, grouped)
    if gone := len(named.y) - len(train.y):
        facts["rows left out"] = left_out(gone, len(named.y))
    if settings.test_data is None:
        return Source(train, None, features, named.labels, facts)
    other = settings.table(Path(settings.test_data), "test_data")
    *there, label = matched(other, table, [*places, label])
    words = {place for place, column in zip(there, features, strict=True) if column.categories is not None}
    other.keep([*there, label], words | (set() if numeric else {label}))
    extra = tables.unused(other, [*there, label])
    facts["test data"] = other.words + (f"; not used: {extra}" if extra else "")
    test = examples(other, there, features, y := named.again(other, label), settings)
    if gone := len(y) - len(test.y):
        facts["test data"] += f"; rows left out: {left_out(gone, len(y))}"
    return Source(train, test, features, named.labels, facts)


def opened(settings: DataSettings) -> Table:
    """The table of the setting `data`. Raises SettingError."""
    if settings.data.startswith(OPENML):
        table = tables.fetch(settings.data.removeprefix(OPENML))
    elif is_path(settings.data):
        table = settings.table(Path(settings.data), "data")
    else:
        hint = "there is no data set {!r}; the name of a file must have a suffix or a folder"
        raise SettingError(("data",), hint.format(settings.data), BUNDLED, settings.data)
    for name in ("separator", "header", "encoding"):
        if getattr(settings, name) is not None and not isinstance(table, tables.Text):
            raise SettingError((name,), f"it is only for text files, and {table.source} is none")
    return table


def listed(table: Table, features: Sequence[Column], empty: Sequence[str]) -> dict[str, str]:
    """Which columns have categories, and which are not used, in words. empty: the names of columns without a value."""
    facts = {}
    if worded := [f"{name}: {short(printable(', '.join(words)))}" for name, words, _ in features if words is not None]:
        facts["categories"] = several(worded, "; ")
    if left := [table.column(place) for place in sorted(table.unused)] + [f"{name} (empty)" for name in empty]:
        facts["not used"] = several(left, ", ")
    return facts


def several(names: Sequence[str], sign: str) -> str:
    """The first names with a sign between them, and how many more there are."""
    return sign.join([*names[:SHOWN], *[f"and {len(names) - SHOWN} more"] * (len(names) > SHOWN)])


def left_out(rows: int, of: int) -> str:
    return f"{rows:,} of {of:,}, as their label or a value is missing"


def chosen(table: Table, settings: DataSettings) -> tuple[int, list[int], list[int], list[int]]:
    """The places of the label, of the features, and of the columns of weights and of groups (empty lists if there are
    none). Raises SettingError."""
    asked = {"label": settings.label, "weight": settings.weight, "replicas": settings.grouping}
    found = {name: [] if one is None else [tables.position(table, one, name)] for name, one in asked.items()}
    dropped, counted, grouped = tables.positions(table, settings.drop, "drop"), found["weight"], found["replicas"]
    for name, own in found.items():
        if {*own} & {*dropped}:
            raise SettingError(("drop",), f"{table.column(own[0])} is also the column of `{name}`: drop it, or use it")
    there = [place for place in range(len(table.names)) if place not in {*table.unused, *counted, *grouped}]
    used = [place for place in there if place not in dropped]
    if not used:
        what = "all columns are dropped" if there else "it has no columns"
        raise SettingError(("drop" if there else "data",), f"{table.source}: {what}")
    label = [*found["label"], used[-1]][0]
    places = tables.positions(table, settings.columns, "formula" if settings.formula else "columns")
    for name, other in (("weight", counted), ("replicas", grouped)):
        if {label, *places} & {*other}:
            raise SettingError((name,), f"{table.column(other[0])} is also the label, or one of `columns`")
    if label in places:
        raise SettingError(("columns",), f"{table.column(label)} is the label, so it cannot be learned from")
    if left := [place for place in places or used if place not in (label, *dropped)]:
        return label, left, counted, grouped
    hint = f", as it has one column: {table.words}" if len(there) == 1 else ""
    hint += "; is another sign its `separator`?" if hint and isinstance(table, tables.Text) else ""
    raise SettingError(("columns",), f"{table.source} has no column to learn from besides the label{hint}")


def matched(table: Table, of: Table, places: Sequence[int]) -> list[int]:
    """The places in this table of another table's columns: by name, or by number if neither has names. Raises
    SettingError."""
    if table.headed and not of.headed:
        hint = "so their columns cannot be matched: give both a header, or neither"
        raise SettingError(("test_data",), f"{table.source}: it has a header, and {of.source} has none, {hint}")
    if not table.headed:
        if len(table.names) != len(of.names):
            width = f"{len(table.names)} columns and no header, and {of.source} has {len(of.names)} columns"
            raise SettingError(("test_data",), f"{table.source}: it has {width}")
        return list(places)
    names = [of.name(place) for place in places]
    if names[-1] not in table.names:
        hint = "a run cannot be evaluated without it, but rlgrad predict needs none"
        message = f"{table.source} has no column {names[-1]!r}, the label; {hint}"
        raise SettingError(("test_data",), message, table.names, names[-1])
    return tables.found(table, names)


def examples(
    table: Table,
    places: Sequence[int],
    features: Sequence[Column],
    y: np.ndarray,
    settings: DataSettings,
    counted: Sequence[int] = (),
    grouped: Sequence[int] = (),
) -> Part:
    """The rows that have a label and, if rows with missing values are dropped, no missing value. y: [N], NaN if the
    label is missing. counted, grouped: the places of the columns of weights and of groups."""
    absent, strict, drop = settings.absent, settings.missing_values == "error", settings.missing_values == "drop"
    where = {column.name: place for column, place in zip(features, places, strict=True)}
    known, weight, groups = ~np.isnan(y), None, None
    if drop:
        whole = [~np.isnan(x).any(1) for x in columns.blocks(table, places, features, absent, strict)]
        known &= np.concatenate([np.zeros(0, bool), *whole])
    for place in counted:
        weight = np.concatenate([*columns.blocks(table, counted, [Column(table.name(place))], absent, False)])[:, 0]
        usable(weight, known, table, place, settings)
        known &= ~np.isnan(weight)
    for place in grouped:
        groups, words = columns.coded(table, place)
        lost = known & np.isin(groups, [-1, *(k for k, word in enumerate(words) if absent(word))])
        if lost.any() and not drop:
            message = "the group of the row is missing; `missing_values: drop` leaves such rows out"
            raise table.wrong(int(lost.argmax()), place, message, "replicas")
        known &= ~lost
    if not known.any():
        raise SettingError((table.setting,), f"{table.source}: no row has a label and all values")

    def blocks(wanted: Sequence[Column]) -> Iterator[np.ndarray]:
        start = 0
        for x in columns.blocks(table, [where[column.name] for column in wanted], wanted, absent, strict):
            here = known[start : start + len(x)]
            yield x if here.all() else x[here]
            start += len(x)

    return Part(y[known], blocks, *(each if each is None else each[known] for each in (weight, groups)))


def usable(weight: np.ndarray, known: np.ndarray, table: Table, place: int, settings: DataSettings) -> None:
    """Raise SettingError if the weights [N] of the rows cannot be used. known: [N] the rows that are not left out."""
    bad = known & ((weight < 0) | np.isnan(weight) & (settings.missing_values != "drop"))
    if bad.any():
        row = int(bad.argmax())
        value = weight[row]
        message = f"the weight {value:g} is negative" if value < 0 else "the weight is missing"
        hint = "write 0 or more" if value < 0 else "`missing_values: drop` leaves such rows out"
        raise table.wrong(row, place, f"{message}: {hint}", "weight")
    with np.errstate(over="ignore"):
        total = np.nansum(weight[known].astype(settings.dtype))
    if not 0 < total < np.inf:
        message = f"the sum of all weights is {total:g} in {settings.dtype}: it must be positive and finite"
        raise SettingError(("weight",), f"{table.source}: {table.column(place)}: {message}")


def generator(seed: int) -> int | np.random.RandomState:
    """A random state for scikit-learn, from a seed of any size."""
    return seed if seed < 2**32 else np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))


def split(source: Source, settings: DataSettings) -> tuple[np.ndarray, int, int]:
    """The place [N] of each row in the order training part, validation part, test part (if it has no file of its own);
    and the ends of the first two. Raises SettingError."""
    train, test = np.arange(len(source.train.y), dtype=np.int32), np.zeros(0, np.int32)
    if not source.test:
        train, test = cut(source, train, settings, "test_fraction")
    train, validation = cut(source, train, settings, "validation_fraction")
    place = np.empty(len(source.train.y), np.int32)
    place[np.concatenate([train, validation, test])] = np.arange(len(place))
    return place, len(train), len(train) + len(validation)


def cut(source: Source, rows: np.ndarray, settings: DataSettings, setting: str) -> tuple[np.ndarray, np.ndarray]:
    """Split rows [n] at random into the rest and a held-out part, with the same proportions of the classes. setting:
    the name of the setting with the fraction. Raises SettingError."""
    fraction, seed, stratify = getattr(settings, setting), settings.split_seed, None
    if fraction == 0:
        return rows, rows[:0]
    from sklearn.model_selection import train_test_split  # importing takes more than a second

    if source.labels:
        # the type that sorts fastest
        stratify = source.train.y[rows].astype(np.int16 if len(source.labels) < 2**15 else np.int64)
        numbers, counts = np.unique(stratify, return_counts=True)
        if alone := [source.labels[number] for number in numbers[counts < 2]]:
            shown = short(", ".join(map(str, alone)))
            hint = "`test_data` names a file for that" if setting == "test_fraction" else "it needs another row"
            raise SettingError((setting,), f"only one row has the label {shown}, so none of it can be held out: {hint}")
    try:
        first, second = train_test_split(rows, test_size=fraction, random_state=generator(seed), stratify=stratify)
    except ValueError as error:
        raise SettingError((setting,), f"these examples cannot be split like this: {error}") from error
    return first, second
