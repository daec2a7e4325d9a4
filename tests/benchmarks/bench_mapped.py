"""Clicks larger than memory: clicks a second and peak memory of every stage, from files to an evaluated model.

    python tests/benchmarks/bench_mapped.py /big/disk --clicks 20000000
    python tests/benchmarks/bench_mapped.py /big/disk --clicks 20000000 --resident    # the same in memory

The log is generated: users with 50 clicks each on average, 100,000 items of 500 topics, sessions of ten clicks on one
topic mostly, 60 days, integer ids, in Parquet files of 4 million clicks. Each stage runs in a process of its own. Its
anonymous memory is what it needs; pages of mapped files belong to the cache of the kernel, which takes them back when
memory is short, and are shown apart. ``convert`` reads the same clicks as plain tables. Both are sampled every 20 ms
(Linux). The dataset (some 7 bytes a click), its encoded columns (16) and what is put on the disk meanwhile (up to 80
in training) lie in the given folder.
"""

import argparse
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl

N_ITEMS, N_TOPICS, SESSION, PART = 100_000, 500, 10, 4_000_000
DAYS, DAY_MS = 60, 86_400_000
TEST_CLICKS, STEPS = 50_000, 10
STAGES = (
    "convert",
    "convert CSV",
    "encode",
    "unsorted",
    "open",
    "describe",
    "histories",
    "co-occurrence",
    "train",
    "evaluate",
)
KEYS = {
    "contrast": {"semantic": {"weight": 0.0}},
    "train": {"device": "cpu", "shuffle": "blocks", "epochs": 1},
    "split": {"valid_fraction": 0.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="Where the log is generated; it stays there.")
    parser.add_argument("--clicks", type=int, default=20_000_000)
    parser.add_argument("--resident", action="store_true", help="Read the clicks into memory.")
    parser.add_argument("--ican", action="store_true", help="Train without item losses, hence without co-occurrence.")
    parser.add_argument("--stage", choices=STAGES, help="Only this one, in this process.")
    given = parser.parse_args()
    data = given.folder / f"log-{given.clicks}"
    if given.stage:
        measure(data, given.stage, resident=given.resident, ican=given.ican)
        return
    if not data.exists():
        generate(data, given.clicks)
    for stage in STAGES[4 * given.resident :]:
        command = [sys.executable, __file__, str(given.folder), "--clicks", str(given.clicks), "--stage", stage]
        flags = [f"--{flag}" for flag in ("resident", "ican") if getattr(given, flag)]
        subprocess.run([*command, *flags], check=True)


def generate(folder: Path, n_clicks: int) -> None:
    """Write a dataset of this many clicks, one part of the time at a time."""
    from micrec.data.schema import DatasetSchema, FieldType, Roles
    from micrec.data.store import write_dataset

    rng = np.random.default_rng(0)
    n_users = n_clicks // 50
    items = pl.DataFrame(
        {
            "item_id": np.arange(N_ITEMS),
            "category": [f"c{topic % 50}" for topic in np.arange(N_ITEMS) % N_TOPICS],
            "tags": pl.Series([[f"t{item % N_TOPICS}", f"s{item % 97}"] for item in range(N_ITEMS)]),
        }
    )
    schema = DatasetSchema(
        name=f"generated-{n_clicks}",
        time_unit="ms",
        users={},
        items={"category": FieldType.CATEGORICAL, "tags": FieldType.MULTI_CATEGORICAL},
        roles=Roles(category="category", taxonomy="tags"),
    )
    users = pl.DataFrame({"user_id": np.arange(n_users)})
    write_dataset(folder, schema, users, items, parts(n_clicks, n_users, rng), validate=False)


def parts(n_clicks: int, n_users: int, rng: np.random.Generator) -> Iterator[pl.DataFrame]:
    """The log in time order; a session lies within one part."""
    of_topic, per_topic = rng.permutation(N_ITEMS).reshape(N_TOPICS, -1), N_ITEMS // N_TOPICS
    zipf = np.cumsum(1.0 / np.arange(1, per_topic + 1))
    topics = np.cumsum(1.0 / np.arange(1, N_TOPICS + 1) ** 0.5)
    n_parts = -(-n_clicks // PART)
    span_ms = DAYS * DAY_MS // n_parts
    for number in range(n_parts):
        size = min(PART, n_clicks - number * PART)
        n_sessions = -(-size // SESSION)
        user = np.repeat((n_users * rng.random(n_sessions) ** 1.5).astype(np.int64), SESSION)[:size]
        topic = np.repeat(np.searchsorted(topics, rng.random(n_sessions) * topics[-1]), SESSION)[:size]
        stray = rng.random(size) < 0.2
        topic[stray] = rng.integers(0, N_TOPICS, int(stray.sum()))
        item = of_topic[topic, np.searchsorted(zipf, rng.random(size) * zipf[-1])]
        begin = np.repeat(rng.integers(0, span_ms - SESSION * 60_000, n_sessions), SESSION)[:size]
        time_ms = 1_600_000_000_000 + number * span_ms + begin + np.tile(np.arange(SESSION) * 60_000, n_sessions)[:size]
        order = np.argsort(time_ms, kind="stable")
        yield pl.DataFrame({"user_id": user[order], "item_id": item[order], "timestamp": time_ms[order]})


def reversed_parts(folder: Path) -> Path:
    """The same log with its parts in reverse, so that the clicks have to be sorted by time; links to the files."""
    other = folder.with_name(f"unsorted-{folder.name.partition('-')[2]}")
    (other / "clicks").mkdir(parents=True)
    found = sorted((folder / "clicks").iterdir())
    for part, name in zip(reversed(found), found, strict=True):
        (other / "clicks" / name.name).hardlink_to(part)
    for path in (folder / "dataset.yaml", folder / "users.parquet", folder / "items.parquet"):
        (other / path.name).hardlink_to(path)
    return other


def plain_source(folder: Path, stage: str) -> Path:
    """The log as plain tables, linked; for CSV written anew, with text ids and dates as shops write them."""
    source = folder.with_name(f"plain-{folder.name}")
    source.mkdir()
    if stage == "convert":
        (source / "clicks").mkdir()
        for path in sorted((folder / "clicks").iterdir()):
            (source / "clicks" / path.name).hardlink_to(path)
        return source
    rows = pl.scan_parquet(folder / "clicks" / "*.parquet")
    users = pl.format("u{}", "user_id").alias("user_id")
    time = pl.from_epoch("timestamp", time_unit="ms").dt.strftime("%Y-%m-%d %H:%M:%S").alias("timestamp")
    rows.select(users, "item_id", time).sink_csv(source / "clicks.csv")
    return source


class Peak:
    """Highest memory of this process since the last ``take``, bytes: anonymous, and pages of files."""

    def __init__(self) -> None:
        self.anonymous = self.files = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.look()
            time.sleep(0.02)

    def look(self) -> None:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss")}
        self.anonymous = max(self.anonymous, sizes["RssAnon"])
        self.files = max(self.files, sizes["RssFile"] + sizes["RssShmem"])

    def take(self) -> tuple[int, int]:
        """The peaks; they begin anew."""
        self.look()
        found, self.anonymous, self.files = (self.anonymous, self.files), 0, 0
        return found


def measure(folder: Path, stage: str, *, resident: bool, ican: bool) -> None:
    """Run one stage and print what it took."""
    from micrec.config import Config
    from micrec.data.store import read_dataset

    peak, keys = Peak(), dict(KEYS)
    if ican:
        keys["contrast"] = {loss: {"weight": 0.0} for loss in ("feature", "semantic", "session")}
    config = Config.model_validate(keys)
    mapped = None if resident else True

    @contextmanager
    def timed(name: str, amount: int, unit: str = "clicks") -> Iterator[None]:
        peak.take()
        wall_s, cpu_s = time.monotonic(), time.process_time()
        yield
        wall_s, cpu_s = time.monotonic() - wall_s, time.process_time() - cpu_s
        anonymous, files = peak.take()
        print(
            f"{name:34} {amount:12,} {unit:8} {wall_s:7.1f} s {amount / wall_s:12,.0f}/s {cpu_s:7.1f} CPU s "
            f"{anonymous / 1e6:7,.0f} MB + {files / 1e6:7,.0f} MB of files",
            flush=True,
        )

    n_clicks = int(folder.name.partition("-")[2])
    if stage.startswith("convert"):
        from micrec.data.convert import convert

        source, out = plain_source(folder, stage), folder.with_name(f"converted-{folder.name}")
        shutil.rmtree(out, ignore_errors=True)
        with timed(stage, n_clicks):
            convert("table", source, out)
        shutil.rmtree(source)
        shutil.rmtree(out)
        return
    if stage == "unsorted":
        folder = reversed_parts(folder)
    if stage in ("encode", "unsorted", "open"):
        with timed({"unsorted": "encode, latest parts first"}.get(stage, stage), n_clicks):
            read_dataset(folder, mapped=mapped)
        if stage == "unsorted":
            shutil.rmtree(folder)
        return
    dataset = read_dataset(folder, mapped=mapped)
    train = dataset.clicks[: n_clicks - TEST_CLICKS]
    if stage == "describe":
        from micrec.data.describe import describe

        with timed("describe", n_clicks):
            describe(dataset, config.split, config.sessions)
    elif stage == "histories":
        from micrec.data.histories import group_by_user
        from micrec.data.sessions import starts_of

        with timed("histories", len(train)):
            log = group_by_user(train, len(dataset.users), times=True)
        with timed("sessions", len(train)):
            starts_of(log, config.sessions, space=train.space)
    elif stage == "co-occurrence":
        from micrec.data.cooccurrence import count_cooccurrences

        category = dataset.items.columns["category"].codes
        with timed("co-occurrence", len(train)):
            found = count_cooccurrences(train, N_ITEMS, config.sessions, category=category)
        print(f"  {len(found.keys):,} pairs of items, {len(found.partners):,} partners")
    elif stage == "train":
        from micrec.training import Trainer

        with timed("all before the first step", len(train)):
            trainer = Trainer(dataset, train, config)
        order, size = trainer.order(1), config.train.batch_size
        trainer.model.train()
        with timed(f"{STEPS} steps", STEPS * size, "samples"):
            for step in range(STEPS):
                trainer.step(order[step * size : (step + 1) * size])
    else:
        _evaluate(dataset, config, timed)


def _evaluate(dataset, config, timed) -> None:  # type: ignore[no-untyped-def]
    import torch

    from micrec.data.split import Split
    from micrec.evaluation import evaluation_task
    from micrec.fitting import Fitted, RunState
    from micrec.models import make_model
    from micrec.train_data import load_fields

    n_clicks = len(dataset.clicks)
    split = Split(n_train=n_clicks - TEST_CLICKS, n_fit=n_clicks - TEST_CLICKS, n=n_clicks)
    with timed("histories to evaluate on", split.n_fit):
        task = evaluation_task(dataset, split, config.evaluation, "test")
    fields = load_fields(dataset, config, dataset.clicks[split.fit], torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    model = make_model(config.model, fields.user_specs, fields.item_specs, sparse=True, generator=generator)
    fitted = Fitted(model.eval(), fields, config, RunState(), trained_clicks=split.n_fit)
    with timed("evaluate, untrained towers", len(task), "users"):
        fitted.evaluate(task, coverage=False)


if __name__ == "__main__":
    main()
