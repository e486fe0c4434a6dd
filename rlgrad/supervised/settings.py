"""What can be said of the data that a classifier learns from."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator

from rlgrad.errors import SettingError
from rlgrad.settings import NonNegativeInt, Section
from rlgrad.supervised import tables
from rlgrad.supervised.dialects import Told
from rlgrad.supervised.formulas import parsed
from rlgrad.supervised.preprocessing import Missing
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
    weight: int | str | None = None
    """the column that says how many times each row counts in learning: 0 or more, also fractions; null: once"""
    formula: str | None = None
    """which columns there are and what is made of them, such as survived ~ C(class) + age*sex, instead of `label`,
    `columns` and `drop`: names (`...` quotes one), + - * / : ** ( ), C(...) for categories, and log, log2, log10,
    log1p, exp, expm1, sqrt, abs, I, center, scale, standardize, poly and bs; it needs the extra `formula`"""
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
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """the part of the other examples that is not learned from either: by it models are compared, weights are kept, and
    a run may stop early, so that the test part stays unseen"""
    split_seed: NonNegativeInt = 0
    """which examples are held out: the same for all replicas, and whatever the seed of the run"""
    standardise: bool = True
    """mean 0 and deviation 1 in every feature, measured on the training part; without an intercept the mean stays"""
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
    def grouping(self) -> int | str | None:
        """The column that says which rows belong together, if one does."""
        return None

    @property
    def absent(self) -> Absent:
        return Absent(self.missing, self.not_missing)

    def spelt_out(self) -> Self:
        """What the formula says of the columns, as the other settings do. Raises SettingError where they speak, too."""
        if self.formula is None:
            return self
        formula = parsed(self.formula)
        for name in ("columns", "drop", *(["label"] if formula.label else [])):
            if getattr(self, name) not in ((), None):
                raise SettingError((name,), "the formula says it: give one of the two")
        told = {"columns": formula.names, "categorical": [*self.categorical, *formula.categories]}
        return self.model_copy(update=told | ({"label": formula.label} if formula.label else {}))

    def table(self, path: Path, setting: str) -> Table:
        """A file, read as these settings say. setting: the one that names it."""
        told = Told(self.separator, self.decimal, self.header, self.encoding)
        return tables.read(path, setting, told, self.absent)


def is_path(name: str) -> bool:
    """A name with a suffix or a folder is a file's."""
    return not name.startswith(OPENML) and (Path(name).suffix != "" or len(Path(name).parts) > 1)
