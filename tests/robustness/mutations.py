"""Ways to break a value, a text, bytes, plain data, or a table. Everything is drawn from the generator passed in."""

import contextlib
import copy
import json
import random
import string
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

NASTY_VALUES: tuple[Any, ...] = (
    None, True, False, "", " ", "x", "no", "017", "1:30", "0x10", "1e3", "null", ".nan", ".inf", "2026-11-29",
    0, -1, 1, 2, 3, 17, 10**6, 10**9, 10**15, 2**63, -(2**63) - 1, 10**30, 10**400,
    0.5, -0.5, 1e-308, 1e308, float("nan"), float("inf"), -float("inf"),
    [], [None], ["aa"], [1, 2], [[[]]], {}, {"a": 1}, {"": None}, {"kind": "x"},
    "../x", "/etc/passwd", "/dev/zero", "a/b", "a" * 300, "\x00", "\x1b[31m", "ü✓\u202e", "{{7*7}}", "<script>", "%s%n",
)  # fmt: skip

YAML_TEXTS = (
    "*a", "&a [*a]", "!!python/object/apply:os.system ['true']", "!!binary AAAA", "!!set {a, b}", "<<: {a: 1}",
    "? a\n: b", "017", "0o17", "1_000", "1:30", "yes", "off", "~", "'", '"', "[", "{", "- - - -", "|", ">", "%YAML 9",
    "@", "`", "\t", "a: b: c", "---\na: 1\n---\nb: 2", "2026-11-29T04:13:45", ".NaN", "-.inf", "=", "!<tag:x> y",
)  # fmt: skip


def paths(data: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place within plain data, the outermost first."""
    yield at
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from paths(value, (*at, key))
    elif isinstance(data, list):
        for place, value in enumerate(data):
            yield from paths(value, (*at, place))


def at(data: Any, path: tuple[Any, ...]) -> Any:
    """The value at a place."""
    for part in path:
        data = data[part]
    return data


def typo(word: str, rng: random.Random) -> str:
    """One letter lost, doubled, changed, or exchanged with the next."""
    if not word:
        return "x"
    i = rng.randrange(len(word))
    kind = rng.randrange(4)
    if kind == 0:
        return word[:i] + word[i + 1 :] or "x"
    if kind == 1:
        return word[: i + 1] + word[i:]
    if kind == 2:
        return word[:i] + rng.choice(string.ascii_letters) + word[i + 1 :]
    return word[:i] + word[i + 1 : i + 2] + word[i : i + 1] + word[i + 2 :]


def break_data(data: Any, rng: random.Random) -> tuple[Any, str]:
    """A copy of plain data with one place changed, and what was done."""
    data = copy.deepcopy(data)
    path = rng.choice([p for p in paths(data) if p] or [()])
    if not path:
        return rng.choice(NASTY_VALUES), "replaced everything"
    parent, key = at(data, path[:-1]), path[-1]
    name = ".".join(map(str, path))
    kind = rng.choice(("value", "value", "value", "value", "delete", "rename", "add", "wrap", "swap"))
    if kind == "value" or (kind == "rename" and not isinstance(parent, dict)):
        parent[key] = copy.deepcopy(rng.choice(NASTY_VALUES))
        return data, f"{name} = {str(parent[key])[:60]!r}"
    if kind == "delete":
        del parent[key]
        return data, f"deleted {name}"
    if kind == "rename":
        new = typo(str(key), rng)
        parent[new] = parent.pop(key)
        return data, f"renamed {name} to {new!r}"
    if kind == "add" and isinstance(parent, dict):
        new = typo(str(key), rng) + rng.choice(("", "_", "s"))
        parent[new] = copy.deepcopy(rng.choice(NASTY_VALUES))
        return data, f"added {new!r} beside {name}"
    if kind == "swap":
        other = rng.choice([p for p in paths(data) if p])
        parent[key] = copy.deepcopy(at(data, other))
        return data, f"{name} = value of {'.'.join(map(str, other))}"
    parent[key] = [parent[key]] if rng.random() < 0.5 else {"x": parent[key]}
    return data, f"wrapped {name}"


def break_text(text: str, rng: random.Random) -> tuple[str, str]:
    """A text with a line or a few characters changed."""
    lines = text.split("\n")
    i = rng.randrange(len(lines))
    kind = rng.choice(("cut", "drop", "double", "value", "chars", "indent", "tab", "key", "alias"))
    if kind == "cut":
        return text[: rng.randrange(len(text) + 1)], "cut short"
    if kind == "drop":
        return "\n".join(lines[:i] + lines[i + 1 :]), f"line {i + 1} dropped"
    if kind == "double":
        return "\n".join([*lines[: i + 1], *lines[i:]]), f"line {i + 1} doubled"
    if kind == "value" and ":" in lines[i]:
        lines[i] = lines[i].split(":", 1)[0] + ": " + rng.choice(YAML_TEXTS)
    elif kind == "key" and ":" in lines[i]:
        name, rest = lines[i].split(":", 1)
        lines[i] = " " * (len(name) - len(name.lstrip())) + typo(name.strip(), rng) + ":" + rest
    elif kind == "indent":
        lines[i] = " " * rng.randrange(6) + lines[i].lstrip()
    elif kind == "tab":
        lines[i] = "\t" + lines[i]
    elif kind == "alias":
        names = [f"&a{n} [{','.join([f'*a{n - 1}'] * 9)}]" if n else "&a0 [x,x,x,x,x,x,x,x,x]" for n in range(9)]
        lines.insert(i, f"{'z'}: [{', '.join(names)}]")
    else:
        at_char = rng.randrange(len(text) + 1)
        noise = "".join(rng.choice(string.printable + "\x00ü✓") for _ in range(rng.randrange(1, 5)))
        return text[:at_char] + noise + text[at_char:], f"{noise!r} inserted at {at_char}"
    return "\n".join(lines), f"line {i + 1} became {lines[i]!r}"


def break_bytes(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Bytes cut short, flipped, emptied, doubled, or replaced by noise."""
    kind = rng.choice(("cut", "flip", "empty", "double", "noise", "insert", "zero"))
    if kind == "cut":
        size = rng.randrange(len(content) + 1)
        return content[:size], f"cut to {size} bytes"
    if kind == "flip":
        flipped = bytearray(content)
        places = [rng.randrange(len(flipped)) for _ in range(rng.choice((1, 1, 3, 20)))] if flipped else []
        for place in places:
            flipped[place] ^= 1 << rng.randrange(8)
        return bytes(flipped), f"bits flipped at {places}"
    if kind == "empty":
        return b"", "emptied"
    if kind == "double":
        return content + content, "doubled"
    if kind == "noise":
        return rng.randbytes(rng.randrange(1, 2000)), "replaced by noise"
    if kind == "zero":
        place = rng.randrange(len(content) + 1)
        return content[:place] + bytes(min(64, len(content) - place)) + content[place + 64 :], f"zeros at {place}"
    place = rng.randrange(len(content) + 1)
    return content[:place] + rng.randbytes(8) + content[place:], f"8 bytes inserted at {place}"


_TYPES = (
    pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Float32, pl.Float64,
    pl.String, pl.Boolean, pl.Decimal(20, 4), pl.Date, pl.Datetime("us"), pl.Datetime("ms", "Europe/Oslo"),
    pl.Duration("ms"), pl.Categorical, pl.Binary, pl.Null, pl.Time, pl.Int128,
)  # fmt: skip
_NUMBERS = (0, -1, 1, 127, 128, -129, 2**31 - 1, 2**31, 2**53 + 1, 2**62, 0.5, 1e300, -0.0, float("nan"), float("inf"))


def break_table(table: pl.DataFrame, rng: random.Random) -> tuple[pl.DataFrame, str]:
    """A table with one to three things changed: types, values, names, rows."""
    done = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        with contextlib.suppress(pl.exceptions.PolarsError, pl.exceptions.PanicException):  # two that do not combine
            table, what = _break_table_once(table, rng)
            done.append(what)
    return table, "; ".join(done)


def _break_table_once(table: pl.DataFrame, rng: random.Random) -> tuple[pl.DataFrame, str]:
    if not table.width:
        return table, "nothing left"
    name = rng.choice(table.columns)
    kind = rng.choice(("type", "type", "values", "values", "text", "null", "rename", "drop", "rows", "copy", "list"))
    if kind == "type":
        dtype = rng.choice(_TYPES)
        try:
            return table.with_columns(pl.col(name).cast(dtype, strict=False)), f"{name} as {dtype}"
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            return table.with_columns(pl.lit(None, dtype).alias(name)), f"{name} all null, {dtype}"
    if kind in ("values", "null", "text") and len(table):
        rows = {rng.randrange(len(table)) for _ in range(rng.choice((1, 3, 50)))}
        chosen = pl.Series([row in rows for row in range(len(table))])
        if kind == "null":
            return table.with_columns(
                pl.when(chosen).then(None).otherwise(pl.col(name)).alias(name)
            ), f"nulls in {name}"
        if kind == "text":
            text = rng.choice(
                ["", " ", "x", "nan", "inf", "1,5", "1e5", "u1 ", "\u200b1", "a\nb", '"', ";", "0012", "1.0"]
            )
            column = pl.when(chosen).then(pl.lit(text)).otherwise(pl.col(name).cast(pl.String, strict=False))
            return table.with_columns(column.alias(name)), f"{text!r} in {name}"
        number = rng.choice(_NUMBERS)
        column = pl.when(chosen).then(pl.lit(number)).otherwise(pl.col(name).cast(pl.Float64, strict=False))
        return table.with_columns(column.alias(name)), f"{number} in {name}"
    if kind == "rename":
        new = rng.choice((name.upper(), f" {name}", f"{name} ", typo(name, rng), "", "user_id", "arm", "é", name * 40))
        return (table, "kept") if new in table.columns else (table.rename({name: new}), f"{name} named {new!r}")
    if kind == "drop":
        return table.drop(name), f"{name} dropped"
    if kind == "rows":
        count = rng.choice((0, 1, 2, 5))
        return table.head(count), f"{count} rows"
    if kind == "copy":
        return pl.concat([table, table.head(rng.choice((1, 7, len(table))))]), "rows repeated"
    if kind == "list":
        return table.with_columns(pl.concat_list(pl.col(name), pl.col(name)).alias(name)), f"{name} as lists"
    return table, "kept"


def break_csv(text: str, rng: random.Random) -> tuple[bytes, str]:
    """A CSV text with other separators, encodings, quotes, ragged rows, or noise."""
    kind = rng.choice(("separator", "encoding", "quotes", "ragged", "text", "bytes", "ends", "bom", "late"))
    if kind == "separator":
        mark = rng.choice((";", "\t", "|", " ", "||"))
        return text.replace(",", mark).encode(), f"separator {mark!r}"
    if kind == "encoding":
        name = rng.choice(("utf-16", "utf-32", "latin-1", "utf-8-sig"))
        return (text + "ü").encode(name), name
    if kind == "quotes":
        place = rng.randrange(len(text))
        return (text[:place] + '"' + text[place:]).encode(), "a stray quote"
    if kind == "ragged":
        lines = text.split("\n")
        row = rng.randrange(len(lines))
        lines[row] = rng.choice((lines[row] + ",1,2", lines[row].split(",")[0], ""))
        return "\n".join(lines).encode(), f"row {row} ragged"
    if kind == "ends":
        return text.replace("\n", rng.choice(("\r\n", "\r", "\n\n"))).encode(), "other line ends"
    if kind == "bom":
        return b"\xef\xbb\xbf" + text.encode(), "BOM"
    if kind == "late":
        last = text.rstrip("\n").split("\n")[-1].split(",")
        last[rng.randrange(len(last))] = rng.choice(("1.5", "x", "", "1e400", "-7", "99999999999999999999"))
        return (text * 1 + ",".join(last) + "\n").encode(), f"last row {last}"
    if kind == "text":
        broken, what = break_text(text, rng)
        return broken.encode(errors="replace"), what
    return break_bytes(text.encode(), rng)


def as_json(data: Any) -> str:
    """JSON, with Python's words for what JSON has none."""
    return json.dumps(data, default=str)
