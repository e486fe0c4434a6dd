"""The dialect of a text table: separator, decimal sign, header, encoding.

Each is detected from the beginning of the file. If that is ambiguous, the error names the setting that decides it.
`Told` has the values of these settings.
"""

import codecs
import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from rlgrad.errors import SettingError, short

LINE = 2**20  # bytes: the longest possible line, and the length of the beginning that is examined
LOOK = 2**16  # characters of the beginning in which loose quotes are searched
ROWS = 100  # rows of the beginning that are examined, at most
NAMES = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas", " ": "blanks"}
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|", "blank": " "}
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?", re.ASCII)  # 1,303.5
SWAP = str.maketrans(",.", ".,")
MARKS = {  # of the byte order, at the beginning of a file; the first that fits
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}
BLANKS = re.compile(r'"[^"\n]*"|[ \t]+(?=[\r\n])|[ \t]+')


class Told(NamedTuple):
    """The settings of a text table; None: to be detected."""

    separator: str | None = None
    decimal: str | None = None
    header: bool | None = None
    encoding: str | None = None
    usual: str = ""  # the decimal sign of the training data, for numbers that could have either


class Dialect(NamedTuple):
    """The dialect of a text table."""

    encoding: str
    separator: str  # " " is one or more blanks
    loose: bool  # whether blanks stand between a separator and a quote
    decimal: str
    skipped: int  # lines before the first row of values
    names: Sequence[str]  # [C] of the header; empty texts if there is none
    headed: bool
    unused: Sequence[int]  # columns of row names, and an empty one after a final separator
    numeric: Sequence[bool]  # [C] whether the beginning has only numbers in the column

    def words(self) -> str:
        """The dialect in words, such as 'semicolons, decimal commas, header, latin-1'."""
        decimal = ["decimal commas"] if self.decimal == "," else []
        encoding = [] if self.encoding == "utf-8" else [self.encoding]
        head = ["header" if self.headed else "no header"]
        return ", ".join([NAMES.get(self.separator, repr(self.separator)), *decimal, *head, *encoding])


def number(word: str, decimal: str = ".") -> float | None:
    """The value of a number, with or without separators of thousands; None if the word is not a decimal number."""
    word = word.strip()
    if decimal == ",":
        word = word.translate(SWAP)
    if GROUPED.fullmatch(word):
        word = word.replace(",", "")
    return float(word) if NUMBER.fullmatch(word) else None


def cells_in(row: Sequence[str], separator: str) -> str:
    """How many there are, in words."""
    one = f"one cell by {NAMES.get(separator, repr(separator))}, {short(repr(row[0].strip()))}"
    return f"{len(row)} cells" if len(row) > 1 else one


def rows_of(stream: Any, separator: str, strict: bool) -> Any:
    """csv.reader; if blanks are the separator, several blanks count as one."""
    lines = map(single_blanks, stream) if separator == " " else stream
    csv.field_size_limit(LINE)
    return csv.reader(lines, delimiter=separator, skipinitialspace=separator != " ", strict=strict)


def single_blanks(line: str) -> str:
    """The line with one blank between cells, and none at its ends."""
    end = line[len(line.rstrip("\r\n")) :]
    return BLANKS.sub(lambda found: found[0] if found[0][0] == '"' else " ", line.strip(" \t\r\n")) + end


def found(head: bytes, whole: bool, told: Told, absent: Callable[[str], bool], path: Path, setting: str) -> Dialect:
    """Detect the dialect of a file that begins with `head`. whole: whether that is the whole file. absent: whether a
    cell means a missing value. Raises SettingError."""
    encoding, text = decoded(head, whole, told, setting, path)
    skipped, marked, hint = preamble(text)
    text = text[marked:]
    if text.startswith("\ufeff"):
        raise SettingError((setting,), f"{path}:1: the mark U+FEFF is twice at the beginning: leave one out")
    separator = hint if told.separator is None else SEPARATORS.get(told.separator, told.separator)
    if separator is None:
        separator = separator_of(text, absent, path, setting)
    if len(separator) != 1 or not separator.isascii() or separator in '"\r\n':
        message = f"{separator!r} is neither {', '.join(SEPARATORS)} nor another character of ASCII"
        raise SettingError(("separator",), message)
    rows, ends = sample(text, separator, path, setting)
    if not rows:
        raise SettingError((setting,), f"{path}: there are no rows in this file")
    try:
        decimal = told.decimal or decimal_of(rows, text, separator, told.usual)
    except ValueError as error:
        raise SettingError((setting,), f"{path}: {error} set `decimal`") from error
    headed = told.header if told.header is not None else is_header(rows[0], rows[1:], decimal, absent)
    first, body = (rows[0], rows[1:]) if headed else ([], rows)
    if not body:
        raise SettingError((setting,), f"{path}: its only row is the header; `header: false` if it is none")
    width = Counter(map(len, body)).most_common(1)[0][0]
    rest = [row[0] for row in body if len(row) == width and row[-1]]  # R writes no name above its row names
    if headed and (len(first) < width - 1 or (len(first) == width - 1 and len(set(rest)) < len(rest))):
        message = f"{cells_in(first, separator)}, but rows have {width}; only lines with # may be above a header"
        raise SettingError((setting,), f"{path}:{skipped + ends[0]}: {message}")
    names, unused = named(first, body, width)
    body = [row for row in body if len(row) == width]
    columns = [*zip(*body, strict=True), *[()] * (len(names) - width)]
    numeric = [
        any(not absent(cell) for cell in column) and all(absent(cell) or plain(cell, decimal) for cell in column)
        for column in columns
    ]
    loose = separator != " " and has_loose_quotes(text[:LOOK], separator)
    unused = [*unused, *(k for k, name in enumerate(names) if headed and not name and all(map(absent, columns[k])))]
    lines = skipped + (ends[0] if headed else 0)
    return Dialect(encoding, separator, loose, decimal, lines, names, headed, unused, numeric)


def has_loose_quotes(text: str, separator: str) -> bool:
    """Whether blanks stand between a separator, or the beginning of a line, and a quote."""
    return re.search(rf'(^|{re.escape(separator)})[ \t]+"', text, re.MULTILINE) is not None


def plain(cell: str, decimal: str) -> bool:
    """Whether a cell is a number without separators of thousands, which pyarrow can read."""
    word = cell.strip().replace(",", ".") if decimal == "," else cell.strip()
    return NUMBER.fullmatch(word) is not None and exact(word)


def exact(word: str) -> bool:
    """Whether it is no whole number with more digits than double precision holds: such are names, and would merge."""
    return re.fullmatch(r"\s*[+-]?[0-9]{16,}(\.0*)?\s*", word) is None or Decimal(word.strip()) == float(word)


def decoded(head: bytes, whole: bool, told: Told, setting: str, path: Path) -> tuple[str, str]:
    """The encoding, and the text up to the end of its last whole line. Raises SettingError."""
    encoding = encoding_of(head, told, setting, path)
    if not whole:
        end = max(head.rfind(b"\n"), head.rfind(b"\r"))
        if end < 0:
            raise SettingError((setting,), f"{path}:1: a line of more than {LINE >> 20} MB is not a row of a table")
        head = head[: end + 1]
    try:
        return encoding, codecs.getincrementaldecoder("utf-8-sig" if encoding == "utf-8" else encoding)().decode(
            head, whole
        )
    except UnicodeError as error:
        hint = "; without its mark it is utf-16-le or utf-16-be" if "BOM" in str(error) else ""
        message = f"{path}: cannot be read as {encoding}: {error}; `encoding` says how it is written{hint}"
        raise SettingError(("encoding",) if told.encoding else (setting,), message) from error


def encoding_of(head: bytes, told: Told, setting: str, path: Path) -> str:
    """The encoding, as set or detected. Raises SettingError for a file that is not text."""
    if told.encoding:
        try:
            "".encode(told.encoding)
        except LookupError as error:
            raise SettingError(("encoding",), f"{error}; the names are Python's, such as latin-1") from error
        name = codecs.lookup(told.encoding).name
        if name.startswith(("utf-16-", "utf-32-")) and head.startswith(MARKS[name[:6]]):
            return name[:6]  # which leaves the mark out
        return "utf-8" if name in ("utf-8", "utf-8-sig") else told.encoding
    for encoding, marks in MARKS.items():
        if head.startswith(marks):
            return encoding
    if b"\0" in head:
        message = (
            f"{path}: it has zero bytes, so it is not a text table; if it is one, `encoding` says how it is written"
        )
        raise SettingError((setting,), message)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
        return "utf-8"
    except UnicodeDecodeError:
        return "cp1252" if re.search(rb"[\x80-\x9f]", head) else "latin-1"


def preamble(text: str) -> tuple[int, int, str | None]:
    """The number of lines and of characters before the table: comments, empty lines, and Excel's "sep=;"; and the
    separator that this names, or None."""
    lines, place, separator = 0, 0, None
    for line in re.findall(r"[^\r\n]*(?:\r\n|\n|\r)", text):
        hint = re.fullmatch(r'"?sep=(.)"?\s*', line, re.IGNORECASE)
        if line.strip() and not line.startswith("#") and not hint:
            break
        separator = hint[1] if hint else separator
        lines, place = lines + 1, place + len(line)
    return lines, place, separator


def sample(text: str, separator: str, path: Path, setting: str) -> tuple[list[list[str]], list[int]]:
    """The first rows, their cells stripped of blanks, and the line number at which each row ends."""
    rows, ends = [], []
    reader = rows_of(io.StringIO(text, newline=""), separator, strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row) or len(row) > 1:
                rows.append([cell.strip() for cell in row])
                ends.append(reader.line_num)
            if len(rows) == ROWS:
                break
    except csv.Error as error:
        raise SettingError(
            (setting,), f"{path}:{reader.line_num}: cannot be read: {error}; is a quote open?"
        ) from error
    return rows, ends


def separator_of(text: str, absent: Callable[[str], bool], path: Path, setting: str) -> str:
    """The separator with which most rows have the same number of cells, and most cells are numbers; or else the one
    that is also in the first row. Raises SettingError if two separators are equally good."""
    scores, broken, decimal = [], None, False  # whether all commas are decimal signs, as another separator shows
    for separator in ("\t", ";", "|", ","):
        try:
            rows, _ = sample(text, separator, path, setting)
        except SettingError as error:
            if "unexpected end" in str(error):  # a quote is open, with every separator
                raise
            broken = error
            continue
        body = rows[1:] or rows
        if not body:
            return ","
        width, same = Counter(map(len, body)).most_common(1)[0]
        even = same == len(body)
        if width > 1 and not (separator == "," and even and decimal):
            cells = [cell for row in body for cell in row]
            commas = [number(cell, ",") for cell in cells if "," in cell]
            decimal = decimal or (even and bool(commas) and None not in commas)
            known = sum(absent(cell) or number(cell) is not None or number(cell, ",") is not None for cell in cells)
            scores.append((round(same / len(body), 2), known / len(cells), len(rows[0]) > 1, width, separator))
    if not scores:
        if broken and len(sample(text, " ", path, setting)[0][0]) == 1:
            raise broken
        return " "
    scores.sort(reverse=True)
    if len(scores) > 1 and scores[0][:3] == scores[1][:3]:
        which = " or ".join(NAMES[score[4]] for score in scores[:2])
        raise SettingError((setting,), f"{path}: {which} may separate its cells: set `separator`")
    return scores[0][4]


def decimal_of(rows: Sequence[Sequence[str]], text: str, separator: str, usual: str) -> str:
    """The `sign_of` the first rows of a text; if they have no sign, of what follows. Raises ValueError."""
    more = rows[1:] or rows
    if (separator == ";" or usual) and not any("." in cell or "," in cell for row in more for cell in row):
        end, signs = re.escape(separator) + '"\r\n', ".," if separator != "," else "."
        more = [re.findall(f"[{end}]([^{end}.,]*[{signs}][^{end}]*)", text)]  # the first decimal sign may come late
    return sign_of(itertools.chain(*more), separator, usual)


def sign_of(cells: Iterable[str], separator: str, usual: str = "") -> str:
    """Detect the decimal sign of numbers. usual: the sign if it could be either. Raises ValueError with a question if
    that does not decide it."""
    signed = {cell for cell in cells if "," in cell or "." in cell}
    commas = {cell for cell in signed if "," in cell and number(cell, ",") is not None}
    points = {cell for cell in signed if "." in cell and number(cell) is not None}
    if any("," in cell for cell in points):  # 1,303.5
        return "."
    if any("." in cell for cell in commas):  # 1.303,5
        return ","
    grouped = all(number(cell) is not None for cell in commas), all(number(cell, ",") is not None for cell in points)
    if usual and all(grouped) and (commas or separator != ","):
        return usual
    if (not commas and not (points and grouped[1] and separator == ";")) or (commas and grouped[0] and points):
        return "."
    if commas and not grouped[0] and (not points or grouped[1]):
        return ","
    example = min(commas or points)
    raise ValueError(f"is the {'comma' if commas else 'point'} of {short(example)} a decimal sign?")


def is_header(first: Sequence[str], body: Sequence[Sequence[str]], decimal: str, absent: Callable[[str], bool]) -> bool:
    """Whether the first row names the columns: if one of its cells is a word above numbers; or if all are words that do
    not occur below them; or if its other cells count 0, 1, 2, ..., as pandas writes for columns without names, or are
    years one after the other that do not occur below them."""

    def is_word(cell: str) -> bool:
        return not absent(cell) and number(cell, decimal) is None

    shift = max(0, len(body[0]) - len(first)) if body else 0  # R writes no name above its row names
    below = [{row[k + shift] for row in body if k + shift < len(row)} for k in range(len(first))]
    if any(number(cell, decimal) is not None and not cell.isdigit() for cell in first):
        return False
    numbers = [(cell, others) for cell, others in zip(first, below, strict=True) if cell.isdigit()]
    for cell, others in zip(first, below, strict=True):
        values = [other for other in others if not absent(other)]
        if is_word(cell) and values and not any(is_word(other) for other in values):
            if not numbers:
                return True
            if (cell[0].isalpha() or cell[0] == "_") and not any(one in others for one, others in numbers):
                return True  # beside numbers, $5 or 12% may be a value
    words = [cell for cell in first if cell]
    if words and all(map(is_word, words)) and len(set(words)) == len(words):
        return not body or not any(cell in others for cell, others in zip(first, below, strict=True) if cell)
    if any(cell in others for cell, others in zip(first, below, strict=True) if is_word(cell)) or len(first) < 3:
        return False
    counted = [(k, cell) for k, cell in enumerate(first) if not is_word(cell)]
    starts = {int(cell) - k if cell.isdecimal() else None for k, cell in counted}
    if first[-1] in below[-1] or len(starts) != 1 or None in starts:
        return False
    years = len(counted) > 1 and all(len(cell) == 4 and cell not in below[k] for k, cell in counted)
    return years or starts <= {0, 1}


def named(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> tuple[list[str], list[int]]:
    """The names [width] of the columns, and the places of unused ones: row names."""
    if not header:
        return [""] * width, []
    if len(header) == width - 1:
        if all(len(row) < width or not row[-1] for row in rows):
            return [*header, ""], []
        return ["", *header], [0]
    names = list(header[:width] if not any(header[width:]) else header)  # else the rows are too short
    first = [row[0] for row in rows if row]
    return names, [0] if not names[0] and len(set(first)) == len(first) and first[0] else []
