"""Formulas, such as `survived ~ C(class) + age*sex`: the columns of a model, and the features computed from them.

formulaic (https://matthewwardrop.github.io/formulaic) finds the terms of a formula, and how categories are coded in
each. But it evaluates the content of a term as Python code, and a formula may come from a stranger's config or weights.
So no name in a formula is passed on to it, only terms on a closed list are allowed, and they are computed from their
syntax trees: no text is executed.
"""

import ast
import functools
import json
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rlgrad.errors import SettingError, short, text_of
from rlgrad.supervised.columns import Column

LONGEST, MOST, HIGHEST = 1000, 1000, 20  # at most: characters of a formula; terms; exponents, degrees and the like
WORD = re.compile(r"`[^`]+`|[^\W\d][\w.]*|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[-+*/:()~,=]|\s+")
MARK = "ʘ"  # a column is written as its number between two of these, which WORD does not match
PLAIN = {name: vars(np)[name] for name in ("log", "log2", "log10", "log1p", "exp", "expm1", "sqrt", "abs")}
LEARNED = {  # functions with numbers measured on the training part -> their options
    "center": (),
    "scale": (),
    "standardize": (),
    "poly": ("degree", "raw"),
    "bs": ("df", "degree"),
}
SEVERAL = ("C", "poly", "bs")  # these make several columns of one, so they cannot be part of a larger expression
FUNCTIONS = ("C", "I", *PLAIN, *LEARNED)
OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
PARTS = "a formula has names of columns, + - * / : ** ( ) ~, numbers and functions; `...` quotes a name"


class Frame(NamedTuple):
    """The input of a term."""

    columns: Mapping[str, Any]  # [N] numbers, or categories, by mark
    state: Any  # the measured numbers, by the text of the function
    learn: bool  # whether they are measured now


Part = Callable[[Frame], Any]


def refuse(message: str) -> SettingError:
    """The error for a faulty formula."""
    return SettingError(("formula",), message)


@functools.lru_cache(maxsize=16)
def parsed(text: str) -> "Formula":
    """Parse a formula. Raises SettingError."""
    return Formula(text)


class Formula:
    """A parsed formula. Raises SettingError if it has anything except names of columns, operators, numbers and the
    listed functions.

    names: of its columns, without the label. label: the column before ~, or None. categories: the columns in C(...).
    intercept: whether it has an intercept: always, except with `- 1` or `+ 0`.
    """

    def __init__(self, text: str):
        try:
            from formulaic.parser import DefaultFormulaParser
        except ImportError as error:
            raise refuse("it needs formulaic: pip install 'rlgrad[formula]'") from error
        self.all, self.names, self.categories = list[str](), list[str](), list[str]()
        self.parts = dict[str, Part]()  # the parts of terms, by their text
        written = self._marked(text)
        if terms_of(written) > MOST:
            raise refuse(f"its products make more than {MOST} terms")
        try:
            found = DefaultFormulaParser(feature_flags={"twosided"}).get_terms(written)._to_dict()
            self.terms = list(found.get("rhs", found.get("root", ())))
            for factor in (factor for term in self.terms for factor in term.factors):
                if factor.eval_method.value != "literal":
                    factor.eval_method = "lookup"  # computed here, not by formulaic
                    self.parts[factor.expr] = self._part(ast.parse(factor.expr, mode="eval").body, outermost=True)
        except SettingError:
            raise
        except (Exception, RecursionError) as error:  # formulaic raises many kinds
            reason = re.sub(r"\x1b\[[\d;]*m|[⧛⧚]", "", str(error).split("\n")[0])
            raise refuse(f"it cannot be read: {self._back(reason)}") from error
        label = [str(term) for term in found.get("lhs", ())]
        if len(label) > 1 or any(not re.fullmatch(f"{MARK}\\d+{MARK}", each) for each in label):
            raise refuse("before ~ there must be one column, the label, without a function")
        self.label = self._back(label[0]) if label else None
        self.intercept = any(str(term) == "1" for term in self.terms)
        if both := {*self.categories} & {*self.names}:
            raise refuse(f"{min(both)} is in C(...) and also without it: use one of the two")
        self.names = list(dict.fromkeys(self.names + self.categories))
        if not self.names or self.label in self.names:
            what = f"{self.label} is the label, not a column" if self.names else "it has no column"
            raise refuse(f"{what} to learn from")

    def _marked(self, text: str) -> str:
        """The formula with a mark instead of each column's name."""
        words, place = list[str](), 0
        while place < len(text):
            if not (found := WORD.match(text, place)) or len(text) > LONGEST:
                wrong = f"{text[place]!r} cannot be used here: {PARTS}"
                raise refuse(wrong if not found else f"it has more than {LONGEST} characters")
            words, place = [*words, found[0]], found.end()
        for k, word in enumerate(words):
            after = next((later for later in words[k + 1 :] if not later.isspace()), "")
            named = re.match(r"[^\W\d]", word) and after != "=" and word not in ("True", "False")
            if after == "(" and (named or word[0] == "`"):
                if word not in FUNCTIONS:
                    raise refuse(f"{short(word)} is not a function that it may have: these are {', '.join(FUNCTIONS)}")
            elif named or word[0] == "`":
                self.all.append(word.strip("`"))
                words[k] = self._mark(self.all[-1])
        return "".join(words)

    def _mark(self, name: str) -> str:
        return f"{MARK}{self.all.index(name)}{MARK}"

    def _back(self, text: str) -> str:
        """The text with the columns' names instead of their marks."""
        return re.sub(f"{MARK}(\\d+){MARK}", lambda found: self.all[int(found[1])], text)

    def _part(self, node: ast.AST, outermost: bool = False) -> Part:
        """A function that computes a part of a term. Raises SettingError if the part is not on the list."""
        match node:
            case ast.Name(id=mark) if mark[0] == MARK:
                self.names.append(self._back(mark))
                return lambda frame: frame.columns[mark]
            case ast.Constant(value=int() | float() as value) if not outermost:
                return lambda _: np.float64(value)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as op, operand=operand):
                inner, sign = self._part(operand), -1.0 if isinstance(op, ast.USub) else 1.0
                return lambda frame: sign * inner(frame)
            case ast.BinOp(left, ast.Pow(), ast.Constant(value=int() | float() as power)) if 0 <= power <= HIGHEST:
                inner = self._part(left)
                return lambda frame: inner(frame) ** power
            case ast.BinOp(left, op, right) if operation := OPERATIONS.get(type(op)):
                sides = self._part(left), self._part(right)
                return lambda frame: operation(*(side(frame) for side in sides))
            case ast.Call(ast.Name("C"), [ast.Name(id=mark)], []) if outermost:
                self.categories.append(self._back(mark))
                return lambda frame: frame.columns[mark]
            case ast.Call(ast.Name(name), [ast.AST() as operand, *args], keywords) if name in FUNCTIONS:
                if name in SEVERAL and (not outermost or name == "C"):
                    raise refuse(f"{name}(...) makes several columns of one, so it must stand alone")
                told = options(name, args, keywords)
                return functools.partial(called, name, self._part(operand), told, self._back(ast.unparse(node)))
        raise refuse(f"{short(self._back(ast.unparse(node)))} cannot be used here: {PARTS}")

    def matrix(
        self, x: np.ndarray, source: Sequence[Column], state: Any, known: Sequence[str] | None = None
    ) -> tuple[list[str], np.ndarray]:
        """Names [D'] and features [N, D'] of the model, without the intercept, from columns x [N, D]; a row with a
        missing value has no valid features. state: the numbers measured on the training part, filled if `known` is
        None. known: the names when it was filled. Raises SettingError if a term is not finite."""
        import pandas
        from formulaic.materializers.pandas import PandasMaterializer
        from formulaic.model_spec import ModelSpec

        data = {}
        try:
            with np.errstate(all="ignore"):
                for k, (name, words, _) in enumerate(source):
                    codes = np.nan_to_num(x[:, k], nan=-1).astype(int)
                    data[self._mark(name)] = pandas.Categorical.from_codes(codes, words) if words else x[:, k]
                terms = {key: part(Frame(data, state, known is None)) for key, part in self.parts.items()}
                spec = ModelSpec.from_spec(self.terms, na_action="ignore", output="numpy")
                found = PandasMaterializer(pandas.DataFrame(data), context=terms).get_model_matrix(spec)
        except SettingError:
            raise
        except Exception as error:  # formulaic raises many kinds, also for damaged weights
            raise refuse(f"it cannot be computed: {self._back(text_of(error))}") from error
        names = [self._back(name) for name in found.model_spec.column_names][self.intercept :]
        values: np.ndarray = np.asarray(found, np.float64)[:, int(self.intercept) :]
        if known not in (None, names):
            raise refuse(f"it makes other columns than in training: {short(', '.join(names))}")
        if (bad := ~np.isfinite(values) & ~np.isnan(x).any(1)[:, None]).any():
            raise refuse(f"{names[int(bad.any(0).argmax())]} is not finite for some rows: it has no value there")
        return names, values


def terms_of(text: str) -> float:
    """At most how many terms a formula with marked names has, because formulaic makes them all; 0 if the formula cannot
    be read."""

    def size(node: ast.AST) -> float:
        match node:
            case ast.BinOp(left, ast.Pow(), ast.Constant(value=int() | float() as power)):
                several: float = float(size(left)) ** min(abs(power), LONGEST)  # whole numbers would grow for ever
                return several
            case ast.BinOp(left, op, right):
                a, b = min(size(left), 1e9), min(size(right), 1e9)
                both = {ast.MatMult: a * b, ast.Mult: a + b + a * b, ast.Div: a + a * b}
                return both.get(type(op), a + b)
            case ast.UnaryOp(operand=operand):
                return size(operand)
        return 1

    try:
        inside = " ".join(text.split("~", 1)[-1].replace(":", "@").split())
        return min(size(ast.parse(inside, mode="eval").body), 1e9)
    except (SyntaxError, OverflowError, RecursionError, MemoryError) as error:
        return 0 if isinstance(error, SyntaxError) else math.inf


def called(name: str, inner: Part, told: Mapping[str, Any], text: str, frame: Frame) -> Any:
    """The result of a function in a formula. text: the function as it is written. Raises SettingError."""
    value = inner(frame)
    if not isinstance(value, np.ndarray):
        raise refuse(f"{text}: these are words, not numbers")
    if name not in LEARNED:
        return PLAIN[name](value) if name in PLAIN else value
    from formulaic.transforms import TRANSFORMS

    if (
        frame.learn
        and name == "poly"
        and told.get("degree", 1) >= (different := len(np.unique(value[~np.isnan(value)])))
    ):
        raise refuse(f"{text}: {different} different values have no polynomial of that degree")
    said = json.dumps({} if frame.learn else frame.state[text])  # in JSON keys are texts, even whole numbers
    known = json.loads(said, object_hook=lambda pairs: {int(k) if k.isdigit() else k: v for k, v in pairs.items()})
    found = TRANSFORMS[name](value, **told, _state=known)
    if frame.learn:
        frame.state[text] = json.loads(json.dumps(known, default=lambda number: number.tolist()))
    return found


def options(name: str, args: Sequence[ast.expr], keywords: Sequence[ast.keyword]) -> dict[str, Any]:
    """The options of a function: numbers from 1 to HIGHEST, true or false. Raises SettingError."""
    known = LEARNED.get(name, ())
    given = [*zip(known, args, strict=False), *((word.arg, word.value) for word in keywords)]
    values = {key: value.value for key, value in given if isinstance(value, ast.Constant) and key in known}
    good = all(type(v) is bool if key == "raw" else type(v) is int and 1 <= v <= HIGHEST for key, v in values.items())
    if len(values) < len(args) + len(keywords) or not good:
        what = f"a column, and {' and '.join(known)}, at most {HIGHEST}" if known else "one column"
        raise refuse(f"{name}(...) takes {what}")
    return {"extrapolation": "extend", **values} if name == "bs" else values
