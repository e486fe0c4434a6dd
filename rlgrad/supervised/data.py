"""Data sets for classifiers, as tensors."""

import hashlib
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from rlgrad.errors import SettingError, short
from rlgrad.settings import NonNegativeInt, Section
from rlgrad.supervised import columns, labels, tables
from rlgrad.supervised.columns import CATEGORIES, FEW, Column
from rlgrad.supervised.dialects import Told
from rlgrad.supervised.preprocessing import Missing, Preprocessing, extent, fitted
from rlgrad.supervised.tables import Absent, Table

BUNDLED = ("breast_cancer", "digits", "iris", "wine")  # scikit-learn carries these; nothing is downloaded
OPENML = "openml:"


class DataSettings(Section):
    """Where the examples come from, and what is done to them before anything is learned."""

    data: Literal["breast_cancer", "digits", "iris", "wine"] | str
    """a data set that scikit-learn carries; a file of text or Parquet, as seen from the working directory, compressed
    or not; or openml:NAME (or openml:NUMBER), which is fetched"""
    test_data: str | None = None
    """a file with the examples to hold out, its columns found by their names; null: a part of `data` is held out"""
    separator: str | None = None
    """what stands between cells: comma, semicolon, tab, bar, blank (any run of them), or another; null: found out"""
    decimal: Literal[".", ","] | None = None
    """the decimal sign; the other of the two may group thousands; null: found out"""
    header: bool | None = None
    """whether the first row has the names of the columns; null: found out"""
    encoding: str | None = None
    """of a text file, such as latin-1; null: UTF-8, or what its bytes say"""
    label: int | str | None = None
    """the column of the label: its name, or its number from 1; null: the last"""
    positive: bool | int | float | str | None = None
    """the label that is class 1, all others being class 0; null: every label is a class of its own"""
    columns: tuple[int | str, ...] = ()
    """the columns to learn from: names, numbers from 1, or ranges of numbers such as 4-22; none: all but the label"""
    drop: tuple[int | str, ...] = ()
    """columns to leave out, written likewise"""
    categorical: tuple[int | str, ...] = ()
    """columns whose numbers are names of categories; those of words are found out"""
    missing: tuple[int | float | str, ...] = ()
    """what a cell holds where its value is missing, besides nothing, ?, ., NA, N/A, #N/A, #NA, <NA>, NaN, null and
    None, in whatever case; a number however it is written"""
    not_missing: tuple[str, ...] = ()
    """which of these are values here, such as NA for Namibia"""
    missing_values: Missing = "error"
    """error: refuse them. drop: leave such rows out. zero: take 0. median_and_indicator: take the median of the
    training part, and learn from a further 0/1 feature that says so, for each feature with missing values there. All
    but the first leave out rows without a label. A category that the training part does not have counts as missing"""
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """the part of the examples that is held out, where there is no `test_data`; 0: none, and the run is evaluated on
    the examples that it learns from"""
    split_seed: NonNegativeInt = 0
    """which examples are held out: the same for all replicas, and whatever the seed of the run"""
    standardise: bool = True
    """mean 0 and deviation 1 in every feature, measured on the training part"""
    dtype: Literal["float32", "float64"] = "float32"
    """precision of data and parameters"""

    @field_validator("data", "test_data")
    @classmethod
    def absolute(cls, value: str | None, field: ValidationInfo) -> str | None:
        """A file is the same one wherever the run is continued from."""
        if value is not None and re.match(r"[a-z][a-z0-9+]+://", value, re.IGNORECASE):
            raise ValueError("nothing is fetched from the net: download the table, and name the file")
        is_file = value is not None and (field.field_name == "test_data" or is_path(value))
        return str(Path(value).expanduser().absolute()) if value is not None and is_file else value

    @property
    def absent(self) -> Absent:
        return Absent(self.missing, self.not_missing)

    def table(self, path: Path, setting: str) -> Table:
        """A file, read as these settings say. setting: the one that names it."""
        told = Told(self.separator, self.decimal, self.header, self.encoding)
        return tables.read(path, setting, told, self.absent)


def is_path(name: str) -> bool:
    """A name with a suffix or a folder is a file's."""
    return not name.startswith(OPENML) and (Path(name).suffix != "" or len(Path(name).parts) > 1)


class Dataset(NamedTuple):
    """Training and held-out part of a data set."""

    x: Tensor  # [N, D] to learn from
    y: Tensor  # [N] class numbers 0 … K-1, as floats where K = 2 and as integers otherwise; or numbers
    test_x: Tensor  # [M, D]
    test_y: Tensor  # [M]
    classes: int  # K; 1 where labels are numbers
    labels: Sequence[int | str] = ()  # [K] the labels that the numbers stand for
    preprocessing: Preprocessing = Preprocessing((), "error")  # from the source's features to D
    identity: Mapping[str, str] = {}  # what was read: how much, and a digest of it
    sample_weight: Tensor | None = None  # [N] or [R, N] how many times each example to learn from counts; None: once
    facts: Mapping[str, str] = {}  # what was found out in reading it, in words


class Part:
    """Examples as they are in the source: features in blocks [n, D], NaN where a value is missing, as often as they are
    asked for; and y [N], numbers or those of classes."""

    def __init__(self, y: np.ndarray, blocks: Callable[[Sequence[Column]], Iterator[np.ndarray]]):
        self.y, self.blocks = y, blocks

    def within(self, found: Sequence[Column], place: np.ndarray, stop: int) -> Iterator[np.ndarray]:
        """The blocks of those rows whose place is before `stop`; in its order, where there is one block."""
        start = 0
        for x in self.blocks(found):
            here = place[start : start + len(x)]
            rows = np.flatnonzero(here < stop)
            yield x[rows[np.argsort(here[rows])]]
            start += len(x)


class Source(NamedTuple):
    """What a data set is before anything is done to it."""

    train: Part
    test: Part | None  # None: a part is to be held out
    columns: Sequence[Column]  # [D]
    labels: Sequence[int | str]  # [K] the labels that the class numbers stand for; none for numbers
    facts: Mapping[str, str] = {}
    keep_constant: bool = True


def load_dataset(settings: DataSettings, numeric: bool = False, keep_constant: bool = False) -> Dataset:
    """The examples that the settings describe. Raises SettingError where there is no such data.

    Everything that is measured on examples (medians, means, deviations, categories) is measured on the training part
    alone.

    numeric: whether labels are numbers, and not classes. keep_constant: whether a column of one value is kept, as one
    that stands for an intercept.
    """
    if settings.data in BUNDLED:
        source = bundled(settings, numeric)
    else:
        source = tabular(settings, numeric)._replace(keep_constant=keep_constant)
    rows = len(source.train.y)
    train, test = (np.arange(rows), None) if source.test else split(source, settings)
    place = np.empty(rows, np.int64)  # where each row goes: those of the training part come first
    place[train] = np.arange(len(train))
    if test is not None:
        place[test] = len(train) + np.arange(len(test))
    found, facts = informative(source, place, len(train), settings)
    preprocessing = fitted(
        lambda: source.train.within(found, place, len(train)), found, settings.missing_values, settings.standardise
    )._replace(missing=list(settings.missing), not_missing=list(settings.not_missing))
    identity = {"columns": ", ".join(column.name for column in found)}
    identity |= {"classes": ", ".join(map(str, source.labels))} if source.labels else {}
    x, digest = matrix(source.train, found, preprocessing, place, settings)
    y = source.train.y[np.argsort(place)] if test is not None else source.train.y
    identity |= {"rows": str(rows)} | digest
    if source.test:
        held_x, digest = matrix(source.test, found, preprocessing, np.arange(len(source.test.y)), settings)
        held_y = source.test.y
        identity |= {f"held-out {name}": text for name, text in {"rows": str(len(held_y)), **digest}.items()}
    else:
        held_x, held_y = (x[len(train) :], y[len(train) :]) if test is not None else (x, y)
        x, y = x[: len(train)], y[: len(train)]
    if settings.missing_values == "drop" and (unknown := np.isnan(held_x).any(1)).any():
        facts = {**facts, "left out": f"{unknown.sum()} held-out rows with values that the training part does not have"}
        held_x, held_y = held_x[~unknown], held_y[~unknown]
    numbers = getattr(torch, settings.dtype)
    kind = numbers if len(source.labels) in (0, 2) else torch.long
    tensors = (torch.from_numpy(x), torch.as_tensor(y, dtype=kind), torch.from_numpy(held_x))
    held = torch.as_tensor(held_y, dtype=kind)
    facts = {**source.facts, **facts}
    labels = source.labels
    return Dataset(*tensors, held, len(labels) or 1, labels, preprocessing, identity, facts=facts)


def matrix(
    part: Part, found: Sequence[Column], preprocessing: Preprocessing, place: np.ndarray, settings: DataSettings
) -> tuple[np.ndarray, dict[str, str]]:
    """What a model learns from, [N, D'], each row in its place; and digests of what it was, as any machine has them."""
    x = np.empty((len(part.y), len(preprocessing.columns)), settings.dtype)
    sums, start = hashlib.sha256(), 0
    for block in part.blocks(found):
        sums.update(zlib.crc32(block.tobytes()).to_bytes(4, "big"))
        with np.errstate(over="ignore"):
            done = preprocessing(block).astype(settings.dtype)
        if np.isinf(done).any():
            name = preprocessing.columns[int(np.isinf(done).any(0).argmax())]
            raise SettingError(("dtype",), f"a value of {name} is too large for {settings.dtype}; float64 holds more")
        x[place[start : start + len(block)]] = done
        start += len(block)
    labels = hashlib.sha256(part.y.tobytes()).hexdigest()[:12]
    return x, {"digest of the values": sums.hexdigest()[:12], "digest of the labels": labels}


def informative(
    source: Source, place: np.ndarray, stop: int, settings: DataSettings
) -> tuple[list[Column], dict[str, str]]:
    """The features that say something of the training part, categories as they are there; and in words what was left
    out. Raises SettingError where nothing is left."""
    found = list(source.columns)
    if any(column.categories is not None for column in found):
        seen = [set[float]() for _ in found]
        for x in source.train.within(found, place, stop):
            for k, column in enumerate(found):
                if column.categories is not None:
                    seen[k] |= set(np.unique(x[:, k][~np.isnan(x[:, k])]).tolist())
        for k, column in enumerate(found):
            if column.categories is not None:
                words = [word for number, word in enumerate(column.categories) if number in seen[k]]
                few = len(words) <= FEW or 2 * len(words) <= stop
                if len(words) > CATEGORIES or not few:
                    hint = f"drop: [{column.name}] leaves the column out"
                    message = f"{column.name}: {len(words)} different words in {stop} rows are no categories; {hint}"
                    raise SettingError(("data",), message)
                found[k] = Column(column.name, words)
    if source.keep_constant:
        return found, {}
    known = extent(source.train.within(found, place, stop))
    gone = {
        column.name: "empty" if known.known[k] == 0 else "constant"
        for k, column in enumerate(found)
        if known.known[k] == 0 or (known.known[k] == known.rows and known.low[k] == known.high[k])
    }
    kept = [column for column in found if column.name not in gone]
    if not kept:
        raise SettingError(("data",), "no column is left to learn from: each is constant or empty in the training part")
    return kept, {"left out": ", ".join(f"{name} ({why})" for name, why in gone.items())} if gone else {}


def bundled(settings: DataSettings, numeric: bool) -> Source:
    """A data set of scikit-learn's, as it is."""
    import sklearn.datasets  # more than a second, so only where it is needed

    if numeric:
        raise SettingError(("family",), f"{settings.data} has classes: its labels are no numbers")
    plain = DataSettings(data=settings.data)
    for name in (
        "test_data", "separator", "decimal", "header", "encoding", "label", "positive", "columns", "drop",
        "categorical", "missing", "not_missing",
    ):  # fmt: skip
        if getattr(settings, name) != getattr(plain, name):
            raise SettingError((name,), f"is for data from a file; {settings.data} is taken as it is")
    found = getattr(sklearn.datasets, f"load_{settings.data}")()
    features = [Column(str(name)) for name in found.feature_names]

    def blocks(wanted: Sequence[Column]) -> Iterator[np.ndarray]:
        yield found.data

    return Source(Part(found.target, blocks), None, features, list(range(len(found.target_names))))


def tabular(settings: DataSettings, numeric: bool) -> Source:
    """The examples of a file, or of OpenML, and those of the test file if there is one."""
    if settings.data.startswith(OPENML):
        table = tables.fetch(settings.data.removeprefix(OPENML))
    elif is_path(settings.data):
        table = settings.table(Path(settings.data), "data")
    else:
        hint = "no data set {!r}, and no file, as a file's name has a suffix or a folder"
        raise SettingError(("data",), hint.format(settings.data), BUNDLED, settings.data)
    label, places = chosen(table, settings)
    forced = set(tables.positions(table, settings.categorical, "categorical"))
    text = forced | (set() if numeric else {label})
    table.keep([*places, label], text)
    found: list[tuple[int, Column]] = []
    empty: list[tuple[int, Column]] = []
    for place, (known, has_numbers) in zip(places, columns.vocabulary(table, places, forced), strict=True):
        column = columns.kind(table.name(place), known, has_numbers, settings.absent, table.decimal, place in forced)
        nothing = not has_numbers and all(map(settings.absent, known)) and settings.missing_values != "error"
        (empty if nothing else found).append((place, column))
    facts = {"data": f"{table.words}; {len(table.names)} columns"}
    if left := [table.column(place) for place in sorted(table.unused)] + [f"{each.name} (empty)" for _, each in empty]:
        facts["not used"] = ", ".join(left)
    places, features = [place for place, _ in found], [column for _, column in found]
    if not places:
        raise SettingError(("data",), f"{table.source}: no column to learn from has a value")
    named = labels.Labels(table, label, settings, numeric)
    facts["data"] += named.words()
    train = examples(table, places, features, named.y, settings)
    if settings.test_data is None:
        return Source(train, None, features, named.labels, facts)
    other = settings.table(Path(settings.test_data), "test_data")
    *there, label = matched(other, table, [*places, label])
    words = {place for place, column in zip(there, features, strict=True) if column.categories is not None}
    other.keep([*there, label], words | (set() if numeric else {label}))
    extra = tables.unused(other, [*there, label])
    facts["test data"] = other.words + (f"; not used: {extra}" if extra else "")
    test = examples(other, there, features, named.again(other, label), settings)
    return Source(train, test, features, named.labels, facts)


def chosen(table: Table, settings: DataSettings) -> tuple[int, list[int]]:
    """Where the label is, and where the features are. Raises SettingError."""
    used = [place for place in range(len(table.names)) if place not in table.unused]
    label = used[-1] if settings.label is None else tables.position(table, settings.label, "label")
    places = tables.positions(table, settings.columns, "columns")
    if label in places:
        raise SettingError(("columns",), f"{table.column(label)} is the label, and so none to learn from")
    dropped = tables.positions(table, settings.drop, "drop")
    places = places if settings.columns else [place for place in used if place != label]
    if left := [place for place in places if place not in dropped]:
        return label, left
    raise SettingError(("columns",), f"{table.source} has no column to learn from besides the label")


def matched(table: Table, of: Table, places: Sequence[int]) -> list[int]:
    """Where the columns of another table are in this one: by their names, or by their numbers if either has none."""
    if table.headed and not of.headed:
        hint = "so which is which? give both a header, or neither"
        raise SettingError(("test_data",), f"{table.source}: it has a header, and {of.source} has none, {hint}")
    if not table.headed:
        if len(table.names) != len(of.names):
            width = f"{len(table.names)} columns and no header, and {of.source} has {len(of.names)} columns"
            raise SettingError(("test_data",), f"{table.source}: it has {width}")
        return list(places)
    names = [of.name(place) for place in places]
    if names[-1] not in table.names:
        hint = "rlgrad predict needs none, and a run cannot be judged without"
        raise SettingError(("test_data",), f"{table.source} has no column {names[-1]!r}, the label; {hint}")
    return tables.found(table, names)


def examples(
    table: Table, places: Sequence[int], features: Sequence[Column], y: np.ndarray, settings: DataSettings
) -> Part:
    """The rows that have a label, and if rows with missing values are to be dropped, no such value. y: [N], NaN where
    the label is missing."""
    absent, strict = settings.absent, settings.missing_values == "error"
    where = {column.name: place for column, place in zip(features, places, strict=True)}
    known = ~np.isnan(y)
    if settings.missing_values == "drop":
        whole = [~np.isnan(x).any(1) for x in columns.blocks(table, places, features, absent, strict)]
        known &= np.concatenate([np.zeros(0, bool), *whole])
    if not known.any():
        raise SettingError((table.setting,), f"{table.source}: no row has a label and all values")

    def blocks(wanted: Sequence[Column]) -> Iterator[np.ndarray]:
        start = 0
        for x in columns.blocks(table, [where[column.name] for column in wanted], wanted, absent, strict):
            yield x[known[start : start + len(x)]]
            start += len(x)

    return Part(y[known], blocks)


def split(source: Source, settings: DataSettings) -> tuple[np.ndarray, np.ndarray | None]:
    """The rows of a training and a test part at random, with every class in its proportion. Raises SettingError."""
    rows = np.arange(len(source.train.y))
    if settings.test_fraction == 0:
        return rows, None
    from sklearn.model_selection import train_test_split  # more than a second, so only where it is needed

    seed, y = settings.split_seed, source.train.y
    if source.labels:
        numbers, counts = np.unique(y, return_counts=True)
        if alone := [source.labels[int(number)] for number in numbers[counts < 2]]:
            shown = short(", ".join(map(str, alone)))
            hint = "none of it can be held out: `test_data` names a file for that"
            raise SettingError(("test_fraction",), f"only one row has the label {shown}, so {hint}")
    rng = seed if seed < 2**32 else np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
    try:
        train, test = train_test_split(
            rows, test_size=settings.test_fraction, random_state=rng, stratify=y if source.labels else None
        )
    except ValueError as error:
        raise SettingError(("test_fraction",), f"these examples cannot be split so: {error}") from error
    return train, test
