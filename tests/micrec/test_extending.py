"""A file's keys over those of the file it extends."""

import pytest
import yaml

from micrec.errors import MicrecError
from micrec.extending import MOST_FILES, read_extended


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(data))
    return path


def test_keys_are_laid_over_those_of_the_extended_file_at_every_depth(tmp_path):
    write(tmp_path / "base" / "a.yaml", {"x": {"one": 1, "two": 2}, "y": [1, 2]})
    top = write(tmp_path / "b.yaml", {"extends": "base/a.yaml", "x": {"two": 3}, "z": 4})
    assert read_extended(top) == {"x": {"one": 1, "two": 3}, "y": [1, 2], "z": 4}


def test_a_name_without_a_suffix_is_a_shipped_file(tmp_path):
    top = write(tmp_path / "b.yaml", {"extends": "worlds/tiny", "name": "mine"})
    data = read_extended(top)
    assert data["name"] == "mine"
    assert len(data) > 1


def test_a_file_beside_comes_before_a_shipped_one(tmp_path):
    write(tmp_path / "quickstart", {"x": 1})
    assert read_extended(write(tmp_path / "b.yaml", {"extends": "quickstart"})) == {"x": 1}


def test_places_inside_a_file_extend_too(tmp_path):
    write(tmp_path / "w.yaml", {"users": 3, "items": 4})
    top = write(tmp_path / "b.yaml", {"world": {"extends": "w.yaml", "users": 5}})
    assert read_extended(top, lambda data: iter([("world", data["world"])] if "world" in data else [])) == {
        "world": {"users": 5, "items": 4}
    }


def test_a_circle_is_refused(tmp_path):
    write(tmp_path / "a.yaml", {"extends": "b.yaml"})
    write(tmp_path / "b.yaml", {"extends": "a.yaml"})
    with pytest.raises(MicrecError, match="circle"):
        read_extended(tmp_path / "a.yaml")


def test_an_endless_chain_is_refused(tmp_path):
    for number in range(MOST_FILES + 2):
        write(tmp_path / f"{number}.yaml", {"extends": f"{number + 1}.yaml"})
    with pytest.raises(MicrecError, match="stand on one another"):
        read_extended(tmp_path / "0.yaml")


@pytest.mark.parametrize(
    ("parent", "message"), [(3, "must be the path"), ("nosuch", "cannot be read"), ("/dev/zero", "not a regular file")]
)
def test_a_parent_that_is_none(tmp_path, parent, message):
    with pytest.raises(MicrecError, match=message):
        read_extended(write(tmp_path / "a.yaml", {"extends": parent}))
