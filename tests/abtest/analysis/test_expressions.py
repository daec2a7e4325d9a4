"""The metric language: what it computes, and that it computes nothing else."""

import contextlib
import math
import operator

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abtest.analysis.expressions import parse, quoted
from micrec.errors import MicrecError

TABLE = {"clicks": [0, 3, 10], "dwell_s": [0.0, 61.5, 7.0], "number of likes": [1, 0, 2], "min": [5, 6, 7]}


def values(text: str) -> list[float]:
    return pl.DataFrame(TABLE).with_columns(x=parse(text).expr)["x"].to_list()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("clicks", [0, 3, 10]),
        ("7", [7, 7, 7]),
        ("1.5e1 + .5", [15.5] * 3),
        ("clicks + 2 * 3", [6, 9, 16]),
        ("(clicks + 2) * 3", [6, 15, 36]),
        ("10 - 3 - 2", [5] * 3),
        ("12 / 3 / 2", [2] * 3),
        ("-clicks + --2", [2, -1, -8]),
        ("log1p(dwell_s)", [0, math.log(62.5), math.log(8)]),
        ("min(clicks, 5, dwell_s)", [0, 3, 5]),
        ("max(clicks, 5)", [5, 5, 10]),
        ("abs(clicks - 4)", [4, 1, 6]),
        ("where(dwell_s > 60, 1, 0)", [0, 1, 0]),
        ("where(clicks >= 3 and dwell_s < 60, clicks, -1)", [-1, -1, 10]),
        ("where(clicks == 0 or clicks == 10, 1, 0)", [1, 0, 1]),
        ("where(not(clicks > 5 or dwell_s > 60), 1, 0)", [1, 0, 0]),
        ("where(clicks != 3, where(clicks <= 0, 1, 2), 3)", [1, 3, 2]),
        ("`number of likes` / 2", [0.5, 0, 1]),
        ("`min` - 5", [0, 1, 2]),
    ],
)
def test_value(text, expected):
    assert values(text) == pytest.approx(expected)


def test_columns_are_named_once_in_order():
    parsed = parse("clicks / max(dwell_s, clicks, `number of likes`)")
    assert parsed.columns == ("clicks", "dwell_s", "number of likes")
    assert parse(" `clicks` ").plain == "clicks"
    assert parse("clicks + 0").plain is None


_SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_TREES = st.recursive(
    st.one_of(st.integers(0, 9), st.sampled_from(["clicks", "dwell_s"])),
    lambda inner: st.tuples(st.sampled_from(sorted(_SIGNS)), inner, inner),
    max_leaves=12,
)


def written(tree) -> str:
    return f"({written(tree[1])} {tree[0]} {written(tree[2])})" if isinstance(tree, tuple) else str(tree)


def computed(tree, row: dict) -> float:
    if isinstance(tree, tuple):
        return _SIGNS[tree[0]](computed(tree[1], row), computed(tree[2], row))
    return float(row[tree]) if isinstance(tree, str) else float(tree)


@given(_TREES)
def test_arithmetic_is_python_s(tree):
    rows = [{name: column[i] for name, column in TABLE.items()} for i in range(3)]
    assert values(written(tree)) == pytest.approx([computed(tree, row) for row in rows])


@given(st.text(alphabet="ab(),+-*/<>=!`._ 01andornotwhere\n\"'", max_size=40))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(MicrecError):  # anything else is a bug
        assert parse(text).text == text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "the expression ends"),
        ("clicks +", "expected a number, a column or a function, the expression ends"),
        ("clicks clicks", "character 8: expected an operator, got 'clicks'"),
        ("(clicks", "expected )"),
        ("log1p(clicks, 2)", "log1p takes 1 arguments, got 2"),
        ("min(clicks)", "min takes 2 to 20 arguments, got 1"),
        ("where(clicks, 1, 0)", "expected a comparison"),
        ("clicks > 3", "expected an operator, got '>'"),
        ("__import__('os')", 'no such sign here, got "\'"'),
        ("clicks ** 2", "expected a number, a column or a function, got '*'"),
        ("clicks[0]", "no such sign here"),
        ("exp(clicks)", "expected an operator, got '('"),
        ("(" * 60 + "1" + ")" * 60, "more than 40 parentheses"),
        ("1+" * 600 + "1", "expression of 1201 characters"),
    ],
)
def test_refused(text, part):
    with pytest.raises(MicrecError) as fault:
        parse(text)
    assert part in str(fault.value)


@pytest.mark.parametrize("name", ["clicks", "two words", "where", "1st", "a.b"])
def test_a_quoted_name_is_read_back(name):
    assert parse(quoted(name)).columns == (name,)
