"""A library of past tests as tables: the tests, the metrics, the A/A record, and what tests to come will bring."""

from collections.abc import Mapping, Sequence

from abtest.analysis.past_tests import DECISIONS, MetricRecord, PastTest, PastTests
from abtest.report import formatting
from abtest.report.tables import Table
from abtest.stats.assurance import assurance

SIZES = (0.5, 1.0, 2.0, 4.0)  # of a test, in units of the usual one


def history_tables(library: PastTests) -> list[Table]:
    """Every table, with its rows as plain values too."""
    return [_tests(library), _decisions(library), _metrics(library), _aa(library), _planning(library)]


def _tests(library: PastTests) -> Table:
    rows, data = [], []
    for test in library.tests:
        for arm, decision in test.decisions.items():
            rows.append((test.name, test.day or "", f"{test.users:,}", arm, _word(test, decision), _lifts(test, arm)))
            lifts = {one.metric: one.lift for one in test.comparisons if one.arm == arm}
            found = {"test": test.name, "day": test.day, "users": test.users, "arm": arm, "aa": test.aa}
            data.append({**found, "decision": decision, "lifts": lifts})
    header, notes = (
        ("test", "first day", "users", "arm", "decision", "lifts"),
        ["*: significant, after the test's adjustment."],
    )
    return Table("Past tests", header, rows, notes, data=data)


def _word(test: PastTest, decision: str) -> str:
    return f"A/A: {decision}" if test.aa else decision


def _lifts(test: PastTest, arm: str) -> str:
    mine = [one for one in test.comparisons if one.arm == arm]
    return ", ".join(f"{one.metric} {formatting.percent(one.lift)}{'*' if one.significant else ''}" for one in mine)


def _decisions(library: PastTests) -> Table:
    counts = library.counts
    total = sum(counts.values()) or 1
    rows = [(name, f"{counts[name]:,}", f"{counts[name] / total:.0%}".replace("%", " %")) for name in DECISIONS]
    notes = ["Treatments of all tests but A/A tests. Invalid: a sample-ratio mismatch, or users who differed before."]
    notes += [f"Left out: {line}." for line in library.left_out]
    data = [{"decision": name, "treatments": counts[name]} for name in DECISIONS]
    return Table("Decisions", ("decision", "treatments", "share"), rows, notes, data=data)


def _metrics(library: PastTests) -> Table:
    rows = [
        (
            one.metric,
            str(one.comparisons),
            str(one.moved),
            str(one.shipped),
            formatting.percent(one.spread.mean if one.spread else None),
            formatting.UNDEFINED if one.spread is None else f"{100 * one.spread.sd:.2f} %",
            formatting.percent(one.shipped_raw),
            formatting.percent(one.shipped_shrunken),
            _says(one),
        )
        for one in library.metrics
    ]
    notes = [
        "Mean and spread are of the true lifts, without the noise of the tests (Paule and Mandel), over all valid "
        "tests, shipped or not. Shipped lifts are too large as measured; shrunken ones are what shipping gained."
    ]
    data = [
        {
            "metric": one.metric,
            "comparisons": one.comparisons,
            "moved": one.moved,
            "shipped": one.shipped,
            "mean": one.spread.mean if one.spread else None,
            "mean_se": one.spread.mean_se if one.spread else None,
            "sd": one.spread.sd if one.spread else None,
            "shipped_raw": one.shipped_raw,
            "shipped_shrunken": one.shipped_shrunken,
            "typical_se": one.typical_se,
            "typical_users": one.typical_users,
            "still": one.still,
        }
        for one in library.metrics
    ]
    header = ("metric", "tests", "moved", "shipped", "mean lift", "spread", "shipped, raw", "shrunken", "says")
    return Table("Metrics", header, rows, notes if rows else [], data=data)


def _says(one: MetricRecord) -> str:
    if one.still:
        return f"never moved in {one.comparisons} tests"
    if one.spread is None:
        return "fewer than 3 tests"
    if one.spread.sd == 0.0:
        return "no spread beyond noise"
    return "moves"


def _aa(library: PastTests) -> Table:
    record = library.aa
    if not record.comparisons:
        note = "No A/A test yet: micrec analyze --split-by-hash makes one of any log, micrec aa thousands."
        return Table("A/A record", ("comparisons", "false alarms", "expected", "p"), [], [note])
    odd = record.p is not None and record.p < 0.01
    row = (str(record.comparisons), str(record.alarms), f"{record.expected:.1f}", formatting.p_value(record.p))
    note = (
        "More alarms than the level allows: something is wrong with the split, the log or the metric; see micrec aa."
        if odd
        else "As many as chance gives."
    )
    data = [record._asdict()]
    return Table("A/A record", ("comparisons", "false alarms", "expected", "p"), [row], [note], data=data)


def _planning(library: PastTests) -> Table:
    """What tests of some sizes will bring, if they are like the past ones."""
    rows, data = [], []
    for one in library.metrics:
        if one.spread is None or not one.typical_se or not one.typical_users:
            continue
        for size in SIZES:
            users, se = one.typical_users * size, one.typical_se / size**0.5
            sign = 1.0 if one.up else -1.0
            found = assurance(sign * one.spread.mean, one.spread.sd, se)
            gained = None if found.mean_shipped is None else sign * found.mean_shipped
            rows.append(
                (
                    one.metric,
                    f"{users:,.0f}",
                    f"{100 * 2.8 * se:.2f} %",
                    _share(found.ships),
                    _share(found.stops),
                    formatting.percent(gained),
                    _share(found.wrongly_shipped),
                )
            )
            chances = {**found._asdict(), "mean_shipped": gained}
            data.append({"metric": one.metric, "users": users, "smallest_lift": 2.8 * se, **chances})
    header = ("metric", "users", "found 80 %", "better", "worse", "true lift then", "of these below 0")
    notes = [
        "For a test like the past ones with half, the same, twice and four times the usual users: the smallest lift "
        "found 80 % of the time, the chance to be significantly better or worse (level 0.05, one metric), the mean "
        "true lift of those that are better, and the share of them that truly lose."
    ]
    return Table("Tests to come", header, rows, notes if rows else [], data=data)


def _share(share: float | None) -> str:
    return formatting.UNDEFINED if share is None else f"{share:.1%}".replace("%", " %")


def decided(counts: Mapping[str, int]) -> str:
    """How many treatments were shipped, held, stopped, in words."""
    made = sum(counts.values())
    if not made:
        return "No treatment yet, A/A tests alone"
    words = ", ".join(f"{counts[name]} {name}" for name in DECISIONS if counts[name])
    return f"{made:,} {'treatment' if made == 1 else 'treatments'}: {words}"


def summary_lines(library: PastTests) -> Sequence[str]:
    """The library in a few sentences."""
    counts = library.counts
    lines = [f"{decided(counts)}."]
    gained = [one for one in library.metrics if one.shipped_shrunken is not None]
    lines += [
        f"{one.metric}: {one.shipped} shipped with {formatting.percent(one.shipped_raw)} as measured, "
        f"{formatting.percent(one.shipped_shrunken)} after shrinkage."
        for one in gained
    ]
    still = [one.metric for one in library.metrics if one.still]
    lines += [f"Never moved: {', '.join(still)}."] if still else []
    return lines
