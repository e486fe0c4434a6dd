"""Mathematical expressions as text, such as "x**2 + 3*y**2", as functions of tensors.

Python's parser reads the text, and only a short list of its nodes is allowed. They are turned into nested functions of
torch: no text is executed. All arithmetic uses floats, so that a power such as 9**9**9 cannot take forever.
"""

import ast
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlgrad.errors import nearest

MAX_LENGTH = 1000  # characters
MAX_DEPTH = 100  # operations within operations; a sum of n terms is n deep

Values = Mapping[str, Tensor]  # of the variables, all of one shape
Compiled = Callable[[Values], Tensor]


class ExpressionError(ValueError):
    """An expression is not valid; the message is one line that names the part."""


class CubeRoot(torch.autograd.Function):
    """The real cube root, odd, with the slope 1 / (3 ∛x²): infinite at 0, where autograd gives nan for sign(x)|x|^⅓."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sign() * x.abs().pow(1 / 3)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient / (3 * cube_root(x).square())


def cube_root(x: Tensor) -> Tensor:
    return CubeRoot.apply(x)  # type: ignore[no-any-return, no-untyped-call]


CONSTANTS = {"pi": math.pi, "e": math.e}
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "abs": torch.abs, "atan": torch.atan, "cbrt": cube_root, "cos": torch.cos, "cosh": torch.cosh, "exp": torch.exp,
    "log": torch.log, "log1p": torch.log1p, "sigmoid": torch.sigmoid, "sin": torch.sin, "sinh": torch.sinh,
    "sqrt": torch.sqrt, "tan": torch.tan, "tanh": torch.tanh,
}  # fmt: skip
PAIRS: dict[str, Callable[..., Tensor]] = {"maximum": torch.maximum, "minimum": torch.minimum}
SIGNS: dict[type, Callable[..., Tensor]] = {ast.UAdd: torch.positive, ast.USub: torch.neg}
OPERATORS: dict[type, Callable[..., Tensor]] = {
    ast.Add: torch.add, ast.Sub: torch.sub, ast.Mult: torch.mul, ast.Div: torch.div, ast.Pow: torch.pow,
}  # fmt: skip


@dataclass(frozen=True)
class Expression:
    """A function of D variables: points [..., D] -> values [...]."""

    text: str
    variables: tuple[str, ...]  # D, in the order of a point's coordinates
    compiled: Compiled

    def __call__(self, point: Tensor) -> Tensor:
        return self.compiled(dict(zip(self.variables, point.unbind(-1), strict=True)))


def parse(text: str, variables: Iterable[str] | None = None) -> Expression:
    """The function that a text describes.

    variables: their names in order; by default all that occur, sorted. Raises ExpressionError.
    """
    text = " ".join(text.split())  # in YAML a text can have several lines
    strange = [character for character in text if not " " <= character <= "~"]
    if strange:
        raise ExpressionError(f"{strange[0]!r} cannot be read; use plain letters, and ** for powers")
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"{len(text)} characters are too many; at most {MAX_LENGTH}")
    try:
        with warnings.catch_warnings(action="ignore"):
            root = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ExpressionError(f"{text[:60]!r} is not an expression: {error.msg}, character {error.offset}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(f"{text[:60]!r} is not an expression that can be read") from error
    compiler = Compiler(text, None if variables is None else tuple(variables))
    compiled = compiler.compile(root, 1)
    if not compiler.found:
        raise ExpressionError(f"{text[:60]!r} has no variable in it")
    return Expression(text, compiler.known or tuple(sorted(compiler.found)), compiled)


class Compiler:
    """Turns nodes of Python's syntax tree into functions, and collects the variables that occur."""

    def __init__(self, text: str, known: tuple[str, ...] | None):
        self.text = text
        self.known = known
        self.found: set[str] = set()
        taken = [name for name in known or () if name in {*CONSTANTS, *FUNCTIONS, *PAIRS} or not name.isidentifier()]
        if taken:
            raise ExpressionError(f"{taken[0]!r} cannot be the name of a variable")

    def compile(self, node: ast.AST, depth: int) -> Compiled:
        """The function of a node and all below it. Raises ExpressionError."""
        if depth > MAX_DEPTH:
            raise ExpressionError(f"operations are nested more than {MAX_DEPTH} deep")
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return self.constant(node, value)
            case ast.Name(id=name):
                return self.name(name)
            case ast.UnaryOp(op=op, operand=operand) if type(op) in SIGNS:
                return apply(SIGNS[type(op)], self.compile(operand, depth + 1))
            case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant() as right):
                exponent = self.compile(right, depth + 1)({}).item()
                return power(self.compile(left, depth + 1), exponent)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return apply(OPERATORS[type(op)], self.compile(left, depth + 1), self.compile(right, depth + 1))
            case ast.BinOp(op=ast.BitXor()):
                raise ExpressionError(f"{self.piece(node)}: a power is written **, not ^")
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self.call(node, name, [self.compile(argument, depth + 1) for argument in arguments])
        allowed = "numbers, variables, + - * / **, parentheses, " + ", ".join(sorted({*CONSTANTS, *FUNCTIONS, *PAIRS}))
        raise ExpressionError(f"{self.piece(node)} cannot be used in an expression; valid: {allowed}")

    def constant(self, node: ast.AST, value: float) -> Compiled:
        try:
            number = torch.tensor(float(value), dtype=torch.float64, device="cpu")  # meets tensors anywhere
        except OverflowError:
            number = torch.tensor(math.inf)
        if not number.isfinite():
            raise ExpressionError(f"{self.piece(node)} is too large a number")
        return lambda _: number

    def name(self, name: str) -> Compiled:
        if name in FUNCTIONS or name in PAIRS:
            raise ExpressionError(f"{name} is a function: it needs an argument in parentheses")
        if name in CONSTANTS:
            return self.constant(ast.Name(name), CONSTANTS[name])
        if self.known is not None and name not in self.known:
            raise ExpressionError(f"no variable {name!r}" + nearest(name, {*self.known, *CONSTANTS}))
        self.found.add(name)
        return lambda values: values[name]

    def call(self, node: ast.AST, name: str, arguments: list[Compiled]) -> Compiled:
        wanted = 1 if name in FUNCTIONS else 2
        if name not in FUNCTIONS and name not in PAIRS:
            raise ExpressionError(f"no function {name[:40]!r}" + nearest(name, {*FUNCTIONS, *PAIRS}))
        if len(arguments) != wanted:
            plural = "argument" if wanted == 1 else "arguments"
            raise ExpressionError(f"{self.piece(node)}: {name} takes {wanted} {plural}, not {len(arguments)}")
        return apply({**FUNCTIONS, **PAIRS}[name], *arguments)

    def piece(self, node: ast.AST) -> str:
        """The part of the text that a node comes from, shortened."""
        source = ast.get_source_segment(self.text, node) or self.text
        return repr(source if len(source) <= 40 else source[:37] + "...")


def apply(function: Callable[..., Tensor], *arguments: Compiled) -> Compiled:
    return lambda values: function(*(argument(values) for argument in arguments))


def power(base: Compiled, exponent: float) -> Compiled:
    """The power with a fixed exponent: given as a float, not as a tensor, torch squares and cubes exactly."""
    return lambda values: torch.pow(base(values), exponent)
