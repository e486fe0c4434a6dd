"""Tables as batches of columns: from a text file, a Parquet file, OpenML, or a data frame in memory.

Every fault of a table raises SettingError in one line, with the line of the file and the number of the column. pyarrow
reads the tables; it is imported only in the functions that use it, because importing it is slow.
"""

import codecs
import csv
import io
import itertools
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlgrad.errors import SettingError, short, text_of
from rlgrad.supervised import dialects
from rlgrad.supervised.dialects import LINE, Told

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 8192  # in a batch
BREAK = re.compile("\r\n|\r|\n")
LOOSE = r'^[ \t]+"'  # blanks before a quote
MISSING = ("?", "NA", "N/A", "#N/A", "#NA", "<NA>", "NaN", "-NaN", "null", "None", ".", "")
Batches = Iterator["pa.RecordBatch"]


class Absent:
    """The cells that mean a missing value: words in upper or lower case, and numbers in every notation."""

    def __init__(self, missing: Collection[str | float] = (), not_missing: Collection[str] = ()):
        wanted = {str(each).strip() for each in (*MISSING, *missing)}
        self.words = {word.casefold() for word in wanted} - {word.strip().casefold() for word in not_missing}
        self.numbers = {value for word in map(str, missing) if (value := as_float(word)) is not None}
        self.spellings = [each for word in wanted for each in {word, word.lower(), word.upper(), word.capitalize()}]
        self.spellings = [word for word in self.spellings if word.casefold() in self.words]

    def __call__(self, cell: str, decimal: str = ".") -> bool:
        if (word := cell.strip().casefold()) in self.words:
            return True
        return bool(self.numbers) and dialects.number(word, decimal) in self.numbers


def as_float(word: str) -> float | None:
    """The number that a word is, also an infinite one; None if it is not a number."""
    try:
        return float(word) if "_" not in word else None
    except ValueError:
        return None


class Table:
    """Columns of numbers and of words, in batches of rows, which can be read several times.

    source: the table's name in errors. names: [C] of the columns, empty if one has none. headed: whether the names come
    from the table. unused: columns without values, such as row names. words: a description of the format.
    """

    def __init__(self, source: str, names: Sequence[str], data: Any = None, setting: str = "data"):
        """data: a pyarrow.Table, or an object with the same methods for batches."""
        self.source, self.names, self.data, self.setting = source, list(names), data, setting
        counted = Counter(self.names)
        self.called = [
            f"column {k}" if not name else f"{name} (column {k})" if counted[name] > 1 else name
            for k, name in enumerate(self.names, 1)
        ]
        if len(set(self.called)) < len(self.called):
            twice = short(repr(next(name for name, count in Counter(self.called).items() if count > 1)))
            raise SettingError((setting,), f"{source}: two columns are called {twice}: give them different names")
        self.headed, self.unused, self.words, self.decimal = True, set[int](), "", "."
        self.rows: int | None = data.num_rows if data is not None else None
        self.grouped = set[int]() if data is None else grouped(data.schema)  # columns that are declared as categories

    def batches(self, places: Sequence[int], text: Collection[int]) -> Batches:
        """The columns at these places: those in `text` as dictionaries of words, others as numbers if possible."""
        for batch in self._batches(places):
            try:
                yield arranged(batch, [place in text for place in places], self.decimal)
            except TypeError as error:
                raise SettingError((self.setting,), f"{self.source}: {error}") from error

    def _batches(self, places: Sequence[int]) -> Batches:
        yield from self.data.select(list(places)).to_batches(max_chunksize=ROWS)

    def keep(self, places: Sequence[int], text: Collection[int]) -> None:
        """Read these columns and keep them, if reading them again would be slow."""

    def where(self, row: int) -> str:
        """The name of a row in errors. row: from 0."""
        return f"{self.source}: row {row + 1}"

    def cell(self, row: int, place: int) -> str | None:
        """The text of a cell; None if the table is not a text file."""
        return None

    def name(self, place: int) -> str:
        """The name of a column: the header's, or else its number from 1; both if several columns have the same name."""
        return self.called[place]

    def column(self, place: int) -> str:
        """The name of a column in errors, with its number from 1."""
        number, name = f"column {place + 1}", short(self.names[place])
        return f"{number} ({name})" if name not in ("", number) else number

    def wrong(self, row: int, place: int, message: str, setting: str | None = None) -> SettingError:
        """The error for a cell."""
        return SettingError((setting or self.setting,), f"{self.where(row)}: {self.column(place)}: {message}")


class Parquet(Table):
    """A Parquet file, read row group by row group."""

    def __init__(self, path: Path, setting: str, decimal: str):
        """decimal: the decimal sign of numbers that are stored as text."""
        from pyarrow import parquet

        try:
            schema, rows = parquet.read_schema(path), parquet.read_metadata(path).num_rows
        except Exception as error:
            raise SettingError((setting,), f"{path}: cannot be read: {text_of(error)}") from error
        super().__init__(str(path), schema.names, setting=setting)
        self.path, self.rows, self.words, self.decimal = path, rows, "Parquet", decimal
        self.grouped = grouped(schema)
        index = (schema.pandas_metadata or {}).get("index_columns", ())  # names, or a mapping for a range
        self.unused = {k for k, name in enumerate(schema.names) if name in index}

    def _batches(self, places: Sequence[int]) -> Batches:
        from pyarrow import parquet

        keys = told_apart(self.names)
        wanted = [keys[place] for place in places]
        try:
            with parquet.ParquetFile(self.path, pre_buffer=False, buffer_size=2**16) as file:
                for batch in file.iter_batches(ROWS, columns=[*dict(wanted)]):
                    there = {key: k for k, key in enumerate(told_apart(batch.schema.names))}
                    yield batch.select([there[key] for key in wanted])
        except OSError as error:
            raise SettingError((self.setting,), f"{self.path}: cannot be read: {text_of(error)}") from error


class Text(Table):
    """A text file, compressed or not."""

    def __init__(self, path: Path, setting: str, told: Told, absent: Absent):
        self.path, self.absent = path, absent
        with self._open() as stream:
            head = stream.read(LINE)
            whole = len(head) < LINE or not stream.read(1)
        refuse_other_formats(head, path, setting)
        self.dialect = dialects.found(head, whole, told, absent, path, setting)
        super().__init__(str(path), self.dialect.names, setting=setting)
        self.headed, self.unused, self.words = self.dialect.headed, set(self.dialect.unused), self.dialect.words()
        self.decimal, self.numeric = self.dialect.decimal, {k for k, one in enumerate(self.dialect.numeric) if one}
        self.kept: pa.Table | None = None
        self.checked = False  # whether quotes are where they should be
        self.newlines = False  # whether cells may have several lines, and blank lines are left out

    def _open(self) -> Any:
        import pyarrow as pa

        try:
            return pa.input_stream(str(self.path), compression="detect", buffer_size=LINE)
        except (OSError, ValueError) as error:
            raise SettingError(("data",), f"{self.path}: cannot be read: {error}") from error

    def keep(self, places: Sequence[int], text: Collection[int]) -> None:
        import pyarrow as pa

        read = list(self._read(places, text, whole=True))
        self.kept = pa.Table.from_batches(read) if read else None
        self.rows = self.kept.num_rows if self.kept else 0

    def batches(self, places: Sequence[int], text: Collection[int]) -> Batches:
        if self.kept is not None:
            yield from self.kept.select([str(place) for place in places]).to_batches()
        else:
            yield from self._read(places, text)

    def _read(self, places: Sequence[int], text: Collection[int], whole: bool = False) -> Batches:
        """Read from the file. If a column of numbers has something else in a row, it is read as text from there on.

        whole: whether everything is read before the first batch, which is faster.
        """
        import pyarrow as pa

        done = 0
        while True:
            skip = done
            try:
                if not self.checked:
                    self._check_quotes()
                    self.checked = True
                for batch in self._reader(places, text, whole):
                    self._check_blanks(batch)
                    skip, batch = max(0, skip - len(batch)), batch[skip:]
                    done += len(batch)
                    if len(batch):
                        yield batch
                return
            except (pa.ArrowInvalid, OSError, UnicodeError) as error:
                self._learn(str(error), error)

    def _check_blanks(self, batch: "pa.RecordBatch") -> None:
        """Raises ArrowInvalid for a blank before a quote."""
        import pyarrow as pa
        from pyarrow import compute

        for column in batch.columns if not self.dialect.loose else ():
            words = column.dictionary if hasattr(column, "dictionary") else None
            if words is not None and compute.any(compute.match_substring_regex(words, LOOSE)).as_py():
                raise pa.ArrowInvalid(self.dialect.separator + ' "')

    def _check_quotes(self) -> None:
        """Raises SettingError if a cell of several lines, in any column, has rows in it, because a quote opens where
        none should. pyarrow would take them as text."""
        if self._line_is_in_quotes():
            width = len(self.names)
            seen: list[set[str]] = [set() for _ in self.names]
            for _, cells in itertools.islice(self.lines(), ROWS):
                for known, cell in zip(seen, cells, strict=False):
                    known.add(cell.strip())
            for row, (_, cells) in enumerate(self.lines()):
                for place, cell in enumerate(cells[:width]):
                    if BREAK.search(cell) and self._are_rows(cell.splitlines(), place, seen):
                        raise self.wrong(row, place, "the quote that opens here closes in a later row: is it stray?")

    def _line_is_in_quotes(self) -> bool:
        """Whether a line may end between quotes. Fast, without decoding."""
        if codecs.lookup(self.dialect.encoding).name.startswith(("utf-16", "utf-32")):
            return True
        odd = 0  # whether the number of quotes so far is odd
        with self._open() as stream:
            while block := stream.read(LINE):
                if odd or b'"' in block:
                    each = np.frombuffer(block, np.uint8)
                    quotes = np.flatnonzero(each == ord('"'))
                    ends = np.flatnonzero((each == ord("\n")) | (each == ord("\r")))
                    if ((np.searchsorted(quotes, ends) + odd) % 2).any():
                        return True
                    odd = (odd + len(quotes)) % 2
        return False

    def _are_rows(self, lines: Sequence[str], place: int, seen: Sequence[set[str]]) -> bool:
        """Whether lines are the end of a row from this column on, whole rows, and the beginning of one up to it, and
        most cells are like those in the same columns. seen: cells of each column."""
        width, rows = len(self.names), [line.split(self.dialect.separator) for line in lines]
        if [len(row) for row in rows] != [width - place, *[width] * (len(rows) - 2), place + 1]:
            return False
        alike = [
            self.absent(cell) or cell.strip() in seen[k % width] or self._is_number(cell, k % width)
            for k, cell in enumerate(itertools.chain(*rows), place)
            if k % width != place
        ]
        return 2 * sum(alike) > len(alike)

    def _is_number(self, cell: str, place: int) -> bool:
        return place in self.numeric and dialects.number(cell, self.decimal) is not None

    def _learn(self, message: str, error: Exception) -> None:
        """Change what the next attempt will do differently. Raises SettingError if no change can help."""
        column = re.match(r"In CSV column #(\d+): (.*)", message)
        if column and "invalid UTF8" not in message and int(column[1]) in self.numeric:
            self.numeric.discard(int(column[1]))
        elif isinstance(error, OSError):
            raise SettingError((self.setting,), f"{self.source}: cannot be read: {message}") from error
        elif "UTF8" in message or isinstance(error, UnicodeError):
            bad = (f"{self.source}:{line}" for line, cells in self.lines() if "\ufffd" in "".join(cells))
            hint = f"this is not {self.dialect.encoding}: `encoding` says how the file is written, such as latin-1"
            raise SettingError((self.setting,), f"{next(bad, self.source)}: {hint}") from error
        elif "straddling" in message:
            where = self.long_line()
            raise SettingError((self.setting,), f"{where}: a line of more than {LINE >> 20} MB is not a row") from error
        elif not self.dialect.loose and dialects.has_loose_quotes(message, self.dialect.separator):
            self.dialect = self.dialect._replace(loose=True)
        elif "Expected" in message and not self.newlines and self.dialect.separator != " ":
            self.newlines = True  # perhaps a quoted cell has several lines, or a line is blank
        else:
            raise SettingError((self.setting,), self.uneven() or f"{self.source}: {message}") from error

    def _reader(self, places: Sequence[int], text: Collection[int], whole: bool) -> Batches:
        import pyarrow as pa
        from pyarrow import csv

        names = [str(k) for k in range(len(self.names))]
        words = pa.dictionary(pa.int32(), pa.string())
        numeric = self.numeric.difference(text)
        types = {names[k]: pa.float64() if k in numeric else words for k in places}
        separator, stream = self.dialect.separator, self._open()
        encoding = self.dialect.encoding
        if separator == " " or self.dialect.loose or self.newlines:
            stream, encoding = Tidied(stream, self.dialect), "utf-8"
        options = (
            csv.ReadOptions(block_size=LINE, skip_rows=self.dialect.skipped, column_names=names, encoding=encoding),
            csv.ParseOptions(delimiter=separator, newlines_in_values=self.newlines),
            csv.ConvertOptions(
                column_types=types,
                include_columns=[names[k] for k in places],
                null_values=self.absent.spellings,
                strings_can_be_null=False,
                decimal_point=self.dialect.decimal,
            ),
        )
        with stream:
            if whole:
                yield from csv.read_csv(stream, *options).to_batches()
            else:
                with csv.open_csv(stream, *options) as reader:
                    yield from reader

    def lines(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each row with the number of its line. Slow, because it is in Python: only for errors."""
        encoding = "utf-8-sig" if self.dialect.encoding == "utf-8" else self.dialect.encoding
        with io.TextIOWrapper(self._open(), encoding, errors="replace", newline="") as stream:
            reader = dialects.rows_of(stream, self.dialect.separator, strict=False)
            try:
                for cells in reader:
                    if (len(cells) > 1 or "".join(cells).strip()) and reader.line_num > self.dialect.skipped:
                        yield reader.line_num - sum(len(BREAK.findall(cell)) for cell in cells), cells
            except csv.Error as error:
                where = f"{self.source}:{reader.line_num}"
                raise SettingError((self.setting,), f"{where}: cannot be read: {error}") from error

    def where(self, row: int) -> str:
        return f"{self.source}:{next(itertools.islice(self.lines(), row, None))[0]}"

    def cell(self, row: int, place: int) -> str | None:
        return next(itertools.islice(self.lines(), row, None))[1][place].strip()

    def uneven(self) -> str | None:
        """A message about the first row with a wrong number of cells, or None."""
        width = len(self.names)
        first = "the header" if self.headed else f"line {next(self.lines())[0]}"
        for line, cells in self.lines():
            if len(cells) != width:
                found = dialects.cells_in(cells, self.dialect.separator)
                return f"{self.source}:{line}: {found}, but {first} has {width}"
        return None

    def long_line(self) -> str:
        """The file and the number of its first line that is longer than LINE."""
        line, length = 1, 0
        with self._open() as stream:
            while block := stream.read(LINE):
                first, *more = block.split(b"\n")
                if length + len(first) > LINE or any(len(each) > LINE for each in more):
                    break
                line, length = line + len(more), len(more[-1]) if more else length + len(first)
        return f"{self.source}:{line}"


class Tidied(io.RawIOBase):
    """A text file as UTF-8, without blank lines, as pandas reads it. If blanks separate cells, there is one blank
    between two cells; between a separator and a quote there is none."""

    def __init__(self, stream: Any, dialect: dialects.Dialect):
        encoding = "utf-8-sig" if dialect.encoding == "utf-8" else dialect.encoding
        self.stream, self.rest = io.TextIOWrapper(stream, encoding, newline=""), b""
        self.blanks, self.first, self.quoted = " \r\n" if dialect.separator == "\t" else None, dialect.skipped, False
        mark = re.compile(rf'"[^"]*"?|(^|{re.escape(dialect.separator)})[ \t]+(?=")')  # nothing changes within quotes
        self.tidy: Callable[[str], str] = lambda line: line
        self.loose = dialect.loose
        if dialect.loose:
            self.tidy = lambda line: mark.sub(lambda found: found[0] if found[1] is None else found[1], line)
        elif dialect.separator == " ":
            self.tidy = dialects.single_blanks

    def readable(self) -> bool:
        return True

    def tidied(self, line: str) -> str:
        within, above, self.first = self.quoted, self.first > 0, self.first - 1
        self.quoted ^= line.count('"') % 2 == 1
        if not (within or above or line.strip(self.blanks)):
            return ""
        closed = line.find('"') + 1 or len(line) if within and self.loose else 0
        return line[:closed] + self.tidy(line[closed:])

    def readinto(self, buffer: Any) -> int:
        while not self.rest and (lines := self.stream.readlines(LINE)):
            self.rest = "".join(map(self.tidied, lines)).encode()
        count = min(len(buffer), len(self.rest))
        buffer[:count], self.rest = self.rest[:count], self.rest[count:]
        return count


def grouped(schema: "pa.Schema") -> set[int]:
    """The columns whose type in the table is categorical (by pandas or Arrow): their numbers are names."""
    from pyarrow import types

    metadata: Any = schema.pandas_metadata or {}
    said = metadata.get("columns", ())  # Parquet stores their numbers
    names = {each["field_name"] for each in said if each["pandas_type"] == "categorical"}
    return {k for k, field in enumerate(schema) if types.is_dictionary(field.type) or field.name in names}


def told_apart(names: Sequence[str]) -> list[tuple[str, int]]:
    """Each name with the number of equal names before it."""
    seen = Counter[str]()
    found = []
    for name in names:
        found.append((name, seen[name]))
        seen[name] += 1
    return found


def arranged(batch: "pa.RecordBatch", text: Sequence[bool], decimal: str) -> "pa.RecordBatch":
    """The batch with each column as numbers, or as a dictionary of words. decimal: the sign for numbers as words."""
    import pyarrow as pa

    columns = []
    for name, column, as_text in zip(batch.schema.names, batch.columns, text, strict=True):
        drop = f"`drop: [{name}]` leaves the column out"
        try:
            columns.append(cast(column, as_text, decimal))
        except pa.ArrowInvalid as error:
            why = f"{error}, where double precision holds all digits"
            raise TypeError(
                f"column {name}: {why}; {drop}, `categorical: [{name}]` takes its numbers as words"
            ) from error
        except NotImplementedError as error:
            raise TypeError(f"column {name}: {column.type} is neither numbers nor words; {drop}") from error
    return pa.RecordBatch.from_arrays(columns, [str(k) for k in range(len(columns))])


def cast(column: Any, as_text: bool, decimal: str) -> Any:
    """An Arrow array as numbers of double precision, or as a dictionary of words. Raises NotImplementedError for a type
    that is neither, and ArrowInvalid for whole numbers that would merge."""
    import pyarrow as pa
    from pyarrow import compute, types

    if types.is_dictionary(column.type):
        known = column.dictionary
        column = (known.cast(pa.string()) if types.is_string_view(known.type) else known).take(column.indices)
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType) or types.is_duration(kind) or "binary" in str(kind):
        raise NotImplementedError
    if types.is_null(kind):
        column = column.cast(pa.float64())
    elif types.is_boolean(kind):
        column = compute.if_else(column, "True", "False") if as_text else column.cast(pa.int8()).cast(pa.float64())
    elif not as_text and types.is_decimal(kind):
        column = column.cast(pa.string() if kind.scale > 0 else pa.int64()).cast(pa.float64())
    elif not as_text and (types.is_integer(kind) or types.is_floating(kind)):
        column = column.cast(pa.float64(), safe=types.is_integer(kind))
    if types.is_floating(column.type) and not as_text:
        return column
    known = column.cast(pa.string())
    if decimal == "," and (types.is_floating(kind) or types.is_decimal(kind)):
        known = compute.replace_substring(known, ".", ",")
    return known.dictionary_encode()


def refuse_other_formats(head: bytes, path: Path, setting: str) -> None:
    """Raise SettingError if a file begins like a spreadsheet, a zip file, a PDF, JSON, ARFF or a page."""
    formats = {rb"PK\x03\x04": "a zip file or a spreadsheet", rb"\xd0\xcf\x11\xe0": "a spreadsheet", rb"%PDF": "a PDF"}
    formats |= {
        rb'\[\s*[\[{]|\{\s*"': "JSON",
        rb"@relation": "ARFF",
        rb"<(\?xml|!doctype|html|table)": "an HTML page or XML",
        rb"ARROW1|FEA1": "a Feather or an Arrow file",
        rb"\x1f\x8b|BZh\d1AY|\xfd7zXZ|\x28\xb5\x2f\xfd": "compressed, and its name does not end in .gz, .bz2 or .zst",
    }
    for magic, what in formats.items():
        if re.match(magic, head[:99].lstrip(codecs.BOM_UTF8 + b" \r\n"), re.IGNORECASE):
            raise SettingError((setting,), f"{path}: this is {what}; save the table as CSV or Parquet")


def read(path: Path, setting: str, told: Told, absent: Absent) -> Table:
    """Read a table file. setting: the name of the setting with the path, for the SettingError if it cannot be used."""
    if not path.is_file():
        if path.exists():
            raise SettingError((setting,), f"{path}: cannot be read: it is not a regular file")
        names = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise SettingError((setting,), f"{path}: no such file", names, path.name)
    try:
        with open(path, "rb") as file:
            if file.read(4) == b"PAR1":
                return Parquet(path, setting, told.decimal or told.usual or ".")
        return Text(path, setting, told, absent)
    except OSError as error:
        raise SettingError((setting,), f"{path}: cannot be read: {error}") from error


def frame(data: Any, usual: str) -> Table:
    """A table in memory: of pandas, polars, pyarrow, or anything else with Arrow's interface. usual: the decimal sign
    of numbers as text, if they could have either. Raises SettingError."""
    import pyarrow as pa
    from pyarrow.types import is_large_string, is_string, is_string_view

    try:
        table = data if isinstance(data, pa.Table) else pa.table(data)
    except (TypeError, ValueError, OverflowError, NotImplementedError) as error:  # pyarrow's are subclasses of these
        reason = "; ".join(map(str, error.args))[:300]
        raise SettingError(("data",), f"this is not a table of numbers and words: {reason}") from error

    def worded(kind: pa.DataType) -> bool:
        return bool(is_string(kind) or is_large_string(kind) or is_string_view(kind))

    found, first = Table("the table", table.column_names, table), table.slice(0, dialects.ROWS)
    cells = [cell for column in first.columns if worded(column.type) for cell in column.to_pylist() if cell]
    found.decimal = usual or "."
    if usual:
        with suppress(ValueError):  # it has both signs
            found.decimal = dialects.sign_of(map(str.strip, cells), "", usual)
    return found


def fetch(name: str) -> Table:
    """Download a data set of OpenML by name or number; its target is the last column. Raises SettingError."""
    import pyarrow as pa
    from sklearn.datasets import fetch_openml  # importing takes more than a second

    which = {"data_id": int(name)} if name.isdigit() else {"name": name}
    try:
        with warnings.catch_warnings(action="ignore"):
            found = fetch_openml(**which, as_frame=False, parser="liac-arff", n_retries=1, delay=0.1)
    except Exception as error:  # many kinds: of the network, the server, the name, the file
        reason = text_of(error) or type(error).__name__
        raise SettingError(("data",), f"OpenML's {name!r} cannot be downloaded: {reason}") from error
    if not isinstance(found.data, np.ndarray) or np.ndim(found.target) != 1:
        raise SettingError(
            ("data",), f"OpenML's {name!r} is sparse, or does not have one target: it cannot be used here"
        )
    columns = []
    for feature, values in zip(found.feature_names, found.data.T.tolist(), strict=True):
        words = (found.categories or {}).get(feature)  # the data has their numbers instead
        cells = [words[int(cell)] if words and cell == cell else cell for cell in values]
        columns.append(pa.array(None if cell != cell else cell for cell in cells))
    columns.append(pa.array(None if cell is None or cell != cell else str(cell) for cell in found.target))
    names = [*found.feature_names, *found.target_names]
    return Table(f"openml:{name}", names, pa.Table.from_arrays(columns, [str(k) for k in range(len(columns))]))


def unused(table: Table, places: Sequence[int]) -> str:
    """The columns of a table that are not among `places`, such as 'id, name'."""
    return short(", ".join(table.name(place) for place in range(len(table.names)) if place not in places))


def position(table: Table, column: int | str, setting: str) -> int:
    """The place (from 0) of a column, given by its name or its number from 1. Raises SettingError."""
    width = len(table.names)
    if isinstance(column, int):
        if not 1 <= column <= width:
            raise SettingError((setting,), f"{table.source} has the columns 1 to {width}, and no {column}")
        return column - 1
    known = [name for name in table.names if name]
    if not table.headed:
        hint = "has no header to find {!r} in; give the number of the column, or `header: true` if the first row is one"
        raise SettingError((setting,), f"{table.source} {hint.format(column)}")
    if column not in known:
        raise SettingError((setting,), f"{table.source} has no column {column!r}", set(known), column)
    if known.count(column) > 1:
        message = f"{table.source} has several columns {column!r}; use the number of the right one"
        raise SettingError((setting,), message)
    return table.names.index(column)


def positions(table: Table, columns: Sequence[int | str], setting: str) -> list[int]:
    """The places of these columns. A range is written "4-22". Raises SettingError."""
    found = []
    for column in columns:
        span = re.fullmatch(r"(\d+)-(\d+)", column) if isinstance(column, str) and column not in table.names else None
        if span and int(span[1]) > int(span[2]):
            message = f"the range {short(column)} is empty: it is written from the first column to the last"
            raise SettingError((setting,), f"{message}, {span[2]}-{span[1]}")
        wanted: Sequence[int | str] = range(int(span[1]), int(span[2]) + 1) if span else [column]
        found += [position(table, one, setting) for one in wanted]
    return list(dict.fromkeys(found))


def found(table: Table, names: Sequence[str]) -> list[int]:
    """The places of the columns with these names. Raises SettingError."""
    known = {name: place for place, name in enumerate(table.called)}
    if not table.headed and not any(name in known for name in names):
        raise SettingError((table.setting,), f"{table.source} has no header to find {names[0]!r} in")
    if absent := [name for name in names if name not in known]:
        message = f"{table.source} lacks columns that the training data has: {short(', '.join(absent))}"
        raise SettingError((table.setting,), message, known.keys() - names, absent[0])
    return [known[name] for name in names]
