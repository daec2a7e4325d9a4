"""A step of fixed shapes, as a GPU takes it: nothing in it would wait, and its losses are those of exact lists.

All of it runs on a CPU.
"""

import pytest
import torch

from micrec.optim import adam
from micrec.shapes import fixed_shapes, marked, slots_of, sums_by_slot
from tests.benchmarks.step_work import Traffic, count_step
from tests.gpu.twins import (
    FORMS,
    LOSSES,
    OFF,
    assert_close,
    bases,
    batches,
    config_of,
    preset_of,
    share_draws,
    trainer_of,
    waits,
)
from tests.gpu.waits import Waits

NO_REDRAWS = {"reject_clicked": False}
UNLIKE = ("afn",)  # its normalisation counts the items of a step


SWITCHES = {
    "sessions": {"train": {"rows": "session", "context": "before_session"}},
    "sessions, personal": {
        "train": {"rows": "session", "context": "other_sessions"},
        "model": {"personal": True, "item_bias": True, "half_life_days": 3.0},
        "softmax": {"negatives": "full"},
    },
    "popularity": {"model": {"popularity_half_life_days": 2.0, "personal": True}, "softmax": {"negatives": "shared"}},
    "forecast": {
        "model": {"popularity_half_lives_days": [1.0, 3.0], "popularity_words": True},
        "softmax": {"negatives": "popularity"},
    },
    "personal, one draw a row": {"model": {"personal": True}},
    "field term": {"model": {"field_term": "category"}, "softmax": {"negatives": "mixed"}},
    "field term of lists": {"model": {"field_term": "tags"}, "softmax": {"negatives": "in_batch"}},
    "profile": {"train": {"context": "profile"}, "model": {"history_dropout": 0.3, "id_dropout": 0.2, "dropout": 0.1}},
    "clicks as tokens": {"model": {"options": {"behaviour_tokens": "sequence"}, "behaviour_pooling": "mean"}},
    "attention over clicks": {"model": {"behaviour_pooling": "attention", "user_id": True, "linear_skip": True}},
    "categories dropped": {"contrast": {"feature": {"mask": "categorical", "views": "two", "apply_on": "tower"}}},
    "fields dropped": {"contrast": {"feature": {"mask": "field", "negatives": "all", "duplicates": "mask"}}},
    "correlated masks": {"contrast": {"feature": {"mask": "cfm"}, "semantic": {"anchors": "uniform"}}},
    "random halves": {"contrast": {"feature": {"mask": "rfm"}, "most_anchors": 10, "session": {"num_positives": 3}}},
    "bf16": {"train": {"bf16": True}, "contrast": {"feature": {"apply_on": "tower"}}},
    "lazy": {"optim": {"embedding_update": "lazy"}},
}


@pytest.fixture(params=["dense", "sparse"])
def tables(request, monkeypatch):
    """Tables with dense gradients, as small ones have, or with row-sparse ones, as large ones have."""
    if request.param == "sparse":
        monkeypatch.setattr(adam, "DENSE_NUMBERS", {})
    return request.param


class TestNothingWaits:
    @pytest.mark.parametrize("base", bases())
    def test_in_a_step_of_a_base_model(self, dataset, base):
        assert waits(trainer_of(dataset, config_of(base), fixed=True)) == []

    @pytest.mark.parametrize("form", FORMS)
    def test_in_a_step_with_the_item_losses(self, dataset, form):
        contrast = {name: {"weight": 1.0, "form": form} for name in LOSSES}
        assert waits(trainer_of(dataset, config_of(contrast=contrast), fixed=True)) == []

    @pytest.mark.parametrize("name", SWITCHES)
    def test_in_a_step_with_other_switches(self, dataset, name):
        assert waits(trainer_of(dataset, config_of(**SWITCHES[name]), fixed=True)) == []

    @pytest.mark.parametrize("preset", ["modern", "best"])
    def test_in_a_step_of_a_preset(self, dataset, preset):
        assert waits(trainer_of(dataset, preset_of(preset), fixed=True)) == []

    @pytest.mark.parametrize("update", ["catchup", "lazy"])
    def test_in_a_step_of_row_sparse_tables(self, dataset, monkeypatch, update):
        monkeypatch.setattr(adam, "DENSE_NUMBERS", {})
        trainer = trainer_of(dataset, config_of(optim={"embedding_update": update}), fixed=True)
        assert trainer.optimizer.param_groups[1]["params"]
        from_numpy = ["lift_fresh"] if update == "catchup" else []  # copied from memory that a GPU reads by itself
        assert waits(trainer) == from_numpy

    def test_exact_lists_would_wait(self, dataset):
        assert {"nonzero", "unique_consecutive", "repeat_interleave"} <= set(waits(trainer_of(dataset, config_of())))

    def test_what_would_wait_is_seen(self):
        numbers, mask = torch.arange(4), torch.tensor([True, False, True, False])
        cases = {
            "nonzero": lambda: mask.nonzero(),
            "index": lambda: numbers[mask],
            "_local_scalar_dense": lambda: numbers.sum().item(),
            "repeat_interleave": lambda: torch.repeat_interleave(numbers),
            "_unique2": lambda: torch.unique(numbers),
            "bincount": lambda: torch.bincount(numbers),
        }
        for name, case in cases.items():
            with Waits() as seen:
                case()
            assert seen.found == [name]
        with Waits() as seen:
            numbers.repeat_interleave(2)
            torch.repeat_interleave(numbers, numbers, output_size=6)
            numbers[numbers], torch.where(mask, numbers, 0)
        assert seen.found == []


class TestTheLossesAreThoseOfExactLists:
    @pytest.mark.parametrize("base", [name for name in bases() if name not in UNLIKE])
    def test_of_every_base_model(self, dataset, base, tables):
        """And after three steps the parameters, in either kind of table."""
        config = config_of(base, contrast=OFF, softmax=NO_REDRAWS)
        exact, fixed = (trainer_of(dataset, config, fixed=flag) for flag in (False, True))
        self.compare(exact, fixed)

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("name", LOSSES)
    def test_of_every_item_loss(self, dataset, name, form):
        keys = {"weight": 1.0, "form": form} | ({"negatives": "all"} if name == "feature" else {})
        config = config_of(contrast={**OFF, name: keys}, softmax=NO_REDRAWS)
        exact, fixed = (trainer_of(dataset, config, fixed=flag) for flag in (False, True))
        share_draws(exact, fixed)
        self.compare(exact, fixed)

    @pytest.mark.parametrize(
        "name", ["sessions", "sessions, personal", "popularity", "forecast", "personal, one draw a row", "field term",
                 "field term of lists", "clicks as tokens", "attention over clicks"]
    )  # fmt: skip
    def test_with_other_switches(self, dataset, name):
        """Those whose draws are as many in both layouts."""
        config = config_of(
            **{**SWITCHES[name], "contrast": OFF, "softmax": {**SWITCHES[name].get("softmax", {}), **NO_REDRAWS}}
        )
        exact, fixed = (trainer_of(dataset, config, fixed=flag) for flag in (False, True))
        self.compare(exact, fixed)

    @staticmethod
    def compare(exact, fixed):
        for batch in batches(exact, 3):
            for name, generator in fixed.generators.items():  # the one may have drawn more than the other
                exact.generators[name].set_state(generator.get_state())
            one, other = exact.step(*batch), fixed.step(*batch)
            torch.testing.assert_close(one, other, rtol=2e-5, atol=1e-6)
        assert_close(exact, fixed, rtol=2e-4, atol=1e-4)


class TestSets:
    def test_marked_places_are_in_order_and_the_first_fills_up(self):
        marks = torch.tensor([False, True, False, True, True])
        places, real = marked(marks, 5)
        assert places.tolist() == [1, 3, 4, 1, 1]
        assert real.tolist() == [True, True, True, False, False]

    def test_slots_are_those_of_distinct_codes(self):
        codes = torch.tensor([7, 2, 7, 9, 2])
        distinct, slots, count = slots_of(codes)
        assert distinct[: int(count)].tolist() == [2, 7, 9]
        assert distinct[int(count) :].tolist() == [9, 9]
        assert distinct[slots].tolist() == codes.tolist()

    def test_sums_by_slot_are_those_of_a_loop(self):
        generator = torch.Generator().manual_seed(0)
        values, shares = torch.rand(6, 3, generator=generator), torch.rand(9, generator=generator)
        slots, picks = torch.randint(5, (9,), generator=generator), torch.randint(6, (9,), generator=generator)
        expected = torch.zeros(5, 3)
        for slot, pick, share in zip(slots.tolist(), picks.tolist(), shares.tolist(), strict=True):
            expected[slot] += share * values[pick]
        torch.testing.assert_close(sums_by_slot(slots, values, 5, picks, shares), expected)


def test_redraws_of_fixed_number_keep_clicked_items_out():
    """A share p of forbidden draws leaves p to the fourth of the entries, masked; allowed ones are none of them."""
    from micrec.sampling import draw_uniform_negatives

    def forbidden(rows, items):
        return (items % 2 == 0) & (rows >= 0)

    with fixed_shapes():
        items, valid = draw_uniform_negatives(
            4000, 5, 100, forbidden=forbidden, generator=torch.Generator().manual_seed(0)
        )
    assert (items[valid] % 2 == 1).all()
    assert float((~valid).float().mean()) == pytest.approx(0.5**4, rel=0.1)


class TestTheWorkOfAStepIsCounted:
    """By ``tests/benchmarks/step_work.py``, which the plan of docs/scale.md rests on."""

    def test_products_and_look_ups_by_hand(self):
        left, right = torch.ones(10, 20), torch.ones(20, 30)
        table, codes, three = torch.ones(1000, 8), torch.tensor([1, 2, 2]), torch.ones(3, 8)
        for work, expected in (
            (lambda: left @ right, 4 * (10 * 20 + 20 * 30 + 10 * 30)),
            (lambda: left.add_(1.0), 2 * 4 * 10 * 20),
            (lambda: torch.nn.functional.embedding(codes, table), 3 * (8 + 2 * 4 * 8)),  # codes, rows read and written
            (lambda: table.index_copy_(0, codes, three), 3 * (8 + 2 * 4 * 8)),
            (lambda: left.T, 0),
        ):
            with Traffic() as seen:
                work()
            assert seen.bytes == expected

    def test_a_step_of_more_rows_moves_more(self, dataset):
        few, many = (
            count_step(trainer_of(dataset, config_of(train={"batch_size": rows}), fixed=True))[0] for rows in (8, 32)
        )
        assert (few.rows, many.rows) == (8, 32)
        assert few.bytes < many.bytes < 4 * few.bytes  # what goes over tables and catalogue does not grow
        assert few.flops < many.flops <= 4 * few.flops
        assert few.launches == many.launches  # shapes depend on nothing else
