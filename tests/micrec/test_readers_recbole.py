"""The reader of RecBole's atomic files on tiny ones."""

from pathlib import Path

import pytest

from micrec.data.readers.recbole import RecBoleConfig, read_recbole
from micrec.data.schema import FieldType
from micrec.errors import MicrecError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The layout of RecBole's ml-100k, with a vector added."""
    (tmp_path / "ml.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\tsource:token\n"
        "u1\t242\t3\t881250949\tweb\nu2\t302\t5\t881250940.5\tweb\nu1\t302\t1\t881250949\tapp\n"
    )
    (tmp_path / "ml.user").write_text("user_id:token\tage:float\tgender:token\nu1\t24\tM\nu2\t\tF\nu3\t30\tM\n")
    (tmp_path / "ml.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\temb:float_seq\n"
        '302\tL.A. "Confidential\t1997\tCrime Film-Noir\t0.5 -1\n'
        "242\tKolya\t\tComedy\t1 2\n"
        "9\t\t1990\t\t0 0\n"
    )
    return tmp_path


def test_a_whole_dataset(folder: Path):
    read = read_recbole(folder, RecBoleConfig())
    assert read.clicks.rows() == [("u2", "302", 881250940.5), ("u1", "242", 881250949.0), ("u1", "302", 881250949.0)]
    assert read.users.rows() == [("u1", 24.0, "M"), ("u2", None, "F")]
    assert read.items.to_dicts()[0] == {
        "item_id": "302",
        "movie_title": 'L.A. "Confidential',
        "release_year": "1997",
        "class": ["Crime", "Film-Noir"],
        "emb": [0.5, -1.0],
        "category": "Crime",
    }
    assert [row["category"] for row in read.items.to_dicts()] == ["Crime", "Comedy", None]
    assert read.dropped == {"users without a kept click": 1}


def test_types_and_roles(folder: Path):
    schema = read_recbole(folder, RecBoleConfig()).schema
    assert schema.name == "ml"
    assert schema.users == {"age": FieldType.NUMERIC, "gender": FieldType.CATEGORICAL}
    assert schema.items == {
        "movie_title": FieldType.TEXT,
        "release_year": FieldType.CATEGORICAL,
        "class": FieldType.MULTI_CATEGORICAL,
        "emb": FieldType.VECTOR,
        "category": FieldType.CATEGORICAL,
    }
    assert (schema.roles.title, schema.roles.category, schema.roles.taxonomy) == ("movie_title", "category", "class")
    assert schema.provenance["columns left aside"] == ["rating", "source"]
    assert schema.provenance["files"] == ["ml.inter", "ml.user", "ml.item"]


def test_a_single_valued_taxonomy_is_its_own_category(folder: Path):
    read = read_recbole(folder, RecBoleConfig(taxonomy="release_year"))
    assert (read.schema.roles.category, read.schema.roles.taxonomy) == ("release_year", "release_year")
    assert "category" not in read.items.columns


def test_low_ratings_are_dropped_and_counted(folder: Path):
    read = read_recbole(folder, RecBoleConfig(min_rating=3))
    assert read.clicks.select("user_id", "item_id").rows() == [("u2", "302"), ("u1", "242")]
    assert read.dropped["interactions rated below 3"] == 1


def test_interactions_alone_are_enough(folder: Path):
    (folder / "ml.user").unlink()
    (folder / "ml.item").unlink()
    read = read_recbole(folder / "ml.inter", RecBoleConfig())
    assert read.users.rows() == [("u2",), ("u1",)]
    assert read.items.rows() == [("302",), ("242",)]
    assert read.schema.items == read.schema.users == {}
    assert read.schema.roles.title is None


@pytest.mark.parametrize(("time", "unit"), [("1650812741436", "ms"), ("1650812741", "s")])
def test_the_time_unit_is_told_by_its_size(tmp_path: Path, time: str, unit: str):
    (tmp_path / "x.inter").write_text(f"user:token\titem_id:token\tt:float\n1\t2\t{time}\n")
    read = read_recbole(tmp_path, RecBoleConfig(user="user", time="t"))
    assert read.schema.time_unit == unit
    assert read.clicks.rows() == [("1", "2", float(time))]


def test_bad_headers_are_told_all_at_once(tmp_path: Path):
    (tmp_path / "x.inter").write_text("user_id\titem_id:int\ttimestamp:float\n1\t2\t3\n")
    with pytest.raises(MicrecError) as fault:
        read_recbole(tmp_path, RecBoleConfig())
    assert "header 'user_id' is not column:type: write one of token, token_seq, float, float_seq" in str(fault.value)
    assert "header 'item_id:int'" in str(fault.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (RecBoleConfig(time="when"), r"ml\.inter: column when missing .*name the right one with --set"),
        (RecBoleConfig(min_rating=1, rating="stars"), "column stars missing"),
        (RecBoleConfig(min_rating=9), "none of its 3 interactions is a click: lower min_rating"),
        (RecBoleConfig(title="name"), r"ml\.item: no item column name \(it has movie_title"),
    ],
)
def test_options_that_do_not_fit_are_told(folder: Path, options: RecBoleConfig, message: str):
    with pytest.raises(MicrecError, match=message):
        read_recbole(folder, options)


def test_one_inter_file_is_needed(folder: Path):
    (folder / "other.inter").write_text("")
    with pytest.raises(MicrecError, match=r"exactly one \.inter file, found ml\.inter, other\.inter"):
        read_recbole(folder, RecBoleConfig())
    with pytest.raises(MicrecError, match=r"exactly one \.inter file, found none"):
        read_recbole(folder / "ml.user", RecBoleConfig())


def test_a_word_in_a_float_column_is_told(folder: Path):
    (folder / "ml.user").write_text("user_id:token\tage:float\nu1\told\n")
    with pytest.raises(MicrecError, match=r"ml\.user: cannot be read .*old"):
        read_recbole(folder, RecBoleConfig())
