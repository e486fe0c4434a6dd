"""Tables of text cells, from a file or from OpenML, and the numbers and labels in them.

Whatever is wrong with a table is a SettingError in one line, with the line of the file and the number of the column.
"""

import csv
import math
import re
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rlgrad import files
from rlgrad.errors import SettingError


class Table(NamedTuple):
    """N rows of C cells."""

    source: str  # what an error calls it
    names: list[str]  # [C] the header; empty where there is none
    rows: list[list[str]]  # [N][C]
    lines: list[int]  # [N] the line of each row in the file

    def name(self, position: int) -> str:
        """The header's, or else its number from 1."""
        return self.names[position] if self.names else f"column {position + 1}"

    def column(self, position: int) -> str:
        """What an error calls a column; people count from 1."""
        return f"column {position + 1}" + (f" ({self.names[position]})" if self.names else "")


def read(path: Path, setting: str) -> Table:
    """The rows of a file, with commas or white space between cells. Empty lines do not count.

    The first row is a header where none of its cells is a number.

    setting: the one that names the file, for the SettingError where it cannot be used.
    """
    try:
        text = files.read(path).decode("utf-8-sig")
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        commas = "," in lines[0][1] if lines else False
        rows = [(number, next(csv.reader([line], strict=True)) if commas else line.split()) for number, line in lines]
    except FileNotFoundError as error:
        names = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise SettingError((setting,), f"{path}: no such file", names, path.name) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingError((setting,), f"{path}: cannot be read: {error}") from error
    rows = [(number, [cell.strip() for cell in row]) for number, row in rows]
    names = rows.pop(0)[1] if rows and all(value(cell) is None for cell in rows[0][1]) else []
    if not rows:
        raise SettingError((setting,), f"{path}: there are no rows in this file")
    width = len(names or rows[0][1])
    for number, row in rows:
        if len(row) != width:
            first = "the header" if names else f"line {rows[0][0]}"
            raise SettingError((setting,), f"{path}:{number}: {len(row)} cells, where {first} has {width}")
    return Table(str(path), names, [row for _, row in rows], [number for number, _ in rows])


def fetch(name: str) -> Table:
    """A data set of OpenML by its name or number; its target is the last column. Raises SettingError."""
    from sklearn.datasets import fetch_openml  # more than a second, so only where it is needed

    which = {"data_id": int(name)} if name.isdigit() else {"name": name}
    try:
        with warnings.catch_warnings(action="ignore"):
            found = fetch_openml(**which, as_frame=False, parser="liac-arff", n_retries=1, delay=0.1)
    except Exception as error:  # the network, the server, the name, the file: it raises whatever it meets
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SettingError(("data",), f"OpenML's {name!r} cannot be had: {reason}") from error
    if not isinstance(found.data, np.ndarray) or np.ndim(found.target) != 1:
        raise SettingError(("data",), f"OpenML's {name!r} is sparse, or has not one target: it cannot be used here")
    columns = []
    for feature, values in zip(found.feature_names, found.data.T.tolist(), strict=True):
        words = (found.categories or {}).get(feature)  # in whose place the data has their numbers
        columns.append([words[int(cell)] if words and cell == cell else cell for cell in values])
    columns.append(list(found.target))
    rows = [["?" if cell is None or cell != cell else str(cell) for cell in row] for row in zip(*columns, strict=True)]
    return Table(f"openml:{name}", [*found.feature_names, *found.target_names], rows, list(range(1, len(rows) + 1)))


def value(cell: str) -> float | None:
    """The finite number in a cell, if it is one."""
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in cell else None


def position(table: Table, column: int | str, setting: str) -> int:
    """Where a column is, by its name or its number from 1. Raises SettingError."""
    width = len(table.rows[0])
    if isinstance(column, int):
        if not 1 <= column <= width:
            raise SettingError((setting,), f"{table.source} has the columns 1 to {width}, and no {column}")
        return column - 1
    if not table.names:
        raise SettingError((setting,), f"{table.source} has no header to find {column!r} in; columns have numbers too")
    if column not in table.names:
        raise SettingError((setting,), f"{table.source} has no column {column!r}", set(table.names), column)
    if table.names.count(column) > 1:
        raise SettingError(
            (setting,), f"{table.source} has several columns {column!r}; use the number of the one meant"
        )
    return table.names.index(column)


def positions(table: Table, columns: Sequence[int | str], label: int) -> list[int]:
    """Where the features are: in these columns, or in all but the label's. A range is written "4-22"."""
    found = []
    for column in columns:
        span = re.fullmatch(r"(\d+)-(\d+)", column) if isinstance(column, str) and column not in table.names else None
        wanted: Sequence[int | str] = range(int(span[1]), int(span[2]) + 1) if span else [column]
        found += [position(table, one, "columns") for one in wanted]
    if label in found:
        raise SettingError(("columns",), f"{table.column(label)} is the label, and so none to learn from")
    found = found if columns else [place for place in range(len(table.rows[0])) if place != label]
    if not found:
        raise SettingError(("columns",), f"{table.source} has no column to learn from besides the label")
    return found


def numbers(table: Table, places: Sequence[int], absent: Collection[str], setting: str) -> np.ndarray:
    """The features [N, D] in these columns; NaN where the cell is one of `absent`. Raises SettingError."""
    result = np.full((len(table.rows), len(places)), np.nan)
    for row, (cells, line) in enumerate(zip(table.rows, table.lines, strict=True)):
        for feature, place in enumerate(places):
            if cells[place] in absent:
                continue
            number = value(cells[place])
            if number is None:
                where = f"{table.source}:{line}: {table.column(place)}"
                hint = "give words numbers, or leave the column out with `columns`"
                raise SettingError((setting,), f"{where}: {cells[place][:40]!r} is not a finite number; {hint}")
            result[row, feature] = number
    return result


def labels(table: Table, place: int, absent: Collection[str], setting: str) -> list[str | None]:
    """The labels [N] in this column, a whole number always written the same way (1.000 is 1); None where absent.

    Raises SettingError where a number is not whole.
    """
    result: list[str | None] = []
    for cells, line in zip(table.rows, table.lines, strict=True):
        cell = cells[place]
        number = value(cell)
        if number is not None and number != int(number):
            where = f"{table.source}:{line}: {table.column(place)}"
            raise SettingError((setting,), f"{where}: the label {cell} names no class; words and whole numbers do")
        result.append(None if cell in absent else word(cell))
    return result


def word(label: object) -> str:
    """A label as it is compared: whole numbers without a fraction."""
    number = value(str(label))
    return str(label) if number is None or number != int(number) else str(int(number))


def classes(found: Collection[str]) -> list[str]:
    """The different labels in order: numbers by their value, then words."""

    def rank(label: str) -> tuple[bool, float, str]:
        number = value(label)
        return number is None, number or 0.0, label

    return sorted(set(found), key=rank)
