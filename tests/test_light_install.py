"""An install that judges tests without the packages which train models, and what each command imports."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from micrec.packages import DISTRIBUTIONS, missing_package

ROOT = Path(__file__).parents[1]
BLOCK = """
import sys


class Blocked:
    '''A finder before all others, to which only some packages do not exist.'''

    def find_spec(self, name, path=None, target=None):
        if name in {names!r} or name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Blocked())
from abtest.cli.entry import main
main()
"""


def requirements(lines):
    """Package and bound of each line of a requirements file or of pyproject.toml's list."""
    plain = [line.partition("#")[0].strip() for line in lines]
    return dict(re.fullmatch(r"([A-Za-z0-9._-]+)(.*)", line).groups() for line in plain if line)


def project_requirements():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return requirements(project["dependencies"])


def light_requirements():
    return requirements((ROOT / "requirements" / "analysis.txt").read_text().splitlines())


def left_out():
    """Import names of what requirements/analysis.txt does not install."""
    return {name for name, package in DISTRIBUTIONS.items() if package not in light_requirements()}


def run(*args, names, cwd):
    program = BLOCK.format(names=sorted(names))
    command = [sys.executable, "-c", program, *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A log of an experiment and a click log."""
    made = tmp_path_factory.mktemp("light")
    rng = np.random.default_rng(0)
    users = 400
    pl.DataFrame(
        {
            "user_id": np.arange(users),
            "arm": np.where(rng.random(users) < 0.5, "A", "B"),
            "clicks": rng.poisson(3.0, users),
        }
    ).write_parquet(made / "log.parquet")
    (made / "clicks.csv").write_text(
        "user_id,item_id,timestamp\nu1,a,2026-01-05 10:00:00\nu2,b,2026-01-05 11:00:00\nu1,b,2026-01-06 12:00:00\n"
    )
    return made


def test_the_requirements_are_those_of_the_project():
    everything = project_requirements()
    for package, bound in light_requirements().items():
        assert everything[package] == bound, package
    assert {"torch", "faiss", "matplotlib", "simpy", "sklearn"} <= left_out()


def test_every_dependency_has_an_import_name():
    assert sorted(DISTRIBUTIONS.values()) == sorted(project_requirements())


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--help"], "analyze"),
        (["analyze", "log.parquet", "--control", "A", "--treatment", "B", "--out", "report"], "HOLD"),
        (["power", "--mean", "2.5", "--sd", "4", "--lift", "2%"], "control users"),
        (["power", "log.parquet"], "control users"),
        (["aa", "log.parquet", "--splits", "50"], "ACC"),
        (["scenario", "explain", "alpha"], "Level of the tests"),
        (["convert", "table", "clicks.csv", "shop"], "next: micrec describe shop"),
    ],
)
def test_these_commands_do_without(folder, args, said):
    done = run(*args, names=left_out(), cwd=folder)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


@pytest.mark.parametrize(
    "args",
    [["train", "shop", "model"], ["run", "quickstart"], ["run", "table2"], ["recommend", "model", "--user", "u1"]],
)
def test_the_others_name_the_package_in_one_line_and_write_nothing(folder, args):
    before = sorted(folder.rglob("*"))
    done = run(*args, names=left_out(), cwd=folder)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(
        r"error: this command needs the package torch, which is not installed: "
        r"pip install (torch|'torch[^']*'), or pip install micrec for what all commands need\.\n",
        done.stderr,
    )
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(("module", "package"), [("typer", "typer"), ("yaml", "pyyaml")])
def test_without_the_second_line_of_the_install_it_says_so(folder, module, package):
    done = run("power", "--mean", "2.5", "--sd", "4", names={module}, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: this command needs the package {package}, which is not installed: ")
    assert done.stderr.count("\n") == 1


def test_a_module_of_our_own_that_is_missing_is_a_bug(folder):
    assert missing_package(ModuleNotFoundError("No module named 'micrec.nothing'", name="micrec.nothing")) is None
    done = run("power", "--mean", "2.5", "--sd", "4", names={"abtest.analysis.planning"}, cwd=folder)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def loaded_by(*args, cwd):
    """Top-level modules that a command imported, by a line that is printed behind its output."""
    program = (
        "import sys\nfrom abtest.cli.entry import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        "print()\nprint(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program, *args], cwd=cwd, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


HELP = [
    [],
    *([command] for command in ("analyze", "run", "train", "world", "convert")),
    ["scenario"],
]


@pytest.mark.parametrize("command", HELP, ids=" ".join)
def test_help_imports_none_of_the_heavy_packages(command, tmp_path):
    heavy = set(DISTRIBUTIONS) - {"typer", "rich", "pydantic"}  # Typer itself reads the types of options with pydantic
    assert loaded_by(*command, "--help", cwd=tmp_path) & heavy == set()


@pytest.mark.parametrize("package", ["micrec", "simulator", "abtest", "abtest.cli.main"])
def test_importing_a_package_imports_none_of_them(package):
    code = f"import sys, {package}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = set(DISTRIBUTIONS) - ({"typer", "rich"} if package == "abtest.cli.main" else set())
    assert set(done.stdout.split()) & heavy == set()


def test_judging_a_test_imports_no_model(folder):
    args = ["analyze", "log.parquet", "--control", "A", "--treatment", "B"]
    assert loaded_by(*args, cwd=folder) & left_out() == set()
