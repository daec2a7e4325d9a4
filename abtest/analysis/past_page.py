"""The page of ``micrec history``: what shipped and what it gained, every lift raw and shrunken, all tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from scipy import special

from abtest.analysis.past_tables import decided, history_tables
from abtest.analysis.past_tests import MetricRecord, PastComparison, PastTest, PastTests
from abtest.report import formatting, html
from abtest.report.figures import Intervals, Row, Tone
from abtest.report.glossary import documented_glossary
from abtest.report.pages.experiment_page import Page, PagePart
from abtest.report.pages.summary_cards import SummaryCard, SummaryLine
from abtest.report.sections import Block
from abtest.report.tables import Table
from abtest.run_folder import versions, write_text
from abtest.stats.assurance import assurance
from abtest.stats.posterior import normal_posterior
from micrec.destination import check_destination
from micrec.errors import MicrecError

MOST_FIGURES = 8  # metrics with a figure of their own, those with most tests
MOST_ROWS = 30  # tests in a figure, the latest ones
_Z95 = -float(special.ndtri(0.025))
_WORDS = {
    "raw lift": "treatment / control - 1 as the test measured it, with its 95 % interval",
    "shrunken lift": "the same given all past tests of the metric: nearer to their mean, the noisier its test was",
    "spread": "standard deviation of the true lifts of a metric over its tests, the noise of the tests taken out",
    "ship, hold, stop": "the verdicts of the tests; invalid: a sample-ratio mismatch, or users who differed before",
    "A/A test": "a test of two equal arms, in which every significant difference is a false alarm",
    "moved": "significant in either direction, after the test's own adjustment",
    "found 80 %": "true lift that a test of this size shows to be significant 80 times in 100",
}


class ShrunkenLift(NamedTuple):
    """One lift of a past test, raw and given all tests of its metric, with 95 % intervals."""

    comparison: PastComparison
    raw: float
    raw_ci: tuple[float, float]
    shrunken: float | None
    shrunken_ci: tuple[float, float] | None


def write_page(path: Path, library: PastTests, folder: str, command: str = "", *, force: bool = False) -> None:
    """Write the page.

    Args:
        path: The file, with or without .html.
        library: What was read.
        folder: Where from, in words.
        command: What repeats it.
        force: Whether a file that is there is replaced.

    Raises:
        MicrecError: As ``check_page``.
    """
    check_page(path, force=force)
    write_text(path, html.render(history_page(library, folder, command)))


def check_page(path: Path, *, force: bool) -> None:
    """Check the file of the page before the work.

    Raises:
        MicrecError: If a folder is there, or a file and ``force`` is not given, or it cannot be written.
    """
    if path.is_dir():
        raise MicrecError(f"--html {path}: is a folder: name the file, such as {path / 'history.html'}.")
    if path.exists() and not force:
        raise MicrecError(f"--html {path}: is there already: use --force to replace it, or another name.")
    check_destination(path.absolute(), what="the page")


def history_page(library: PastTests, folder: str, command: str = "") -> Page:
    """The page of a library, free of how it is drawn."""
    tests, decisions, metrics, aa, planning = history_tables(library)
    figures = [figure_of(library, record) for record in library.metrics[:MOST_FIGURES]]
    words = Table("Words", ("word", "meaning"), list(_WORDS.items()), [])
    parts: list[tuple[str, Sequence[str], Sequence[Block]]] = [
        ("What was decided", (), [tests, decisions]),
        ("How large the lifts were", _left_out(library), [*[one for one in figures if one.rows], metrics]),
        ("Do A/A tests raise alarms?", (), [aa] if aa.rows else []),
        ("Tests to come", (), [planning]),
        ("What the words mean", (), [words]),
    ]
    if not aa.rows:
        parts[2] = (parts[2][0], tuple(aa.notes), [])
    shown = [part for part in parts if part[1] or any(not isinstance(one, Table) or one.rows for one in part[2])]
    return Page(
        eyebrow="Past tests",
        title="What one past test teaches"
        if len(library.tests) == 1
        else f"What {len(library.tests):,} past tests teach",
        subtitle=_subtitle(library),
        sections=[PagePart(f"s{at}", *part) for at, part in enumerate(shown, start=1)],
        provenance=[
            ("Folder", folder),
            ("Command", command or "called from Python"),
            ("Versions", ", ".join(f"{name} {text}" for name, text in versions().items())),
        ],
        summary=_cards(library),
        words=_anchors(),
        glossary_address=documented_glossary(),
    )


def lifts_of(record: MetricRecord, tests: Sequence[PastTest]) -> list[ShrunkenLift]:
    """Every valid lift of a metric that is no A/A test's, in the order of the tests' days."""
    found = []
    for test in sorted(tests, key=lambda one: (one.day or "", one.name)):
        for one in () if test.aa else test.comparisons:
            if one.metric != record.metric or one.lift is None or one.se is None:
                continue
            raw_ci = one.lift - _Z95 * one.se, one.lift + _Z95 * one.se
            centre, ends = None, None
            if record.spread is not None:
                centre, sd, _ = normal_posterior(one.lift, one.se, record.spread.mean, record.spread.sd)
                ends = centre - _Z95 * sd, centre + _Z95 * sd
            found.append(ShrunkenLift(one, one.lift, raw_ci, centre, ends))
    return found


def figure_of(library: PastTests, record: MetricRecord) -> Intervals:
    """A metric's lifts, each raw and below it shrunken."""
    several = {test.name for test in library.tests if len(test.decisions) > 1}
    found = lifts_of(record, library.tests)
    rows = []
    for one in found[-MOST_ROWS:]:
        name = one.comparison.test + (f", {one.comparison.arm}" if one.comparison.test in several else "")
        rows.append(Row(name, _text(one.raw, one.raw_ci), one.raw, *one.raw_ci, tone=_tone(one.raw_ci, up=record.up)))
        if one.shrunken is not None and one.shrunken_ci is not None:
            tone = _tone(one.shrunken_ci, up=record.up)
            text = _text(one.shrunken, one.shrunken_ci)
            rows.append(Row(f"shrunken, {name}", text, one.shrunken, *one.shrunken_ci, tone=tone, hollow=True))
    caption = "Filled: as measured. Hollow: given all tests of the metric, which is what to believe. 95 % intervals."
    if record.spread is None:
        caption = "As measured, with 95 % intervals; from three tests on each is also shown shrunken."
    if len(found) > MOST_ROWS:
        caption += f" The latest {MOST_ROWS} of {len(found)} are shown."
    return Intervals(f"Lifts of {record.metric}", rows, caption)


def _text(lift: float, ends: Sequence[float]) -> str:
    return f"{formatting.percent(lift)} {formatting.percent_interval(ends).removesuffix(' %')}"


def _tone(ends: tuple[float, float], *, up: bool) -> Tone:
    if ends[0] <= 0.0 <= ends[1]:
        return "even"
    return "gain" if (ends[0] > 0.0) == up else "loss"


def _subtitle(library: PastTests) -> str:
    days = sorted(test.day for test in library.tests if test.day)
    span = f" from {days[0]} to {days[-1]}" if days else ""
    splits = sum(test.aa for test in library.tests)
    users = sum(test.users for test in library.tests)
    real, rest = len(library.tests) - splits, f" and {splits} A/A test{'s' * (splits > 1)}" if splits else ""
    return f"{real} test{'s' * (real != 1)}{rest}{span}, of {users:,} users together."


def _left_out(library: PastTests) -> Sequence[str]:
    rest = [record.metric for record in library.metrics[MOST_FIGURES:]]
    return (f"Without a figure, for want of room: {', '.join(rest)}.",) if rest else ()


def _anchors() -> Mapping[str, str]:
    return {word: "word-" + word.lower().replace(" ", "-").replace("/", "-").replace(",", "") for word in _WORDS}


def _cards(library: PastTests) -> list[SummaryCard]:
    cards = [
        SummaryCard("What did shipping gain?", _gains(library)),
        SummaryCard("Can the tests be believed?", _beliefs(library)),
        SummaryCard("What to expect of the next?", _next(library)),
    ]
    return [card for card in cards if card.lines]


def _gains(library: PastTests) -> list[SummaryLine]:
    lines = [SummaryLine(decided(library.counts))]
    for one in library.metrics[:MOST_FIGURES]:
        if one.shipped_shrunken is None:
            continue
        detail = f"Mean of the {one.shipped} that shipped for it; {formatting.percent(one.shipped_raw)} as measured."
        tone = "gain" if (one.shipped_shrunken > 0.0) == one.up else "loss"
        lines.append(
            SummaryLine(f"{one.metric} {formatting.percent(one.shipped_shrunken)} a shipped test", detail, tone)
        )
    return lines


def _beliefs(library: PastTests) -> list[SummaryLine]:
    record, invalid = library.aa, library.counts["invalid"]
    if not record.comparisons:
        lines = [SummaryLine("No A/A test yet", "micrec analyze --split-by-hash makes one of any log.", "doubt")]
    else:
        odd = record.p is not None and record.p < 0.01
        text = f"{record.alarms} of {record.comparisons} A/A comparisons raised an alarm"
        tone = "doubt" if odd else "good"
        lines = [SummaryLine(text, f"{record.expected:.1f} expected; p {formatting.p_value(record.p)}.", tone)]
    if invalid:
        text = f"{invalid} {'comparison was' if invalid == 1 else 'comparisons were'} not valid"
        lines.append(SummaryLine(text, "In the list below, and in no other number.", "doubt"))
    if library.left_out:
        detail = "; ".join(library.left_out[:3]) + ("; …" if len(library.left_out) > 3 else ".")
        files = "file was" if len(library.left_out) == 1 else "files were"
        lines.append(SummaryLine(f"{len(library.left_out)} {files} left out", detail))
    return lines


def _next(library: PastTests) -> list[SummaryLine]:
    lines = []
    for one in library.metrics[:3]:
        if one.spread is None or not one.typical_se or not one.typical_users:
            continue
        sign = 1.0 if one.up else -1.0
        found = assurance(sign * one.spread.mean, one.spread.sd, one.typical_se)
        detail = f"{one.typical_users:,.0f} users find {280 * one.typical_se:.2f} % 80 times in 100; true lifts "
        detail += f"{formatting.percent(one.spread.mean)} on average, spread {100 * one.spread.sd:.2f} points."
        lines.append(SummaryLine(f"{one.metric}: {100 * found.ships:.0f} % of tests will be better", detail))
    still = [one.metric for one in library.metrics if one.still]
    if still:
        lines.append(SummaryLine(f"Never moved: {', '.join(still)}", "Five tests or more without any change.", "doubt"))
    return lines
