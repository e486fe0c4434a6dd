"""Formulas, such as `survived ~ C(class) + age*sex`: which columns a model has, and what is made of them.

formulaic (https://matthewwardrop.github.io/formulaic) says which terms a formula has, and how categories are coded in
each. But it takes what stands in a term for Python code and evaluates it; and a formula may come from a stranger's
config or weights. So here no name of a formula ever reaches it, what a term may be is a closed list, and the terms are
worked out one by one from their syntax tree: nothing is executed.
"""

import ast
import functools
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from rlgrad.errors import SettingError, short
from rlgrad.supervised.columns import Column

LONGEST, HIGHEST = 1000, 20  # characters of a formula; exponents, degrees and the like
WORD = re.compile(r"`[^`]+`|[^\W\d][\w.]*|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[-+*/:()~,=]|\s+")
MARK = "ʘ"  # a column's name is written as its number between two of these, a letter that no word has
PLAIN: dict[str, Callable[[Any], Any]] = {
    name: vars(np)[name] for name in ("log", "log2", "log10", "log1p", "exp", "expm1", "sqrt", "abs")
}
PLAIN["I"] = lambda x: x
LEARNED = {  # whose numbers are those of the training part -> what may be said besides
    "center": (),
    "scale": (),
    "standardize": (),
    "poly": ("degree", "raw"),
    "bs": ("df", "degree"),
}
SEVERAL = ("C", "poly", "bs")  # which make several columns of one, and so are no part of a larger expression
FUNCTIONS = ("C", *PLAIN, *LEARNED)
OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def refuse(message: str) -> SettingError:
    return SettingError(("formula",), message)


class Formula:
    """What a formula says. Raises SettingError where it has anything but names of columns, operators, numbers and the
    listed functions.

    names: of its columns, without the label's. label: what stands before ~, if anything. categories: the columns that
    are in C(...). intercept: whether it has one, as it has unless it says `- 1` or `+ 0`.
    """

    def __init__(self, text: str):
        try:
            from formulaic.parser import DefaultFormulaParser
        except ImportError as error:
            raise refuse("it needs formulaic: pip install 'rlgrad[formula]'") from error
        self.text, self.all = text, list[str]()
        written = self._marked(text)
        try:
            found = DefaultFormulaParser(feature_flags={"twosided"}).get_terms(written)._to_dict()
            self.terms = list(found.get("rhs", found.get("root", ())))
            self.trees = dict[str, ast.expr]()  # of each part of a term
            for factor in (factor for term in self.terms for factor in term.factors):
                if factor.eval_method.value != "literal":
                    self.trees[factor.expr] = tree = ast.parse(factor.expr, mode="eval").body
                    self._check(tree, outermost=True)
                    factor.eval_method = "lookup"  # here it is worked out, and not there
            inside = {node.args[0] for tree in self.trees.values() for node in ast.walk(tree) if is_category(node)}
        except SettingError:
            raise
        except (Exception, RecursionError) as error:  # formulaic raises what it likes
            reason = re.sub(r"\x1b\[[\d;]*m|[⧛⧚]", "", str(error).split("\n")[0])
            raise refuse(f"it cannot be read: {self._back(reason)}") from error
        label = [str(term) for term in found.get("lhs", ())]
        if len(label) > 1 or any(not re.fullmatch(f"{MARK}\\d+{MARK}", each) for each in label):
            raise refuse("before ~ stands one column, that of the label, as it is")
        self.label = self._back(label[0]) if label else None
        self.intercept = any(str(term) == "1" for term in self.terms)
        self.categories = {self._back(ast.unparse(node)) for node in inside}
        nodes = [node for tree in self.trees.values() for node in ast.walk(tree) if isinstance(node, ast.Name)]
        columns = [node for node in nodes if node.id[0] == MARK]
        self.names = list(dict.fromkeys(self._back(node.id) for node in columns))
        if both := self.categories & {self._back(node.id) for node in columns if node not in inside}:
            raise refuse(f"{min(both)} is in C(...) and also without it: which of the two is it?")
        if not self.names or self.label in self.names:
            none = (
                f"{self.label} is the label, and so none to learn from"
                if self.names
                else "it has no column to learn from"
            )
            raise refuse(none)

    def _marked(self, text: str) -> str:
        """The formula with a number in the place of each column's name."""
        if len(text) > LONGEST:
            raise refuse(f"it has more than {LONGEST} characters")
        words, place = list[str](), 0
        while place < len(text):
            if not (found := WORD.match(text, place)):
                parts = "it has names of columns, + - * / : ** ( ) ~, numbers and functions; `...` quotes a name"
                raise refuse(f"{text[place]!r} is no part of one: {parts}")
            words, place = [*words, found[0]], found.end()
        for k, word in enumerate(words):
            after = next((later for later in words[k + 1 :] if not later.isspace()), "")
            if after == "(" and (word[0].isalpha() or word[0] in "_`"):
                if word not in FUNCTIONS:
                    raise refuse(f"{short(word)} is no function that it may have: these are {', '.join(FUNCTIONS)}")
            elif word[0] == "`" or (re.match(r"[^\W\d]", word) and after != "=" and word not in ("True", "False")):
                name = word.strip("`")
                self.all += [] if name in self.all else [name]
                words[k] = self._mark(name)
        return "".join(words)

    def _mark(self, name: str) -> str:
        return f"{MARK}{self.all.index(name)}{MARK}"

    def _back(self, text: str) -> str:
        """The same text with the columns' names."""
        return re.sub(f"{MARK}(\\d+){MARK}", lambda found: self.all[int(found[1])], text)

    def _check(self, node: ast.AST, outermost: bool = False) -> None:
        """Raises SettingError where a part of a term is not on the list."""
        match node:
            case ast.Name(id=name) if name[0] == MARK:
                return None
            case ast.Constant(value=int() | float()) if not outermost:
                return None
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=inner):
                return self._check(inner)
            case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int() | float() as power)):
                if 0 <= power <= HIGHEST:
                    return self._check(left)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATIONS:
                self._check(left)
                return self._check(right)
            case ast.Call(ast.Name(name), [inner, *args], keywords) if name in FUNCTIONS:
                if name == "C" and not isinstance(inner, ast.Name):
                    raise refuse("C(...) has the name of one column")
                if name in SEVERAL and not outermost:
                    raise refuse(f"{name}(...) makes several columns, and so stands alone")
                options(name, args, keywords)
                return self._check(inner)
        part = short(self._back(ast.unparse(node)))
        raise refuse(f"{part} is no part of one: it has names of columns, operators, numbers and functions")

    def matrix(
        self, x: np.ndarray, source: Sequence[Column], state: Any, known: Sequence[str] | None = None
    ) -> tuple[list[str], np.ndarray]:
        """Names [D'] and columns [N, D'] of the model, without the intercept, of columns x [N, D] in which a value that
        is missing leaves rows without one. state: what is measured on the training part: it is filled. known: it was
        filled before, and these were the names. Raises SettingError where a term has no number."""
        import pandas
        from formulaic.materializers.pandas import PandasMaterializer
        from formulaic.model_spec import ModelSpec

        try:
            data = {self._mark(one.name): self._column(one, x[:, k]) for k, one in enumerate(source)}
            with np.errstate(all="ignore"):
                terms = {key: self._value(tree, data, state, known is None) for key, tree in self.trees.items()}
                spec = ModelSpec.from_spec(self.terms, na_action="ignore", output="numpy")
                found = PandasMaterializer(pandas.DataFrame(data), context=terms).get_model_matrix(spec)
        except SettingError:
            raise
        except Exception as error:  # formulaic raises what it likes, at damaged weights too
            raise refuse(f"it cannot be worked out here: {self._back(' '.join(str(error).split()))}") from error
        names = [self._back(name) for name in found.model_spec.column_names][self.intercept :]
        values: np.ndarray = np.asarray(found, np.float64)[:, int(self.intercept) :]
        if known not in (None, names):
            raise refuse(f"it makes other columns than it did: {short(', '.join(names))}")
        if (bad := ~np.isfinite(values) & ~np.isnan(x).any(1)[:, None]).any():
            raise refuse(f"{names[int(bad.any(0).argmax())]} is not finite for some rows: it has no value there")
        return names, values

    def _column(self, column: Column, values: np.ndarray) -> Any:
        """[N] numbers, or categories."""
        import pandas

        if column.categories is None:
            if column.name in self.categories:
                raise refuse(f"{column.name} has no categories")
            return values
        return pandas.Categorical.from_codes(np.nan_to_num(values, nan=-1).astype(int), list(column.categories))

    def _value(self, node: ast.AST, data: Mapping[str, Any], state: Any, learn: bool) -> Any:
        """Of a part of a term that was checked."""
        match node:
            case ast.Name(id=name):
                return data[name]
            case ast.Constant(value=value):
                return np.float64(value)  # type: ignore[arg-type]
            case ast.UnaryOp(op=op, operand=inner):
                return self._value(inner, data, state, learn) * (-1.0 if isinstance(op, ast.USub) else 1.0)
            case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=power)):
                return self._value(left, data, state, learn) ** power
            case ast.BinOp(left=left, op=op, right=right):
                each = (self._value(side, data, state, learn) for side in (left, right))
                return OPERATIONS[type(op)](*each)
            case ast.Call(func=ast.Name(id=name), args=[inner, *args], keywords=keywords):
                value = self._value(inner, data, state, learn)
                if not isinstance(value, np.ndarray):
                    if name == "C":
                        return value
                    raise refuse(f"{self._back(ast.unparse(node))}: these are words, which have no number")
                if name in PLAIN:
                    return PLAIN[name](value)
                from formulaic.transforms import TRANSFORMS

                told, key = options(name, args, keywords), self._back(ast.unparse(node))
                told |= {"extrapolation": "extend"} if name == "bs" else {}
                known = {} if learn else numbered(state[key])
                found = TRANSFORMS[name](value, **told, _state=known)
                if learn:
                    state[key] = plain(known)
                return found
        raise AssertionError(node)


@functools.lru_cache(maxsize=16)
def parsed(text: str) -> Formula:
    """Raises SettingError."""
    return Formula(text)


def is_category(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "C"


def options(name: str, args: Sequence[ast.expr], keywords: Sequence[ast.keyword]) -> dict[str, Any]:
    """What is said to a function besides its column: numbers from 1 to HIGHEST, true or false. Raises SettingError."""
    known = LEARNED.get(name, ())
    given = [*zip(known, args, strict=False), *((word.arg, word.value) for word in keywords)]
    values = {key: value.value for key, value in given if isinstance(value, ast.Constant) and key in known}
    good = all(type(v) is bool if key == "raw" else type(v) is int and 1 <= v <= HIGHEST for key, v in values.items())
    if len(values) < len(args) + len(keywords) or not good:
        what = f"a column, and {' and '.join(known)}, at most {HIGHEST}" if known else "one column"
        raise refuse(f"{name}(...) has {what}")
    return values


def plain(state: Any) -> Any:
    """What was measured, as JSON has it."""
    if isinstance(state, Mapping):
        return {str(key): plain(value) for key, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray | np.generic) else state


def numbered(state: Any) -> Any:
    """The same as it was."""
    if isinstance(state, Mapping):
        return {int(key) if key.isdigit() else key: numbered(value) for key, value in state.items()}
    return state
