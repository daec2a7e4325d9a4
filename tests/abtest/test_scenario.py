"""Scenario files: what they may say, what they inherit, and what is refused."""

from pathlib import Path

import pytest
import yaml

from abtest.run_folder import SCENARIO_FILE, write_scenario
from abtest.scenario_files import OfflineScenario, explain_scenario, load_scenario
from abtest.scenario_kinds import SCENARIO_KINDS
from micrec.config import Config
from micrec.errors import MicrecError
from micrec.presets import PRESETS
from micrec.settings import explain, load_yaml

KINDS_RULE = f"kind: must be one of {', '.join(SCENARIO_KINDS)}"
SHIPPED = Path(__file__).parents[2] / "scenarios" / "offline_ab.yaml"

MINIMAL = {
    "kind": "offline_ab",
    "arms": {
        "control": {"label": "ICAN", "config": {"contrast": {"feature": {"weight": 0}}}},
        "treatment": {"label": "MicRec"},
    },
}


def write(folder: Path, data: dict, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def faults_of(path: Path, *sets: str) -> str:
    with pytest.raises(MicrecError) as caught:
        load_scenario(path, sets)
    return str(caught.value)


class TestLoading:
    def test_defaults(self, tmp_path):
        scenario, resolved = load_scenario(write(tmp_path, MINIMAL))
        assert (scenario.name, scenario.seeds, scenario.preset, scenario.data) == ("mine", 5, "paper", None)
        assert list(scenario.table().seed_numbers) == [0, 1, 2, 3, 4]
        assert [one.row for one in scenario.table().questions([])] == ["treatment"] * 6
        assert set(resolved) == set(OfflineScenario.model_fields)

    def test_config_of_a_cell(self, tmp_path):
        sets = ["base.model.embedding_dim=8", "arms.treatment.config.train.epochs=3", "preset=modern", "first_seed=4"]
        scenario, _ = load_scenario(write(tmp_path, MINIMAL), sets)
        control, treatment = scenario.config("control", 4), scenario.config("treatment", 5)
        assert (control.train.seed, treatment.train.seed) == (4, 5)
        assert control.model.embedding_dim == treatment.model.embedding_dim == 8
        assert (control.train.epochs, treatment.train.epochs) == (Config().train.epochs, 3)
        modern = PRESETS["modern"].contrast.feature.weight
        assert (control.contrast.feature.weight, treatment.contrast.feature.weight) == (0.0, modern)
        assert control.preset == "modern"
        assert control.model.l2_normalize

    def test_the_resolved_file_loads_to_the_same_run(self, tmp_path):
        sets = ["base.sessions.category_boost=.inf", "base.optim.eps=1e-9", "data=some/folder", "world.users.count=50"]
        scenario, resolved = load_scenario(write(tmp_path, MINIMAL), sets)
        path = tmp_path / "scenario.resolved.yaml"
        write_scenario(path.parent, resolved)
        path = path.parent / SCENARIO_FILE
        again, resolved_again = load_scenario(path)
        assert resolved_again == resolved
        assert again.config("treatment", 2) == scenario.config("treatment", 2)
        assert again.world.users.count == 50
        assert "seed" not in resolved["base"]["train"]

    def test_extends_is_relative_and_later_files_win(self, tmp_path):
        (tmp_path / "deep").mkdir()
        write(tmp_path, {**MINIMAL, "seeds": 2, "alpha": 0.1}, "root.yaml")
        write(tmp_path / "deep", {"extends": "../root.yaml", "alpha": 0.2}, "middle.yaml")
        leaf = write(
            tmp_path / "deep", {"extends": "middle.yaml", "arms": {"treatment": {"label": "New"}}}, "leaf.yaml"
        )
        scenario, _ = load_scenario(leaf, ["seeds=3"])
        assert (scenario.name, scenario.seeds, scenario.alpha) == ("leaf", 3, 0.2)
        assert [arm.label for arm in scenario.arms.values()] == ["ICAN", "New"]

    def test_the_shipped_scenario(self):
        scenario, _ = load_scenario(SHIPPED)
        control, treatment = scenario.config("control", 0), scenario.config("treatment", 0)
        assert [getattr(control.contrast, loss).weight for loss in ("feature", "semantic", "session")] == [0, 0, 0]
        assert treatment.contrast == Config().contrast
        assert control.model_copy(update={"contrast": treatment.contrast}) == treatment
        assert "#   micrec run offline_ab" in SHIPPED.read_text(encoding="utf-8")
        assert scenario.data is None


class TestRefusals:
    def test_everything_at_once(self, tmp_path):
        data = {
            **MINIMAL,
            "seed": 3,
            "alpha": 2,
            "base": {"train": {"epochs": 0, "seed": 1}},
            "world": {"usrs": 3},
        }
        text = faults_of(write(tmp_path, data), "arms.treatment.config.contrast.temprature=1")
        assert text.splitlines()[0].endswith("mine.yaml: 6 errors")
        for part in (
            "- seed: unknown key, did you mean seeds?",
            "- alpha: must be < 0.5, got 2",
            "- base.train.epochs: must be >= 1, got 0",
            "- base.train.seed: every arm uses the same seeds: set seeds and first_seed of the scenario",
            "- world.usrs: unknown key, did you mean users?",
            "- arms.treatment.config.contrast.temprature: unknown key, did you mean temperature?",
        ):
            assert part in text

    def test_presets_are_never_mixed(self, tmp_path):
        text = faults_of(write(tmp_path, MINIMAL), "arms.treatment.config.preset=modern")
        assert "arms.treatment.config.preset: presets are never mixed in one table, and this one is paper" in text

    @pytest.mark.parametrize("part", ["split.test_days=3", "evaluation.seen=filter"])
    def test_arms_share_the_test(self, tmp_path, part):
        text = faults_of(write(tmp_path, MINIMAL), f"arms.treatment.config.{part}")
        section = part.split(".")[0]
        assert f"arms.treatment.config.{section}: all arms share one {section}" in text

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            (
                "kind=offline",
                f'{KINDS_RULE}, got "offline"',
            ),
            ("preset=old", 'preset: must be one of paper, modern, best, got "old"'),
            (
                "metrics.primary=[hit@7]",
                "metrics.primary: hit@7 needs 7 among base.evaluation.cutoffs (50, 100, 200, 500)",
            ),
            ("metrics.secondary=[hit@x]", "metrics.secondary: hit@x is not a metric: write it as hit@50"),
            ("metrics.primary=[]", "metrics.primary: must name at least one metric"),
            ("arms={control: {label: a}}", "arms: must hold control and at least one other arm, got control"),
            ("arms={a: {label: a}, b: {label: b}}", "arms: must hold control and at least one other arm, got a, b"),
            ("arms.a/b={label: x}", "arms.a/b: must be letters, digits, - and _, as it names a folder"),
            ("name=../../etc", "name: must match"),
            (
                "baselines=[best]",
                "baselines.0: must be one of popularity, recent_popularity, segment_popularity, item_knn, ",
            ),
            ("arms=3", "arms: must be a mapping of keys, got 3"),
            ("seeds=0", "seeds: must be >= 1, got 0"),
        ],
    )
    def test_one_fault(self, tmp_path, override, message):
        extra = ["arms={}"] if override.startswith("arms={") else []
        path = write(tmp_path, {**MINIMAL, "arms": {}} if extra else MINIMAL)
        assert message in faults_of(path, override)

    def test_kind_is_required(self, tmp_path):
        assert f"{KINDS_RULE}, got null" in faults_of(write(tmp_path, {"arms": {}}))

    def test_circles(self, tmp_path):
        path = write(tmp_path, {"extends": "other.yaml"})
        write(tmp_path, {"extends": "mine.yaml"}, "other.yaml")
        assert "extends: the files extend each other in a circle" in faults_of(path)

    def test_extends_of_a_missing_file(self, tmp_path):
        assert "none.yaml: cannot be read" in faults_of(write(tmp_path, {"extends": "none.yaml"}))


class TestExplain:
    def test_every_key_has_a_description(self):
        settings = explain_scenario()
        assert [setting.key for setting in settings if not setting.description] == []
        assert {f"base.{s.key}" for s in explain(Config) if s.key != "preset"} <= {s.key for s in settings}

    def test_one_key_or_a_branch(self):
        assert [s.key for s in explain_scenario("alpha")] == ["alpha"]
        assert explain_scenario("contrast.temperature") == explain_scenario("base.contrast.temperature")
        assert {s.key.split(".")[1] for s in explain_scenario("base.split")} == {"split"}

    def test_an_unknown_key_names_the_nearest(self):
        with pytest.raises(MicrecError, match=r"no key train\.temprature: did you mean .*temperature"):
            explain_scenario("train.temprature")


def test_the_shipped_file_says_nothing_but_known_keys():
    assert set(load_yaml(SHIPPED)) <= set(OfflineScenario.model_fields)


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc", "..", ".", "", "a\\b", "a\nb", "x" * 101, " "])
def test_a_name_is_one_part_of_a_path(tmp_path, name):
    assert "name: must" in faults_of(write(tmp_path, {**MINIMAL, "name": name}))


@pytest.mark.parametrize("name", ["mine", "v1.2-b", "..mine", "a" * 100])
def test_ordinary_names_are_kept(tmp_path, name):
    assert load_scenario(write(tmp_path, {**MINIMAL, "name": name}))[0].name == name
