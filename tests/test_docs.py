"""The documentation builds, fetches nothing, and says nothing that the program does not do."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
import types
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer
import yaml
from typer.testing import CliRunner

import abtest
import micrec
import simulator
from abtest.analysis.metrics import BUILTIN
from abtest.cli.main import app
from abtest.report import glossary
from abtest.scenario_files import explain_scenario, load_scenario
from abtest.scenario_kinds import SCENARIO_KINDS
from abtest.stats.estimators import ESTIMATORS
from micrec.baselines import BASELINES
from micrec.data.convert import READERS
from micrec.item_loss_kinds import ITEM_LOSSES
from micrec.rank_metrics import RANK_METRICS
from micrec.shipped import shipped_files, shipped_folder
from micrec.towers import TOWERS
from simulator.channels import CHANNELS
from simulator.ranking import RANKERS
from tests.abtest.analysis import design_logs
from tests.abtest.analysis.logs import days, users

REGISTRIES = (
    BASELINES,
    BUILTIN,
    CHANNELS,
    ESTIMATORS,
    ITEM_LOSSES,
    RANKERS,
    RANK_METRICS,
    READERS,
    SCENARIO_KINDS,
    TOWERS,
)

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TEXTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")] + PAGES
FENCE = re.compile(r"^[ ]*```(?P<head>[^\n]*)\n(?P<body>.*?)^[ ]*```[ ]*$", re.MULTILINE | re.DOTALL)
PRESENT = [path for path in TEXTS if path.name.lower() != "changelog.md"]  # a changelog names what is gone as well


def named(path):
    """A page as a test's name."""
    return path.relative_to(ROOT).as_posix()


def prose(path):
    """The text of a page without its fenced blocks."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def fences(path, language):
    """Bodies of the fenced blocks of one language, with what follows the language in the opening line."""
    found = FENCE.finditer(path.read_text(encoding="utf-8"))
    heads = [(match["head"].strip().partition(" "), match["body"]) for match in found]
    return [(more, body) for (name, _, more), body in heads if name == language]


def commands_of(path):
    """Every ``micrec`` command of a page's blocks, as words."""
    lines = [line for _, body in fences(path, "bash") for line in body.replace("\\\n", " ").splitlines()]
    if path.name != "errors.md":  # whose blocks are run, mistakes and all
        shown = [line for _, body in fences(path, "console") for line in body.replace("\\\n", " ").splitlines()]
        lines += [line.removeprefix("$ ") for line in shown if line.startswith("$ ")]
    for line in lines:
        for command in line.split("&&"):
            words = shlex.split(command, comments=True)
            if words[:1] == ["micrec"]:
                yield words[1:]


def resolve(words):
    """The command that words begin with, its names, and the words after them."""
    command, names = typer.main.get_command(app), []
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        name, *words = words
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
        names.append(name)
    return command, names, words


def parse(words):
    """Names of the command and its parsed options; a mistake ends in a usage error."""
    command, names, rest = resolve(words)
    if hasattr(command, "commands"):
        assert rest in (["--version"], ["--help"]), words
        return names, {}
    return names, command.make_context(names[-1], list(rest)).params


# --- the built pages


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip('mkdocs is not installed: pip install "micrec[docs]"')
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_every_page_is_built(site):
    assert len(list(site.rglob("*.html"))) > len(PAGES)  # and 404.html


@pytest.mark.parametrize("package", [micrec, simulator, abtest], ids=lambda package: package.__name__)
def test_every_public_name_is_on_the_page_of_its_package(site, package):
    page = (site / "api" / f"{package.__name__}.html").read_text(encoding="utf-8")
    assert package.__all__
    assert [name for name in package.__all__ if f'id="{package.__name__}.{name}"' not in page] == []


class Loaded(HTMLParser):
    """What a browser fetches by itself when it opens a page."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag in ("script", "img", "iframe", "source", "video"):
            self.addresses.append(values.get("src") or "")
        if tag == "link" and values.get("rel") != "canonical":
            self.addresses.append(values.get("href") or "")


def test_a_page_fetches_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert loaded.addresses
        assert [one for one in loaded.addresses if one.startswith(("http:", "https:", "//"))] == [], page.name
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", text), style.name


# --- links, paths and anchors


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_relative_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if not re.match(r"[a-z]+:", target) and (file := target.partition("#")[0]):
            assert (path.parent / file).exists(), f"{path.name} links to {target}, which is not there"


@pytest.mark.parametrize("path", PRESENT, ids=named)
def test_files_that_are_named_exist(path):
    text = prose(path)
    for name in re.findall(r"`((?:micrec|simulator|abtest|tests|scenarios|docs)/[\w./-]*)`", text):
        assert (ROOT / name).exists(), f"{path.name} names {name}, which is not there"


def test_every_word_of_a_report_has_an_anchor_in_the_glossary():
    anchors = set(re.findall(r"\{ #([\w-]+) \}", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")))
    words = [name.lower() for name in (*glossary.ONLINE, *glossary.OFFLINE)]
    words += [name.replace(" ", "-") for name, _ in glossary.INTERVALS.values()]
    assert [word for word in words if word not in anchors and word != "interval"] == []


# --- commands


@pytest.mark.parametrize("path", PRESENT, ids=named)
def test_every_command_that_is_printed_exists_with_its_options(path):
    for words in commands_of(path):
        names, given = parse(words)
        if names == ["run"]:
            given_scenario = given["scenario"]
            assert str(given_scenario) in shipped_files() or given_scenario.suffix == ".yaml", words
            if not given_scenario.suffix:
                load_scenario(given_scenario, given["overrides"] or [])
        if names in (["scenario", "copy"], ["scenario", "check"]):
            file = str(given.get("name") or given.get("scenario"))
            assert file in shipped_files() or file.endswith(".yaml"), words


@pytest.mark.parametrize("path", PRESENT, ids=named)
def test_every_command_that_a_sentence_mentions_exists(path):
    for code in re.findall(r"`(micrec [^`…]+)`", prose(path)):
        words = shlex.split(code)[1:]
        command, _, rest = resolve(words)
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in rest if word.startswith("-")} <= options | {"--help"}, code


def test_commands_are_found_at_all():
    assert sum(1 for path in PRESENT for _ in commands_of(path)) > 40


def test_the_start_page_and_the_guides_name_every_shipped_scenario():
    text = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)
    missing = [
        name for name in shipped_files() if f"`{name.removeprefix('worlds/')}`" not in text and name != "metrics"
    ]
    assert missing == []


KEY = re.compile(
    r"`((?:base|train|model|contrast|softmax|optim|sessions|evaluation|split|population|platform|world|items|users|links)"
    r"\.[a-z0-9_.]++)(?!\()[^`]*`"  # not items.exact(), which is a method
)


@pytest.mark.parametrize("path", PRESENT, ids=named)
def test_every_key_that_is_named_exists(path):
    keys = {key.rstrip(".") for key in KEY.findall(prose(path)) if not key.endswith((".parquet", ".csv"))}
    known = [one.key for one in explain_scenario()]
    for key in keys:
        starts = (key, f"base.{key}", f"world.{key}")
        found = [one for one in known if one in starts or one.startswith(tuple(f"{start}." for start in starts))]
        assert found, f"{path.name} names the key {key}, which is not there"


# --- errors


ERRORS = ROOT / "docs" / "errors.md"
EXAMPLES = [body.removeprefix("$ ").split("\n", 1) for _, body in fences(ERRORS, "console")]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The files that the page of errors shows, and the world that it names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for more, body in fences(ERRORS, "csv"):
        (tmp_path / more.removeprefix('title="').rstrip('"')).write_text(body, encoding="utf-8")
    world = ["world", "tiny", "--out", "data/tiny", "--set", "users.count=100", "--set", "items.count=200"]
    assert CliRunner().invoke(app, [*world, "--workers", "1"]).exit_code == 0
    return tmp_path


def test_an_error_is_what_the_page_says(files):
    assert len(EXAMPLES) > 15
    for command, expected in EXAMPLES:
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        printed = result.stderr.replace(f"{shipped_folder()}{os.sep}", "").replace(f"{files}{os.sep}", "")
        assert (result.exit_code, printed.strip()) == (2, expected.strip()), command


# --- the guide to one's own log


def write_shop(folder):
    """The files that the guide starts from: 60 users who click 40 items, more of their own half."""
    rng = np.random.default_rng(3)
    buyers, start = rng.integers(0, 60, 3_000), 1_767_600_000
    items = (rng.integers(0, 20, 3_000) + 20 * (buyers % 2)) * (rng.random(3_000) < 0.8) + rng.integers(0, 3, 3_000)
    times = np.sort(rng.integers(start, start + 40 * 86_400, 3_000))
    clicks = [f"u{user},i{item},{time}\n" for user, item, time in zip(buyers, items, times, strict=True)]
    for name, header in (("clicks.csv", "user_id,item_id,timestamp\n"), ("sales.csv", "buyer,thing,at\n")):
        (folder / name).write_text(header + "".join(clicks), encoding="utf-8")
    words = ("green tea", "black tea", "espresso", "cocoa", "oat milk")
    catalogue = "".join(f"i{i},{words[i % 5]} no {i},{'left' if i < 20 else 'right'}\n" for i in range(45))
    (folder / "items.csv").write_text("item_id,title,category\n" + catalogue, encoding="utf-8")
    countries = "".join(f"u{u},{'fr' if u % 2 else 'no'}\n" for u in range(60))
    (folder / "new.csv").write_text("item_id,title,category\ni99,oolong tea,left\n", encoding="utf-8")
    (folder / "users.csv").write_text("user_id,country\n" + countries, encoding="utf-8")


def test_the_guide_to_ones_own_log_runs_from_the_file_to_recommendations(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_shop(tmp_path)
    done = []
    for words in commands_of(ROOT / "docs" / "own-log.md"):
        if words[0] == "run":  # trains a dozen models; test_offline.py runs the scenario
            continue
        more = ["--set", "train.epochs=1"] if words[0] == "train" else []
        result = CliRunner().invoke(app, [*words, *more])
        assert result.exit_code == 0, (words, result.output)
        done.append(words[0])
    written = {"convert", "describe", "train", "evaluate", "index", "recommend", "fit", "world", "realism"}
    assert set(done) == written


def test_the_guide_to_judging_runs_on_a_log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path)
    done = []
    for words in commands_of(ROOT / "docs" / "judging.md"):
        if words[1].startswith("log_standard"):  # needs KuaiRand; test_kuairand.py runs it
            continue
        if words[0] == "history":  # of tests that were done before
            for place in range(3):
                log = pl.read_parquet("log.parquet").with_columns(pl.col("clicks") + place * (pl.col("arm") == "B"))
                abtest.analyze(log, control="A", treatment="B", out=f"reports/test-{place}", checks=False)
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, (words, result.output)
        done.append(words[0])
    assert done == ["analyze", "analyze", "analyze", "analyze", "power", "power", "aa", "history"]


def test_the_guide_to_plans_runs_on_logs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_designs(tmp_path)
    done = []
    for words in commands_of(ROOT / "docs" / "plan.md"):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, (words, result.output)
        done.append(words[0])
    assert done == ["plan", *["analyze"] * 10, "cumulative"]


def write_designs(folder):
    """The logs that the guide to plans starts from."""
    users(2_000, seed=3).write_parquet(folder / "old_log.parquet")
    users(2_000, lift=0.1, seed=4).write_parquet(folder / "log.parquet")
    design_logs.households().write_parquet(folder / "households.parquet")
    design_logs.switchback().write_parquet(folder / "switchback.parquet")
    design_logs.switchback_schedule().write_parquet(folder / "schedule.parquet")
    three = users(3_000).with_columns(arm=(pl.col("user_id") % 3).replace_strict([0, 1, 2], ["A", "B", "C"]))
    three.write_parquet(folder / "three.parquet")
    design_logs.two_armed().write_parquet(folder / "two_armed.parquet")
    log, exposures = design_logs.exposed(1_000)
    log.write_parquet(folder / "events.parquet")
    exposures.write_parquet(folder / "exposures.parquet")
    days(400, 4).write_parquet(folder / "days.parquet")
    for seed in range(3):
        report = abtest.analyze(users(2_000, lift=0.2, seed=seed), control="A", treatment="B", checks=False)
        report.save(folder / "reports" / str(seed))
    report.save(folder / "holdout")


def write_log(folder):
    """The logs that the guide to judging starts from: 2,000 users of two arms, under our names and under others."""
    rng = np.random.default_rng(4)
    people = pl.DataFrame({"user_id": range(2_000), "arm": np.where(rng.random(2_000) < 0.5, "A", "B")})
    clicks, dwell_ms = pl.Series(rng.poisson(3, 2_000)), pl.Series(rng.integers(0, 90_000, 2_000))
    people.with_columns(clicks=clicks, dwell_s=dwell_ms / 1_000).write_parquet(folder / "log.parquet")
    people.with_columns(n_click=clicks, play_time_ms=dwell_ms).write_csv(folder / "export.csv")
    german = people.with_columns(
        clicks=clicks, dwell_s=(dwell_ms / 1_000).cast(pl.String).str.replace(".", ",", literal=True)
    )
    german.write_csv(folder / "german.csv", separator=";")
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect(str(folder / "house.duckdb")) as house:
        house.execute(f"CREATE TABLE visits AS SELECT * FROM read_parquet('{folder / 'log.parquet'}')")


@pytest.mark.parametrize("page", ["own-log", "worlds", "experiments", "judging", "plan"])
def test_the_python_of_the_guides_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_shop(tmp_path)
    write_log(tmp_path)
    if page == "plan":
        write_designs(tmp_path)
        assert CliRunner().invoke(app, next(commands_of(ROOT / "docs" / "plan.md"))).exit_code == 0
    blocks = [body for _, body in fences(ROOT / "docs" / f"{page}.md", "python")]
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), {})
    assert capsys.readouterr().out


# --- recipes

RECIPES = {  # a page, and what its last block prints
    "index": "",
    "channel": "rising",
    "tower": r"0\.\d+",
    "item-loss": r"\[-\d\.\d+",
    "metric": r"heavy|0\.\d+",
    "ranker": r"treatment +┆ \d+",
    "reader": "100",
    "estimator": "first-covariate",
    "scenario-kind": r"busiest hour: \d+:00 UTC, [\d,]+ of [\d,]+ clicks",
}


@pytest.fixture
def registries():
    """Takes out again what a recipe registers."""
    before = {registry.plural: (registry, set(registry)) for registry in REGISTRIES}
    yield
    for registry, names in before.values():
        for name in set(registry) - names:
            registry.remove(name)


def test_every_recipe_is_tried():
    assert {path.stem for path in (ROOT / "docs" / "recipes").glob("*.md")} == set(RECIPES)


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize(("page", "printed"), RECIPES.items())
def test_a_recipe_works_as_it_stands(page, printed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = sum(len(registry) for registry in REGISTRIES)
    module = types.ModuleType(f"recipe_{page.replace('-', '_')}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for _, block in fences(ROOT / "docs" / "recipes" / f"{page}.md", "python"):
        exec(compile(block, page, "exec"), vars(module))
    assert sum(len(registry) for registry in REGISTRIES) > before
    assert re.search(printed, capsys.readouterr().out)


# --- the package's own papers


def test_the_citation_file_is_whole_and_names_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "message", "authors", "version", "license"} <= set(citation)
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["authors"] == project["authors"]


def test_issue_forms_and_hooks_are_whole():
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        content = yaml.safe_load(form.read_text(encoding="utf-8"))
        if form.name != "config.yml":
            assert {"name", "description", "body"} <= set(content), form.name
            assert all({"label"} <= set(part["attributes"]) for part in content["body"]), form.name
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))
    assert {step["run"] for step in workflow["jobs"]["tests"]["steps"] if "run" in step} >= {"pytest -n auto"}
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert {repo["repo"] for repo in hooks} == {"local"}  # nothing is fetched
    assert all(hook["language"] == "system" for repo in hooks for hook in repo["hooks"])


def test_the_commands_of_the_workflow_exist():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))
    lines = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    names = [parse(shlex.split(line)[1:])[0] for line in lines if line.startswith("micrec ")]
    assert ["run"] in names
    assert ["power"] in names
    for line in lines:
        if "-r " in line:
            assert (ROOT / line.split("-r ")[1].split()[0]).is_file(), line


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
    assert (ROOT / "docs" / "figures" / "report.png").stat().st_size <= 200_000
