"""How long would an epoch of Video-636M take on one and on eight GPUs, what would it need, and what would limit it?

    PYTHONPATH=. python tests/benchmarks/plan_training.py            # counts the steps anew on a CPU, in some minutes
    PYTHONPATH=. python tests/benchmarks/plan_training.py --counted  # with the counts below, at once

Nothing here was measured on a GPU. Sizes are the paper's; bytes, operations and launches of a step are counted from its
shapes (``step_work``), at two sizes of the catalogue, and drawn on to that of the paper; rates are those that the
vendors print. A GPU reaches some of them: EFFICIENCY says how much is assumed.
"""

import argparse
from typing import Any, NamedTuple

from tests.benchmarks.step_work import StepWork

# Table 1 of the paper
USERS, ITEMS, TRAIN_CLICKS = 25_476_322, 2_406_028, 589_255_682
FIELD_ROWS = 202_000 + 150_000 + 840 + 360  # of all tables but ids: tags, providers, categories, users' fields
DIM, BATCH = 64, 4096
LAUNCH_S = 5e-6  # assumed for a program in Python; a recorded graph asks for all at once
EFFICIENCY = {"bandwidth": 0.6, "arithmetic": 0.4, "link": 0.7}
MODEL_NAMES = ("ICAN", "MicRec", "MicRec, a row per session")
COUNTED_ITEMS = (200_000, 400_000)
BY_SESSION = {"train": {"rows": "session", "context": "before_session", "batch_size": BATCH // 10}}  # ten clicks each


class Gpu(NamedTuple):
    """What the vendor prints of one."""

    name: str
    memory: float  # bytes
    bandwidth: float  # bytes/s
    tf32: float  # floating-point operations/s, dense
    bf16: float
    link: float  # bytes/s to the others, each way
    source: str


GPUS = (
    Gpu("H200 SXM", 141e9, 4.8e12, 494.5e12, 989e12, 450e9, "https://www.nvidia.com/en-us/data-center/h200/"),
    Gpu("A100 SXM 80 GB", 80e9, 2.039e12, 156e12, 312e12, 300e9, "https://www.nvidia.com/en-us/data-center/a100/"),
)


class Counted(NamedTuple):
    """The work of a step at two sizes of the catalogue, of which the rest is drawn on."""

    first: StepWork
    second: StepWork

    def at(self, items: int, rows: int = BATCH) -> StepWork:
        """A step over so many items, and of so many rows; what scans the catalogue does not grow with the rows."""
        span = COUNTED_ITEMS[1] - COUNTED_ITEMS[0]
        per_item = (self.second.bytes - self.first.bytes) / span
        by_row = self.first.bytes - per_item * COUNTED_ITEMS[0]
        share = rows / self.first.rows
        return StepWork(rows, by_row * share + per_item * items, self.first.flops * share, self.first.launches)


# Counted on a CPU, 2026-11-29, before clicked items took room once only: 9 % less since. Rows, bytes, operations and
# launches of a step at COUNTED_ITEMS
COUNTED = {
    "ICAN": Counted(
        StepWork(rows=4096, bytes=7883148684, flops=21983395840, launches=415),
        StepWork(rows=4096, bytes=7937151436, flops=21983395840, launches=415),
    ),
    "MicRec": Counted(
        StepWork(rows=4096, bytes=10863350224, flops=29048700928, launches=796),
        StepWork(rows=4096, bytes=10953872912, flops=29048700928, launches=796),
    ),
    "MicRec, a row per session": Counted(
        StepWork(rows=4090, bytes=7682267322, flops=26358150400, launches=826),
        StepWork(rows=4090, bytes=7772790010, flops=26358150400, launches=826),
    ),
}


def count(model: str) -> Counted:
    """Count the steps of a model anew, with its tables row-sparse, as a GPU has them from 1,048,576 items on."""
    from tests.benchmarks.bench_gpu import MODELS, trainer_of, with_tags
    from tests.benchmarks.bench_training import generated
    from tests.benchmarks.step_work import count_step

    options = argparse.Namespace(device="cpu", batch=BATCH, bf16=False, compile=False)
    found = []
    for items in COUNTED_ITEMS:
        keys = MODELS.get(model, BY_SESSION)
        trainer = trainer_of(with_tags(generated(items, n_clicks=100_000)), keys, options)
        found.append(count_step(trainer)[0])
    return Counted(*found)


def memory_rows(batch: int, gpus: int) -> list[tuple[str, float]]:
    """Bytes that one GPU holds, by what they are for; tables, their moments and the clicks are shared out."""
    numbers = (ITEMS + FIELD_ROWS) * DIM
    dense = 4 * (9 * DIM * 128 + 128 * 64 + 64 * 64) * 3  # towers and projectors, as they would be at most
    pool = batch * 42  # items of a step: clicks, 20 negatives, 20 clicks of a history, positives
    activations = pool * 5 * DIM * 4 * 4  # field vectors of the pool, what is read of them, and their gradients
    clicks = TRAIN_CLICKS * (4 + 4 + 4 + 4) + USERS * 8 + TRAIN_CLICKS * 8
    return [
        ("embedding tables, float32", numbers * 4 / gpus),
        ("two moments of Adam, and two stamps a row", (numbers * 8 + (ITEMS + FIELD_ROWS) * 8) / gpus),
        ("dense layers with gradients and moments", dense * 4.0),
        ("clicks: item, user, session start and end (int32); pairs a user has clicked (int64)", clicks / gpus),
        ("fields of items and users (int32)", (ITEMS * (3 + 3.5 + 2) * 4 + USERS * 4 * 4)),
        ("a step's activations and gradients", activations),
    ]


def exchanged(batch: int, gpus: int) -> float:
    """Bytes that a GPU sends in a step, with tables shared out by row: ids, vectors and gradients of ids' rows."""
    rows = batch * 42
    return rows * (8 + 2 * DIM * 4) * (gpus - 1) / gpus


def epoch_times(work: StepWork, gpu: Gpu, gpus: int, samples: float) -> dict[str, float]:
    """Seconds of an epoch if only one thing counted."""
    steps = samples / (work.rows * gpus)
    times = {
        "bandwidth": steps * work.bytes / (gpu.bandwidth * EFFICIENCY["bandwidth"]),
        "arithmetic": steps * work.flops / (gpu.tf32 * EFFICIENCY["arithmetic"]),
        "launches": steps * work.launches * LAUNCH_S,
    }
    if gpus > 1:
        times["link"] = steps * exchanged(work.rows, gpus) / (gpu.link * EFFICIENCY["link"])
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counted", action="store_true", help="take the counts that are written in this file")
    options = parser.parse_args()
    counted = COUNTED if options.counted else {name: count(name) for name in MODEL_NAMES}
    print("memory of one GPU, GB, batch 4,096")
    for gpus in (1, 8):
        rows = memory_rows(BATCH, gpus)
        print(f"  on {gpus}: " + "; ".join(f"{name} {value / 1e9:.2f}" for name, value in rows))
        print(f"        together {sum(value for _, value in rows) / 1e9:.1f}")
    for model, both in counted.items():
        print(model if options.counted else f"{model}: {both}")
        for batch in (BATCH, 16 * BATCH):
            work = both.at(ITEMS, batch)
            print(
                f"  {batch:,} rows: a sample moves {work.bytes / batch / 1e3:,.1f} kB and takes "
                f"{work.flops / batch / 1e6:,.2f} Mflop, a step {work.launches:,} operations"
            )
            for gpu in GPUS:
                for gpus in (1, 8):
                    print(f"    {gpus} x {gpu.name}: {shown(epoch_times(work, gpu, gpus, TRAIN_CLICKS))}")


def shown(times: dict[str, Any]) -> str:
    """Minutes by each limit, and which of them is the largest."""
    limit = max(times, key=times.__getitem__)
    return ", ".join(f"{kind} {seconds / 60:.1f} min" for kind, seconds in times.items()) + f"; {limit} limits"


if __name__ == "__main__":
    main()
