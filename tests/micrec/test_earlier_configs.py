"""Models and bundles whose manifests hold the flat keys of earlier versions are read as they were trained."""

import json
import math

import pytest
import torch

from micrec.errors import MicrecError
from micrec.model_folder import load_model, save_model
from micrec.retrieval import Retriever
from tests.micrec.serving import fitted_on, small_dataset

NOTHING = {  # what every earlier manifest said of keys that its tower did not set or did not read
    "behaviour_tokens": "field",
    "block": "transformer",
    "layers": None,
    "heads": None,
    "positions": None,
    "interests": None,
    "adaptive_interests": None,
    "label_attention_power": None,
    "routing_iterations": None,
    "interest_hidden": None,
    "item_terms": False,
    "autoint_dnn": False,
}
CASES = [  # a tower, its options as they stand today, and the flat keys of before
    ("ican", {"heads": 2}, {"heads": 2}),
    ("ican", {"block": "ican_attn", "layers": 2, "heads": 4}, {"block": "ican_attn", "layers": 2, "heads": 4}),
    (
        "ican",
        {"behaviour_tokens": "sequence", "positions": True, "heads": 4},
        {"behaviour_tokens": "sequence", "positions": True, "heads": 4},
    ),
    ("fm", {"item_terms": True}, {"item_terms": True, "heads": 2}),  # heads said nothing to it
    ("deepfm", {}, {"heads": 2}),
    ("autoint", {"dnn": True, "heads": 2}, {"autoint_dnn": True, "heads": 2}),
    ("mind", {"interests": 2}, {"interests": 2}),
    ("comirec_dr", {"label_attention_power": math.inf}, {}),
    ("comirec_sa", {"interest_hidden": 5, "positions": False}, {"interest_hidden": 5, "positions": False}),
    ("sasrec", {"layers": 1}, {"layers": 1}),
    ("bert4rec", {}, {}),
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return small_dataset(tmp_path_factory.mktemp("data") / "random")


def age(folder, flat):
    """Write the manifest as an earlier version did."""
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text(encoding="utf-8"))
    manifest["config"]["model"].pop("options", None)
    manifest["config"]["model"] |= NOTHING | flat
    file.write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize(("name", "options", "flat"), CASES)
def test_an_earlier_model_is_the_same_model(dataset, tmp_path, name, options, flat):
    fitted = fitted_on(dataset, model={"name": name, "options": options})
    save_model(fitted, dataset, tmp_path / "model")
    age(tmp_path / "model", flat)
    loaded = load_model(tmp_path / "model", dataset, device="cpu")
    assert loaded.config == fitted.config
    assert type(loaded.model) is type(fitted.model)
    weights = loaded.model.state_dict()
    assert all(torch.equal(weight, weights[key]) for key, weight in fitted.model.state_dict().items())


def test_an_earlier_bundle_gives_the_same_lists(dataset, tmp_path):
    options = {"interests": 2, "routing_iterations": 1}
    built = Retriever.build(fitted_on(dataset, model={"name": "mind", "options": options}), dataset)
    built.save(tmp_path / "bundle")
    age(tmp_path / "bundle", options)
    loaded = Retriever.load(tmp_path / "bundle")
    for user in (0, 7):
        assert loaded.recommend(dataset.users.ids[user], 5) == built.recommend(dataset.users.ids[user], 5)


def test_a_wrong_value_is_told_where_it_stands_today(dataset, tmp_path):
    save_model(fitted_on(dataset), dataset, tmp_path / "model")
    age(tmp_path / "model", {"layers": "two"})
    with pytest.raises(MicrecError, match=r"config\.model\.options\.layers: must be an integer .*, got \"two\""):
        load_model(tmp_path / "model", dataset, device="cpu")
