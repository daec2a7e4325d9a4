"""What happened between a request and a click, for the report: channels, causes, latencies, days."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from abtest.report.figures import Bars, Lines, Series, Tone
from abtest.report.sections import Section
from abtest.report.tables import Table

Rows = Sequence[Mapping[str, Any]]
_TONES: tuple[Tone, ...] = ("first", "second", "third", "fourth")
_NAMES = {"link": "planted link"}


def funnel_sections(facts: Mapping[str, Any], labels: Mapping[str, str], experiment_day: int) -> list[Section]:
    """Sections on the funnel of one simulated world.

    Args:
        facts: From ``measures.facts_of``.
        labels: Names of the arms for people.
        experiment_day: Number of the experiment's first day.
    """

    def named(row: Mapping[str, Any]) -> str:
        return labels.get(str(row["arm"]), str(row["arm"]))

    return [
        Section(
            "From request to click",
            (
                "A channel offers its items, merging and ranking choose a slate of them, and users click. An item that "
                "several channels offer counts for the first of them in the order of merging.",
            ),
            [
                *_channel_figures(facts["channels"], named),
                _channel_table(facts["channels"], named),
                *_overlap_tables(facts["overlap"], named),
            ],
        ),
        Section(
            "Why users clicked",
            (
                "Known only to the simulator: what decided each click. A click counts for a planted link if it would "
                "not have happened, with the same chance, without the link.",
            ),
            [_cause_table(facts["causes"], named)],
        ),
        Section(
            "Serving",
            ("Simulated latencies; late, failed and refused answers are replaced by the other channels'.",),
            [_stage_table(facts["stages"], named), _slate_table(facts, named)],
        ),
        Section(
            "Users by day",
            (
                "Satisfaction is known only to the simulator: that of the day's users in the evening, in standard "
                "deviations of what a slate is worth, 0 as on reference slates. It decides who comes again.",
            )
            if any(row.get("satisfaction") is not None for row in facts["daily"])
            else (),
            [*_daily_figures(facts["daily"], named, experiment_day), _return_figure(facts["returns"], named)],
        ),
    ]


def _channel_figures(rows: Rows, named: Any) -> Iterator[Bars]:
    clicks: dict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        clicks[named(row)][row["channel"]] = row["clicks"] or 0
    for place, (arm, by_channel) in enumerate(clicks.items()):
        total = max(sum(by_channel.values()), 1)
        ordered = sorted(by_channel.items(), key=lambda item: -item[1])
        bars = [(channel, n / total, f"{n / total:.1%}") for channel, n in ordered]
        yield Bars(f"Clicks by channel, {arm}", bars, tone=_TONES[place % len(_TONES)])


def _channel_table(rows: Rows, named: Any) -> Table:
    found = []
    for row in rows:
        offered, shown, clicks = row["offered"], row["impressions"] or 0, row["clicks"] or 0
        found.append(
            (
                named(row),
                row["channel"],
                f"{offered:,}" if offered is not None else "–",
                f"{row['merged']:,}" if offered is not None else "–",
                f"{shown:,}",
                f"{shown / offered:.2%}" if offered else "–",
                f"{clicks:,}",
                f"{clicks / shown:.2%}" if shown else "–",
                f"{(row['dwell_s'] or 0) / clicks:.1f}" if clicks else "–",
                f"{row['link_clicks'] or 0:,}",
            )
        )
    header = (
        *("arm", "channel", "offered", "after merging", "shown", "shown of offered"),
        *("clicks", "CTR", "dwell s a click", "clicks by links"),
    )
    return Table("The funnel by channel", header, found, [])


def _overlap_tables(rows: Rows, named: Any) -> Iterator[Table]:
    """For each arm, of the shown items that one channel offered the share that another offered too."""
    for arm in dict.fromkeys(named(row) for row in rows):
        own = [row for row in rows if named(row) == arm]
        names = [row["channel"] for row in own]
        found = [
            (
                row["channel"],
                f"{row[row['channel']]:,}",
                *(
                    "" if other == row["channel"] else f"{row[other] / max(row[row['channel']], 1):.1%}"
                    for other in names
                ),
            )
            for row in own
        ]
        header = ("offered by", "shown", *(f"also {name}" for name in names))
        yield Table(f"Overlap of channels, {arm}", header, found, [], folded=True)


def _return_figure(rows: Rows, named: Any) -> Lines:
    series = []
    for place, arm in enumerate(dict.fromkeys(named(row) for row in rows)):
        own = [row for row in rows if named(row) == arm]
        shares = [row["users"] / max(row["cohort"], 1) for row in own]
        series.append(Series(arm, [row["day"] for row in own], shares, tone=_TONES[place % len(_TONES)]))
    return Lines("Users of the first day who are there again", "days later", "share", series)


def _cause_table(rows: Rows, named: Any) -> Table:
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        counts[row["cause"]][named(row)] = row["len"]
    arms = list(dict.fromkeys(named(row) for row in rows))
    totals = {arm: max(sum(by_arm.get(arm, 0) for by_arm in counts.values()), 1) for arm in arms}
    found = [
        (
            _NAMES.get(cause, cause),
            *(f"{by_arm.get(arm, 0):,} ({by_arm.get(arm, 0) / totals[arm]:.1%})" for arm in arms),
        )
        for cause, by_arm in sorted(counts.items(), key=lambda item: -sum(item[1].values()))
    ]
    return Table("Clicks by cause", ("cause", *arms), found, [])


def _stage_table(rows: Rows, named: Any) -> Table:
    found = [
        (
            named(row),
            row["stage"],
            f"{row['jobs']:,}",
            *(f"{row[name] / max(row['jobs'], 1):.2%}" for name in ("answered", "late", "error", "down")),
            *(_ms(row[name]) for name in ("wait_ms", "p50_ms", "p95_ms", "p99_ms")),
        )
        for row in rows
    ]
    header = ("arm", "stage", "requests", "answered", "late", "error", "down", "mean wait ms", "P50", "P95", "P99")
    return Table("Stages", header, found, [], folded=True)


def _slate_table(facts: Mapping[str, Any], named: Any) -> Table:
    bad: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in facts["outcomes"]:
        bad[named(row)][row["result"]] += row["len"]
        bad[named(row)][row["fallback"]] += row["len"]
    found = []
    for row in facts["slates"]:
        n, kinds = row["requests"], bad[named(row)]
        shares = (f"{kinds[name] / max(n, 1):.2%}" for name in ("partial", "popular", "empty", "abandoned"))
        found.append((named(row), f"{n:,}", *shares, *(_ms(row[name]) for name in ("p50_ms", "p95_ms", "p99_ms"))))
    header = ("arm", "requests", "a channel missing", "fallback list", "empty", "given up", "P50 ms", "P95", "P99")
    return Table("Slates", header, found, [])


def _daily_figures(rows: Rows, named: Any, experiment_day: int) -> Iterator[Lines]:
    arms = list(dict.fromkeys(named(row) for row in rows))
    figures = [("users", "Active users", "users"), ("clicks", "Clicks", "clicks")]
    if any(row.get("satisfaction") is not None for row in rows):
        figures.append(("satisfaction", "Satisfaction", "sd"))
    for column, title, unit in figures:
        series = []
        for place, arm in enumerate(arms):
            own = [row for row in rows if named(row) == arm]
            days = [row["day"] - experiment_day + 1 for row in own]
            series.append(Series(arm, days, [row[column] or 0 for row in own], tone=_TONES[place % len(_TONES)]))
        yield Lines(f"{title} by day", "day of the experiment", unit, series, y_percent=False)


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"
