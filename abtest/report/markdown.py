"""report.md: the verdict first, then every table, the keys that were on, and how to read and repeat it."""

import re
from collections.abc import Iterator

from abtest.report import formatting
from abtest.report.pages.two_arm_verdict import verdicts
from abtest.report.tables import Results, Table, arm_label, report_tables, switch_lines, turned

_SPECIAL = re.compile(r"([\\`*_\[\]|#~$])")

HOW_TO_READ = (
    "A lift is the treatment's mean divided by the control's, minus 1. Chance enters twice, and is tested twice.",
    "**Over seeds**: how would the lift change with other training seeds, on these test users? Every arm is trained "
    "with the same seeds, so the test is a paired t-test with a Fieller interval. Welch's test ignores the pairing.",
    "**Over users**: how would the lift change for other users of the same kind, with these trained models? Each "
    "user's hits are averaged over the seeds first.",
    "P-values are adjusted by Holm within each table and each kind of test; significant means an adjusted p below "
    "alpha. Intervals are not adjusted, so an interval may exclude 0 although the adjusted p is above alpha.",
    "n/a means undefined; the reason stands below the table.",
)


def markdown_report(results: Results) -> str:
    """The whole report; every string that came from data or settings is escaped."""
    return "\n".join(_lines(results)) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is: one line, no markup, no HTML, no table breaks."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """A code span or block line that no backtick in ``text`` can end."""
    text = " ".join(text.split())
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"


def _lines(results: Results) -> Iterator[str]:
    scenario, dataset = results["scenario"], results["dataset"]
    labels = [escape(arm_label(results, arm)) for arm in scenario["arms"]]
    yield f"# {escape(scenario['name'])}: {' against '.join(labels[::-1])}"
    yield ""
    yield (
        f"Dataset {escape(dataset['name'])}: {dataset['users']:,} users, {dataset['items']:,} items, "
        f"{dataset['clicks']:,} clicks (hash {code(dataset['hash'])}). "
        f"{formatting.seeds(results['seeds']).capitalize()}."
    )
    yield from ("", "## Verdict")
    for headline, *reasons in verdicts(results).values():
        yield from ("", f"**{escape(headline)}**", "", *(f"- {escape(line)}" for line in reasons))
    for table in report_tables(results):
        yield from ("", f"## {escape(table.title)}", "")
        yield from table_lines(turned(table) if table.title.startswith("Models") else table)
    yield from ("", "## What was on", "")
    yield from (f"- {escape(who)}: {code(keys)}" for who, keys in switch_lines(results))
    yield from ("", "## How to read this", "")
    yield from (f"- {line}" for line in HOW_TO_READ)
    yield from ("", "## How to repeat this", "")
    yield f"    {' '.join(results['command'].split()) or 'micrec run scenario.resolved.yaml'}"
    yield ""
    yield "The file `scenario.resolved.yaml` beside this report holds every key of the run; " + (
        f"versions: {code(', '.join(f'{name} {version}' for name, version in results['versions'].items()))}. "
        f"Training and tests took {results['runtime_s']:,.0f} s."
    )


def table_lines(table: Table) -> Iterator[str]:
    """A table and its notes, every cell escaped."""
    yield "| " + " | ".join(escape(cell) for cell in table.header) + " |"
    yield "|" + " --- |" + " ---: |" * (len(table.header) - 1)
    yield from ("| " + " | ".join(escape(cell) for cell in row) + " |" for row in table.rows)
    if table.notes:
        yield ""
    yield from (f"- {escape(note)}" for note in table.notes)
