"""What is installed holds the scenarios, and runs them away from any checkout."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    for folder in ("micrec", "simulator", "abtest", "scenarios"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(source / "out"), str(source)]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return next((source / "out").glob("*.whl"))


def test_the_wheel_holds_every_scenario_and_data_file(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    scenarios = {
        f"micrec/scenarios/{path.relative_to(ROOT / 'scenarios').as_posix()}"
        for path in (ROOT / "scenarios").rglob("*.yaml")
    }
    assert scenarios <= names
    others = [path for path in ROOT.glob("abtest/**/*") if path.suffix in (".j2", ".json")]
    others += (ROOT / "simulator").rglob("*.txt")
    assert {path.relative_to(ROOT).as_posix() for path in others} <= names
    assert not [name for name in names if name.startswith(("tests", "docs"))]


def test_the_wheel_says_who_made_it_and_that_it_is_typed(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    assert {f"{package}/py.typed" for package in ("micrec", "simulator", "abtest")} <= set(names)
    assert "\nAuthor: MicRec contributors\n" in metadata
    assert "\nClassifier: Typing :: Typed\n" in metadata
    assert "\nLicense-Expression: MIT\n" in metadata


def test_it_finds_them_without_a_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "here").mkdir()
    command = [sys.executable, "-m", "micrec", "scenario", "check", "quickstart"]
    done = subprocess.run(
        command, cwd=tmp_path / "here", env={"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("quickstart: valid")
