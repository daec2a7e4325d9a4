"""Rules between config keys: what contradicts itself is refused when it is read, not in the middle of a training."""

import json
import math
from typing import ClassVar

import pytest

from micrec.config import Config
from micrec.errors import MicrecError
from micrec.settings import apply_overrides, build_config, differences, explain, merge

TOGETHER = [  # rules between keys, whose fault is the model's as a whole
    ({"options": {"heads": 7}}, "options.heads must divide embedding_dim 64, got 7: use one of 1, 2, 4, 8, 16, 32, 64"),
    ({"embedding_dim": 20}, "options.heads must divide embedding_dim 20, got 8: use one of 1, 2, 4, 5, 10, 20"),
    ({"name": "sasrec", "options": {"heads": 7}}, "options.heads must divide embedding_dim 64, got 7: use one of 1, 2"),
    ({"options": {"positions": True}}, "options.positions need behaviour_tokens sequence, got field: set that, or"),
    ({"behaviour_pooling": "attention", "name": "mind"}, "behaviour_pooling attention does not apply to name mind"),
    ({"name": "lightgcn", "item_id": False}, "name lightgcn needs item_id true, got false: set item_id to true"),
    ({"name": "lightgcn", "linear_skip": True}, "linear_skip does not apply to name lightgcn, whose items have two"),
    (
        {"name": "afn", "embedding_dim": 1},
        "options.batch_norm needs embedding_dim of at least 2, got 1: set batch_norm to false",
    ),
    ({"item_tower": "id", "item_id": False}, "item_tower id needs item_id true, got false: set item_id to true"),
]
OF_OTHERS = [  # an option, a tower that does not read it, and all that do
    ("item_terms", "ican", "fm"),
    ("dnn", "ican", "autoint or afn"),
    ("layers", "fm", "ican or autoint or sasrec or bert4rec or esasrec or lightgcn"),
    ("heads", "youtube_dnn", "ican or autoint or sasrec or bert4rec or esasrec"),
    ("interests", "ican", "mind or comirec_dr or comirec_sa"),
    ("adaptive_interests", "deepfm", "mind or comirec_dr or comirec_sa"),
    ("label_attention_power", "sasrec", "mind or comirec_dr or comirec_sa"),
    ("routing_iterations", "comirec_sa", "mind or comirec_dr"),
    ("interest_hidden", "mind", "comirec_sa"),
    ("positions", "mind", "ican or comirec_sa or sasrec or bert4rec or esasrec"),
    ("behaviour_tokens", "sasrec", "ican"),
    ("block", "sasrec", "ican"),
]
FLAT = ("layers", "heads", "block", "behaviour_tokens", "positions", "interests", "adaptive_interests")
FLAT += ("label_attention_power", "routing_iterations", "interest_hidden", "item_terms")


def refusal(model: dict) -> str:
    with pytest.raises(MicrecError) as caught:
        build_config("paper", {"model": model})
    return str(caught.value)


@pytest.mark.parametrize(("model", "message"), TOGETHER)
def test_keys_that_do_not_fit_each_other(model, message):
    assert refusal(model).startswith(f"config: model: {message}")


@pytest.mark.parametrize(("key", "name", "readers"), OF_OTHERS)
def test_an_option_of_other_towers(key, name, readers):
    told = f"config: model.options.{key}: needs name {readers}, got {name}: leave it out"
    assert refusal({"name": name, "options": {key: 1}}).startswith(told)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"options": {"layer": 1}}, "model.options.layer: unknown key, did you mean layers?"),
        ({"options": {"layers": "2"}}, 'model.options.layers: must be an integer from 1 to 128, got "2"'),
        ({"options": {"layers": 0}}, "model.options.layers: must be >= 1, got 0"),
        ({"name": "deepfm", "options": {"layer": 1}}, "model.options.layer: deepfm has no options: leave it out"),
        ({"options": [1]}, "model.options: must be a mapping of keys, got [1]"),
    ],
)
def test_options_that_are_wrong_are_named(model, message):
    assert refusal(model).startswith(f"config: {message}")


def test_all_that_do_not_fit_are_told_at_once():
    text = refusal({"options": {"heads": 3, "positions": True}})
    assert "options.heads must divide embedding_dim 64, got 3" in text
    assert "options.positions need behaviour_tokens sequence" in text
    text = refusal({"options": {"layers": 0, "block": "x"}})
    assert "model.options.layers: must be" in text
    assert "model.options.block: must be one of transformer, ican_attn" in text


@pytest.mark.parametrize("key", FLAT)
def test_keys_of_earlier_versions_are_refused_with_their_new_place(key):
    assert refusal({key: 2}) == f"config: model.{key}: is now model.options.{key}: write that instead"


def test_the_one_that_was_renamed_too():
    assert refusal({"autoint_dnn": True}) == "config: model.autoint_dnn: is now model.options.dnn: write that instead"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fm", {"item_terms": True}),
        ("autoint", {"heads": 5, "dnn": True}),
        ("ican", {"behaviour_tokens": "sequence", "positions": True, "heads": 4}),
        ("mind", {"interests": 1, "label_attention_power": 2.0, "adaptive_interests": False}),
        ("comirec_dr", {"routing_iterations": 1, "label_attention_power": 1.0}),
        ("comirec_sa", {"interest_hidden": 7, "positions": False}),
        ("sasrec", {"layers": 3, "heads": 4, "positions": True}),
        ("bert4rec", {"positions": False}),
        ("esasrec", {"layers": 1, "heads": 2, "widening": 2}),
        ("afn", {"neurons": 7, "batch_norm": False, "dnn": True}),
        ("lightgcn", {"layers": 2}),
    ],
)
def test_options_that_fit(name, options):
    """They are kept as given, with the rest of the tower's keys, and read back from their own plain data."""
    config = build_config("paper", {"model": {"name": name, "embedding_dim": 20, "options": options}})
    found = config.model_dump()["model"]["options"]
    assert found | options == found
    assert Config.model_validate_json(json.dumps(config.model_dump(mode="json"))) == config


DEFAULTS = {  # as their papers and the shipped numbers have them
    "ican": {"layers": 1, "heads": 8, "block": "transformer", "behaviour_tokens": "field", "positions": False},
    "fm": {"item_terms": False},
    "youtube_dnn": None,
    "deepfm": None,
    "autoint": {"layers": 2, "heads": 8, "dnn": False},
    "mind": {"interests": 4, "adaptive_interests": True, "label_attention_power": 1.0, "routing_iterations": 3},
    "comirec_dr": {
        "interests": 4,
        "adaptive_interests": False,
        "label_attention_power": math.inf,
        "routing_iterations": 3,
    },
    "comirec_sa": {
        "interests": 4,
        "adaptive_interests": False,
        "label_attention_power": math.inf,
        "interest_hidden": None,
        "positions": True,
    },
    "sasrec": {"layers": 2, "heads": 1, "positions": True},
    "bert4rec": {"layers": 2, "heads": 2, "positions": True},
    "esasrec": {"layers": 4, "heads": 8, "positions": True, "widening": 4},
    "afn": {"neurons": 64, "batch_norm": True, "dnn": False},
    "lightgcn": {"layers": 3},
}


@pytest.mark.parametrize("name", list(DEFAULTS))
def test_defaults_of_every_tower(name):
    config = build_config("paper", {"model": {"name": name}})
    assert config.model_dump()["model"].get("options") == DEFAULTS[name]


class TestAnotherTower:
    """A layer that names another base model does not take over the options of the one before."""

    BELOW: ClassVar = {"model": {"name": "sasrec", "embedding_dim": 8, "options": {"heads": 4}}}

    def test_another_name(self):
        assert merge(self.BELOW, {"model": {"name": "fm"}}) == {"model": {"name": "fm", "embedding_dim": 8}}

    def test_the_same_name(self):
        above = {"model": {"name": "sasrec", "options": {"layers": 1}}}
        assert merge(self.BELOW, above)["model"]["options"] == {"heads": 4, "layers": 1}

    def test_no_name_above(self):
        assert merge(self.BELOW, {"model": {"dropout": 0.1}})["model"]["options"] == {"heads": 4}

    @pytest.mark.parametrize(("name", "kept"), [("ican", {"heads": 2}), ("sasrec", None)])
    def test_no_name_below_is_the_default(self, name, kept):
        found = merge({"model": {"options": {"heads": 2}}}, {"model": {"name": name}})
        assert found["model"].get("options") == kept

    def test_set_on_a_file(self):
        changed = apply_overrides(self.BELOW, ["model.options.layers=1", "model.name=bert4rec"])
        assert changed["model"] == {"name": "bert4rec", "embedding_dim": 8, "options": {"layers": 1}}
        same = apply_overrides(self.BELOW, ["model.name=sasrec"])
        assert same == self.BELOW

    def test_only_what_differs_from_its_own_defaults_is_a_difference(self):
        config = build_config("paper", {"model": {"name": "sasrec", "options": {"layers": 3}}})
        assert differences(config, Config()) == {"model.name": "sasrec", "model.options.layers": 3}
        assert differences(Config(), config) == {"model.name": "ican"}


def test_explained_keys_name_their_towers():
    told = {one.key: one for one in explain(Config)}
    heads = told["model.options.heads"]
    assert heads.default == "8 for ican, autoint and esasrec, 1 for sasrec, 2 for bert4rec"
    assert heads.type == "integer from 1 to 128"
    assert told["model.options.block"].default == "transformer"
    assert told["model.options.dnn"].description == (
        "autoint: AutoInt+: a DNN beside the attention (N23); afn: AFN+: a DNN beside the neurons."
    )
    assert "model.heads" not in told


FISM_NUMBERS = ("alpha", "ease_lambda", "ease_scale", "field_scale", "id_gate", "title_scale", "value_gate")
FISM = [f"model.options.{key}" for key in FISM_NUMBERS]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_numbers_are_finite(value):
    """Every number of the config, but for those whose infinity has a meaning."""
    numbers = [setting.key for setting in explain(Config) if setting.type.startswith("number")]
    assert len(numbers) > 10
    for key in numbers:
        *parts, last = key.split(".")
        overrides = {last: value}
        for part in reversed(parts):
            overrides = {part: overrides}
        if key == "sessions.category_boost" and value == math.inf:
            assert build_config("paper", overrides).sessions.category_boost == math.inf
            continue
        if key in FISM:
            overrides["model"]["name"] = "fism"
        if key == "model.options.label_attention_power":
            overrides["model"]["name"] = "mind"
            if value == math.inf:
                assert build_config("paper", overrides).model.options.label_attention_power == math.inf
                continue
        with pytest.raises(MicrecError, match=rf"config: {key}: must be "):
            build_config("paper", overrides)


@pytest.mark.parametrize("metric", ["mrr", "hit@7", "coverage@500", "hit_pairs@1"])
def test_stopping_metrics(metric):
    assert build_config("paper", {"train": {"metric": metric}}).train.metric == metric


@pytest.mark.parametrize("metric", ["auc", "hit", "hit@", "hit@0", "hit@5x", "mrr@5", "HIT@5", ""])
def test_no_stopping_metrics(metric):
    message = rf'config: train\.metric: must be mrr or hit@N, .* such as hit@100, got "{metric}"'
    with pytest.raises(MicrecError, match=message):
        build_config("paper", {"train": {"metric": metric}})
