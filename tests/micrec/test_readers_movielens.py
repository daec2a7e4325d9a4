"""The MovieLens reader on tiny folders of its original layouts."""

from pathlib import Path

import pytest

from micrec.data.readers.movielens import GENRES_100K, MovieLensConfig, read_movielens
from micrec.errors import MicrecError


def flags(*genres: str) -> str:
    return "|".join("1" if genre in genres else "0" for genre in GENRES_100K)


@pytest.fixture
def ml_100k(tmp_path: Path) -> Path:
    (tmp_path / "u.data").write_text("2\t20\t3\t100\n1\t10\t5\t200\n1\t30\t1\t100\n")
    (tmp_path / "u.item").write_bytes(
        (
            f"10|Toy Story (1995)|01-Jan-1995||http://us.imdb.com/M/x?Toy|{flags('Animation', 'Comedy')}\n"
            f"20|Les Misérables (1995)|01-Jan-1995||http://x|{flags('Drama')}\n"
            f"30|unknown||||{flags('unknown')}\n"
        ).encode("latin-1")
    )
    (tmp_path / "u.user").write_text("1|24|M|technician|85711\n2|53|F|other|V3N4P\n3|9|M|none|00000\n")
    return tmp_path


@pytest.fixture
def ml_1m(tmp_path: Path) -> Path:
    (tmp_path / "ratings.dat").write_text("1::10::5::978300760\n2::20::2::978300000\n2::10::4::978300760\n")
    (tmp_path / "movies.dat").write_bytes(
        '10::City of Lost "Children", The (1995)::Adventure|Sci-Fi\n20::Café (1999)::Drama\n'.encode("latin-1")
    )
    (tmp_path / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072-1234\n")
    return tmp_path


@pytest.fixture
def ml_latest(tmp_path: Path) -> Path:
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n7,2,0.5,300\n7,1,4.0,200\n9,1,5.0,100\n")
    (tmp_path / "movies.csv").write_text(
        "movieId,title,genres\n1,Toy Story (1995),Adventure|Comedy\n"
        '2,"Wonder, Boys ",(no genres listed)\n3,X (2001),War\n'
    )
    (tmp_path / "tags.csv").write_text(
        "userId,movieId,tag,timestamp\n7,1,Pixar ,1\n9,1,pixar,2\n9,1,fun,3\n7,2,odd,4\n"
    )
    return tmp_path


def test_ml_100k(ml_100k: Path):
    read = read_movielens(ml_100k, MovieLensConfig())
    assert read.clicks.rows() == [(2, 20, 100), (1, 30, 100), (1, 10, 200)]
    assert read.items.select("item_id", "title", "year", "genres", "category").rows() == [
        (10, "Toy Story", 1995, ["Animation", "Comedy"], "Animation"),
        (20, "Les Misérables", 1995, ["Drama"], "Drama"),
        (30, "unknown", None, [], None),
    ]
    assert read.users.rows() == [(1, "M", 24, "technician", "8"), (2, "F", 53, "other", "V")]
    assert read.users.columns == ["user_id", "gender", "age", "occupation", "zip_region"]
    assert read.dropped == {"users without a kept click": 1}
    assert (read.schema.name, read.schema.time_unit) == ("ml-100k", "s")
    assert (read.schema.roles.title, read.schema.roles.category, read.schema.roles.taxonomy) == (
        "title",
        "category",
        "genres",
    )


def test_ml_1m(ml_1m: Path):
    read = read_movielens(ml_1m, MovieLensConfig())
    assert read.clicks.rows() == [(2, 20, 978300000), (1, 10, 978300760), (2, 10, 978300760)]
    assert read.items.select("item_id", "title", "year", "genres").rows() == [
        (10, 'City of Lost "Children", The', 1995, ["Adventure", "Sci-Fi"]),
        (20, "Café", 1999, ["Drama"]),
    ]
    assert read.users.rows() == [(1, "F", 1, "10", "4"), (2, "M", 56, "16", "7")]
    assert read.schema.name == "ml-1m"


def test_ml_10m_is_the_same_layout_without_users(ml_1m: Path):
    (ml_1m / "users.dat").unlink()
    read = read_movielens(ml_1m, MovieLensConfig())
    assert read.users.rows() == [(1,), (2,)]
    assert read.schema.users == {}


def test_ml_latest(ml_latest: Path):
    read = read_movielens(ml_latest, MovieLensConfig())
    assert read.clicks.rows() == [(9, 1, 100), (7, 1, 200), (7, 2, 300)]
    assert read.items.select("item_id", "title", "year", "genres", "category").rows() == [
        (1, "Toy Story", 1995, ["Adventure", "Comedy"], "Adventure"),
        (2, "Wonder, Boys", None, [], None),
        (3, "X", 2001, ["War"], "War"),
    ]
    assert read.users.rows() == [(7,), (9,)]
    assert read.dropped == {}


def test_low_ratings_are_dropped_and_counted(ml_latest: Path):
    read = read_movielens(ml_latest, MovieLensConfig(min_rating=4.5, items="clicked"))
    assert read.clicks.rows() == [(9, 1, 100)]
    assert read.users.rows() == [(9,)]
    assert read.dropped == {
        "ratings below 4.5": 2,
        "users without a kept click": 1,
        "items without a kept click": 2,
    }


def test_tags_are_read_on_request(ml_latest: Path):
    assert "tags" not in read_movielens(ml_latest, MovieLensConfig()).items.columns
    read = read_movielens(ml_latest, MovieLensConfig(tags=True))
    assert read.items["tags"].to_list() == [["pixar"], None, None]  # two users gave it, in two spellings
    assert read.schema.items["tags"] == "multi_categorical"
    every = read_movielens(ml_latest, MovieLensConfig(tags=True, min_tag_users=1))
    assert every.items["tags"].to_list() == [["pixar", "fun"], ["odd"], None]


def test_every_field_is_declared(ml_100k: Path):
    read = read_movielens(ml_100k, MovieLensConfig())
    assert {"user_id", *read.schema.users} == set(read.users.columns)
    assert {"item_id", *read.schema.items} == set(read.items.columns)


def test_a_foreign_folder_is_told(tmp_path: Path):
    with pytest.raises(MicrecError, match=r"not a MovieLens folder: it needs one of u\.data \(ml-100k\), ratings\.dat"):
        read_movielens(tmp_path, MovieLensConfig())


def test_a_missing_file_is_told(ml_100k: Path):
    (ml_100k / "u.user").unlink()
    with pytest.raises(MicrecError, match=r"the file u\.user is missing"):
        read_movielens(ml_100k, MovieLensConfig())


def test_broken_lines_are_told_all_at_once(ml_100k: Path):
    (ml_100k / "u.data").write_text("2\t20\t3\t100\n1\tten\t5\t200\n1\t30\n\n")
    with pytest.raises(MicrecError) as fault:
        read_movielens(ml_100k, MovieLensConfig())
    assert "u.data: 3 errors" in str(fault.value)
    assert "item_id: 1 values are not of type Int64 (row 2: 'ten')" in str(fault.value)
    assert "rating: 1 values are not of type Float64 (row 3: None)" in str(fault.value)
    assert "timestamp: 1 values" in str(fault.value)


def test_a_minimum_above_all_ratings_is_told(ml_1m: Path):
    with pytest.raises(MicrecError, match="none of its 3 ratings is at least 6: lower min_rating"):
        read_movielens(ml_1m, MovieLensConfig(min_rating=6))
