"""``import simulator``: worlds and a platform as calls on plain objects, with the commands' own bytes."""

import gc

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import abtest
import micrec
import simulator
from abtest.cli.main import app
from simulator.api import world_config
from simulator.ports import Candidates
from tests.public_names import failed_examples, loaded_after, undocumented, without_example

SMALL = {"users.count": 200, "items.count": 120, "items.categories": 4, "tags.count": 30, "sessions.per_user": 8.0}
ARMS = {"control": {}, "treatment": {"pipeline": {"channels": {"popular": None}}}}


class TestPackage:
    def test_importing_it_loads_no_library(self):
        assert loaded_after("import simulator; dir(simulator)") == set()

    def test_a_world_and_a_platform_need_no_torch(self):
        code = (
            "import simulator; simulator.make_world('tiny', scale=0.05);"
            "simulator.Platform('tiny', scale=0.05, days=1, history_days=2).run().to_frame()"
        )
        assert loaded_after(code) & {"torch", "faiss", "sklearn", "matplotlib"} == set()

    def test_every_public_name_is_documented_and_typed(self):
        assert undocumented(simulator) == []
        assert without_example("simulator.api", ["make_world", "Platform"]) == []

    def test_the_examples_hold(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert failed_examples("simulator", "simulator.api") == 0


class TestWorld:
    def test_in_memory_and_written_by_the_command_it_is_the_same(self, tmp_path):
        out = tmp_path / "w"
        sets = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
        done = CliRunner().invoke(app, ["world", "tiny", "--out", str(out), "--workers", "1", *sets])
        assert done.exit_code == 0, done.output
        made = simulator.make_world("tiny", settings=SMALL)
        read = micrec.load(out)
        assert made.to_frame().equals(read.to_frame())
        assert made.dataset.fingerprint == read.fingerprint
        assert made.dataset.schema == read.schema
        assert made.dataset.users.frame.equals(read.users.frame)
        assert made.dataset.items.frame.equals(read.items.frame)
        files = sorted(out.glob("*/clicks/part-*.parquet"))
        causes = pl.concat(pl.read_parquet(file)["cause"].cast(pl.String) for file in files)
        assert causes.sort().to_list() == made.truth.clicks["cause"].sort().to_list()
        again = simulator.make_world("tiny", settings=SMALL, out=tmp_path / "again", workers=1)
        for name, table in made.truth._asdict().items():
            assert getattr(again.truth, name).equals(table), name
        assert again.folder == tmp_path / "again"
        assert again.to_dict() == {**made.to_dict(), "folder": str(tmp_path / "again")}
        assert (made.users, made.items, made.clicks) == (len(read.users), len(read.items), len(read.clicks))
        assert repr(
            made
        ) == f"World tiny in memory: {len(read.users)} users, 120 items, {len(read.clicks):,} clicks " + (
            "over 14 days, seed 0"
        )

    def test_the_truth_stands_beside_each_click(self):
        made = simulator.make_world("tiny", settings={**SMALL, "links.strength": 0.0})
        clicks = made.truth.clicks
        assert len(clicks) == len(made.dataset.clicks)
        assert clicks["item_id"].to_list() == made.to_frame()["item_id"].to_list()
        assert "link" not in clicks["cause"].unique()
        linked = simulator.make_world("tiny", settings={**SMALL, "links.strength": 1.0, "links.density": 1.0})
        assert "link" in linked.truth.clicks["cause"].unique()

    def test_a_world_may_come_in_four_ways(self, tmp_path):
        file = tmp_path / "mine.yaml"
        file.write_text("extends: worlds/tiny\nusers: {count: 50}\n")
        by_file = world_config(file)
        by_keys = world_config({"extends": "worlds/tiny", "users.count": 50, "name": "mine"})
        by_name = world_config("tiny", settings={"users.count": 50, "name": "mine"})
        by_config = world_config(world_config("tiny"), settings={"users": {"count": 50}, "name": "mine"})
        assert by_file == by_keys == by_name == by_config
        assert by_file.users.count == 50
        assert world_config("tiny", scale=0.5).users.count == 1500

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"world": "tinny"}, "did you mean tiny"),
            ({"world": {"user": 3}}, "user: unknown key, did you mean users"),
            ({"settings": {"users.count": -1}}, "users.count: must be >= 1"),
            ({"scale": 0}, "must be > 0, got 0"),
            ({"scale": "1"}, "scale: must be a number, got '1'"),
            ({"world": 3}, "world: is a int: give the name of a shipped world"),
            ({"settings": ["seed=1"]}, "settings: is a list, where a mapping is needed"),
            ({"settings": {"users.count": 1, "sessions.per_user": 1.001, "days": 1}}, "no user clicks within 1 days"),
        ],
    )
    def test_what_is_wrong_is_named(self, given, message):
        with pytest.raises(micrec.MicrecError, match=message):
            simulator.make_world(**given)


@pytest.fixture(scope="module")
def log():
    return simulator.Platform("tiny", scale=0.1, config={"arms": ARMS, "warmup_days": 1}, history_days=3, days=2).run()


class TestPlatform:
    def test_rows_of_users_and_days_are_counts_of_the_tables(self, log):
        rows = log.to_frame()
        behaviours, impressions = log.table("behaviours"), log.table("impressions")
        assert rows["clicks"].sum() == len(behaviours) == impressions["clicked"].sum()
        assert rows["impressions"].sum() == len(impressions)
        assert rows["requests"].sum() == len(log.table("requests"))
        assert rows["dwell_s"].sum() == pytest.approx(behaviours["dwell_s"].cast(pl.Float64).sum())
        assert sorted(rows["day"].unique()) == [1, 2]
        assert rows.select("user_id", "day").is_duplicated().sum() == 0
        totals = log.to_dict()
        assert totals["control"]["clicks"] + totals["treatment"]["clicks"] == len(behaviours)

    def test_arms_differ_by_their_pipelines(self, log):
        offered = log.table("impressions").group_by("arm").agg(pl.col("channel").unique())
        channels = dict(offered.iter_rows())
        assert "popular" in channels["control"]
        assert "popular" not in channels["treatment"]

    def test_the_warm_up_is_apart(self, log):
        before = log.table("requests", warm_up=True)
        assert before["arm"].unique().to_list() == ["warmup"]
        assert before["day"].unique().to_list() == [3]
        assert sorted(log.table("requests")["day"].unique()) == [4, 5]

    def test_the_truth_says_why(self, log):
        truth = log.truth()
        clicked = truth.filter(pl.col("cause").is_not_null())
        assert len(clicked) == len(log.table("behaviours"))
        assert clicked["examined"].all()

    def test_its_rows_can_be_judged(self, log):
        result = abtest.analyze(log.to_frame(), planned_days=2)
        assert result.decision in ("ship", "hold", "stop")
        users = dict(log.to_frame().group_by("arm").agg(pl.col("user_id").n_unique()).iter_rows())
        row = result.to_frame().row(0, named=True)
        assert (row["control_n"], row["treatment_n"]) == (users["control"], users["treatment"])

    def test_the_same_keys_give_the_same_log(self, log):
        again = simulator.Platform(
            "tiny", scale=0.1, config={"arms": ARMS, "warmup_days": 1}, history_days=3, days=2
        ).run()
        assert again.to_frame().equals(log.to_frame())

    def test_a_folder_is_kept_and_taken_up_a_temporary_one_goes_with_the_log(self, tmp_path):
        given = {"scale": 0.05, "config": {"warmup_days": 0}, "history_days": 2}
        first = simulator.Platform("tiny", days=1, folder=tmp_path / "p", **given).run()
        rows = first.to_frame()
        del first
        gc.collect()
        again = simulator.Platform("tiny", days=1, folder=tmp_path / "p", **given).run()
        assert again.to_frame().equals(rows)
        temporary = simulator.Platform("tiny", days=1, **given).run()
        folder = temporary.folder
        assert folder.is_dir()
        del temporary
        gc.collect()
        assert not folder.exists()

    def test_a_channel_of_ones_own_serves(self):
        class First:
            """Offers the items of the lowest ids to everybody."""

            def __init__(self, options):
                self.count = options["count"]

            def train(self, log, *, previous, folder, seed):
                folder.mkdir(parents=True)

            def load(self, folder):
                return self

            def retrieve(self, requests, k):
                items = np.tile(np.arange(self.count), (len(requests.user_ids), 1))
                scores = -np.arange(self.count, dtype=np.float32)
                return Candidates(items, np.tile(scores, (len(items), 1)))

        channels = {"first": {"kind": "first", "options": {"count": 10}}}
        platform = simulator.Platform(
            {"extends": "worlds/tiny", **SMALL},
            config={"pipeline": {"channels": channels}, "warmup_days": 0},
            matchers={"first": First},
            history_days=2,
            days=1,
        )
        assert "channels first" in repr(platform)
        assert set(platform.run().table("impressions").filter(channel="first")["item_id"].unique()) <= set(range(10))

    def test_the_oracle_serves_and_gains(self):
        channels = {"oracle": {"kind": "oracle", "k": 200, "quota": 200}}
        popular = {"popular": {"kind": "popular", "k": 200, "quota": 200}}
        clicks = {}
        for name, keys in (("oracle", channels), ("popular", popular)):
            platform = simulator.Platform(
                {"extends": "worlds/tiny", **SMALL},
                config={"pipeline": {"channels": keys, "merge": {"candidates": 20}}, "warmup_days": 0},
                history_days=3,
                days=2,
            )
            log = platform.run()
            assert set(log.table("impressions")["channel"].unique()) == {name}
            clicks[name] = log.table("impressions")["clicked"].mean()
        assert clicks["oracle"] > 1.1 * clicks["popular"]

    def test_what_is_wrong_with_the_oracles_keys_is_named(self):
        wrong = {"kind": "oracle", "options": {"depth": 3}}
        with pytest.raises(micrec.MicrecError, match=r"options of kind oracle: depth: unknown key"):
            simulator.Platform("tiny", config={"pipeline": {"channels": {"best": wrong}}}).run()

    def test_a_model_of_micrec_serves_in_one_arm(self):
        small = {"model": {"name": "fm", "embedding_dim": 8}, "train.epochs": 1, "train.device": "cpu"}
        model = {"kind": "two_tower", "options": {"config": small}}
        arms = {"control": {}, "treatment": {"pipeline": {"channels": {"model": model}}}}
        platform = simulator.Platform(
            {"extends": "worlds/tiny", **SMALL}, config={"arms": arms, "warmup_days": 0}, history_days=3, days=1
        )
        jobs = platform.run().table("serving").filter(stage="model", outcome="answered")
        assert jobs["arm"].unique().to_list() == ["treatment"]
        assert jobs["offered"].sum() > 0
        wrong = {"kind": "two_tower", "options": {"config": {"train.epoch": 1}}}
        with pytest.raises(micrec.MicrecError, match=r"config.train.epoch: unknown key, did you mean epochs"):
            simulator.Platform("tiny", config={"pipeline": {"channels": {"model": wrong}}}).run()

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"config": {"arm": 3}}, "platform: arm: unknown key, did you mean arms"),
            ({"config": 3}, "platform: is a int: give a mapping"),
            ({"population": {"utility.taste": 99}}, "population: utility.taste"),
            ({"days": 0}, "days: must be a whole number >= 1, got 0"),
            ({"history_days": -1}, "history_days: must be a whole number >= 0"),
            ({"config": {"arms": {"a": {"pipeline": {"slate_size": 0}}}}}, "arms.a.pipeline.slate_size: must be >= 1"),
        ],
    )
    def test_what_is_wrong_is_named_before_anything_runs(self, given, message):
        with pytest.raises(micrec.MicrecError, match=message):
            simulator.Platform("tiny", **given)

    def test_unknown_kinds_and_tables(self, log):
        with pytest.raises(micrec.MicrecError, match=r"channels.x.kind: must be one of popular"):
            simulator.Platform("tiny", config={"pipeline": {"channels": {"x": {"kind": "nosuch"}}}}, days=1).run()
        with pytest.raises(micrec.MicrecError, match="there is no 'clicks': choose from requests"):
            log.table("clicks")
