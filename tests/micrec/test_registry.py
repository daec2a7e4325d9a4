"""Names to things, open to other packages."""

from importlib.metadata import EntryPoint

import pytest

from micrec import registry
from micrec.errors import MicrecError
from micrec.registry import Registry


def thing():
    return "mine"


@pytest.fixture
def installed(monkeypatch):
    """Another package that offers a fruit by an entry point."""
    point = EntryPoint("quince", f"{__name__}:thing", "micrec.fruits")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "micrec.fruits" else [])


def test_what_is_registered_comes_behind_what_was_there():
    fruits = Registry("fruit", "fruits", {"apple": 1, "pear": 2})
    assert fruits.register("plum", 3) == 3
    assert list(fruits) == ["apple", "pear", "plum"]
    assert dict(fruits) == {"apple": 1, "pear": 2, "plum": 3}


def test_a_name_stands_for_one_thing():
    fruits = Registry("fruit", "fruits", {"apple": thing})
    fruits.register("apple", thing)  # the same once more, as a reloaded module does
    with pytest.raises(ValueError, match="'apple' is registered already"):
        fruits.register("apple", print)
    fruits.remove("apple")
    assert "apple" not in fruits


def test_as_a_decorator():
    fruits = Registry("fruit", "fruits")

    @fruits.decorator("fig")
    def fig():
        return 1

    assert fruits["fig"] is fig


def test_entry_points_are_found(installed):
    fruits = Registry("fruit", "fruits", {"apple": print})
    assert fruits["quince"]() == "mine"
    assert list(fruits) == ["apple", "quince"]


def test_an_entry_point_cannot_replace_what_is_there(installed):
    fruits = Registry("fruit", "fruits", {"quince": print})
    with pytest.raises(ValueError, match="registered already"):
        fruits["quince"]


@pytest.mark.parametrize("value", ["no_such_module_at_all:x", f"{__name__}:no_such_thing"])
def test_an_entry_point_that_cannot_be_loaded_is_named(monkeypatch, value):
    point = EntryPoint("quince", value, "micrec.fruits")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    fruits = Registry("fruit", "fruits", {"apple": print})
    for _ in range(2):  # each time, not the first alone
        with pytest.raises(MicrecError, match=r"point quince of micrec\.fruits: .* cannot be loaded .*uninstall it"):
            list(fruits)


@pytest.mark.parametrize(
    ("name", "message"),
    [("aple", "scenario: no fruit 'aple': did you mean apple"), ("zzz", "choose from apple, pear")],
)
def test_a_wrong_name_is_told_with_the_nearest(name, message):
    with pytest.raises(MicrecError, match=message):
        Registry("fruit", "fruits", {"apple": 1, "pear": 2}).get_named(name, where="scenario")
