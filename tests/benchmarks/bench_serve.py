"""Load test of ``micrec serve`` on loopback: requests a second, p50 and p99, and reloads under load.

    python tests/benchmarks/bench_serve.py --items 100000 --clients 8 --seconds 20
    python tests/benchmarks/bench_serve.py --items 1000000 --kind ivf --clients 8 --seconds 20

A bundle of one base model (fm, 64 numbers, one epoch on random clicks) is served by a process of its own; clients in a
second process keep a connection each and ask one list after the other for random known users. Half way the bundle is
written anew, so that the service takes it over while it is asked. Every answer is checked to hold k items; an error, or
an answer other than 200, ends the run. Times are seen by the clients; service and clients share the machine's cores, so
the processor time of the service per request, its reload included, stands beside them.
"""

import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl

from micrec.config import Config
from micrec.data.schema import DatasetSchema
from micrec.data.store import dataset_of_frames
from micrec.fitting import fit
from micrec.retrieval import Retriever

USERS, CLICKS_EACH, DIM = 20_000, 8, 64


def write_bundle(folder: Path, n_items: int, kind: str) -> None:
    """A bundle of every item, each clicked at least once where there are clicks enough."""
    rng = np.random.default_rng(0)
    n = max(USERS * CLICKS_EACH, n_items)
    items = np.concatenate([rng.permutation(n_items), rng.integers(0, n_items, n - n_items)])
    clicks = pl.DataFrame(
        {"user_id": rng.integers(0, USERS, n), "item_id": items, "timestamp": 1_600_000_000 + np.arange(n)}
    )
    tables = pl.DataFrame({"user_id": np.arange(USERS)}), pl.DataFrame({"item_id": np.arange(n_items)})
    dataset = dataset_of_frames(DatasetSchema(name="load", users={}, items={}), *tables, clicks)
    off = {name: {"weight": 0} for name in ("feature", "semantic", "session")}
    keys = {
        "model": {"name": "fm", "embedding_dim": DIM, "history_length": 20},
        "contrast": off,
        "split": {"test_fraction": 0.001, "valid_fraction": 0.0},
        "train": {"epochs": 1, "batch_size": 8192},
    }
    retriever = Retriever.build(fit(dataset, Config.model_validate(keys)), dataset, kind=kind, catalogue="all")
    retriever.save(folder, overwrite=True)


class Client(threading.Thread):
    """Asks one list after the other until it is told to stop."""

    def __init__(self, port: int, seed: int, k: int) -> None:
        super().__init__()
        self.port, self.rng, self.k = port, np.random.default_rng(seed), k
        self.seconds: list[float] = []
        self.fault: str | None = None
        self.stopping = threading.Event()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while not self.stopping.is_set():
            body = json.dumps({"user": int(self.rng.integers(USERS)), "k": self.k})
            started = time.perf_counter()
            try:
                connection.request("POST", "/recommend", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                content = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError) as fault:
                self.fault = repr(fault)
                return
            self.seconds.append(time.perf_counter() - started)
            if answer.status != 200 or len(content["items"]) != self.k:
                self.fault = f"status {answer.status}: {content}"
                return


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--kind", default="flat")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--k", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "bundle"
        write_bundle(folder, options.items, options.kind)
        command = [sys.executable, "-m", "micrec", "serve", str(folder), "--port", "0", "--watch", "0"]
        service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
        try:
            assert service.stderr is not None
            port = 0
            for line in service.stderr:
                if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                    port = int(found[1])
                    break
            threading.Thread(target=service.stderr.read, daemon=True).start()
            measure(options, folder, port, service)
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(timeout=60)


def measure(options: argparse.Namespace, folder: Path, port: int, service: "subprocess.Popen[str]") -> None:
    """Ask for half the time, replace the bundle, ask for the other half."""
    clients = [Client(port, seed, options.k) for seed in range(options.clients)]
    started, used_s = time.perf_counter(), cpu_s(service.pid)
    for client in clients:
        client.start()
    time.sleep(options.seconds / 2)
    with Retriever.changing(folder) as retriever:  # writes the bundle anew
        retriever.remove_items([0])
    changed = time.perf_counter()
    service.send_signal(signal.SIGHUP)
    time.sleep(options.seconds / 2)
    for client in clients:
        client.stopping.set()
    for client in clients:
        client.join()
    lasted, used_s = time.perf_counter() - started, cpu_s(service.pid) - used_s
    if faults := [client.fault for client in clients if client.fault]:
        raise SystemExit(f"{len(faults)} clients met an error: {faults[0]}")
    seconds = np.concatenate([client.seconds for client in clients])
    health = http.client.HTTPConnection("127.0.0.1", port)
    health.request("GET", "/health")
    served = json.loads(health.getresponse().read())["items"]
    p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1e3
    memory = next(line for line in Path(f"/proc/{service.pid}/status").read_text().splitlines() if "VmHWM" in line)
    print(
        f"{options.items:,} items, {options.kind}, {options.clients} clients, k {options.k}: "
        f"{len(seconds) / lasted:,.0f} requests/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms over {len(seconds):,} requests, "
        f"{used_s / len(seconds) * 1e3:.1f} ms of processor time each; "
        f"one reload after {changed - started:.0f} s, no error, {served:,} items after it; "
        f"peak memory of the service {int(memory.split()[1]) / 1e6:.2f} GB"
    )


def cpu_s(process: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
