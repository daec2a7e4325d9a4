"""What does one GPU do: samples/s of ICAN and MicRec at the paper's dimensions, memory, share of the roofline, users/s?

    PYTHONPATH=. python tests/benchmarks/bench_gpu.py                        # on a machine with CUDA
    PYTHONPATH=. python tests/benchmarks/bench_gpu.py --device cpu --small   # a dry run: no GPU is measured

D = 64, 128-64-64, 20 clicks, 20 negatives, batch 4,096, generated clicks. The bandwidth and the operations a second of
the device are measured first, by a copy and a matrix product; the bytes and operations of a step are counted from its
shapes (``step_work``). The share of the roofline is the time that these bytes need, over the time of the step.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import polars as pl
import torch

from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.data.split import temporal_split
from micrec.evaluation import evaluation_task
from micrec.fitting import Fitted, RunState
from micrec.settings import merge
from micrec.training import Trainer
from tests.benchmarks.bench_training import OFF, generated
from tests.benchmarks.step_work import StepWork, count_step

EPOCH_CLICKS = 589_255_682  # training clicks of Video-636M (paper, Table 1)
MODELS: dict[str, dict[str, Any]] = {"ICAN": {"contrast": OFF}, "MicRec": {}}


class Device(NamedTuple):
    """What was measured of a device."""

    bandwidth: float  # bytes/s of a copy, read and written
    float32: float  # floating-point operations/s of a large product
    bf16: float
    launch_s: float  # seconds that the program needs to ask for one small operation


def seconds_of(work: Callable[[], Any], device: torch.device, *, rounds: int = 5) -> float:
    """Median seconds of some work, warm."""
    found = []
    for _ in range(rounds + 1):
        wait(device)
        started_s = time.perf_counter()
        work()
        wait(device)
        found.append(time.perf_counter() - started_s)
    return statistics.median(found[1:])


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def calibrate(device: torch.device, *, small: bool) -> Device:
    """Bandwidth, operations and launches a second, in less than a minute."""
    n, side, asked = (1 << 22, 512, 200) if small else (1 << 28, 8192, 2000)
    source = torch.ones(n, device=device)
    target = torch.empty_like(source)
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
        rates[dtype] = 2 * side**3 / seconds_of(lambda left=left, right=right: left @ right, device)
    tiny = torch.zeros(16, device=device)

    def ask() -> None:
        for _ in range(asked):
            tiny.add_(1.0)

    copied = seconds_of(lambda: target.copy_(source), device)
    return Device(8 * n / copied, rates[torch.float32], rates[torch.bfloat16], seconds_of(ask, device) / asked)


def with_tags(dataset: Dataset) -> Dataset:
    """The tags of the items in their table too, where neighbours are looked for."""
    items = dataset.items
    tags = items.columns["tags"].values
    assert tags is not None
    lists = pl.Series("tags", tags.reshape(len(items), -1)).arr.to_list().cast(pl.List(pl.String))
    return replace(dataset, items=replace(items, frame=items.frame.with_columns(lists)))


def trainer_of(dataset: Dataset, keys: dict[str, Any], options: argparse.Namespace) -> Trainer:
    """A trainer with fixed shapes, in training mode."""
    own = {"train": {"device": options.device, "batch_size": options.batch, "bf16": options.bf16}}
    own["train"]["compile"] = options.compile
    # titles of generated items say nothing: neighbours by tags cost a step the same, and no factorisation beforehand
    semantic = {} if "contrast" in keys else {"contrast": {"semantic": {"source": "taxonomy"}}}
    config = Config.model_validate(merge(merge(own, semantic), keys))
    train = dataset.clicks[temporal_split(dataset.clicks, config.split).train]
    trainer = Trainer(dataset, train, config, fixed=True)
    trainer.model.train()
    trainer.contrast.train()
    return trainer


def samples_per_second(trainer: Trainer, *, steps: int, rounds: int) -> float:
    """Median over rounds of steps."""
    order, size, at = trainer.order(1), trainer.config.train.batch_size, 0

    def run() -> None:
        nonlocal at
        for _ in range(steps):
            begin = at * size % max(1, len(order) - size)
            trainer.step(order[begin : begin + size])
            at += 1

    return steps * size / seconds_of(run, trainer.device, rounds=rounds)


def users_per_second(trainer: Trainer, dataset: Dataset) -> float:
    """Exact evaluation of the test users against all train items, with what embeds them."""
    fitted = Fitted(trainer.model.eval(), trainer.data.fields, trainer.config, RunState(), len(trainer.data))
    split = temporal_split(dataset.clicks, trainer.config.split)
    task = evaluation_task(dataset, split, trainer.config.evaluation, "test")
    return len(task.user_ids) / seconds_of(lambda: fitted.evaluate(task, coverage=False), trainer.device, rounds=2)


def memory(device: torch.device) -> str:
    """Most memory of the device that was in use since it was last asked."""
    if device.type != "cuda":
        return "is counted on a GPU"
    found = torch.cuda.max_memory_allocated() / 1e9
    torch.cuda.reset_peak_memory_stats()
    return f"{found:.2f} GB at most"


def report(name: str, work: StepWork, rate: float, device: Device, *, bf16: bool) -> None:
    """One line of limits beside what was measured."""
    limits = work.per_second(device.bandwidth, device.bf16 if bf16 else device.float32, device.launch_s)
    least = min(limits, key=limits.__getitem__)
    print(
        f"{name:7s} {rate:12,.0f} samples/s; a sample moves {work.bytes / work.rows / 1e3:,.1f} kB and takes "
        f"{work.flops / work.rows / 1e6:,.2f} Mflop, a step {work.launches:,} operations"
    )
    print("        alone " + ", ".join(f"{kind} would allow {value:,.0f}" for kind, value in limits.items()))
    print(
        f"        {rate / limits['bandwidth']:.1%} of the roofline by bandwidth; the lowest limit is {least}; an epoch "
        f"of Video-636M ({EPOCH_CLICKS:,} clicks) at this rate: {EPOCH_CLICKS / rate / 60:,.1f} min"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--small", action="store_true", help="few items and clicks, small batches: a dry run")
    parser.add_argument("--items", type=int, help="items (default 2,406,028; small 20,000)")
    parser.add_argument("--batch", type=int, help="rows of a step (default 4,096; small 256)")
    parser.add_argument("--steps", type=int, help="steps of a round (default 50; small 2)")
    parser.add_argument("--bf16", action="store_true", help="towers in bfloat16")
    parser.add_argument("--compile", action="store_true", help="torch.compile the towers")
    options = parser.parse_args()
    options.items = options.items or (20_000 if options.small else 2_406_028)
    options.batch = options.batch or (256 if options.small else 4096)
    steps = options.steps or (2 if options.small else 50)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device here: --device cpu --small makes a dry run")
    kind = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    found = calibrate(device, small=options.small)
    print(f"torch {torch.__version__}, {kind}{' (a dry run: no GPU was measured)' if device.type == 'cpu' else ''}")
    print(
        f"a copy moves {found.bandwidth / 1e9:,.0f} GB/s; products: float32 {found.float32 / 1e12:,.2f}, bfloat16 "
        f"{found.bf16 / 1e12:,.2f} Tflop/s; a small operation is asked for in {found.launch_s * 1e6:.1f} µs"
    )
    n_clicks = 20_000 if options.small else 4_000_000
    dataset = with_tags(generated(options.items, n_users=n_clicks // 20, n_clicks=n_clicks))
    for name, keys in MODELS.items():
        trainer = trainer_of(dataset, keys, options)
        rate = samples_per_second(trainer, steps=steps, rounds=2 if options.small else 5)
        peak = memory(device)
        report(name, count_step(trainer)[0], rate, found, bf16=options.bf16)
        print(f"        memory {peak}; evaluation {users_per_second(trainer, dataset):,.0f} users/s")


if __name__ == "__main__":
    main()
