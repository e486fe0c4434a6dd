"""The meaning of the cells of a column: numbers, categories or labels."""

import functools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from rlgrad.errors import short
from rlgrad.supervised.dialects import SWAP, exact, number
from rlgrad.supervised.tables import Absent, Table

CATEGORIES = 1000  # at most, in one column; and at most half the number of rows, if there are more than FEW
FEW = 20
LONG = 100  # characters: more are not a number that someone has written
TRUTH = {"true": 1.0, "false": 0.0}
DATE = (
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?|\d{1,2}:\d{2}(:\d{2}.*| ?[aApP]\.?[mM]\.?)?|\d{4}(-\d{2}|[- ]?[qQ][1-4])"
)
MONTH = "(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
DAY = r"\d{1,2}(st|nd|rd|th)?"
DATE += rf"|({DAY}[- .]+)?{MONTH}[- .,]+({DAY}[- ,]+)?\d{{2,4}}"  # 2 Jan 2020, January 2, 2020
DATE += rf"|{DAY}[- .]+{MONTH}|{MONTH}[- .]+{DAY}|[qQ][1-4][- /]?\d{{2,4}}"  # 5 Jan, Jan 5th, Q1 2020
DATE += r"|\d{1,2}-\d{4}|\d{4}-?W\d{1,2}(-\d)?|\d{1,2}\.? [^\W\d]+ \d{4}|\d{4}年.*"  # 01-2020, 2020-W01, 2. März 2020
DATE += r"|-?P(?=[\dT])(\d+[YMWD])*(T[\dHMS.]+)?|-?\d+ days?,? \d+:\d{2}.*"  # PT1H30M, 1 days 02:00:00
MARK = r"\w{0,2}[$€£¥₹₩₽₺₪¢%‰]|Rs\.?|USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|SEK|NOK|DKK"
MINUS = "[-+−‐‑‒–—]"  # few of which are ASCII's
GROUPS = r"(\d{1,3}(['’\s]\d{3})+|[\d.,]*\d[.,]?)([.,]\d*)?"  # \d is a digit in any script
ODD = {  # what looks like a number but is not read as one -> what to do about it
    DATE: "is a date or a time: write a number, such as days since a day; `drop: [{name}]` leaves the column "
    "out, `categorical: [{name}]` takes it as a word",
    r"[+-]?0([xX][0-9a-fA-F]+|[oO][0-7]+|[bB][01]+)": "is not a finite number: it is hexadecimal, octal or binary, "
    "write it in decimal digits",
    r"\d+/\d+": "is not a finite number, but a fraction, a month, or two numbers: write it in decimal digits, or "
    "`categorical: [{name}]` takes it as a word",
    r"=?(['\"])[-+\d.,]+\1?": "is not a finite number: write it without these signs",
    r"\d+:[-+\d.]*[.][\d.eE+-]*": "is not a finite number: a sparse table, such as LIBSVM's, cannot be read",
    r"[+-]?[\d.,]+[dD][+-]?\d+": "is not a finite number: write E where Fortran has written D",
    r"[+-]?\d+(_\d+)+": "is not a finite number: write it without _",
    r"[+-]?\d+(,\d+)+": "is not a finite number: `decimal` says whether the comma is a decimal sign",
    r"[+-]?[0-9]{16,}(\.0*)?": "has more digits than a number of double precision: `drop: [{name}]` leaves the "
    "column out, `categorical: [{name}]` takes its numbers as words",
    rf"\(?{MINUS}?\s?({MARK})?\s?{MINUS}?{GROUPS}\s?({MARK})?\)?": "is not a finite number: write it as -1234.5, in "
    "plain digits and without signs of currency, percent or thousands",
    r"[+-]?(?i:inf|infinity)": "is not a finite number; if it stands for a missing value, `missing: [{shown}]` says so",
}
UNIT = re.compile(r"[-+]?\d[\d.,]*\s?((?:[^\W\d_]|°)[^\s\d]{0,9})")  # 5 kg

EXACT = 2**53  # whole numbers from here on may merge in double precision


class Column(NamedTuple):
    """A feature of the source: numbers, or one of several categories."""

    name: str
    categories: Sequence[str] | None = None  # as they are written in the training data; None: numbers
    decimal: str = ""  # the decimal sign there; empty: not known

    def number(self, word: str, decimal: str) -> float | None:
        """The number of a word, or of its category (NaN if unknown). None: the word has no number."""
        if self.categories is None:
            value = number(word, decimal)
            value = TRUTH.get(word.strip().casefold()) if value is None else value
            return value if value is None or (math.isfinite(value) and exact(word)) else None
        if self.decimal not in ("", decimal) and number(word, decimal) is not None:
            word = word.translate(SWAP)  # now it is written as there
        word = canonical(word, decimal := self.decimal or decimal)
        if word in self.categories:
            return float(self.categories.index(word))
        return same(tuple(self.categories), decimal).get(meaning(word, decimal), math.nan)


class Misread(Exception):
    """A cell that does not fit its column and is not missing: its row in the batch, and the word. mixed: it is true or
    false in a column of numbers, or a number in a column of true and false."""

    def __init__(self, row: int, word: str, mixed: bool = False):
        super().__init__(word)
        self.row, self.word, self.mixed = row, word, mixed


def canonical(label: object, decimal: str = ".") -> str:
    """A label or category in the form for comparisons: as written, except that 1.0 and 1.000e+00 become 1, and -0 is
    0."""
    text = str(label).strip()
    plain = text.translate(SWAP) if decimal == "," else text
    if re.fullmatch(r"-?(0|[1-9]\d*)(\.\d*([eE][+-]?\d+)?)?", plain, re.ASCII):
        value = float(plain)
        return str(int(value)) if value == value // 1 and abs(value) < EXACT else text
    return text


def meaning(word: str, decimal: str) -> float | str:
    """What a category means, for comparisons of what is written in two ways: a number, except for codes such as 001;
    true and false in any case; or the word."""
    word = word.strip()
    if word.casefold() in TRUTH:
        return word.casefold()
    value = None if re.match(r"[+-]?0\d", word) else number(word, decimal)
    return word if value is None or abs(value) >= EXACT else value


@functools.lru_cache(maxsize=64)
def same(categories: tuple[str, ...], decimal: str) -> dict[float | str, float]:
    """The number of the category with each meaning, if there is only one."""
    meanings = [meaning(word, decimal) for word in categories]
    count = Counter(meanings)
    return {each: float(k) for k, each in enumerate(meanings) if count[each] == 1}


def words(array: Any) -> tuple[np.ndarray, list[str]]:
    """Split a dictionary array: the number of each row's word, -1 if there is none; and the words."""
    return array.indices.fill_null(-1).to_numpy(zero_copy_only=False), array.dictionary.to_pylist()


def values(array: Any, column: Column, absent: Absent, decimal: str, truth: list[bool]) -> np.ndarray:
    """The numbers [n] in a column of a batch, NaN if one is missing. truth: the kinds of cells so far, in order: True
    for true and false, False for numbers; new ones are added. Raises Misread for a word that does not fit."""
    if not hasattr(array, "dictionary"):
        truth += {False} - {*truth}
        found: np.ndarray = array.to_numpy(zero_copy_only=False)
        if absent.numbers:
            rounded = {float(np.float32(value)) for value in absent.numbers if value % 1}  # as float32 has them
            found = np.where(np.isin(found, [*absent.numbers | rounded]), np.nan, found)
        return found
    codes, known = words(array)
    meant = [math.nan if absent(word, decimal) else column.number(word, decimal) for word in known]
    if None in meant:
        row = int(np.isin(codes, [k for k, each in enumerate(meant) if each is None]).argmax())
        raise Misread(row, known[codes[row]])
    if column.categories is None:
        said = {k: known[k].strip().casefold() in TRUTH for k, each in enumerate(meant) if not math.isnan(each or 0)}
        truth += [one for one in dict.fromkeys(said.values()) if one not in truth]
        if len(truth) > 1:
            row = int(np.isin(codes, [k for k, one in said.items() if one != truth[0]]).argmax())
            raise Misread(row, known[codes[row]], mixed=True)
    meanings: np.ndarray = np.array([*(math.nan if each is None else each for each in meant), math.nan])[codes]
    return meanings


def blocks(
    table: Table, places: Sequence[int], columns: Sequence[Column], absent: Absent, strict: bool
) -> Iterator[np.ndarray]:
    """Yield the features [n, D] of all rows, batch by batch; NaN for a missing value or an unknown category.

    strict: whether these raise an error instead. Raises SettingError.
    """
    text = {place for place, column in zip(places, columns, strict=True) if column.categories is not None}
    start, truth, looked_up = 0, [list[bool]() for _ in columns], set[int]()
    for batch in table.batches(places, text):
        x = np.empty((len(batch), len(columns)))
        k = 0
        try:
            for k, column in enumerate(columns):
                x[:, k] = values(batch.column(k), column, absent, table.decimal, truth[k])
                if k not in looked_up and (large := np.abs(x[:, k]) >= EXACT).any():
                    looked_up.add(k)  # once, because it may read the file up to there
                    word = table.cell(start + (row := int(large.argmax())), places[k])
                    if word is not None and not exact(word):
                        raise Misread(row, word)
            if not np.isfinite(x).all() and (bad := ~np.isfinite(x) if strict else np.isinf(x)).any():
                row = int(bad.any(1).argmax())
                k = int(bad[row].argmax())
                raise Misread(row, str(batch.column(k)[row].as_py() or ""))
        except Misread as error:
            row, place = start + error.row, places[k]
            why = complaint(table.cell(row, place) or error.word, columns[k], absent, error.mixed)
            why += "" if row or table.headed else "; `header: true` if the first row has the names of the columns"
            raise table.wrong(row, place, why) from error
        start += len(batch)
        yield x


def oddity(word: str) -> str | None:
    """What to do about a word that looks like a number but is not read as one; None if it does not."""
    if len(word) > LONG:
        return None
    seen = "".join(sign for sign in word if unicodedata.category(sign) != "Cf")
    if seen != word and number(seen) is not None:
        return "is a number with an invisible character: write it without"
    return next((what for pattern, what in ODD.items() if re.fullmatch(pattern, word)), None)


def complaint(word: str, column: Column, absent: Absent, mixed: bool = False) -> str:
    """A message about what is wrong with a cell, and what to do."""
    shown, name = short(word.strip()), short(column.name)
    if mixed:
        hint = f"write 1 and 0, or `categorical: [{name}]` takes all of them as words"
        return f"{shown!r} is in a column that has both numbers and true or false: {hint}"
    if absent(word) or word == "nan":
        return "the value is missing; `missing_values` can be drop, zero or median_and_indicator"
    if column.categories is not None:
        hint = "`missing_values` says what to do, as with a missing value"
        return f"no example of the training part has {shown!r}; {hint}"
    if what := oddity(word.strip()):
        return f"{shown!r} {what.format(shown=shown, name=name)}"
    if UNIT.fullmatch(word.strip()):
        return f"{shown!r} has a unit: write the number alone, or `categorical: [{name}]` takes it as a word"
    hint = f"`missing: [{shown}]` if it stands for a missing value, `drop: [{name}]` leaves the column out"
    return f"{shown!r} is not a finite number; {hint}, `categorical: [{name}]` takes it as a word"


def kind(
    name: str, found: Collection[str], numeric: bool, absent: Absent, decimal: str, categorical: bool = False
) -> Column:
    """Whether a column has numbers or categories, decided by its different words. numeric: whether it also has numbers.
    categorical: whether it is declared as categorical."""
    known, column = [word.strip() for word in found if not absent(word, decimal)], Column(name, None, decimal)
    if not categorical:
        some = known[:CATEGORIES]  # more than that are too many for categories
        odd = sum(oddity(word) is not None for word in some)
        units = {unit and unit[1] for unit in map(UNIT.fullmatch, some)} if len(some) > 1 else {None}
        strange = 2 * odd >= len(some) or (len(units) == 1 and None not in units)
        if numeric or strange or any(column.number(word, decimal) is not None for word in known):
            return column
    return column._replace(categories=ordered({canonical(word, decimal) for word in known}))


def vocabulary(table: Table, places: Sequence[int], text: Collection[int]) -> Iterator[tuple[Collection[str], bool]]:
    """For each column: its different words, and whether it also has numbers."""
    found: list[dict[str, None]] = [{} for _ in places]
    numeric = [False] * len(places)
    for batch in table.batches(places, text):
        for k, array in enumerate(batch.columns):
            if not hasattr(array, "dictionary"):
                numeric[k] = numeric[k] or array.null_count < len(array)
                continue
            found[k] |= dict.fromkeys(words(array)[1])
    return zip(found, numeric, strict=True)


def coded(table: Table, place: int) -> tuple[np.ndarray, list[str]]:
    """The words of a column: for each row the number of its word [N], -1 if it has none; and the different words, in
    the form for comparisons."""
    rank: dict[str, int] = {}
    found = [np.zeros(0, int)]
    for batch in table.batches([place], [place]):
        codes, known = words(batch.column(0))
        meant = (canonical(word, table.decimal) for word in known)
        found.append(np.array([*(rank.setdefault(word, len(rank)) for word in meant), -1])[codes])
    return np.concatenate(found), list(rank)


def ordered(labels: Collection[str]) -> list[str]:
    """Sort labels: numbers by value, then words."""

    def rank(label: str) -> tuple[bool, float, str]:
        value = number(label)
        return value is None, value or 0.0, label

    return sorted(labels, key=rank)
