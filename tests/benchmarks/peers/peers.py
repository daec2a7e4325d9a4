"""One command: peers in environments of their own beside us, on one split, judged by one evaluator, in one table.

    python tests/benchmarks/peers/peers.py --data data/retail                             # all
    python tests/benchmarks/peers/peers.py --data data/retail --only torch_rechub,ours    # some environments
    python tests/benchmarks/peers/peers.py --data data/retail --only ours.youtube_dnn     # or some models
    python tests/benchmarks/peers/peers.py --data data/retail --speed 3                   # samples/s, in turn

What is done is kept under ``--cache``, so that an interrupted run goes on; ``--anew`` measures again.
Epochs and settings were chosen on the validation clicks and stand in ``chosen.json``; ``--search`` chooses anew.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
CHOSEN = HERE / "chosen.json"
LEGACY_BUILD = ("--no-use-pep517", "--no-build-isolation")  # its setup.py only runs as a script
PIP_OPTIONS = {"lightfm": LEGACY_BUILD}
TIMEOUT_S = 1800
CUTOFFS = (50, 100, 200, 500)


class Row(NamedTuple):
    """A model of the table."""

    env: str
    model: str
    label: str
    neural: bool = True

    @property
    def key(self) -> str:
        return f"{self.env}.{self.model}"


ROWS = (
    Row("torch_rechub", "youtube_dnn", "torch-rechub YoutubeDNN, 20 negatives"),
    Row("torch_rechub", "dssm", "torch-rechub DSSM, 20 of the batch, logits x 10"),
    Row("replay", "two_tower", "RePlay TwoTower, full softmax"),
    Row("replay", "two_tower_sampled", "RePlay TwoTower, 20 shared negatives"),
    Row("rectools", "sasrec", "RecTools SASRec, 20 negatives"),
    Row("rectools", "dssm", "RecTools DSSM"),
    Row("implicit", "als", "implicit ALS 64", neural=False),
    Row("implicit", "bpr", "implicit BPR 64", neural=False),
    Row("implicit", "item_knn", "implicit item-kNN", neural=False),
    Row("lightfm", "warp", "LightFM 64, WARP", neural=False),
    Row("ours", "youtube_dnn", "ours: YoutubeDNN like torch-rechub's"),
    Row("ours", "modern_fm", "ours: FM, `modern`"),
    Row("ours", "modern_fm_no_id", "ours: FM, `modern`, no user id"),
    Row("ours", "modern_fm_full", "ours: FM, `modern`, full softmax"),
    Row("ours", "modern_fm_full_no_id", "ours: FM, `modern`, full softmax, no user id"),
    Row("ours", "modern_ican", "ours: ICAN, `modern`"),
    Row("ours", "modern_ican_no_id", "ours: ICAN, `modern`, no user id"),
    Row("ours", "modern_micrec", "ours: MicRec, `modern`"),
    Row("ours", "modern_micrec_no_id", "ours: MicRec, `modern`, no user id"),
    Row("ours", "best", "ours: `best`"),
    Row("ours", "best_64", "ours: `best`, 64 numbers, no titles"),
    Row("ours", "ease", "ours: EASE with decay and drift", neural=False),
    Row("ours", "ials", "ours: iALS", neural=False),
)
RACE = ("torch_rechub.youtube_dnn", "ours.youtube_dnn")  # like for like
RACE_EPOCHS = {"torch_rechub.youtube_dnn": 2, "ours.youtube_dnn": 4}


class DatasetRun:
    """The folders of one dataset's measurements, and how its models are run."""

    def __init__(self, data: Path, cache: Path, threads: int) -> None:
        self.data, self.cache, self.threads = data, cache, threads
        self.exchange = cache / "exchange" / data.resolve().name
        self._run([sys.executable, HERE / "prepare.py", data, self.exchange])
        self.name = json.loads((self.exchange / "meta.json").read_text())["name"]
        self.results = cache / "results" / data.resolve().name

    def python(self, env: str) -> Path | None:
        """The interpreter of a peer's environment, made on first use; None if it cannot be installed."""
        if env == "ours":
            return Path(sys.executable)
        folder = self.cache / "venvs" / env
        done, python = folder / "installed", folder / "bin" / "python"
        wanted = (HERE / f"requirements-{env}.txt").read_text()
        if done.exists() and done.read_text() == wanted:
            return python
        print(f"installing {env} into {folder}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        lines = wanted.splitlines()
        first = [line for line in lines if line.startswith(("torch==", "wheel", "setuptools", "numpy"))]
        for part in (first, lines):  # torch by itself first: a range resolved later must find it there
            options = PIP_OPTIONS.get(env, ()) if part is lines else ()
            pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options, *part]
            if subprocess.run(pip, check=False).returncode:
                print(f"{env}: pip failed, its models are left out", flush=True)
                return None
        done.write_text(wanted)
        return python

    def measure(self, row: Row, phase: str, *, anew: bool, **options: Any) -> dict[str, Any] | None:
        """The figures of one phase of one model, from before if they are there."""
        out = self.results / row.key
        path = out / f"{phase}.json"
        if anew or not path.exists():
            python = self.python(row.env)
            if python is None:
                return None
            print(f"{row.key}: {phase}", flush=True)
            named = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
            script = HERE / f"run_{row.env}.py"
            path.unlink(missing_ok=True)
            self._run([python, script, row.model, phase, "--exchange", self.exchange, "--out", out, *named])
        return json.loads(path.read_text()) if path.exists() else None

    def choice(self, row: Row) -> dict[str, Any] | None:
        """Epochs and settings: as searched here, else as recorded."""
        best = self.searched(row)
        if best is not None:
            return {"epochs": best["epochs"], "settings": best["settings"]}
        recorded: dict[str, Any] | None = json.loads(CHOSEN.read_text()).get(self.name, {}).get(row.key)
        return recorded

    def searched(self, row: Row) -> dict[str, Any] | None:
        """The best that a search found on the validation clicks."""
        path = self.results / row.key / "search.json"
        return json.loads(path.read_text())["best"] if path.exists() else None

    def scores(self, row: Row) -> dict[str, float]:
        answers = self.results / row.key
        path = answers / "scores.json"
        final = answers / "final.json"
        if not path.exists() or path.stat().st_mtime < final.stat().st_mtime:
            printed = self._run([sys.executable, HERE / "score.py", self.data, answers], capture=True)
            path.write_text(printed)
        found: dict[str, float] = json.loads(path.read_text())
        return found

    def _run(self, command: list[Any], *, capture: bool = False) -> str:
        n = str(self.threads)
        env = os.environ | {"OMP_NUM_THREADS": n, "MKL_NUM_THREADS": n, "OMP_WAIT_POLICY": "PASSIVE"}
        env["PYTHONWARNINGS"] = "ignore"
        kind = subprocess.PIPE if capture else None
        done = subprocess.run([*map(str, command)], env=env, timeout=TIMEOUT_S, check=False, stdout=kind, text=True)
        if done.returncode:
            print(f"failed with {done.returncode}: {' '.join(map(str, command))}", flush=True)
        return done.stdout or ""


def race(bench: DatasetRun, rounds: int) -> dict[str, Any]:
    """samples/s of the two like-for-like models, turn and turn about, and their ratio in every round."""
    rows = {row.key: row for row in ROWS if row.key in RACE}
    rates: dict[str, list[float]] = {key: [] for key in RACE}
    cpu: dict[str, list[float]] = {key: [] for key in RACE}
    for _ in range(rounds):
        for key in RACE:
            found = bench.measure(rows[key], "speed", anew=True, epochs=RACE_EPOCHS[key])
            if found is not None:
                rates[key].append(found["samples_per_s"])
                cpu[key].append(1e6 * found["cpu_s_per_sample"])
    peer, ours = (rates[key] for key in RACE)
    ratios = [b / a for a, b in zip(peer, ours, strict=True)]
    medians = {key: statistics.median(values) for key, values in rates.items()}
    cpu_us = {key: statistics.median(values) for key, values in cpu.items()}
    return {
        "samples_per_s": medians,
        "ratios": ratios,
        "ratio": statistics.median(ratios),
        "cpu_us_per_sample": cpu_us,
        "cpu_ratio": cpu_us[RACE[0]] / cpu_us[RACE[1]],
    }


def table(lines: list[dict[str, Any]]) -> str:
    """Quality and cost as Markdown."""
    heads = ["model", *(f"HIT@{n}" for n in CUTOFFS), "cov@500", "epochs", "samples/s", "train s", "end to end s"]
    heads += ["top-500 users/s", "judged users/s", "peak MB"]
    out = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for line in lines:
        scores = [f"{line['scores'][f'hit@{n}']:.4f}".lstrip("0") for n in CUTOFFS]
        scores.append(f"{line['scores']['coverage@500']:.3f}".lstrip("0"))
        costs = [line["epochs"], f"{line['samples_per_s']:,.0f}", f"{line['train_s']:.1f}"]
        judged = line["scores"]["evaluated_users_per_s"]
        costs += [f"{line['end_to_end_s']:.1f}", f"{line['users_per_s']:,.0f}", f"{judged:,.0f}"]
        costs.append(f"{line['peak_rss_mb']:,.0f}")
        out.append("| " + " | ".join([line["label"], *scores, *map(str, costs)]) + " |")
    return "\n".join(out)


def verdict(lines: list[dict[str, Any]]) -> list[str]:
    """Our best model against the best peer at every N."""
    ours = [line for line in lines if line["key"].startswith("ours.")]
    peers = [line for line in lines if not line["key"].startswith("ours.")]
    said = []
    for n in CUTOFFS if ours and peers else ():
        name = f"hit@{n}"
        mine, other = (max(group, key=lambda line: line["scores"][name]) for group in (ours, peers))
        a, b = mine["scores"][name], other["scores"][name]
        said.append(
            f"HIT@{n}: {a:.4f} ({mine['label']}) against {b:.4f} ({other['label']}), {100 * (a / b - 1):+.1f} %"
        )
    return said


def catching_up(lines: list[dict[str, Any]]) -> list[str]:
    """When our models passed, on the validation clicks, the best that any neural peer got there."""
    neural = {row.key for row in ROWS if row.neural}
    searched = {line["key"]: line for line in lines if line["key"] in neural and line["search"]}
    peers = {key: line["search"] for key, line in searched.items() if not key.startswith("ours.")}
    if not peers:
        return []
    goal = max(found["hit@100"] for found in peers.values())
    said = [f"best neural peer on validation: HIT@100 {goal:.4f}"]
    for key, found in peers.items():
        said.append(f"  {searched[key]['label']}: its best, {found['hit@100']:.4f}, after {found['best_s']:.1f} s")
    for key, line in searched.items():
        if key.startswith("ours."):
            curve, seconds = line["search"]["curve"], line["search"]["seconds"]
            passed = [second for hit, second in zip(curve, seconds, strict=True) if hit >= goal]
            when = f"passes it after {passed[0]:.1f} s" if passed else "does not reach it"
            said.append(
                f"  {line['label']}: {when}, its best, {max(curve):.4f}, after {line['search']['best_s']:.1f} s"
            )
    return said


def chosen_rows(only: str) -> list[Row]:
    """Rows whose environment or key is named; all if nothing is."""
    names = [name for name in only.split(",") if name]
    unknown = [name for name in names if not any(name in (row.env, row.key) for row in ROWS)]
    if unknown:
        raise SystemExit(f"--only: no {', '.join(unknown)}: choose from {', '.join(row.key for row in ROWS)}.")
    return [row for row in ROWS if not names or row.env in names or row.key in names]


def measure_row(bench: DatasetRun, row: Row, options: argparse.Namespace) -> dict[str, Any] | None:
    """One line of the table."""
    if options.search:
        given = {"budget_s": options.budget_s, "patience": options.patience, "seed": options.seed}
        bench.measure(row, "search", anew=False, **given)
    choice = bench.choice(row)
    if choice is None:
        print(f"{row.key}: no epochs chosen for {bench.name}: run with --search", flush=True)
        return None
    settings = {"settings": json.dumps(choice["settings"])} if choice.get("settings") else {}
    final = bench.measure(row, "final", anew=options.anew, epochs=choice["epochs"], seed=options.seed, **settings)
    if final is None:
        return None
    searched = bench.searched(row)
    known = {"key": row.key, "label": row.label, "settings": choice.get("settings"), "search": searched}
    return known | final | {"epochs": choice["epochs"], "scores": bench.scores(row)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="dataset folder")
    parser.add_argument("--only", default="", help="environments or models, with commas between them")
    parser.add_argument("--speed", type=int, default=0, metavar="ROUNDS", help="only race YoutubeDNN, like for like")
    parser.add_argument("--search", action="store_true", help="choose epochs and settings on the validation clicks")
    parser.add_argument("--budget-s", type=float, default=120.0, help="a search trains no setting for longer")
    parser.add_argument("--patience", type=int, default=2, help="epochs without a better one that end a search")
    parser.add_argument("--anew", action="store_true", help="measure again what is there already")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "micrec-peers")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    bench = DatasetRun(options.data, options.cache, options.threads)
    bench.results.mkdir(parents=True, exist_ok=True)
    if options.speed:
        found = race(bench, options.speed)
        (bench.results / "race.json").write_text(json.dumps(found, indent=1))
        print(json.dumps(found, indent=1))
        return
    for row in chosen_rows(options.only):
        measure_row(bench, row, options)
    options.search = options.anew = False
    there = [row for row in ROWS if (bench.results / row.key / "final.json").exists()]
    lines = [line for line in (measure_row(bench, row, options) for row in there) if line is not None]
    loads = [line["load"] for line in lines if "load" in line]
    notes = (
        [f"{options.threads} threads; load average while measured {min(loads):.1f} to {max(loads):.1f}"]
        if loads
        else []
    )
    text = "\n".join([table(lines), "", *notes, "", *verdict(lines), "", *catching_up(lines)])
    (bench.results / "peers.json").write_text(json.dumps(lines, indent=1))
    (bench.results / "peers.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
