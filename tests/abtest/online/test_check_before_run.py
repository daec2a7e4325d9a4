"""What a run would refuse on its first day, loading and checking a scenario refuses; identical arms are announced."""

import pytest
from typer.testing import CliRunner

from abtest.cli.main import app
from micrec.errors import MicrecError
from tests.abtest.online.tiny_runs import scenario_file, tiny

POPULAR = "platform.pipeline.channels.popular"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (f"{POPULAR}.kind=nosuch", r"channels.popular.kind: must be one of .*got nosuch"),
        ("platform.pipeline.ranking.kind=nosuch", r"ranking.kind: must be one of ctr, got nosuch"),
        (f"{POPULAR}.options={{nosuch: 1}}", "options of kind popular: nosuch: unknown key"),
        ("platform.pipeline.channels.news={kind: fresh, options: {max_age_h: -1}}", "max_age_h: must be > 0, got -1"),
        ("platform.pipeline.channels.news={kind: fresh, options: {max_age_h: x}}", 'a number > 0, got "x"'),
        (
            "platform.pipeline.channels.news={kind: fresh, options: {max_age_h: .nan}}",
            "max_age_h: must be a number > 0",
        ),
        ("arms.treatment.pipeline={channels: {nosuch: null}}", "channels.nosuch: null takes a channel away"),
        ("arms.treatment.pipeline={channels: {popular: {kind: nosuch}}}", "channels.popular.kind: must be one of"),
    ],
)
def test_what_a_run_would_refuse_is_refused_when_the_scenario_is_read(override, words):
    with pytest.raises(MicrecError, match=words):
        tiny(override)


def test_identical_arms_are_announced_and_others_are_not():
    assert tiny().identical_arms() == (
        "The arms control and treatment are identical: this compares a platform with itself."
    )
    assert tiny("arms.treatment.pipeline={slate_size: 5}").identical_arms() == ""
    assert tiny("kind=aa").identical_arms() == ""
    done = CliRunner().invoke(app, ["scenario", "check", str(scenario_file())])
    assert "note: The arms control and treatment are identical" in done.stdout
