"""report.md: the verdict first, then every table with the switches that were on, then how to repeat and read it."""

import re
from collections.abc import Iterator

from abtest.report.pages.two_arm_verdict import verdict
from abtest.report.tables import Results, Table, arm_label, report_tables, switch_lines

_SPECIAL = re.compile(r"([\\`*_\[\]|#~$])")

HOW_TO_READ = (
    "A lift is the treatment's mean over the control's, minus 1. Two kinds of luck are judged apart.",
    "**Over seeds**: the unit is a training seed, the same seeds in every arm; the paired t-test and its Fieller "
    "interval say what other seeds would do on these test users. Welch's test ignores the pairing.",
    "**Over users**: the unit is a test user, whose hits are averaged over the seeds; the interval says what these "
    "trained models would do for other users of the same kind.",
    "Holm's adjustment is made within each table and test. Significant means: adjusted p below alpha. "
    "Intervals are not adjusted, so one may "
    "exclude 0 where the adjusted p is not below alpha. What is undefined reads n/a, with the reason below the table.",
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
        f"Seeds {results['seeds'][0]} to {results['seeds'][-1]}."
    )
    yield from ("", "## Verdict", "")
    yield from (f"- {escape(line)}" for line in verdict(results))
    for table in report_tables(results):
        yield from ("", f"## {escape(table.title)}", "")
        yield from table_lines(table)
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
