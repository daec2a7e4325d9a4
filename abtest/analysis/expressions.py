"""The small language of metrics: arithmetic on columns, read by our own parser and never by Python's.

::

    likes / 7                       + - * / and parentheses
    log1p(dwell_s)                  log1p, abs, min(a, b, ...), max(a, b, ...)
    where(dwell_s > 60, 1, 0)       where(condition, then, otherwise); > >= < <= == !=, and, or, not( )
    `number of clicks` + 1          a column whose name is not a plain word stands in backticks
"""

import re
from collections.abc import Callable, Iterator
from functools import reduce
from typing import NamedTuple, TypeVar

import polars as pl

from micrec.errors import MicrecError

T = TypeVar("T")

_MAX_LENGTH = 1000  # characters
_MAX_DEPTH = 40  # parentheses within parentheses
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_.]*)|`(?P<quoted>[^`\n]+)`"
    r"|(?P<sign>>=|<=|==|!=|[-+*/(),<>]))"
)
_COMPARE: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}
_CALLS: dict[str, tuple[int, int, Callable[[list[pl.Expr]], pl.Expr]]] = {  # fewest and most arguments
    "log1p": (1, 1, lambda args: args[0].log1p()),
    "abs": (1, 1, lambda args: args[0].abs()),
    "min": (2, 20, lambda args: pl.min_horizontal(args)),
    "max": (2, 20, lambda args: pl.max_horizontal(args)),
}
_WORDS = {"and", "or", "not", "where", *_CALLS}


class Expression(NamedTuple):
    """One number per row.

    Attributes:
        text: As the user wrote it.
        columns: The columns it reads, each once, in order.
        expr: The same for polars, a float.
    """

    text: str
    columns: tuple[str, ...]
    expr: pl.Expr

    @property
    def plain(self) -> str | None:
        """The column, if it is one and nothing more."""
        bare = self.columns[0] if len(self.columns) == 1 else None
        return bare if bare is not None and self.text.strip() in (bare, f"`{bare}`") else None


def parse(text: str, column: Callable[[str], pl.Expr] = pl.col) -> Expression:
    """Read an expression.

    Args:
        text: What the user wrote.
        column: What the name of a column stands for; by default that column.

    Raises:
        MicrecError: If it is no expression; the message shows the place.
    """
    if len(text) > _MAX_LENGTH:
        raise MicrecError(f"expression of {len(text)} characters: at most {_MAX_LENGTH} are read.")
    parser = _Parser(text, column)
    value = parser.whole()
    return Expression(text, tuple(dict.fromkeys(parser.columns)), value)


def quoted(column: str) -> str:
    """A column's name as the language writes it."""
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", column) and column not in _WORDS
    return column if plain else f"`{column}`"


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


class _Parser:
    """Recursive descent, one method per level of binding; numbers and conditions are kept apart."""

    def __init__(self, text: str, column: Callable[[str], pl.Expr]) -> None:
        self._text = text
        self._column = column
        self._tokens = list(self._read())
        self._next = 0
        self._depth = 0
        self.columns: list[str] = []

    def whole(self) -> pl.Expr:
        value = self._sum()
        if self._peek().kind != "end":
            raise self._fault("expected an operator")
        return value.cast(pl.Float64)

    def _sum(self) -> pl.Expr:
        value = self._product()
        while sign := self._take("+", "-"):
            right = self._product()
            value = value + right if sign == "+" else value - right
        return value

    def _product(self) -> pl.Expr:
        value = self._factor()
        while sign := self._take("*", "/"):
            right = self._factor()
            value = value * right if sign == "*" else value / right
        return value

    def _factor(self) -> pl.Expr:
        negative = False
        while sign := self._take("-", "+"):
            negative ^= sign == "-"
        value = self._atom()
        return -value if negative else value

    def _atom(self) -> pl.Expr:
        token = self._peek()
        if token.kind == "number":
            self._next += 1
            return pl.lit(float(token.text))
        if self._take("("):
            return self._inside(self._sum)
        if token.kind == "word" and token.text in _CALLS:
            self._next += 1
            return self._call(token)
        if token.kind == "word" and token.text == "where":
            self._next += 1
            self._want("(")
            return self._inside(self._choice)
        if token.kind == "quoted" or (token.kind == "word" and token.text not in _WORDS):
            self._next += 1
            self.columns.append(token.text)
            return self._column(token.text).cast(pl.Float64)
        raise self._fault("expected a number, a column or a function")

    def _call(self, name: _Token) -> pl.Expr:
        fewest, most, make = _CALLS[name.text]
        self._want("(")
        args = self._inside(self._list)
        if not fewest <= len(args) <= most:
            wanted = f"{fewest}" if fewest == most else f"{fewest} to {most}"
            raise self._fault(f"{name.text} takes {wanted} arguments, got {len(args)}", name)
        return make(args)

    def _list(self) -> list[pl.Expr]:
        args = [self._sum()]
        while self._take(","):
            args.append(self._sum())
        return args

    def _choice(self) -> pl.Expr:
        condition = self._either()
        self._want(",")
        yes = self._sum()
        self._want(",")
        return pl.when(condition).then(yes).otherwise(self._sum())

    def _either(self) -> pl.Expr:
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return reduce(lambda a, b: a | b, parts)

    def _both(self) -> pl.Expr:
        parts = [self._condition()]
        while self._take("and"):
            parts.append(self._condition())
        return reduce(lambda a, b: a & b, parts)

    def _condition(self) -> pl.Expr:
        if self._take("not"):
            self._want("(")
            return ~self._inside(self._either)
        left = self._sum()
        sign = self._take(*_COMPARE)
        if not sign:
            raise self._fault("expected a comparison (> >= < <= == !=)")
        return _COMPARE[sign](left, self._sum())

    def _inside(self, rule: Callable[[], T]) -> T:
        """What ``rule`` reads, up to the closing parenthesis."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._fault(f"more than {_MAX_DEPTH} parentheses within each other")
        value = rule()
        self._want(")")
        self._depth -= 1
        return value

    def _read(self) -> Iterator[_Token]:
        at = 0
        end = len(self._text.rstrip())
        while at < end:
            match = _TOKEN.match(self._text, at)
            if match is None or match.lastgroup is None:
                at += len(self._text[at:]) - len(self._text[at:].lstrip())
                raise self._fault("no such sign here", _Token("sign", self._text[at], at))
            yield _Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup))
            at = match.end()
        yield _Token("end", "", end)

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, *texts: str) -> str | None:
        token = self._peek()
        if token.kind in ("sign", "word") and token.text in texts:
            self._next += 1
            return token.text
        return None

    def _want(self, text: str) -> None:
        if self._take(text) is None:
            raise self._fault(f"expected {text}")

    def _fault(self, problem: str, token: _Token | None = None) -> MicrecError:
        token = token or self._peek()
        got = f"got {token.text!r}" if token.kind != "end" else "the expression ends"
        return MicrecError(f"expression {self._text!r}, character {token.at + 1}: {problem}, {got}.")
