"""Fit a world to a real log: closed forms first, then a few simulated rounds."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from micrec.data.dataset import Dataset
from micrec.destination import check_destination
from micrec.errors import MicrecError
from micrec.progress import Progress
from micrec.settings import merge, validate
from micrec.signals.carriers import taxonomy
from simulator.fit.field_moments import fit_fields
from simulator.fit.findings import Findings
from simulator.fit.item_moments import fit_categories, fit_items, fit_popularity, fit_seasons
from simulator.fit.refine import fit_once, refine
from simulator.fit.response_moments import fit_responses
from simulator.fit.session_moments import fit_clock, fit_sessions, fit_visits, span
from simulator.fit.signal_moments import fit_signals
from simulator.fit.simulate import world_log
from simulator.fit.tag_moments import fit_tags
from simulator.fit.world_file import world_yaml
from simulator.fit.world_keys import with_keys
from simulator.realism.compare import StatisticComparison, compare, mean_distance
from simulator.realism.fixed_statistics import statistics
from simulator.realism.log import Log, load_sample, log_of
from simulator.world.files import load_world
from simulator.world.world import World
from simulator.world.world_config import WorldConfig

LEAST_CLICKS = 200
LEAST_SPAN_S = 3_600.0


@dataclass(frozen=True)
class Fit:
    """A fitted world and how much nearer it is.

    Attributes:
        config: The world.
        findings: Every key that was set, with the moment, and that was kept, with the reason.
        before: The base world, scaled to the users of the real log, against the real log.
        after: The fitted world against the real log.
        notes: What a person should know.
    """

    config: WorldConfig
    findings: Findings
    before: list[StatisticComparison]
    after: list[StatisticComparison]
    notes: list[str]


def fit_folder(
    real: Path,
    out: Path,
    *,
    base: Path | None = None,
    without: tuple[str, ...] = (),
    utc_offset_h: float = 0.0,
    users: int = 20_000,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Fit:
    """Fit a world to a dataset folder and write its file.

    Args:
        real: The dataset.
        out: World file to write; it appears whole.
        base: World file to start from; None = the defaults.
        without: Groups or names of statistics that the log is not to be trusted on.
        utc_offset_h: Hours from UTC to the clock of the users.
        users: Most users to read.
        overwrite: Replace ``out``.
        progress: Where to report.

    Raises:
        MicrecError: If the folder, the base or ``without`` is invalid, ``out`` is taken, or the log holds no moments.
    """
    check_destination(out, real, *([base] if base is not None and base.is_file() else []), what="the world file")
    if out.exists() and not (overwrite and out.is_file()):
        cure = "replace it with --force" if out.is_file() else "it is no file"
        raise MicrecError(f"--out {out}: exists: name another file, or {cure}.")
    start = load_base(base)
    dataset, sampled = load_sample(real, users)
    log = log_of(dataset, utc_offset_h=utc_offset_h, sampled=sampled)
    fitted = fit_world(log, start, dataset=dataset, without=without, progress=progress)
    header = [
        f"Fitted to {dataset.name} by micrec fit, from {base.name if base else 'the defaults'}"
        + (f", without {', '.join(without)}" if without else "")
        + f". Mean distance to the log: {mean_distance(fitted.before):.3f} before, "
        f"{mean_distance(fitted.after):.3f} after.",
        "",
        f"  micrec world {out.name} --out data/fitted",
        "",
        "Each key says which moment of the log it came from, or why it kept the value of the base.",
        *fitted.notes,
    ]
    _write(out, world_yaml(fitted.config, fitted.findings, header=header, base=base.name if base else "the defaults"))
    return fitted


def load_base(path: Path | None) -> WorldConfig:
    """The world to start from: that of a file, or the defaults.

    Raises:
        MicrecError: If the file cannot be read or a key is wrong.
    """
    return WorldConfig() if path is None else load_world(path)


def fit_world(
    real: Log,
    base: WorldConfig,
    *,
    dataset: Dataset | None = None,
    without: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> Fit:
    """Find the world whose moments are those of a real log.

    Args:
        real: The log.
        base: The world that gives every key the log does not tell of.
        dataset: The dataset of the log, for the fields of its tables; None = the base's fields are kept.
        without: Groups or names of statistics that the log is not to be trusted on.
        progress: Where to report.

    Raises:
        MicrecError: If the log is too small or spans no time, or ``without`` names what there is not.
    """
    compared = statistics(without)
    check_log(real)
    findings, given = Findings(), base
    first_day, days, start_s = span(real)
    findings.set("name", f"{_name(real.name)}-fitted", "name of the dataset")
    findings.set("start", first_day.isoformat(), "day of the first click; a world's day runs from four to four")
    for key in ("days", "window_days"):
        findings.set(key, days, "days from the first click to the last")
    findings.set("users.count", real.n_users, "users with a click")
    notes = []
    if "returns" in without:
        findings.keep(
            "returns left out", "sessions.per_user", "users.activity_sd", "users.new_share", "users.churn_per_day"
        )
    else:
        fit_visits(real, start_s, days, findings)
    if "sessions" in without:
        findings.keep("sessions left out", "sessions.clicks", "sessions.patience_sd", "sessions.browse_s")
    else:
        fit_sessions(real, findings)
    if "time" not in without:
        notes += fit_clock(real, findings)
    if "items" not in without:
        if dataset is not None:
            fit_fields(dataset, base, findings)
        finer = dataset is None or len(taxonomy(dataset)) > 1
        fit_categories(real, (base.items.subcategories, base.items.groups), findings, finer_field=finer)
        fit_tags(real, _config(base, findings), findings)
    if "popularity" not in without:
        fit_items(real, start_s, days, findings)
        fit_seasons(real, days, findings)
        if findings.found["items.new_share"].value == 0.0:
            base = with_keys(base, {"choice.fresh": 0.0})  # the other shares make room
            findings.set("choice.fresh", 0.0, "no item appears within the log, so no click goes to the newest")
        fit_popularity(real, findings)
    if "behaviour" not in without:
        fit_responses(real, findings)
    if "repetition" not in without:
        base = fit_once(real, base, findings)
    start = _config(base, findings)
    refine(real, start, findings, without, progress)
    if dataset is not None and "items" not in without:
        fit_signals(dataset, _config(base, findings), findings, progress)
    config = _config(base, findings)
    after = compare(real, _simulated(config, real), compared)
    if real.sampled is not None:
        findings.set("users.count", real.sampled[1], f"users of the user table; the fit read {real.n_users} of them")
    return Fit(
        config=_config(base, findings),
        findings=findings,
        before=compare(real, _simulated(_scaled(given, real), real), compared, floor=False),
        after=after,
        notes=notes,
    )


def check_log(real: Log) -> None:
    """Refuse a log that holds no moments.

    Raises:
        MicrecError: If it has too few clicks, or they all come at one time.
    """
    if len(real) < LEAST_CLICKS:
        raise MicrecError(f"{real.name}: has {len(real)} clicks: fit needs {LEAST_CLICKS} or more.")
    if real.span_s < LEAST_SPAN_S:
        raise MicrecError(
            f"{real.name}: all clicks lie within {real.span_s:g} s: fit needs their times; check the timestamps and "
            "time_unit in dataset.yaml."
        )


def _config(base: WorldConfig, findings: Findings) -> WorldConfig:
    """The base with what was found; the choice shares still sum to 1."""
    return validate(WorldConfig, merge(base.model_dump(mode="json"), findings.nested()), where="fit")


def _scaled(base: WorldConfig, real: Log) -> WorldConfig:
    """The base world with as many users as the real log, and everything that goes with them."""
    return validate(WorldConfig, base.scaled_keys(real.n_users / base.users.count), where=base.name)


def _simulated(config: WorldConfig, real: Log) -> Log:
    log = world_log(World.build(config))
    return dataclasses.replace(log.thinned(real.n_users), name=config.name)


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as fault:
        raise MicrecError(f"--out {path}: cannot be written ({fault.strerror}): choose another file.") from None
    finally:
        partial.unlink(missing_ok=True)


def _name(text: str) -> str:
    return "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "-" for char in text) or "real"
