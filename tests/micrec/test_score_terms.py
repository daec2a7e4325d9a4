"""A personal term and item priors, from training to served lists: against loops over the click log in float64."""

import json
import math
from collections import defaultdict

import numpy as np
import polars as pl
import pytest
import torch

from micrec.config import Config, EvalConfig
from micrec.data.schema import DatasetSchema
from micrec.data.split import temporal_split
from micrec.data.store import read_dataset, write_dataset
from micrec.errors import MicrecError
from micrec.evaluation import evaluation_task, rank_targets
from micrec.fitting import fit
from micrec.model_folder import load_model, save_model
from micrec.progress import NoProgress
from micrec.retrieval import INDEX_KINDS, Retriever
from micrec.settings import merge
from micrec.training import Trainer
from tests.micrec.factories import random_dataset
from tests.micrec.resuming import check_same_seed_and_resumed
from tests.micrec.serving import OFF, outside

DAY_MS = 86_400_000
HALF_LIFE, POPULARITY_HALF_LIFE, LENGTH = 3.0, 2.0, 9
KEYS = {
    "model": {
        "name": "fism",
        "embedding_dim": 6,
        "history_length": LENGTH,
        "init_scale": 0.5,
        "half_life_days": HALF_LIFE,
        "personal": True,
        "item_bias": True,
        "popularity_half_life_days": POPULARITY_HALF_LIFE,
    },
    "softmax": {"negatives": "full"},
    "contrast": OFF,
    "split": {"test_fraction": 0.4, "valid_fraction": 0.1},
    "optim": {"learning_rate": 0.05, "schedule": "linear"},
    "train": {
        "rows": "session",
        "context": "before_session",
        "batch_size": 16,
        "epochs": 2,
        "device": "cpu",
        "metric": "hit@3",
    },
}


def config_of(**changes):
    return Config.model_validate(merge(KEYS, changes))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return random_dataset(
        tmp_path_factory.mktemp("data") / "random", np.random.default_rng(5), n_users=30, n_items=40, n_clicks=700
    )


@pytest.fixture(scope="module", params=[1.0, -1.0], ids=["own items gain", "own items lose"])
def fitted(request, dataset):
    """The second has learned that nobody clicks twice."""
    found = fit(dataset, config_of())
    with torch.no_grad():
        found.model.personal.by_count.mul_(request.param)
        found.model.personal.once.mul_(request.param)
    return found


# -- the model by hand: FISM over ids and fields, its terms, from parameters and the click log alone ---------------


def item_numbers(fitted):
    """Sums of the field embeddings of each item, float64, (N, 2 D), and biases (N,)."""
    fields = fitted.fields.items
    columns = fields.take(torch.arange(fields.n))
    embedded = fitted.model.item_fields(columns).detach().double().numpy()
    bias = fitted.model.prior.bias.weight.detach().double().numpy()[fields.single["item_id"].numpy(), 0]
    return embedded.sum(axis=1), bias


def popularity_by_hand(clicks, day, n_items):
    faded = np.zeros(n_items)
    for item, then_ms in clicks:
        if then_ms // DAY_MS < day:
            faded[item] += 0.5 ** ((day - then_ms // DAY_MS) / POPULARITY_HALF_LIFE)
    return np.log(n_items * (faded + 0.3) / (faded.sum() + 0.3 * n_items))


def scores_by_hand(fitted, user, history, now_ms, all_clicks, day):
    """Scores of all items for a dense user who clicked ``history``, (item, ms) each, oldest first."""
    model = fitted.model
    numbers, bias = item_numbers(fitted)
    dim = numbers.shape[1] // 2
    counts = defaultdict(float)
    for item, then_ms in history[-LENGTH:]:
        counts[item] += 0.5 ** ((now_ms - then_ms) / DAY_MS / HALF_LIFE)
    profile = {item: math.log(1 + count) for item, count in counts.items()}
    length = math.sqrt(max(sum(x * x for x in profile.values()), 1e-6))
    vector = sum((x / length * numbers[item, dim:] for item, x in profile.items()), np.zeros(dim))
    row = fitted.fields.users.take(torch.tensor([user]))
    user_fields = model.user_fields(row).detach().double().numpy()[0, :, :dim].sum(axis=0)
    scores = numbers[:, :dim] @ (model.scale.item() * vector + user_fields)
    scores = scores + bias + model.prior.drift.item() * popularity_by_hand(all_clicks, day, len(numbers))
    for item, x in profile.items():
        scores[item] += model.personal.by_count.item() * x + model.personal.once.item()
    return scores


def log_of(dataset, stop=None):
    clicks = dataset.clicks[: len(dataset.clicks) if stop is None else stop]
    return list(zip(clicks.user_ids.tolist(), clicks.item_ids.tolist(), clicks.time_ms.tolist(), strict=True))


def history_of(log, user):
    return [(item, then) for who, item, then in log if who == user]


def served_scores(fitted, dataset, user):
    """As of the end of the log: the morning after its last click."""
    log = log_of(dataset)
    now_ms = log[-1][2]
    pairs = [(item, then) for _, item, then in log]
    return scores_by_hand(fitted, user, history_of(log, user), now_ms, pairs, now_ms // DAY_MS + 1)


def ranked(scores, allowed):
    return sorted(allowed, key=lambda item: -scores[item])


# -- training ------------------------------------------------------------------------------------------------------


def sessions_of(log):
    """Sessions of one hour from their first click: (user, [(item, ms)], clicks of the user before it)."""
    found = []
    for user in sorted({who for who, _, _ in log}):
        clicks = history_of(log, user)
        start = 0
        while start < len(clicks):
            stop = start
            while stop < len(clicks) and clicks[stop][1] - clicks[start][1] <= 3_600_000:
                stop += 1
            found.append((user, clicks[start:stop], clicks[:start]))
            start = stop
    return found


@pytest.mark.parametrize("negatives", ["full", "shared"])
def test_the_loss_of_a_session_is_that_of_its_clicks_from_one_history(dataset, negatives):
    """Every score by hand; full: against all train items, shared: against those drawn that the user never clicked."""
    config = config_of(
        softmax={"negatives": negatives, "num_negatives": 12, "logq": "refined" if negatives == "shared" else "none"}
    )
    split = temporal_split(dataset.clicks, config.split)
    trainer = Trainer(dataset, dataset.clicks[split.train], config)
    log = log_of(dataset, split.train.stop)
    sessions = sessions_of(log)
    rows = trainer.data.rows("session")
    assert len(rows) == len(sessions)
    assert sorted(trainer.order(1).tolist()) == rows.tolist()
    chosen = [0, 3, len(sessions) // 2, len(sessions) - 1, 5]
    drawn = {}
    draw = trainer.matching.draw
    trainer.matching.draw = lambda batch, generator: drawn.setdefault("it", draw(batch, generator))
    trainer.model.train()
    loss = trainer.losses(rows[chosen])["matching"].item()

    model = fit_like(trainer)
    catalogue = sorted({item for _, item, _ in log})
    pairs = [(item, then) for _, item, then in log]
    losses = []
    for number in chosen:
        user, clicks, before = sessions[number]
        now_ms = clicks[0][1]
        scores = scores_by_hand(model, user, before, now_ms, pairs, now_ms // DAY_MS)
        clicked = {item for item, _ in history_of(log, user)}
        for item, _ in clicks:
            if negatives == "full":
                total = sum(math.exp(scores[other]) for other in catalogue)
            else:
                others = [other for other in drawn["it"].items.tolist() if other not in clicked]
                total = math.exp(scores[item])
                total += sum(math.exp(scores[other]) * len(catalogue) / 12 for other in others)
            losses.append(math.log(total) - scores[item])
    assert loss == pytest.approx(np.mean(losses), rel=1e-4)


def fit_like(trainer):
    """What ``scores_by_hand`` reads of a fitted model."""

    class Untrained:
        model, fields = trainer.model, trainer.data.fields

    return Untrained


@pytest.mark.parametrize("name", ["fism", "fm", "youtube_dnn", "ican", "mind", "sasrec", "esasrec", "afn", "lightgcn"])
@pytest.mark.parametrize("negatives", ["uniform", "popularity", "in_batch", "shared", "mixed", "full"])
def test_a_row_of_a_session_costs_what_its_clicks_cost_one_by_one(dataset, name, negatives):
    """For every base and layout: the same towers, asked once per session or once per click of it."""
    options = {"heads": 2} if name in ("ican", "sasrec", "esasrec") else {}
    changes = {"model": {"name": name, "hidden": [8], "options": options}, "softmax": {"negatives": negatives}}
    changes["softmax"] |= {"num_negatives": 7, "logq": "standard" if negatives in ("in_batch", "mixed") else "none"}
    by_session, by_click = (
        Trainer(dataset, dataset.clicks[:400], config_of(**merge(changes, {"train": {"rows": rows}})))
        for rows in ("session", "click")
    )
    rows = by_session.data.rows("session")[3:20]
    stops = by_session.data.session_stop[rows].long()
    positions = torch.cat([torch.arange(a, b) for a, b in zip(rows.tolist(), stops.tolist(), strict=True)])
    assert len(positions) > len(rows)
    drawn = by_click.matching.draw(by_click.data.batch(positions, "click"), torch.Generator().manual_seed(0))
    losses = []
    for trainer, at in ((by_session, rows), (by_click, positions)):
        trainer.matching.draw = lambda batch, generator: drawn
        trainer.model.eval()
        # before_session histories of a click are those of its session; the clock of a click is its own
        trainer.data.time_ms[:] = trainer.data.time_ms[trainer.data.session_start.long()]
        losses.append(trainer.losses(at)["matching"].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_same_seed_same_parameters_and_a_resumed_run_ends_alike(dataset):
    changes = {"model": {"history_dropout": 0.3, "options": {"start": "ease", "ease_lambda": 5.0}}}
    check_same_seed_and_resumed(*(Trainer(dataset, dataset.clicks[:400], config_of(**changes)) for _ in range(3)))


@pytest.mark.parametrize("name", ["fism", "fm", "ican", "comirec_sa", "esasrec", "afn", "lightgcn"])
def test_losses_fall_with_all_terms_on(dataset, name):
    changes = {"model": {"name": name, "hidden": [8], "options": {"heads": 2} if name in ("ican", "esasrec") else {}}}
    changes["optim"] = {"learning_rate": 0.01, "schedule": "constant"}
    trainer = Trainer(dataset, dataset.clicks[:500], config_of(**changes))
    losses = [trainer.epoch(NoProgress()).losses["matching"] for _ in range(8)]
    assert losses[-1] < losses[0]


def test_a_personal_term_is_learned_from_repeats(tmp_path):
    """Users who always come back to one item of their own, and users who never do."""
    for repeats in (True, False):
        rng = np.random.default_rng(0)
        chosen = [[user] * 12 if repeats else rng.permutation(40)[:12].tolist() for user in range(40)]
        clicks = [
            {"user_id": user, "item_id": chosen[user][day], "timestamp": 86_400 * day}
            for user in range(40)
            for day in range(12)
        ]
        data = dataset_of(tmp_path / str(repeats), pl.DataFrame(clicks).sort("timestamp"))
        model = {"half_life_days": None, "popularity_half_life_days": None}
        trainer = Trainer(data, data.clicks, config_of(model=model, optim={"schedule": "constant"}))
        for _ in range(20):
            trainer.epoch(NoProgress())
        term = trainer.model.personal(torch.tensor(1.0)).item()
        assert (term > 2.0) if repeats else (term < 0.0)


def dataset_of(folder, clicks):
    """A dataset of ids and clicks alone."""
    users = pl.DataFrame({"user_id": clicks["user_id"].unique().sort()})
    items = pl.DataFrame({"item_id": clicks["item_id"].unique().sort()})
    write_dataset(folder, DatasetSchema(name="bare", licence="CC0"), users, items, clicks)
    return read_dataset(folder)


# -- evaluation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("history", ["frozen", "rolling"])
@pytest.mark.parametrize("block_bytes", [256 << 20, 1])
def test_ranks_are_those_of_the_scores_by_hand(fitted, dataset, history, block_bytes):
    """Frozen: all is known up to the split. Rolling: up to each click, and popularity up to the morning of its day."""
    split = temporal_split(dataset.clicks, fitted.config.split)
    task = evaluation_task(dataset, split, EvalConfig(cutoffs=(3,), history=history), "test")
    ranks = rank_targets(fitted.scores(task), task, block_bytes=block_bytes)
    log, known = log_of(dataset), log_of(dataset, split.test.start)
    candidates = sorted({item for _, item, _ in known})
    queries = task.target_queries
    cache = {}
    for target in range(0, len(queries), 1 if history == "frozen" else 3):
        query = int(queries[target])
        user = int(task.user_ids[query])
        if query not in cache:
            if history == "frozen":
                now_ms, seen = known[-1][2], history_of(known, user)
                cache[query] = scores_by_hand(
                    fitted, user, seen, now_ms, [pair[1:] for pair in known], now_ms // DAY_MS + 1
                )
            else:
                clicks = history_of(log, user)
                place = int(task.end[query] - task.begin[query])
                now_ms = clicks[place][1]
                pairs = [pair[1:] for pair in log]
                cache[query] = scores_by_hand(fitted, user, clicks[:place], now_ms, pairs, now_ms // DAY_MS)
        scores, item = cache[query], int(task.target_items[target])
        if item in candidates:
            above = sum(scores[other] > scores[item] + 1e-4 for other in candidates)
            close = sum(abs(scores[other] - scores[item]) <= 1e-4 for other in candidates) - 1
            assert above <= ranks.greater[target] <= above + close


# -- serving -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", INDEX_KINDS)
def test_served_lists_are_the_exact_ranking(fitted, dataset, tmp_path, kind):
    """For known users and many at once, with and without what they have clicked; from memory and from a folder."""
    Retriever.build(fitted, dataset, kind=kind).save(tmp_path / "bundle")
    retriever = Retriever.load(tmp_path / "bundle")
    trained = set(dataset.clicks.item_ids[: fitted.trained_clicks].tolist())
    log = log_of(dataset)
    for user in range(len(dataset.users)):
        scores = served_scores(fitted, dataset, user)
        for k in (1, 5, len(trained)):
            answer = retriever.recommend(dataset.users.ids[user], k)
            assert answer.item_ids == outside(dataset, ranked(scores, trained)[:k])
            best = [scores[item] for item in ranked(scores, trained)[:k]]
            assert answer.scores == pytest.approx(best, rel=1e-4, abs=1e-4)
        seen = {item for item, _ in history_of(log, user)}
        hidden = retriever.recommend(dataset.users.ids[user], 6, hide_seen=True)
        assert hidden.item_ids == outside(dataset, ranked(scores, trained - seen)[:6])


def test_a_bundle_without_its_clock_is_refused(fitted, dataset, tmp_path):
    Retriever.build(fitted, dataset).save(tmp_path / "bundle")
    file = tmp_path / "bundle" / "manifest.json"
    sound = json.loads(file.read_text(encoding="utf-8"))
    for key in ("now_ms", "counted_items"):
        file.write_text(json.dumps({**sound, key: None}), encoding="utf-8")
        with pytest.raises(MicrecError, match=f"{key}: missing, though the clicks have times"):
            Retriever.load(tmp_path / "bundle")


def test_fresh_clicks_of_many_users_count_in_full(fitted, dataset):
    """``retrieve`` and ``recommend_unseen`` are given no times."""
    retriever = Retriever.build(fitted, dataset)
    log = log_of(dataset)
    end_ms, pairs = log[-1][2], [pair[1:] for pair in log]
    trained = set(dataset.clicks.item_ids[: fitted.trained_clicks].tolist())
    users = np.arange(len(dataset.users))
    recent = np.array([([item for item, _ in history_of(log, user)][::-1] + [-1] * 6)[:6] for user in users])
    lists = retriever.retrieve(users, recent, 8)
    for user in users:
        history = [(int(item), end_ms) for item in recent[user][::-1] if item >= 0]
        scores = scores_by_hand(fitted, user, history, end_ms, pairs, end_ms // DAY_MS + 1)
        assert lists[user].tolist() == ranked(scores, trained)[:8]


def test_new_clicks_move_histories_and_popularity(fitted, dataset):
    """A bundle of half the log that is given the rest answers as one of the whole log."""
    late = 500
    early = dataset.clicks[:late]
    half = type(dataset)(dataset.schema, dataset.users, dataset.items, early)
    retriever = Retriever.build(fitted, half)
    rest = dataset.clicks[late:]
    frame = pl.DataFrame(
        {
            "user_id": dataset.users.ids.gather(rest.user_ids.tolist()),
            "item_id": dataset.items.ids.gather(rest.item_ids.tolist()),
            "timestamp": pl.Series(rest.time_ms).cast(pl.Datetime("ms")),
        }
    )
    retriever.add_clicks(frame.sample(fraction=1.0, shuffle=True, seed=0))
    trained = set(dataset.clicks.item_ids[: fitted.trained_clicks].tolist())
    for user in range(len(dataset.users)):
        scores = served_scores(fitted, dataset, user)
        assert retriever.recommend(dataset.users.ids[user], 7).item_ids == outside(dataset, ranked(scores, trained)[:7])
    with pytest.raises(MicrecError, match="earlier than a click that the bundle knows"):
        retriever.add_clicks(frame)
    with pytest.raises(MicrecError, match=r"(?s)user_id: -1: not known.*item_id: nothing: not known"):
        retriever.add_clicks({"user_id": [-1], "item_id": ["nothing"], "timestamp": [2_000_000_000]})
    with pytest.raises(MicrecError, match="whole seconds since 1970 or datetimes"):
        retriever.add_clicks(frame.with_columns(timestamp=pl.lit("yesterday")))


def test_items_added_later_have_the_bias_of_an_item_without_clicks(fitted, dataset):
    retriever = Retriever.build(fitted, dataset)
    item = dataset.items.frame.row(0, named=True)
    retriever.add_items({"item_id": ["fresh"], "title": [item["title"]], "category": [item["category"]]})
    answer = retriever.recommend(dataset.users.ids[0], 100)
    model = fitted.model
    columns = retriever.bundle.items.take(torch.tensor([len(dataset.items)]))
    numbers = model.item_fields(columns).detach().double().numpy().sum(axis=(0, 1))
    log = log_of(dataset)
    pairs, day = [pair[1:] for pair in log], log[-1][2] // DAY_MS + 1
    known = served_scores(fitted, dataset, 0)
    popularity = popularity_by_hand(pairs, day, len(known))
    faded = np.exp(popularity)  # relative to the mean; an item without clicks has c of c + its clicks
    total = sum(0.5 ** ((day - then // DAY_MS) / POPULARITY_HALF_LIFE) for _, then in pairs if then // DAY_MS < day)
    assert faded.mean() == pytest.approx(1.0)
    least = math.log(len(known) * 0.3 / (total + 0.3 * len(known)))
    embedded, bias = item_numbers(fitted)
    # score = p . u + rest, and the same u gives the known scores: solve for p . u by another item's numbers
    user = np.linalg.lstsq(embedded[:, :6], bare_scores(fitted, known, bias, popularity, log, 0), rcond=None)[0]
    expected = numbers[:6] @ user + model.prior.bias.weight[0, 0].item() + model.prior.drift.item() * least
    assert answer.scores[answer.item_ids.index("fresh")] == pytest.approx(expected, rel=1e-3, abs=1e-3)


def bare_scores(fitted, scores, bias, popularity, log, user):
    """Scores without prior and personal term."""
    bare = scores - bias - fitted.model.prior.drift.item() * popularity
    counts = defaultdict(float)
    for item, then in history_of(log, user)[-LENGTH:]:
        counts[item] += 0.5 ** ((log[-1][2] - then) / DAY_MS / HALF_LIFE)
    for item, count in counts.items():
        bare[item] -= fitted.model.personal.by_count.item() * math.log(1 + count) + fitted.model.personal.once.item()
    return bare


def test_a_saved_model_answers_alike(fitted, dataset, tmp_path):
    save_model(fitted, dataset, tmp_path / "model")
    loaded = load_model(tmp_path / "model", dataset, device="cpu")
    task = evaluation_task(dataset, temporal_split(dataset.clicks, fitted.config.split), EvalConfig(), "test")
    ours, theirs = fitted.scores(task), loaded.scores(task)
    assert torch.equal(ours(0, len(task)), theirs(0, len(task)))


# -- keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"context": "rolling"}}, "rows session needs context before_session or other_sessions, got rolling"),
        ({"model": {"item_id": False}}, "item_bias needs item_id true, got false"),
        ({"model": {"linear_skip": True}}, "linear_skip does not apply to name fism, whose items have two vectors"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config_of(**changes)
