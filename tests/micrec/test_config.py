"""Rules between config keys: what contradicts itself is refused when it is read, not in the middle of a training."""

import math

import pytest

from micrec.config import Config
from micrec.errors import MicrecError
from micrec.settings import build_config, explain


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"heads": 7}, "heads must divide embedding_dim 64, got 7: use one of 1, 2, 4, 8, 16, 32, 64"),
        ({"embedding_dim": 20}, "heads must divide embedding_dim 20, got 8: use one of 1, 2, 4, 5, 10, 20"),
        ({"positions": True}, "positions need behaviour_tokens sequence, got field: set that, or positions to false"),
        ({"item_terms": True}, "item_terms needs name fm, got ican: leave it out"),
        ({"autoint_dnn": True}, "autoint_dnn needs name autoint, got ican: leave it out"),
        ({"name": "sasrec", "heads": 7}, "heads must divide embedding_dim 64, got 7: use one of 1, 2, 4"),
        ({"layers": 2, "name": "fm"}, "layers needs name ican or autoint or sasrec or bert4rec, got fm: leave it out"),
        ({"interests": 4}, "interests needs name mind or comirec_dr or comirec_sa, got ican: leave it out"),
        ({"adaptive_interests": False}, "adaptive_interests needs name mind or comirec_dr or comirec_sa, got ican"),
        ({"label_attention_power": 2, "name": "sasrec"}, "label_attention_power needs name mind or comirec_dr or"),
        ({"routing_iterations": 2, "name": "comirec_sa"}, "routing_iterations needs name mind or comirec_dr, got comi"),
        ({"interest_hidden": 2, "name": "mind"}, "interest_hidden needs name comirec_sa, got mind: leave it out"),
        ({"positions": True, "name": "mind"}, "positions do not apply to name mind: leave them out"),
        ({"behaviour_pooling": "attention", "name": "mind"}, "behaviour_pooling attention does not apply to name mind"),
        ({"behaviour_tokens": "sequence", "name": "sasrec"}, "behaviour_tokens sequence does not apply to name sasrec"),
        ({"block": "ican_attn", "name": "sasrec"}, "block ican_attn needs name ican, got sasrec: leave it out"),
        ({"item_tower": "id", "item_id": False}, "item_tower id needs item_id true, got false: set item_id to true"),
    ],
)
def test_switches_that_do_not_fit(model, message):
    with pytest.raises(MicrecError) as caught:
        build_config("paper", {"model": model})
    assert str(caught.value).startswith(f"config: model: {message}")


def test_all_that_do_not_fit_are_told_at_once():
    with pytest.raises(MicrecError, match=r"item_terms needs .*; heads must divide .*; positions need"):
        build_config("paper", {"model": {"heads": 3, "positions": True, "item_terms": True}})


@pytest.mark.parametrize(
    "model",
    [
        {"name": "fm", "embedding_dim": 20, "item_terms": True},  # it has no heads
        {"name": "autoint", "embedding_dim": 20, "heads": 5, "autoint_dnn": True},
        {"behaviour_tokens": "sequence", "positions": True},
        {"item_tower": "id"},
        {"name": "mind", "interests": 1, "label_attention_power": 2.0, "adaptive_interests": False},
        {"name": "comirec_dr", "routing_iterations": 1, "label_attention_power": 1.0},
        {"name": "comirec_sa", "interest_hidden": 7, "positions": False},
        {"name": "sasrec", "layers": 3, "heads": 4, "positions": True},
        {"name": "bert4rec", "embedding_dim": 18},  # two heads of its own
        {"name": "bert4rec", "positions": False},
    ],
)
def test_switches_that_fit(model):
    assert (
        build_config("paper", {"model": model}).model.model_dump() | model
        == build_config("paper", {"model": model}).model.model_dump()
    )


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
        if key == "model.label_attention_power" and value == math.inf:
            named = {"model": {"name": "mind", "label_attention_power": value}}
            assert build_config("paper", named).model.label_attention_power == math.inf
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
