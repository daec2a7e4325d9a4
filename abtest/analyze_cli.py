"""The commands on experiments' logs: ``analyze``, ``power``, ``aa``. A command parses, calls and prints."""

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from micrec.console import report_errors

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

Log = Annotated[Path, typer.Argument(help="Parquet or CSV file, or a folder of parts: a row per user, day or event.")]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OURS=THEIRS",
        help="Our column by the file's, or by an expression on its columns: clicks=n_click,dwell_s=play_ms/1000.",
    ),
]
Metrics = Annotated[Path | None, typer.Option(help="YAML file of metrics, see scenarios/metrics.yaml.")]
Rows = Annotated[str, typer.Option(help="What a row is: users, days, parts (to be summed) or events; auto tells.")]
Dedupe = Annotated[
    list[str] | None, typer.Option(metavar="COLUMN,...", help="Rows alike in these are repeats; the first is kept.")
]


@app.command()
@report_errors()
def analyze(
    log: Log,
    control: Annotated[str, typer.Option(help="Name of the control arm in the log.")] = "control",
    treatment: Annotated[list[str] | None, typer.Option(help="Name of a treatment arm; repeatable.")] = None,
    columns: Columns = None,
    metrics: Metrics = None,
    slices: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN,...", help="Columns known before exposure.")
    ] = None,
    covariates: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN,...", help="Columns from before exposure, for CUPED.", show_default="all pre_*"),
    ] = None,
    alpha: Annotated[float, typer.Option(help="False alarms allowed over all primary metrics together.")] = 0.05,
    planned_days: Annotated[int, typer.Option(help="Length the test was planned for.")] = 7,
    looks: Annotated[
        str, typer.Option(help="final: read once at the end; daily: a planned look a day; open.")
    ] = "final",
    weights: Annotated[
        list[str] | None, typer.Option(metavar="ARM=SHARE,...", help="Planned shares.", show_default="equal")
    ] = None,
    ignore_arm: Annotated[list[str] | None, typer.Option(help="An arm of the log to leave out; repeatable.")] = None,
    rows: Rows = "auto",
    dedupe: Dedupe = None,
    split_by_hash: Annotated[
        str | None, typer.Option(metavar="SALT", help="Make an A/A of any log: split users by a hash with this salt.")
    ] = None,
    min_users: Annotated[int, typer.Option(help="Fewest users per arm for a slice to be judged.")] = 100,
    out: Annotated[Path | None, typer.Option(help="Folder for results.json and reports.", show_default="none")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a finished analysis in --out.")] = False,
) -> None:
    """Judge an experiment from its log: validity, effects, verdict.

    For example: micrec analyze log.parquet --control A --treatment B --out report
    """
    started_s = time.perf_counter()
    from abtest.analysis.analysis import analyse
    from abtest.analysis.metrics import load_metrics
    from abtest.analysis.output import check_out, write_results
    from abtest.analysis.plan import plan_from_text
    from abtest.analysis.results import results_of
    from abtest.analysis.userlog import read_log
    from abtest.report.online_terminal import print_analysis
    from abtest.runfolder import HTML_FILE

    if out is not None:
        check_out(out, force=force)
    chosen, more_slices = load_metrics(metrics) if metrics else (None, [])
    plan = plan_from_text(
        control=control,
        treatments=treatment or (["treatment"] if split_by_hash is None else ["A/A treatment"]),
        metrics=tuple(chosen) if chosen is not None else None,
        slices=[*more_slices, *(slices or [])],
        covariates=covariates,
        columns=columns or [],
        weights=weights or [],
        alpha=alpha,
        planned_days=planned_days,
        looks=looks,
        ignored_arms=ignore_arm or [],
        rows=rows,
        dedupe=dedupe or [],
        split_salt=split_by_hash,
        min_users=min_users,
        command=shlex.join(["micrec", *sys.argv[1:]]),
    )
    results = results_of(analyse(read_log(log, plan), plan, started_s=started_s))
    if out is not None:
        write_results(results, out)
    print_analysis(results)
    if out is not None:
        typer.echo(f"\nreport: {out / HTML_FILE}")
