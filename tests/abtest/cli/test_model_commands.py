"""From tables to recommendations, through the command line alone."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from abtest.cli.main import app
from micrec.cli.model_commands import _recall_lines
from micrec.errors import MicrecError
from micrec.rank_metrics import RANK_METRICS
from micrec.retrieval import DepthRecall, IndexReport
from micrec.settings import build_config
from tests.micrec.factories import random_frames

SMALL = {
    "model": {"embedding_dim": 8, "hidden": [8], "options": {"heads": 2}, "history_length": 4},
    "softmax": {"num_negatives": 5},
    "contrast": {"semantic": {"svd_dim": 4, "top_k": 3, "negatives": 5}, "session": {"negatives": 5}},
    "train": {"batch_size": 128, "device": "cpu", "metric": "hit@5", "threads": 1},
    "evaluation": {"cutoffs": [5, 10]},
}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run(*arguments: object) -> str:
    """Standard output of a command that succeeds."""
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object) -> str:
    """Standard error of a command that refuses what it is given."""
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.stderr


class Shop:
    """Folders of one small project, filled command by command."""

    def __init__(self, home: Path) -> None:
        self.tables, self.data, self.out, self.bundle = (home / name for name in ("csv", "data", "out", "bundle"))
        self.config = home / "small.yaml"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """CSV tables, converted, trained on for two epochs, and indexed."""
    shop = Shop(tmp_path_factory.mktemp("shop"))
    shop.tables.mkdir()
    schema, users, items, clicks = random_frames(np.random.default_rng(0))
    items = items.drop("content").with_columns(pl.col("tags").list.join("|"))
    for name, frame in (("users", users), ("items", items), ("clicks", clicks)):
        frame.write_csv(shop.tables / f"{name}.csv")
    keys = schema.model_dump(mode="json", include={"users", "items", "roles"})
    del keys["items"]["content"], keys["roles"]["content"]
    (shop.tables / "schema.yaml").write_text(yaml.safe_dump(keys, sort_keys=False))
    shop.config.write_text(yaml.safe_dump(SMALL))
    run("convert", "table", shop.tables, shop.data)
    run("train", shop.data, shop.out, "--preset", "paper", "--config", shop.config, "--set", "train.epochs=2")
    run("index", shop.out, shop.data, shop.bundle, "--k", 5)
    return shop


def ask(shop: Shop, *arguments: object) -> dict[str, Any]:
    answer = json.loads(run("recommend", shop.bundle, *arguments, "--json"))
    assert isinstance(answer, dict)
    return answer


def test_describe_counts_what_was_converted(shop):
    counts = json.loads(run("describe", shop.data, "--json"))
    assert (counts["users"], counts["items"], counts["clicks"]) == (40, 30, 600)


class TestTrain:
    def test_it_says_what_was_trained_and_what_comes_next(self, shop, tmp_path):
        text = run("train", shop.data, tmp_path / "out", "--config", shop.config, "--set", "train.epochs=1")
        assert "model: ican + feature, semantic, session\n" in text
        assert "switches: preset paper, " in text
        assert "train.epochs=1" in text
        assert "epochs_run: 2\n" in text  # one to search, one to refit
        assert f"next: micrec evaluate {tmp_path / 'out'} {shop.data}\n" in text
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model"]

    def test_a_finished_model_needs_force(self, shop, tmp_path):
        command = ("train", shop.data, tmp_path / "out", "--config", shop.config, "--set", "train.epochs=1")
        run(*command)
        before = (tmp_path / "out" / "model" / "manifest.json").read_bytes()
        assert "model: holds a trained model: name another folder, or replace it" in refused(*command)
        assert (tmp_path / "out" / "model" / "manifest.json").read_bytes() == before
        run(*command, "--set", "train.seed=1", "--force")
        assert (tmp_path / "out" / "model" / "manifest.json").read_bytes() != before

    def test_an_interrupted_training_goes_on_to_the_same_model(self, shop, tmp_path, monkeypatch):
        from micrec.training import Trainer

        epochs: list[int] = []
        whole_epoch = Trainer.epoch

        def epoch(self: Trainer, *args: Any, **kwargs: Any) -> Any:
            epochs.append(self.epochs_done)
            if len(epochs) == 2:
                raise KeyboardInterrupt
            return whole_epoch(self, *args, **kwargs)

        monkeypatch.setattr(Trainer, "epoch", epoch)
        out = tmp_path / "out"
        command = ("train", shop.data, out, "--config", shop.config, "--set", "train.epochs=2")
        stopped = call(*command)
        assert stopped.exit_code == 130
        assert f"interrupted: the same command goes on from {out}" in stopped.stderr
        assert sorted(path.name for path in out.iterdir()) == ["checkpoint"]
        assert "training is unfinished: give the same micrec train command again" in refused("evaluate", out, shop.data)
        resumed = call(*command)
        assert "resuming after search epoch 1" in resumed.stderr
        assert epochs == [0, 1, 1, 0, 1][: len(epochs)]
        tensors = [next(folder.glob("model/*.safetensors")).read_bytes() for folder in (out, shop.out)]
        assert tensors[0] == tensors[1]

    def test_other_losses_other_label(self, shop, tmp_path):
        off = [part for name in ("feature", "session") for part in ("--set", f"contrast.{name}.weight=0")]
        text = run("train", shop.data, tmp_path / "out", "--config", shop.config, "--set", "train.epochs=1", *off)
        assert "model: ican + semantic\n" in text


class TestEvaluate:
    def test_hit_stands_beside_its_ceiling_and_the_baselines(self, shop):
        """30 items and 120 test clicks: what is above and below is read from the rows, and said in words."""
        lines = run("evaluate", shop.out, shop.data).splitlines()
        rows = [line.split() for line in lines]
        table = rows[rows.index(["HIT@N", "5", "10", "seconds"]) + 2 :][:14]
        names = ["ican + feature, semantic, session", "popularity", "recent popularity", "segment popularity"]
        names += ["item-kNN", "item-kNN with BM25", "EASE", "iALS", "title-kNN", "tag-kNN", "counts of a field"]
        names += ["transitions"]
        assert [" ".join(row[:-3]) for row in table[:12]] == names
        assert [" ".join(row[:-2]) for row in table[12:]] == ["random lists", "highest possible"]
        assert all(float(row[-1]) >= 0 for row in table[:12])
        hits = np.array([*(row[-3:-1] for row in table[:12]), *(row[-2:] for row in table[12:])], dtype=float)
        assert (hits[:13] <= hits[13]).all()
        assert (hits[:, 0] <= hits[:, 1]).all()
        coverage = rows[rows.index(["coverage@N", "5", "10"]) + 2 :][:12]
        assert [" ".join(row[:-2]) for row in coverage] == names
        assert any(line.startswith("  segment popularity: field ") for line in lines)
        assert any(line.startswith("  counts of a field: field ") for line in lines)
        assert any(line.startswith("Verdict: ") and "popularity" in line and "item-kNN" in line for line in lines)
        place = lines.index("What is judged")
        assert lines[place + 1].startswith("  100.0 % of the 120 test clicks are judged (120).")
        assert "of the judged clicks can be hit (" in lines[place + 2]
        assert any("preset paper, model.embedding_dim=8" in line for line in lines)
        assert not any("recall@10" in line for line in lines)

    def test_all_prints_the_rest(self, shop):
        short, text = (run("evaluate", shop.out, shop.data, *more) for more in ((), ("--all",)))
        (count,) = [int(line.split()[2]) for line in short.splitlines() if line.startswith("--all prints")]
        for metric in ("recall@10", "gini@5", "mrr", "seen_places@10"):
            assert f" {metric} " in text
        models = json.loads(run("evaluate", shop.out, shop.data, "--json"))["models"]
        measured = {metric for result in models.values() for metric in result["metrics"]}
        first = {f"{kind}@{n}" for kind in ("hit", "coverage") for n in (5, 10)}
        assert count == len(measured - first)
        assert all(f" {metric} " in text for metric in measured - first)
        for name in ("head", "tail", "repeats", "cold_users"):
            assert any(line.split()[:1] == [name] for line in text.splitlines())

    def test_a_part_that_is_hardly_judged_is_warned_about(self, tmp_path):
        """Nine of ten users come after the split, and nine of ten clicks of the tenth go to new items."""
        rows = [("old", f"i{n % 8}", n) for n in range(50)] + [("late", f"i{n % 8}", n) for n in range(45)]
        rows += [("old", "i0" if n == 3 else f"n{n}", 100 + n) for n in range(10)]
        rows += [(f"new{n}", f"i{n % 8}", 110 + n) for n in range(14)]
        frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
        frame = frame.with_columns(timestamp=1_600_000_000 + 1000 * pl.col("timestamp"))
        frame.write_csv(tmp_path / "clicks.csv")
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
        run("convert", "table", tmp_path / "clicks.csv", tmp_path / "data")
        run(
            "train", tmp_path / "data", tmp_path / "out", "--config", tmp_path / "small.yaml", "--set", "train.epochs=1"
        )
        text = run("evaluate", tmp_path / "out", tmp_path / "data", "--set", "cutoffs=[1,50]")
        assert "  41.7 % of the 24 test clicks are judged (10). Not judged: 14 of 14 users without a click" in text
        assert "  10.0 % of the judged clicks can be hit (1). Not: 9 on items that nobody clicked before" in text
        assert "warning: only 41.7 % of the test clicks are judged: " in text
        assert "warning: only 10.0 % of the judged clicks can be hit at all: " in text
        assert "note: hit@50: a list of 50 holds all 8 candidates, whatever the model, so it says nothing." in text

    def test_json_holds_everything(self, shop):
        found = json.loads(run("evaluate", shop.out, shop.data, "--json"))
        assert (found["dataset"], found["part"]) == ("clicks", "test")
        assert (found["reach"]["lines"], found["reach"]["judged"]) == (120, 120)
        assert {"reach", "standings", "warnings", "notes"} <= set(found)
        models = found["models"]
        assert list(models) == [
            "ican + feature, semantic, session",
            "popularity",
            "recent_popularity",
            "segment_popularity",
            "item_knn",
            "item_knn_bm25",
            "ease",
            "ials",
            "title_knn",
            "tag_knn",
            "field_counts",
            "transitions",
        ]
        assert all(found["seconds"][name] > 0 for name in models)
        for result in models.values():
            assert result["lines"] == 120
            assert all(0 <= value <= 1 for value in result["metrics"].values())
            slices = result["slices"]
            assert slices["head"]["lines"] + slices["tail"]["lines"] + slices["new_items"]["lines"] == 120
            assert slices["head"]["metrics"]["hit@5"] >= 0

    def test_every_metric_may_stop_a_training(self, shop):
        """What the config accepts is measured. How unequal or how spread out lists are is told, and stops nothing."""
        models = json.loads(run("evaluate", shop.out, shop.data, "--json"))["models"]
        measured = models["popularity"]["metrics"]
        cutoffs = {metric.partition("@")[2] for metric in measured if metric.startswith("hit@")}
        assert cutoffs
        for metric in ("mrr", *(f"{kind}@{cutoff}" for kind in (*RANK_METRICS, "coverage") for cutoff in cutoffs)):
            assert metric in measured
            build_config("paper", {"train": {"metric": metric}})
        with pytest.raises(MicrecError, match="must be mrr or hit@N"):
            build_config("paper", {"train": {"metric": "gini@5"}})

    def test_another_protocol(self, shop):
        sets = ("--set", "history=rolling", "--set", "evaluation.cutoffs=[1]")  # both spellings
        found = json.loads(run("evaluate", shop.out, shop.data, *sets, "--json"))
        metrics = next(iter(found["models"].values()))["metrics"]
        assert "hit@1" in metrics
        assert "hit@5" not in metrics
        wrong = refused("evaluate", shop.out, shop.data, "--set", "histori=rolling")
        assert "--set: histori: unknown key, did you mean history?" in wrong

    def test_clicks_trained_on_are_no_measure(self, shop, tmp_path):
        """Refitted on train and validation, a model knows the validation clicks."""
        assert "the model was trained on the first 480 clicks, and the valid part starts at click 432" in refused(
            "evaluate", shop.out, shop.data, "--part", "valid"
        )
        sets = ("--set", "train.epochs=1", "--set", "train.refit=false")
        run("train", shop.data, tmp_path / "out", "--config", shop.config, *sets)
        found = json.loads(run("evaluate", tmp_path / "out", shop.data, "--part", "valid", "--json"))
        assert found["models"]["item_knn"]["lines"] == 48


class TestIndex:
    @pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw", "tree"])
    def test_recall_is_printed(self, shop, tmp_path, kind):
        text = run("index", shop.out, shop.data, tmp_path / "b", "--kind", kind, "-k", 7, "--catalogue", "all")
        assert text.startswith(f"{kind} index of 30 items")
        assert "recall against exact search, 40 users:\n  recall@7: 1.0000  (" in text
        assert "  recall@10: 1.0000  (" in text
        assert "recall@50" not in text
        assert "not measured at 50, 100, 500: the index holds 30 items: every item is returned\n" in text
        stored = json.loads((tmp_path / "b" / "manifest.json").read_text())["index"]["depths"]
        assert [depth["k"] for depth in stored] == [7, 10]
        assert f"next: micrec recommend {tmp_path / 'b'} --user 1000\n" in text

    def test_a_recall_just_below_one_is_not_called_one(self):
        depths = (DepthRecall(10, 0.99997, 3), DepthRecall(50, 0.57, 9))
        first, second, *lines = _recall_lines(IndexReport("ivf", 900, 1000, 23, depths), [10, 50])
        assert (first, second) == ("ivf index of 900 items in 23 cells", "recall against exact search, 1,000 users:")
        assert lines[:2] == [
            "  recall@10: 0.9999  (searches 3 of 23 cells)",
            "  recall@50: 0.5700  (searches 9 of 23 cells)",
        ]
        assert lines[2].startswith("note: lists of 50 lack 43.0% of the true best 50: --kind flat lacks nothing")
        assert len(lines) == 3

    def test_what_is_refused(self, shop, tmp_path):
        index = ("index", shop.out, shop.data)
        of_no_kind = refused(*index, tmp_path / "b", "--kind", "annoy")
        assert "--kind: must be one of flat, ivf, ivfpq, hnsw, tree, got annoy" in of_no_kind
        assert "--catalogue: must be one of train, all" in refused(*index, tmp_path / "b", "--catalogue", "best")
        assert "bundle: holds a serving bundle: name another folder, or replace" in refused(*index, shop.bundle)
        assert "csv: exists and is no serving bundle" in refused(*index, shop.tables, "--force")
        assert "holds no trained model: give the folder that micrec train wrote" in refused(
            "index", shop.data, shop.data, tmp_path / "b"
        )
        assert list(tmp_path.iterdir()) == []

    def test_force_replaces_a_bundle(self, shop, tmp_path):
        for options in ((), ("--force", "--kind", "hnsw")):
            run("index", shop.out, shop.data, tmp_path / "b", *options)
        assert json.loads((tmp_path / "b" / "manifest.json").read_text())["index"]["kind"] == "hnsw"


class TestRecommend:
    def test_a_known_user(self, shop):
        text = run("recommend", shop.bundle, "--user", 1003, "--k", 4)
        assert [name in text for name in ("rank", "item_id", "title", "score")] == [True] * 4
        answer = ask(shop, "--user", 1003, "--k", 4)
        assert len(answer["item_ids"]) == 4
        assert all(item in text for item in answer["item_ids"])
        assert answer["scores"] == sorted(answer["scores"], reverse=True)
        assert answer["titles"][0].startswith("word")

    def test_an_unseen_user_with_the_same_fields_and_clicks(self, shop):
        users = pl.read_csv(shop.tables / "users.csv", infer_schema=False)
        user = users.row(by_predicate=pl.col("user_id") == "1003", named=True)
        clicks = pl.read_csv(shop.tables / "clicks.csv", infer_schema=False).filter(pl.col("user_id") == "1003")
        fields = [f"--field={name}={user[name]}" for name in ("country", "age")]
        history = ("--history", ", ".join(clicks["item_id"]))
        assert ask(shop, *fields, *history) == ask(shop, "--user", 1003)
        assert ask(shop, *fields, *history, "--hide-seen") == ask(shop, "--user", 1003, "--hide-seen")

    def test_seen_items_are_hidden(self, shop):
        shown = ask(shop, "--history", "i0000", "--k", 30)["item_ids"]
        hidden = ask(shop, "--history", "i0000", "--k", 30, "--hide-seen")["item_ids"]
        assert hidden == [item for item in shown if item != "i0000"]
        assert len(hidden) == len(shown) - 1

    def test_new_items_come_from_a_csv_file(self, shop, tmp_path):
        twin = pl.read_csv(shop.tables / "items.csv", infer_schema=False).head(2)
        twin.with_columns(item_id=pl.Series(["new1", "new2"])).write_csv(tmp_path / "new.csv")
        answer = ask(shop, "--new-items", tmp_path / "new.csv", "--history", "new1,i0003", "--k", 40)
        titles = dict(zip(answer["item_ids"], answer["titles"], strict=True))
        assert titles["new1"] == twin["title"][0]
        assert "new2" in titles

    def test_values_nobody_knows_are_pointed_out(self, shop, tmp_path):
        (tmp_path / "new.csv").write_text("item_id,category,tags\nn1,c1,tag1|taag2\nn2,c77,\n")
        result = call("recommend", shop.bundle, "--field", "country=k99", "--new-items", tmp_path / "new.csv", "--json")
        assert result.exit_code == 0
        assert sorted(result.stderr.splitlines()) == [
            "note: item field category: c77: unknown to the model, read as missing",
            "note: item field tags: taag2: unknown to the model, read as missing",
            "note: user field country: k99: unknown to the model, read as missing",
        ]
        assert set(json.loads(result.stdout)) == {"item_ids", "scores", "titles"}

    def test_clicks_are_given_in_any_of_three_ways(self, shop, tmp_path):
        expected = ask(shop, "--history", "i0003,i0001,i0002")
        assert ask(shop, "--history", "i0003", "--history", "i0001", "--history", " i0002 ") == expected
        assert ask(shop, "--history", "i0003,i0001", "--history", "i0002") == expected
        for name, text in {
            "plain": "i0003\n\ni0001\ni0002\n",
            "headed.txt": "item_id\ni0003\ni0001\ni0002\n",
            "one.csv": "i0003\ni0001\ni0002",
            "table.csv": "time;item_id\n1;i0003\n2;i0001\n3;i0002\n",
        }.items():
            (tmp_path / name).write_text(text)
            assert ask(shop, "--history-file", tmp_path / name) == expected, name
        pl.DataFrame({"item_id": ["i0003", "i0001", "i0002"]}).write_parquet(tmp_path / "table.parquet")
        assert ask(shop, "--history-file", tmp_path / "table.parquet") == expected
        (tmp_path / "plain").write_text("i0003\n")
        assert ask(shop, "--history-file", tmp_path / "plain", "--history", "i0001,i0002") == expected

    def test_ids_may_hold_commas(self, shop, tmp_path):
        """An item is called a, b; another i0001,i0002, though both parts of it are items too."""
        (tmp_path / "new.csv").write_text('item_id,category\n"a, b",c1\n"i0001,i0002",c2\n')
        added = ("--new-items", tmp_path / "new.csv", "--k", 40)
        (tmp_path / "history").write_text("a, b\ni0003\n")
        expected = ask(shop, *added, "--history-file", tmp_path / "history")
        assert ask(shop, *added, "--history", "a, b", "--history", "i0003") == expected
        message = refused("recommend", shop.bundle, *added, "--history", "a, b,i0003")
        assert "history: a, b: none of the 32 items" in message
        assert "An id that holds a comma goes alone into a --history of its own." in message
        both = call("recommend", shop.bundle, *added, "--history", "i0001,i0002", "--json")
        assert "note: --history i0001,i0002: is read as one item; for several write one --history each" in both.stderr
        assert json.loads(both.stdout) != ask(shop, *added, "--history", "i0001", "--history", "i0002")

    def test_near_spellings_are_told(self, shop):
        message = refused("recommend", shop.bundle, "--history", "I0007,i00012")
        assert "I0007 (did you mean i0007?)" in message
        assert re.search(r"i00012 \(did you mean (i\d{4} or )*i0012", message)
        assert "user 1003.0 (did you mean 1003?): none of the 40 users" in refused(
            "recommend", shop.bundle, "--user", "1003.0"
        )

    def test_hiding_what_was_seen_is_hinted_at(self, shop):
        alone = ask(shop, "--k", 40)["item_ids"]
        first = call("recommend", shop.bundle, "--history", alone[0], "--k", 40, "--json")
        leads = json.loads(first.stdout)["item_ids"][0] == alone[0]
        assert ("--hide-seen" in first.stderr) == leads
        clicks = pl.read_csv(shop.tables / "clicks.csv", infer_schema=False)
        hinted = 0
        for user in range(1000, 1010):
            seen = set(clicks.filter(pl.col("user_id") == str(user))["item_id"])
            result = call("recommend", shop.bundle, "--user", user, "--json")
            items = json.loads(result.stdout)["item_ids"]
            count = sum(item in seen for item in items)
            hint = (
                f"note: {count} of the 10 items were clicked before, the first among them; --hide-seen leaves them out"
            )
            assert (hint in result.stderr) == (items[0] in seen)
            hinted += items[0] in seen
            assert call("recommend", shop.bundle, "--user", user, "--hide-seen").stderr == ""
        assert hinted > 0

    def test_new_items_are_read_as_convert_reads_tables(self, shop, tmp_path):
        """Other separators, names, decimal commas and marks between values; the same list as from a plain file."""
        files = {
            "plain.csv": "item_id,category,tags,price,title\nn1,c1,tag1|tag2,1.5,Lamp\nn2,c2,tag3,2.25,Mug\n",
            "semi.csv": "item_id;category;tags;price;title\nn1;c1;tag1,tag2;1,5;Lamp\nn2;c2;tag3;2,25;Mug\n",
            "named.tsv": "SKU\tcategory\ttags\tprice\ttitle\nn1\tc1\ttag1; tag2\t1.5\tLamp\nn2\tc2\ttag3\t2.25\tMug\n",
            "pipes.csv": 'Item_ID|category|tags|price|title\nn1|c1|"tag1|tag2"|1.5|Lamp\nn2|c2|tag3|2.25|Mug\n',
        }
        frame = pl.DataFrame({"item_id": ["n1", "n2"], "category": ["c1", "c2"], "tags": [["tag1", "tag2"], ["tag3"]]})
        frame = frame.with_columns(price=pl.Series([1.5, 2.25]), title=pl.Series(["Lamp", "Mug"]))
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        frame.write_parquet(tmp_path / "table.parquet")
        (tmp_path / "parts").mkdir()
        for number in range(2):
            frame[number : number + 1].write_parquet(tmp_path / "parts" / f"part-{number}.parquet")
        options = {"semi.csv": ("--separator", ";"), "named.tsv": ("--columns", "item_id=SKU")}
        answers = {
            name: ask(shop, "--new-items", tmp_path / name, *options.get(name, ()), "--history", "i0001", "--k", 40)
            for name in [*files, "table.parquet", "parts"]
        }
        assert {"n1", "n2"} <= set(answers["plain.csv"]["item_ids"])
        assert [name for name in answers if answers[name] != answers["plain.csv"]] == []

    def test_columns_that_the_model_does_not_read(self, shop, tmp_path):
        (tmp_path / "new.csv").write_text("item_id,category,colour\nn1,c1,red\n")
        result = call("recommend", shop.bundle, "--new-items", tmp_path / "new.csv", "--json")
        assert result.exit_code == 0
        assert "note: new.csv: not read by the model: colour.\n" in result.stderr
        (tmp_path / "new.csv").write_text("item_id,category,prise\nn1,c1,3\n")
        assert "new.csv: column prise: did you mean price? Name it with --columns price=prise" in refused(
            "recommend", shop.bundle, "--new-items", tmp_path / "new.csv"
        )

    def test_a_changed_catalogue_is_kept_on_demand(self, shop, tmp_path):
        bundle = tmp_path / "bundle"
        run("index", shop.out, shop.data, bundle, "--k", 5)
        files = {path.name: path.read_bytes() for path in bundle.iterdir()}
        (tmp_path / "new.csv").write_text("item_id;category\nn1;c1\nn2;c2\n")
        (tmp_path / "gone").write_text("i0003\n")
        change = ("--new-items", tmp_path / "new.csv", "--separator", ";", "--remove-item", "i0001")
        change += ("--remove-items", tmp_path / "gone")
        shown = json.loads(run("recommend", bundle, *change, "--history", "i0001", "--k", 50, "--json"))
        assert {"n1", "n2"} <= set(shown["item_ids"])
        assert not {"i0001", "i0003"} & set(shown["item_ids"])
        assert {path.name: path.read_bytes() for path in bundle.iterdir()} == files  # nothing was kept

        kept = call("recommend", bundle, *change, "--save", "--json")
        listed = len(shown["item_ids"])
        assert json.loads(kept.stdout) == {"added": 2, "removed": 2, "listed": listed}
        assert f"bundle: 2 items added, 2 taken out, {listed} listed\n" in kept.stderr
        assert len(list(bundle.iterdir())) == 2
        again = json.loads(run("recommend", bundle, "--history", "i0001", "--k", 50, "--json"))
        assert again == shown
        back = call("recommend", bundle, "--new-items", tmp_path / "gone.csv", "--save")
        assert back.exit_code == 2
        (tmp_path / "gone.csv").write_text("item_id\ni0003\n")
        back = call("recommend", bundle, "--new-items", tmp_path / "gone.csv", "--save", "--user", 1003, "--k", 50)
        assert "note: 1 of the items were known, and are listed again; fields not given stay as known" in back.stderr
        assert "i0003" in back.stdout

    def test_nothing_is_kept_of_a_call_that_fails(self, shop, tmp_path):
        bundle = tmp_path / "bundle"
        run("index", shop.out, shop.data, bundle, "--k", 5)
        files = {path.name: path.read_bytes() for path in bundle.iterdir()}
        (tmp_path / "new.csv").write_text("item_id\nn1\n")
        change = ("recommend", bundle, "--new-items", tmp_path / "new.csv", "--save")
        assert "i0001x" in refused(*change, "--remove-item", "i0001x")
        assert "none of the 31 items" in refused(*change, "--history", "nobody")
        assert {path.name: path.read_bytes() for path in bundle.iterdir()} == files

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--user", "5"], "user 5: none of the 40 users of the bundle"),
            (["--user", "1003", "--history", "i0001"], "--user: goes without --field and --history"),
            (["--field", "country"], "--field: country: must read NAME=VALUE"),
            (["--field", "contry=k1"], "user fields: contry: unknown field: the model reads country, age"),
            (["--field", "age=old"], "user fields: age: must be a finite number, got 'old'"),
            (["--history", "i0001,zzz"], "history: zzz: none of the 30 items"),
            (["--history-file", "none.txt"], "none.txt: there is no such file"),
            (["--user", "1003", "--history-file", "x"], "--user: goes without --field and --history"),
            (["--field", "age=3", "--field", "age=4"], "--field: age: appears twice"),
            (["--save"], "--save: there is nothing to keep"),
            (["--remove-item", "zzz"], "items to remove: zzz: none of the 30 items"),
            (["--remove-items", "none.txt"], "none.txt: there is no such file"),
            (["--ids", "roman"], "--ids: must be one of as_written, number, lower, got roman"),
            (["--columns", "item_id"], "--columns 'item_id': must be NAME=VALUE"),
            (["--new-items", "none.csv"], "none.csv: there is no such file"),
            (["--k", "0"], "--k"),
        ],
    )
    def test_what_is_refused(self, shop, arguments, message):
        assert message in refused("recommend", shop.bundle, *arguments)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "new.csv: cannot be read (empty CSV)"),
            ("item_id,price\n", "holds no row below its header"),
            ("price\n3\n", "no column item_id (there are: price)"),
            ("item_id\ni0001\n", "i0001: known already"),
            ("item_id,colour\nn1,red\n", "item fields: colour: unknown field"),
        ],
    )
    def test_new_items_that_are_refused(self, shop, tmp_path, text, message):
        (tmp_path / "new.csv").write_text(text)
        assert message in refused("recommend", shop.bundle, "--new-items", tmp_path / "new.csv")

    def test_another_folder(self, shop, tmp_path):
        assert "model: holds a trained model, not a serving bundle" in refused("recommend", shop.out / "model")
        assert "none: there is no such folder: give a folder that micrec index wrote" in refused(
            "recommend", tmp_path / "none"
        )


@pytest.mark.parametrize("inside", ["model", "clicks/deep"])
def test_no_result_is_written_into_the_dataset_it_is_made_from(shop, inside):
    before = {path: path.read_bytes() for path in shop.data.rglob("*") if path.is_file()}
    assert "is or lies in" in refused("train", shop.data, shop.data)
    for command in (("train", shop.data), ("index", shop.out, shop.data)):
        assert "is or lies in" in refused(*command, shop.data / inside)
    assert {path: path.read_bytes() for path in shop.data.rglob("*") if path.is_file()} == before
