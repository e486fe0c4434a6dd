"""The labels of a table: classes, named by the words in the file, or numbers."""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from rlgrad.errors import SettingError, printable, short
from rlgrad.supervised import columns
from rlgrad.supervised.columns import Column, canonical, ordered
from rlgrad.supervised.dialects import exact, number
from rlgrad.supervised.settings import DataSettings
from rlgrad.supervised.tables import Table

MANY = 20  # more different labels than this, with less than SEVERAL rows each on average, are not classes
SEVERAL = 3
SHOWN = 10  # classes in a message, at most


class Labels:
    """The labels of a table as y [N], NaN if one is missing, and the rule to read those of another table.

    labels: [K] the labels of the class numbers, as in the file; empty for numbers.
    """

    def __init__(self, table: Table, place: int, settings: DataSettings, numeric: bool):
        self.settings, self.numeric, self.column = settings, numeric, table.name(place)
        self.labels: list[int | str] = []
        self.number: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        self.positive: str | None = None
        if numeric:
            self.y = self._numbers(table, place)
            return
        self.source = table.source
        codes, words = self._known(table, place)
        for word, count in zip(words, np.bincount(codes[codes >= 0], minlength=len(words)).tolist(), strict=True):
            if word is not None:
                self.counts[word] = self.counts.get(word, 0) + count
        classes = ordered(self.counts)
        self.number = {word: rank for rank, word in enumerate(classes)}
        self._check(table, place, codes, words)
        if settings.positive is not None:
            self.positive = self._positive(classes)
            self.number = {word: int(word == self.positive) for word in classes}
        elif len(classes) == 2:
            self.positive = classes[1]
        self.labels = named(classes, self.number)
        self.y = self._coded(codes, words)

    def again(self, table: Table, place: int) -> np.ndarray:
        """y [N] of another table. Raises SettingError if it has other labels, or none."""
        if self.numeric:
            return self._numbers(table, place)
        codes, words = self._known(table, place)
        if other := [k for k, word in enumerate(words) if word is not None and word not in self.number]:
            message = f"no example of {self.source} has the label {short(repr(words[other[0]]))}"
            raise table.wrong(int(np.isin(codes, other).argmax()), place, message)
        return self._coded(codes, words)

    def words(self) -> str:
        """The labels in words, such as 'label `target`: no 212, yes 357; positive: yes'."""
        if self.numeric:
            known = self.y[~np.isnan(self.y)]
            return f", label `{self.column}`: numbers from {known.min():g} to {known.max():g}"
        classes = ordered(self.counts)
        listed = ", ".join(f"{short(printable(word))} {self.counts[word]:,}" for word in classes[:SHOWN])
        more = f" and {len(classes) - SHOWN} more" if len(classes) > SHOWN else ""
        told = f"; positive: {short(printable(self.positive))}" if self.positive is not None else ""
        first: dict[str | float, str] = {}
        note = ""
        for word in classes:
            value = number(word)
            other = first.setdefault(looks(word) if value is None or not exact(word) else value, word)
            if other != word and not note:
                note = f"; {short(repr(other))} and {short(repr(word))} are different labels"
        return f", label `{self.column}`: {listed}{more}{told}{note}"

    def _known(self, table: Table, place: int) -> tuple[np.ndarray, list[str | None]]:
        """The number of each row's word, -1 if it is missing; and the words, None for one that means missing."""
        codes, words = columns.coded(table, place)
        absent, asked = self.settings.absent, canonical(self.settings.positive)
        known = [word if word == asked or not absent(word) else None for word in words]
        missing = np.isin(codes, [-1, *(k for k, word in enumerate(known) if word is None)])
        if self.settings.missing_values == "error" and missing.any():
            hint = "rows without one can be left out (`missing_values: drop`), and "
            other = "a word such as NA can be one (`not_missing: [NA]`)"
            hint += "rlgrad predict needs none" if table.setting == "test_data" else other
            raise table.wrong(int(missing.argmax()), place, f"the label is missing; {hint}")
        if missing.all():
            raise SettingError((table.setting,), f"{table.source}: no row has a label in {table.column(place)}")
        return np.where(missing, -1, codes), known

    def _coded(self, codes: np.ndarray, words: Sequence[str | None]) -> np.ndarray:
        """The class number of each row [N], NaN if its label is missing."""
        meant = [np.nan if word is None else self.number[word] for word in words]
        found: np.ndarray = np.array([*meant, np.nan], np.float32)[codes]
        return found

    def _numbers(self, table: Table, place: int) -> np.ndarray:
        """The labels [N] of a column of numbers, NaN if one is missing."""
        strict = self.settings.missing_values == "error"
        read = columns.blocks(table, [place], [Column(table.name(place))], self.settings.absent, strict)
        return np.concatenate([np.zeros(0), *(x[:, 0] for x in read)])

    def _positive(self, classes: Sequence[str]) -> str:
        """The word of the setting `positive` as it is in the file. Raises SettingError."""
        asked = canonical(self.settings.positive)
        if isinstance(self.settings.positive, bool):  # true is also TRUE
            asked = next((word for word in classes if word.casefold() == asked.casefold()), asked)
        if asked not in classes:
            shown = classes if len(classes) <= SHOWN else ()
            raise SettingError(("positive",), f"no example has the label {asked!r}", shown, asked)
        return asked

    def _check(self, table: Table, place: int, codes: np.ndarray, words: Sequence[str | None]) -> None:
        """Raise SettingError if these are not classes."""
        column, many = f"{table.source}: {table.column(place)}", len(self.counts)
        if many > MANY and sum(self.counts.values()) < SEVERAL * many:
            hint = f"{many} different labels in {len(codes)} rows are too many for classes; `label` names their column"
            raise SettingError(("label",), f"{column}: {hint}")
        numbers = [k for k, word in enumerate(words) if word and number(word, table.decimal) is not None]
        fractions = [k for k in numbers if not whole(str(words[k]))]
        if fractions and self.settings.positive is None:
            row = int(np.isin(codes, fractions).argmax())
            raise table.wrong(row, place, f"the label {words[codes[row]]} is not a class; use words or whole numbers")
        if many < 2:
            raise SettingError((table.setting,), f"{column}: all labels are {next(iter(self.counts))!r}")


def looks(word: str) -> str:
    """The word without what a reader may not see: case, blanks, invisible signs, and the way an accent is stored."""
    return "".join(c for c in unicodedata.normalize("NFKC", word).casefold() if c.isprintable() and not c.isspace())


def whole(word: str) -> bool:
    return re.fullmatch(r"[+-]?\d+", word) is not None


def named(classes: Sequence[str], number: dict[str, int]) -> list[int | str]:
    """The labels [K] of the class numbers: as whole numbers, if all of them are written as such."""
    known = [[word for word in classes if number[word] == k] for k in sorted(set(number.values()))]
    names = [each[0] if len(each) == 1 else f"not {known[1][0]}" for each in known]
    as_numbers = all(re.fullmatch(r"0|-?[1-9]\d{0,17}", name) for name in names)
    return [int(name) for name in names] if as_numbers else list(names)
