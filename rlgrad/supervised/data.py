"""Data sets for classifiers, as tensors."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from rlgrad.errors import SettingError
from rlgrad.settings import NonNegativeInt, Section
from rlgrad.supervised import tables
from rlgrad.supervised.preprocessing import Missing, Preprocessing, fitted

BUNDLED = ("breast_cancer", "digits", "iris", "wine")  # scikit-learn carries these; nothing is downloaded
OPENML = "openml:"


class DataSettings(Section):
    """Where the examples come from, and what is done to them before anything is learned."""

    data: Literal["breast_cancer", "digits", "iris", "wine"] | str
    """a data set that scikit-learn carries; a file, as seen from the working directory, with commas or white space
    between cells and with or without a header; or openml:NAME (or openml:NUMBER), which is fetched"""
    test_data: str | None = None
    """a file with the examples to hold out, its columns as those of `data`; null: a part of `data` is held out"""
    label: int | str | None = None
    """the column of the label: its name, or its number from 1; null: the last"""
    positive: int | str | None = None
    """the label that is class 1, all others being class 0; null: every label is a class of its own"""
    columns: tuple[int | str, ...] = ()
    """the columns to learn from: names, numbers from 1, or ranges of numbers such as 4-22; none: all but the label"""
    missing: tuple[str, ...] = ("?", "", "NA", "NaN", "nan")
    """what a cell holds where its value is missing"""
    missing_values: Missing = "error"
    """zero: take 0 for a missing value. median_and_indicator: take the median of the training part, and learn from a
    further 0/1 feature that says so, for each feature with missing values there. Either leaves examples out that miss
    the label itself"""
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
        is_file = value is not None and (field.field_name == "test_data" or is_path(value))
        return str(Path(value).expanduser().absolute()) if value is not None and is_file else value


def is_path(name: str) -> bool:
    """A name with a suffix or a folder is a file's."""
    return not name.startswith(OPENML) and (Path(name).suffix != "" or len(Path(name).parts) > 1)


class Dataset(NamedTuple):
    """Training and held-out part of a data set."""

    x: Tensor  # [N, D] to learn from
    y: Tensor  # [N] class numbers 0 … K-1, as floats where K = 2 and as integers otherwise
    test_x: Tensor  # [M, D]
    test_y: Tensor  # [M]
    classes: int  # K; 1 where labels are numbers
    labels: Sequence[int | str] = ()  # [K] the labels that the numbers stand for
    preprocessing: Preprocessing = Preprocessing((), "error")  # from the source's features to D
    identity: Mapping[str, str] = {}  # what was read: how much, and a digest of it
    sample_weight: Tensor | None = None  # [N] or [R, N] how many times each example to learn from counts; None: once


class Part(NamedTuple):
    """Examples as they are in the source."""

    x: np.ndarray  # [N, D], NaN where a value is missing
    y: np.ndarray  # [N] class numbers


class Source(NamedTuple):
    """What a data set is before anything is done to it."""

    train: Part
    test: Part | None  # None: a part is to be held out
    features: Sequence[str]  # [D] their names
    labels: Sequence[int | str]  # [K] the labels that the class numbers stand for

    def identity(self) -> dict[str, str]:
        """How much there is, and digests of it as it is in the source: the same on every machine."""
        found = {"columns": ", ".join(self.features), "classes": ", ".join(map(str, self.labels))}
        for which, part in (("", self.train), ("held-out ", self.test)):
            if part:
                x, y = (hashlib.sha256(each.tobytes()).hexdigest()[:12] for each in (part.x, part.y))
                found |= {f"{which}rows": str(len(part.x)), f"{which}SHA-256 of the values": x}
                found[f"{which}SHA-256 of the labels"] = y
        return found


def load_dataset(settings: DataSettings, numeric: bool = False) -> Dataset:
    """The examples that the settings describe. numeric: whether their labels are numbers, and not classes. Raises
    SettingError where there is no such data.

    Everything that is measured on examples (medians, means, deviations) is measured on the training part alone.
    """
    if numeric and settings.data in BUNDLED:
        raise SettingError(("family",), f"{settings.data} has classes: its labels are no numbers")
    source = bundled(settings) if settings.data in BUNDLED else tabular(settings, numeric)
    count = 1 if numeric else int(source.train.y.max()) + 1
    train, test = (source.train, source.test) if source.test else split(source.train, settings, numeric)
    preprocessing = fitted(train.x, source.features, settings.missing_values, settings.standardise)
    numbers = getattr(torch, settings.dtype)
    kind = numbers if count <= 2 else torch.long
    return Dataset(
        torch.as_tensor(preprocessing(train.x), dtype=numbers),
        torch.as_tensor(train.y, dtype=kind),
        torch.as_tensor(preprocessing(test.x), dtype=numbers),
        torch.as_tensor(test.y, dtype=kind),
        count,
        source.labels,
        preprocessing,
        source.identity(),
    )


def bundled(settings: DataSettings) -> Source:
    """A data set of scikit-learn's."""
    import sklearn.datasets  # more than a second, so only where it is needed

    for name in ("test_data", "label", "positive", "columns"):
        if getattr(settings, name) not in (None, ()):
            raise SettingError((name,), f"is for data from a file; {settings.data} is taken as it is")
    found = getattr(sklearn.datasets, f"load_{settings.data}")()
    features = [str(name) for name in found.feature_names]
    return Source(Part(found.data, found.target), None, features, list(range(len(found.target_names))))


def tabular(settings: DataSettings, numeric: bool = False) -> Source:
    """The examples of a file, or of OpenML, and those of the test file if there is one."""
    if settings.data.startswith(OPENML):
        table = tables.fetch(settings.data.removeprefix(OPENML))
    elif is_path(settings.data):
        table = tables.read(Path(settings.data), "data")
    else:
        hint = "no data set {!r}, and no file, as a file's name has a suffix or a folder"
        raise SettingError(("data",), hint.format(settings.data), BUNDLED, settings.data)
    label = len(table.rows[0]) - 1 if settings.label is None else tables.position(table, settings.label, "label")
    places = tables.positions(table, settings.columns, label)
    x, found = examples(table, places, label, "data", settings, numeric)
    number, labels = ({}, []) if numeric else coded(table, label, found, settings)
    train, features = Part(x, numbered(found, number)), [table.name(place) for place in places]
    if settings.test_data is None:
        return Source(train, None, features, labels)

    held_out = tables.read(Path(settings.test_data), "test_data")
    if len(held_out.rows[0]) != len(table.rows[0]) or (held_out.names and table.names not in ([], held_out.names)):
        raise SettingError(("test_data",), f"{held_out.source}: the columns are not those of {table.source}")
    x, found = examples(held_out, places, label, "test_data", settings, numeric)
    if unknown := [name for name in found if name not in number and not numeric]:
        raise SettingError(
            ("test_data",), f"{held_out.source}: no example of {table.source} has the label {unknown[0]!r}"
        )
    return Source(train, Part(x, numbered(found, number)), features, labels)


def numbered(found: Sequence[Any], number: Mapping[str, int]) -> np.ndarray:
    """The labels [N] as the numbers of their classes; as they are where there are none."""
    return np.array([number[name] for name in found] if number else found)


def coded(
    table: tables.Table, label: int, found: Sequence[str], settings: DataSettings
) -> tuple[dict[str, int], list[int | str]]:
    """The number of each class, and the labels [K] that they stand for. Raises SettingError."""
    classes = tables.classes(found)
    if settings.positive is not None:
        positive = tables.word(settings.positive)
        if positive not in classes:
            raise SettingError(("positive",), f"no example has the label {positive!r}", classes, positive)
        number = {name: int(name == positive) for name in classes}
    else:
        number = {name: rank for rank, name in enumerate(classes)}
    if len(classes) < 2:
        raise SettingError(("data",), f"{table.source}: {table.column(label)}: all labels are {classes[0]!r}")
    return number, named(classes, number)


def named(classes: Sequence[str], number: Mapping[str, int]) -> list[int | str]:
    """The labels [K] that the class numbers stand for: whole numbers where all of them are."""
    known = [[name for name in classes if number[name] == k] for k in sorted(set(number.values()))]
    names = [each[0] if len(each) == 1 else f"not {known[1][0]}" for each in known]
    return [int(name) for name in names] if all(re.fullmatch(r"-?\d+", name) for name in names) else list(names)


def examples(
    table: tables.Table, places: list[int], label: int, setting: str, settings: DataSettings, numeric: bool
) -> tuple[np.ndarray, list[Any]]:
    """Features [N, D] and labels [N] of the rows that have a label. Raises SettingError where something is missing
    and nothing is to be done about it."""
    x = tables.numbers(table, places, settings.missing, setting)
    names: list[Any]
    if numeric:
        names = [
            None if value != value else value
            for value in tables.numbers(table, [label], settings.missing, setting)[:, 0]
        ]
    else:
        names = list(tables.labels(table, label, settings.missing, setting))
    if settings.missing_values == "error":
        absent = np.column_stack([np.isnan(x), [name is None for name in names]])
        if absent.any():
            row, feature = np.argwhere(absent)[0]
            place = [*places, label][feature]
            hint = "`missing_values` can be zero or median_and_indicator"
            where = f"{table.source}:{table.lines[row]}: {table.column(place)}"
            raise SettingError((setting,), f"{where}: the value is missing; {hint}")
    known = [row for row, name in enumerate(names) if name is not None]
    if not known:
        raise SettingError((setting,), f"{table.source}: no row has a label")
    return x[known], [name for name in names if name is not None]


def split(part: Part, settings: DataSettings, numeric: bool = False) -> tuple[Part, Part]:
    """A training and a test part at random, with every class in its proportion. Raises SettingError."""
    if settings.test_fraction == 0:
        return part, part
    from sklearn.model_selection import train_test_split  # more than a second, so only where it is needed

    seed = settings.split_seed
    rng = seed if seed < 2**32 else np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
    try:
        x, test_x, y, test_y = train_test_split(
            part.x, part.y, test_size=settings.test_fraction, random_state=rng, stratify=None if numeric else part.y
        )
    except ValueError as error:
        raise SettingError(("test_fraction",), f"these examples cannot be split so: {error}") from error
    return Part(x, y), Part(test_x, test_y)
