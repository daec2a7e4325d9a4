"""Shipped files are found by name from any folder, and a file of the user's comes first."""

from pathlib import Path

import pytest

from micrec.errors import MicrecError
from micrec.shipped import find_file, shipped_files

SCENARIOS = Path(__file__).parents[2] / "scenarios"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_file_of_the_project_is_shipped_under_its_name():
    names = {path.relative_to(SCENARIOS).with_suffix("").as_posix() for path in SCENARIOS.rglob("*.yaml")}
    assert set(shipped_files()) == names
    assert {"quickstart", "metrics", "worlds/tiny"} <= names


@pytest.mark.parametrize("given", ["quickstart", Path("quickstart")])
def test_by_name(given):
    assert find_file(given) == SCENARIOS / "quickstart.yaml"


def test_a_world_by_its_short_and_its_long_name():
    assert find_file("tiny", below="worlds") == find_file("worlds/tiny", below="worlds")
    assert find_file("tiny", below="worlds") == SCENARIOS / "worlds" / "tiny.yaml"


def test_a_file_of_ones_own_comes_first(tmp_path):
    (tmp_path / "quickstart").write_text("kind: aa")
    assert find_file("quickstart") == Path("quickstart")


def test_a_folder_of_the_same_name_is_no_file(tmp_path):
    (tmp_path / "quickstart").mkdir()
    assert find_file("quickstart") == SCENARIOS / "quickstart.yaml"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("quikstart", "did you mean quickstart"),
        ("scenarios/quickstart.yaml", "the shipped one of that name is called quickstart"),
        ("nothing like it", "micrec scenario list"),
        ("x" * 5000, "no such file"),
        ("a\0b", "no such file"),
    ],
)
def test_what_is_not_there(given, message):
    with pytest.raises(MicrecError, match=message):
        find_file(given)


def test_a_missing_path_is_left_to_its_reader():
    assert find_file("mine.yaml") == Path("mine.yaml")
