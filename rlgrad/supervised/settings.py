"""The settings of the data that a classifier learns from."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StrictInt, ValidationInfo, field_validator

from rlgrad.errors import SettingError
from rlgrad.settings import NonNegativeInt, Section
from rlgrad.supervised import tables
from rlgrad.supervised.dialects import Told
from rlgrad.supervised.formulas import parsed
from rlgrad.supervised.preprocessing import Missing
from rlgrad.supervised.tables import Absent, Table

BUNDLED = ("breast_cancer", "digits", "iris", "wine")  # part of scikit-learn; nothing is downloaded
OPENML = "openml:"


class DataSettings(Section):
    """Where the examples come from, and how they are prepared before learning."""

    data: Literal["breast_cancer", "digits", "iris", "wine"] | str
    """a data set of scikit-learn; a text file (also compressed) or a Parquet file, its path relative to the working
    directory; or openml:NAME or openml:NUMBER, which is downloaded"""
    test_data: str | None = None
    """a file with the held-out examples; columns are found by name; null: a part of `data` is held out"""
    separator: str | None = None
    """the separator of cells: comma, semicolon, tab, bar, blank (one or more), or another character; null: detected"""
    decimal: Literal[".", ","] | None = None
    """the decimal sign; the other sign may separate thousands; null: detected"""
    header: bool | None = None
    """whether the first row has the names of the columns; null: detected"""
    encoding: str | None = None
    """encoding of a text file, such as latin-1; null: UTF-8, or detected from its bytes"""
    label: StrictInt | str | None = None
    """the column of the label: its name, or its number from 1; null: the last that is not left out"""
    positive: bool | int | float | str | None = None
    """the label that is class 1, while all others are class 0; null: every label is a class of its own"""
    columns: tuple[StrictInt | str, ...] = ()
    """the columns to learn from: names, numbers from 1, or ranges such as 4-22; empty: all except the label"""
    weight: StrictInt | str | None = None
    """the column with the weight of each row in learning: 0 or more, also fractions; null: every weight is 1"""
    formula: str | None = None
    """label and features as a formula, such as survived ~ C(class) + age*sex, instead of `label`, `columns` and `drop`.
    It has names (`...` quotes one), + - * / : ** ( ), C(...) for categories, and log, log2, log10, log1p, exp, expm1,
    sqrt, abs, I, center, scale, standardize, poly and bs; the extra `formula` must be installed"""
    drop: tuple[StrictInt | str, ...] = ()
    """columns to leave out, also as the label, written in the same way as `columns`"""
    categorical: tuple[StrictInt | str, ...] = ()
    """columns whose numbers are categories; columns of words are categories anyway"""
    missing: tuple[int | float | str, ...] = ()
    """content of a cell that means a missing value, in addition to nothing, ?, ., NA, N/A, #N/A, #NA, <NA>, NaN, null
    and None, in upper or lower case; a number matches in every notation"""
    not_missing: tuple[str, ...] = ()
    """which of these words are values in this file, such as NA for Namibia"""
    missing_values: Missing = "error"
    """error: stop with an error. drop: leave such rows out. zero: use 0. median_and_indicator: use the median of the
    training part, and add a 0/1 feature that marks missing values, for each feature that misses some there. All except
    `error` leave out rows without a label. A category that the training part does not have counts as missing"""
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """the part of the examples that is held out, if there is no `test_data`; 0: none; then the run is evaluated on the
    examples that it learns from"""
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """the part of the other examples for comparing models, choosing weights and stopping early, so that the test part
    stays unseen; the model does not learn from it"""
    split_seed: NonNegativeInt = 0
    """determines which examples are held out: the same for all replicas and for every seed of the run"""
    standardise: bool = True
    """give every feature mean 0 and deviation 1 on the training part; without an intercept the mean stays"""
    dtype: Literal["float32", "float64"] = "float32"
    """precision of data and parameters"""

    @field_validator("data", "test_data")
    @classmethod
    def absolute(cls, value: str | None, field: ValidationInfo) -> str | None:
        """Make the path absolute, so that it names the same file if the run is continued elsewhere."""
        if value is not None and re.match(r"[a-z][a-z0-9+]+://", value, re.IGNORECASE):
            raise ValueError("nothing is fetched from the net: download the table, and name the file")
        is_file = value is not None and (field.field_name == "test_data" or is_path(value))
        return str(Path(value).expanduser().absolute()) if value is not None and is_file else value

    @property
    def grouping(self) -> int | str | None:
        """The column whose equal values mark rows that belong together, or None."""
        return None

    @property
    def absent(self) -> Absent:
        """The rule for which cells mean a missing value."""
        return Absent(self.missing, self.not_missing)

    def spelt_out(self) -> Self:
        """These settings with the columns of the formula filled in. Raises SettingError if both give columns."""
        if self.formula is None:
            return self
        formula = parsed(self.formula)
        for name in ("columns", "drop", *(["label"] if formula.label else [])):
            if getattr(self, name) not in ((), None):
                raise SettingError((name,), "the formula already gives it: leave one of them out")
        told = {"columns": formula.names, "categorical": [*self.categorical, *formula.categories]}
        return self.model_copy(update=told | ({"label": formula.label} if formula.label else {}))

    def table(self, path: Path, setting: str, usual: str = "") -> Table:
        """Read a file with these settings. setting: the name of the setting with the path. usual: the decimal sign if
        the file could have either."""
        told = Told(self.separator, self.decimal, self.header, self.encoding, usual)
        return tables.read(path, setting, told, self.absent)


def is_path(name: str) -> bool:
    """Whether a name is that of a file: it has a suffix or a folder."""
    return not name.startswith(OPENML) and (Path(name).suffix != "" or len(Path(name).parts) > 1)
