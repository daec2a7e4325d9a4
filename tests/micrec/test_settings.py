"""YAML files, overrides and validation: every fault is told at once, under the key the user wrote."""

import math
import re
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, model_validator

from micrec.config import Config, ModelConfig
from micrec.errors import MicrecError
from micrec.presets import PRESETS
from micrec.settings import (
    apply_overrides,
    build_config,
    differences,
    explain,
    flatten,
    load_yaml,
    merge,
    nested,
    validate,
)
from micrec.towers import TOWERS


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rate: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.5, description="A share.")
    kind: Literal["red", "green"] = "red"


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    inner: Inner = Field(default_factory=Inner)
    many: dict[str, Inner] = Field(default_factory=dict)
    sizes: tuple[int, ...] = (1, 2)
    count: Annotated[int, Field(gt=0)] | Literal["all"] = 5
    must: str = Field(description="Has no default.")

    @model_validator(mode="after")
    def _agree(self) -> "Outer":
        if self.must == "never":
            raise ValueError("must: never is never right: write always")
        return self


def write(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def faults_of(data: dict, **kwargs: str) -> list[str]:
    with pytest.raises(MicrecError) as caught:
        validate(Outer, data, where="w", **kwargs)
    text = str(caught.value)
    lines = [line.removeprefix("  - ") for line in text.splitlines()]
    return lines[1:] if len(lines) > 1 else [text.removeprefix("w: ")]


class TestLoadYaml:
    def test_plain_data(self, tmp_path):
        path = write(tmp_path, "a: 1\nb: {c: [x, null, true]}\nd: 1e-3\ne: .inf\n")
        assert load_yaml(path) == {"a": 1, "b": {"c": ["x", None, True]}, "d": 0.001, "e": math.inf}

    def test_an_empty_file_is_an_empty_mapping(self, tmp_path):
        assert load_yaml(write(tmp_path, "# nothing\n")) == {}

    def test_a_merged_anchor_may_be_overridden(self, tmp_path):
        path = write(tmp_path, "a: &x {p: 1, q: 2}\nb:\n  <<: *x\n  q: 3\n")
        assert load_yaml(path)["b"] == {"p": 1, "q": 3}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a: 1\nb:\n  c: 1\n  c: 2\n", r"file\.yaml: line 4, column 3: .*'c' appears twice, first on line 3"),
            ("a: 1\nb: [1, 2\nc: 3\n", r"file\.yaml: line \d, column \d: not valid YAML"),
            ("a: !!python/object/apply:os.system [ls]\n", r"line 1, column 4: .*could not determine a constructor"),
            ("yes: 1\n", r"key True is not text: put it in quotes"),
            ("? [a]\n: 1\n", r"key \['a'\] is not text"),
            ("- 1\n", r"must hold a mapping of keys \(key: value\), got list"),
            ("a: &a [*a]\n", r"an alias within itself"),
            ("a: \x01\n", r"not valid YAML"),
        ],
    )
    def test_faults_name_the_place(self, tmp_path, text, message):
        with pytest.raises(MicrecError, match=message):
            load_yaml(write(tmp_path, text))

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(MicrecError, match=r"none\.yaml: cannot be read \(No such file or directory\)"):
            load_yaml(tmp_path / "none.yaml")


class TestOverrides:
    def test_values_are_yaml_and_the_input_stays_as_it_was(self):
        data = {"a": {"b": 1}, "n": None}
        changed = apply_overrides(
            data, ["a.b=1e-3", "a.c=[1, two]", "n.x=true", "new.deep.key=", "p=/data/x=y", "a.b=2"]
        )
        assert changed == {
            "a": {"b": 2, "c": [1, "two"]},
            "n": {"x": True},
            "new": {"deep": {"key": None}},
            "p": "/data/x=y",
        }
        assert data == {"a": {"b": 1}, "n": None}

    def test_all_faults_at_once(self):
        with pytest.raises(MicrecError) as caught:
            apply_overrides({"a": 1}, ["novalue", "a.b=2", "x..y=1", "c=[1", "d={e: 1, e: 2}"])
        text = str(caught.value)
        assert text.startswith("--set: 5 errors")
        for part in (
            "novalue: must read key=value",
            "a.b=2: a is 1, which has no keys",
            "x..y=1: must",
            "c=[1:",
            "twice",
        ):
            assert part in text


class TestMerge:
    def test_mappings_merge_and_the_rest_is_replaced(self):
        assert merge({"a": {"x": 1, "y": [1]}, "b": {"z": 1}}, {"a": {"y": [2]}, "b": None, "c": 3}) == {
            "a": {"x": 1, "y": [2]},
            "b": None,
            "c": 3,
        }

    @given(st.recursive(st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3)))
    def test_merging_with_itself_or_nothing_changes_nothing(self, value):
        data = {"root": value}
        assert merge(data) == merge(data, data) == merge({}, data) == data

    def test_flatten(self):
        assert flatten({"a": {"b": {"c": 1}}, "d": {}, "e": [1]}) == {"a.b.c": 1, "d": {}, "e": [1]}


class TestValidate:
    def test_good_data(self):
        outer = validate(Outer, {"must": "be", "sizes": [3], "count": "all", "inner": {"rate": 0.1}}, where="w")
        assert (outer.sizes, outer.count, outer.inner.rate) == ((3,), "all", 0.1)

    def test_every_fault_in_one_error(self):
        faults = faults_of(
            {
                "inner": {"rate": 1, "kind": "reed", "rat": 2},
                "many": {"x": {"rate": -1, "colour": 1}, "y": 3},
                "sizes": [1, "two", 2.5],
                "count": -4,
            }
        )
        assert faults == [
            "inner.rate: must be < 1, got 1",
            'inner.kind: must be one of red, green, got "reed"',
            "inner.rat: unknown key, did you mean rate?",
            "many.x.rate: must be > 0, got -1",
            "many.x.colour: unknown key, the keys here are rate, kind",
            "many.y: must be a mapping of keys, got 3",
            'sizes.1: must be an integer, got "two"',
            "sizes.2: must be an integer, got 2.5",
            "count: must be an integer > 0 or all, got -4",
            "must: is required",
        ]

    def test_a_key_at_home_elsewhere_is_pointed_to(self):
        assert faults_of({"must": "be", "rates": 1}) == [
            "rates: unknown key, did you mean inner.rate or many.<name>.rate?"
        ]

    def test_nothing_is_converted_but_integers_to_numbers(self):
        assert faults_of({"must": 3, "count": "7", "inner": {"rate": "0.5"}}) == [
            'inner.rate: must be a number > 0 and < 1, got "0.5"',
            'count: must be an integer > 0 or all, got "7"',
            "must: must be text, got 3",
        ]

    def test_rules_between_keys_speak_for_themselves(self):
        assert faults_of({"must": "never"}) == ["top level: must: never is never right: write always"]

    def test_the_path_of_the_data_comes_first(self):
        assert faults_of({"must": "be", "inner": {"rate": math.nan}}, at="arms.x") == [
            "arms.x.inner.rate: must be a number > 0 and < 1, got NaN"
        ]

    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            ({"contrast": {"temperature": -1}}, r"^config: contrast\.temperature: must be > 0, got -1$"),
            ({"train": {"epoch": 1}}, r"^config: train\.epoch: unknown key, did you mean epochs\?$"),
            (
                {"contrast": {"feature": {"negatives": 0}}},
                r"negatives: must be an integer from 1 to 100,000 or all, got 0$",
            ),
            ({"model": {"l2_normalize": "yes"}}, r"l2_normalize: must be true or false, got \"yes\"$"),
        ],
    )
    def test_the_real_config(self, overrides, message):
        with pytest.raises(MicrecError, match=message):
            build_config("paper", overrides)


class TestPresets:
    def test_paper_is_all_defaults(self):
        assert PRESETS["paper"] == Config()

    def test_a_preset_is_laid_under_the_given_keys(self):
        config = build_config("modern", {"softmax": {"num_negatives": 7}, "sessions": {"category_boost": math.inf}})
        assert config.softmax.num_negatives == 7
        assert config.softmax.temperature == PRESETS["modern"].softmax.temperature == 0.1
        assert config.sessions.category_boost == math.inf

    @pytest.mark.parametrize("preset", list(PRESETS))
    def test_every_preset_survives_plain_data(self, preset):
        assert build_config(preset, PRESETS[preset].model_dump()) == PRESETS[preset]
        assert PRESETS[preset].preset == preset

    def test_unknown_or_second_preset(self):
        with pytest.raises(MicrecError, match=r"preset: must be one of paper, modern, best, got old"):
            build_config("old", {})
        with pytest.raises(MicrecError, match=r"arms\.x\.preset: is modern, but the preset chosen is paper"):
            build_config("paper", {"preset": "modern"}, at="arms.x")

    def test_differences(self):
        config = build_config("paper", {"train": {"epochs": 3}, "model": {"hidden": [8]}})
        assert differences(config, Config()) == {"train.epochs": 3, "model.hidden": (8,)}


class TestExplain:
    def test_every_key_with_type_and_default(self):
        settings = {setting.key: setting for setting in explain(Outer)}
        assert list(settings) == [
            "inner.rate",
            "inner.kind",
            "many.<name>.rate",
            "many.<name>.kind",
            "sizes",
            "count",
            "must",
        ]
        assert settings["inner.rate"][1:] == ("number > 0 and < 1", "0.5", "A share.")
        assert settings["sizes"].type == "list of integer"
        assert settings["count"].type == "integer > 0 or all"
        assert settings["must"].default == "required"

    def test_the_config_is_documented_throughout(self):
        settings = explain(Config)
        towers = [ModelConfig(name=name).model_dump(include={"options"}) for name in TOWERS]
        options = {f"model.{key}" for tower in towers for key in flatten(tower)}
        assert {setting.key for setting in settings} == set(flatten(Config().model_dump())) | options
        assert [
            s.key for s in settings if not s.description or re.search(r"any value|required", s.type + s.default)
        ] == []


class TestBounds:
    """Files that would grow beyond measure, or be read as something else than they say."""

    def test_aliases_of_aliases_are_bounded(self, tmp_path):
        levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
        (tmp_path / "laughs.yaml").write_text("\n".join(levels))
        with pytest.raises(MicrecError, match=r"line \d+, .*more than 100,000 values once aliases are written out"):
            load_yaml(tmp_path / "laughs.yaml")

    def test_an_alias_of_itself_and_deep_nesting_are_refused(self, tmp_path):
        (tmp_path / "self.yaml").write_text("a: &a [*a]")
        with pytest.raises(MicrecError, match="an alias within itself"):
            load_yaml(tmp_path / "self.yaml")
        (tmp_path / "deep.yaml").write_text("a: " + "[" * 70 + "]" * 70)
        with pytest.raises(MicrecError, match="more than 60 levels deep"):
            load_yaml(tmp_path / "deep.yaml")

    def test_few_aliases_are_fine(self, tmp_path):
        (tmp_path / "few.yaml").write_text("a: &a {x: 1}\nb: *a\nc: [*a, *a]")
        assert load_yaml(tmp_path / "few.yaml") == {"a": {"x": 1}, "b": {"x": 1}, "c": [{"x": 1}, {"x": 1}]}

    @pytest.mark.parametrize("number", ["017", "-017", "0_17", "1:30", "1:30.5", "190:20:30"])
    def test_numbers_in_base_8_or_60_are_refused(self, number):
        with pytest.raises(MicrecError, match="is read in base 8 or 60"):
            apply_overrides({}, [f"count={number}"])

    @pytest.mark.parametrize(
        ("text", "value"), [("0", 0), ("17", 17), ("0.5", 0.5), ("'017'", "017"), ("-0", 0), ("00", 0)]
    )
    def test_plain_numbers_are_what_they_say(self, text, value):
        assert apply_overrides({}, [f"count={text}"]) == {"count": value}

    def test_only_regular_files_of_a_bearable_size_are_read(self, tmp_path):
        with pytest.raises(MicrecError, match="/dev/zero: is not a regular file"):
            load_yaml(Path("/dev/zero"))
        (tmp_path / "large.yaml").write_bytes(b"#" * (1 << 21))
        with pytest.raises(MicrecError, match="is larger than 1 MB"):
            load_yaml(tmp_path / "large.yaml")


class TestNested:
    def test_dots_part_levels(self):
        assert nested({"train.epochs": 2, "train.device": "cpu", "model": {"name": "fm"}, "model.heads": 2}) == {
            "train": {"epochs": 2, "device": "cpu"},
            "model": {"name": "fm", "heads": 2},
        }

    def test_later_keys_win_and_mappings_merge(self):
        assert nested({"a.b": 1, "a": {"c": 2}}) == {"a": {"b": 1, "c": 2}}
        assert nested({"a.b": 1, "a": {"b": 3}}) == {"a": {"b": 3}}
        assert nested({"a": {"b": 3}, "a.b": 1}) == {"a": {"b": 1}}

    def test_values_are_left_as_they_are(self):
        given = {"a": {"b.c": 1}, "d": [1, 2]}
        assert nested(given) == given
        nested(given)["a"]["b.c"] = 7
        assert given["a"]["b.c"] == 1

    @given(st.dictionaries(st.text("ab", min_size=1, max_size=3), st.integers(), max_size=5))
    def test_it_undoes_flatten(self, data):
        deep = {"x": {**data, "deeper": {"y": 1}}}
        assert nested(flatten(deep)) == deep

    @pytest.mark.parametrize("key", ["", ".", "a.", ".a", "a..b", 3])
    def test_a_key_with_an_empty_part_is_refused(self, key):
        with pytest.raises(MicrecError, match=r"settings: .*must be a key such as train.epochs"):
            nested({key: 1})

    def test_a_key_below_a_value_is_refused(self):
        with pytest.raises(MicrecError, match=r"settings: a.b.c: a.b is 1, which has no keys"):
            nested({"a.b": 1, "a.b.c": 2})
