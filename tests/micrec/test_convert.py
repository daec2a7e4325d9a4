"""Conversion end to end on tiny sources of every layout, and the commands ``convert`` and ``describe``."""

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from micrec.cli.data_commands import app
from micrec.console import report_errors
from micrec.data.convert import READERS, convert, detect
from micrec.data.readers.kuairand import USER_COLUMNS
from micrec.data.readers.online_retail import COLUMNS
from micrec.data.store import read_dataset
from micrec.errors import MicrecError

NOON = datetime(2011, 1, 1, 12)


def write_online_retail(folder: Path) -> Path:
    lines = [
        ("1", "85123A", "RED BAG", 6, NOON, 2.5, 17850.0, "France"),
        ("1", "71053", "TIN LANTERN", 1, NOON, 9.0, 17850.0, "France"),
        ("2", "71053", "TIN LANTERN", 1, NOON, 9.0, 12346.0, "Norway"),
        ("C3", "71053", "TIN LANTERN", -1, NOON, 9.0, 12346.0, "Norway"),
    ]
    pl.DataFrame(lines, schema=list(COLUMNS), orient="row").write_parquet(folder / "retail.parquet")
    return folder / "retail.parquet"


def write_kuairand(folder: Path) -> Path:
    (folder / "log_standard_x.csv").write_text(
        "user_id,video_id,time_ms,is_click,is_like,is_follow,long_view,play_time_ms\n"
        "1,10,3000,1,0,0,1,1500\n2,11,1000,1,1,0,0,0\n2,10,2000,1,0,1,0,250\n2,10,2500,0,0,0,0,0\n"
    )
    users = [",".join(USER_COLUMNS), *(f"{user}" + ",1" * (len(USER_COLUMNS) - 1) for user in (1, 2))]
    (folder / "user_features_x.csv").write_text("\n".join(users) + "\n")
    (folder / "video_features_basic_x.csv").write_text(
        "video_id,author_id,video_type,upload_dt,upload_type,video_duration,music_type,tag\n"
        '10,7,NORMAL,2022-04-10,Web,5500.0,9.0,"39,68"\n11,8,AD,2022-04-09,UNKNOWN,,,\n'
    )
    return folder


def write_movielens(folder: Path) -> Path:
    (folder / "ratings.dat").write_text("1::10::5::3\n2::20::2::1\n2::10::4::2\n")
    (folder / "movies.dat").write_text("10::Toy Story (1995)::Animation|Comedy\n20::X (1999)::Drama\n")
    (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n")
    return folder


def write_recbole(folder: Path) -> Path:
    (folder / "x.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n1\ta\t3\n2\tb\t1\n2\ta\t2.5\n")
    (folder / "x.item").write_text("item_id:token\ttitle:token_seq\temb:float_seq\na\tA film\t1 2\nb\t\t3 4\n")
    return folder


def write_table(folder: Path) -> Path:
    (folder / "clicks.csv").write_text("user_id,item_id,timestamp\n1,a,3\n2,b,1\n2,a,2\n")
    (folder / "items.csv").write_text("item_id,colour\na,red\nb,blue\n")
    return folder


LAYOUTS = {
    "online-retail": write_online_retail,
    "kuairand": write_kuairand,
    "movielens": write_movielens,
    "recbole": write_recbole,
    "table": write_table,
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("reader", LAYOUTS)
def test_every_layout_is_recognised_and_becomes_a_valid_dataset(reader: str, source: Path, tmp_path: Path):
    assert set(LAYOUTS) == set(READERS)
    conversion = convert("auto", LAYOUTS[reader](source), tmp_path / "out")
    assert conversion.reader == reader
    assert (conversion.clicks, conversion.users, conversion.items) == (3, 2, 2)
    assert conversion.rows == {"online-retail": 4, "kuairand": 4}.get(reader, 3)
    dataset = read_dataset(tmp_path / "out")
    assert (len(dataset.clicks), len(dataset.users), len(dataset.items)) == (3, 2, 2)
    assert dataset.schema.provenance["dropped"] == conversion.dropped


def test_the_columns_survive_the_folder(source: Path, tmp_path: Path):
    convert("kuairand", write_kuairand(source), tmp_path / "out")
    dataset = read_dataset(tmp_path / "out")
    assert dataset.clicks.time_ms.tolist() == [1000, 2000, 3000]
    assert dataset.clicks.dwell_s is not None
    assert dataset.clicks.dwell_s.tolist() == [0.0, 0.25, 1.5]
    assert dataset.clicks.like is not None
    assert dataset.clicks.like.tolist() == [True, False, False]
    tag = dataset.items.columns["tag"]
    assert [tag.labels[code - 1] for code in tag.values] == ["39", "68"]  # of item 10; item 11 has none
    assert tag.offsets.tolist() == [0, 2, 2]


def test_a_table_takes_its_files_and_names_from_options(source: Path, tmp_path: Path):
    (source / "log.csv").write_text("CustomerID,item_id,timestamp\nx,a,3\ny,b,4\n")
    (source / "people.csv").write_text("CustomerID,age\ny,30\nx,40\n")
    (source / "fields.yaml").write_text("name: shop\nusers: {age: numeric}\n")
    options = {
        "users": str(source / "people.csv"),
        "schema": str(source / "fields.yaml"),
        "columns": {"user_id": "CustomerID"},
    }
    convert("table", source / "log.csv", tmp_path / "out", options=options)
    dataset = read_dataset(tmp_path / "out")
    assert dataset.name == "shop"
    assert dataset.users.ids.to_list() == ["y", "x"]
    assert dataset.users.columns["age"].numbers.tolist() == [30.0, 40.0]


def test_a_table_in_two_files_is_told(source: Path, tmp_path: Path):
    write_table(source)
    (source / "items.tsv").write_text("item_id\na\n")
    with pytest.raises(MicrecError, match=r"items\.csv and items\.tsv are one table twice"):
        convert("table", source, tmp_path / "out")


def test_a_folder_without_clicks_is_told(source: Path, tmp_path: Path):
    with pytest.raises(MicrecError, match="no clicks file in it"):
        convert("table", source, tmp_path / "out")
    with pytest.raises(MicrecError) as fault:
        detect(source)
    assert all(f"- {name}: {reader.summary}" in str(fault.value) for name, reader in READERS.items())


@pytest.mark.parametrize(
    ("reader", "options", "message"),
    [
        ("movielense", {}, "there is no 'movielense': use one of online-retail, kuairand, movielens"),
        (
            "movielens",
            {"min_ratin": 4},
            "options of the reader movielens: min_ratin: unknown key, did you mean min_rating",
        ),
        ("movielens", {"min_rating": -1}, "min_rating: must be >= 0, got -1"),
        ("movielens", {"users": "some"}, "users: must be one of clicked, all, got"),
    ],
)
def test_readers_and_options_are_checked(source: Path, tmp_path: Path, reader: str, options: dict, message: str):
    with pytest.raises(MicrecError, match=message):
        convert(reader, write_movielens(source), tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()


def test_a_broken_source_changes_nothing(source: Path, tmp_path: Path):
    convert("movielens", write_movielens(source), tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    (source / "movies.dat").write_text("20::X (1999)::Drama\n")  # 10 is rated, but no movie any more
    with pytest.raises(MicrecError, match="item_id"):
        convert("movielens", source, tmp_path / "out", overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"source", "out"}


def test_a_dataset_is_replaced_only_by_force(source: Path, tmp_path: Path):
    write_movielens(source)
    convert("movielens", source, tmp_path / "out")
    with pytest.raises(MicrecError, match="exists"):
        convert("movielens", source, tmp_path / "out")
    assert convert("movielens", source, tmp_path / "out", options={"min_rating": 4}, overwrite=True).clicks == 2


def test_the_same_source_gives_the_same_bytes(source: Path, tmp_path: Path):
    write_online_retail(source)
    for name in ("one", "two"):
        convert("online-retail", source / "retail.parquet", tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_convert_prints_what_was_read_kept_and_dropped(source: Path, tmp_path: Path):
    code, printed, errors = run("convert", "online-retail", write_online_retail(source), tmp_path / "out")
    assert (code, errors) == (0, "")
    for label, count in [
        ("rows read", 4),
        ("dropped: cancelled lines (InvoiceNo starts with C)", 1),
        ("kept: clicks", 3),
        ("kept: users", 2),
        ("kept: items", 2),
    ]:
        line = next(line for line in printed.splitlines() if label in line)
        assert line.strip("│ ").split()[-1] == str(count)
    assert f"next: micrec describe {tmp_path / 'out'}" in printed


def test_convert_passes_options_and_columns_on(source: Path, tmp_path: Path):
    (source / "log.csv").write_text("CustomerID,sku,timestamp\nx,a,3\ny,b,4\n")
    names = ("--columns", "user_id=CustomerID", "--columns", "item_id=sku")
    assert run("convert", "table", source / "log.csv", tmp_path / "out", *names)[0] == 0
    assert read_dataset(tmp_path / "out").items.ids.to_list() == ["a", "b"]
    write_movielens(source)
    again = ("convert", "movielens", source, tmp_path / "out", "--set", "min_rating=4")
    assert run(*again)[0] == 2
    assert run(*again, "--force")[0] == 0
    assert len(read_dataset(tmp_path / "out").clicks) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("convert", "movielens", "SOURCE", "OUT", "--set", "min_ratin=4"), "did you mean min_rating?"),
        (("convert", "movielens", "SOURCE", "OUT", "--columns", "user_id=u"), "columns: unknown key"),
        (("convert", "movielens", "SOURCE", "OUT", "--set", "min_rating"), "must read key=value"),
        (("convert", "auto", "SOURCE/none", "OUT"), "there is no such file or folder"),
        (("describe", "OUT"), "there is no such dataset folder"),
        (("describe", "SOURCE", "--test-fraction", "1.5"), "test_fraction: must be < 1, got 1.5"),
    ],
)
def test_user_errors_are_one_message_and_exit_code_2(source: Path, tmp_path: Path, arguments: tuple, message: str):
    write_movielens(source)
    places = {"SOURCE": str(source), "OUT": str(tmp_path / "out")}
    code, printed, errors = run(*(place(argument, places) for argument in arguments))
    assert (code, printed) == (2, "")
    assert errors.startswith("error: ")
    assert message in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()


def place(argument: str, places: dict[str, str]) -> str:
    for name, path in places.items():
        argument = argument.replace(name, path)
    return argument


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), report_errors():
        _ = 1 / 0


@pytest.fixture
def dataset(source: Path, tmp_path: Path) -> Path:
    """Ten clicks, one a day, of two users on three items."""
    rows = [f"{day % 2},{day % 3},{day * 86_400}" for day in range(1, 11)]
    (source / "clicks.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    convert("table", source, tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize(("arguments", "test"), [((), 2), (("--test-fraction", "0.5"), 5), (("--test-days", "3"), 3)])
def test_describe_counts_the_test_period(dataset: Path, arguments: tuple[str, ...], test: int):
    code, printed, _ = run("describe", dataset, "--json", *arguments)
    assert code == 0
    statistics = json.loads(printed)
    wanted = {"users": 2, "items": 3, "clicks": 10, "sessions": 10, "train": 10 - test, "test": test}
    assert {name: statistics[name] for name in wanted} == wanted


def test_describe_prints_the_same_as_a_table(dataset: Path):
    code, printed, errors = run("describe", dataset)
    assert (code, errors) == (0, "")
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in printed.splitlines()]
    for row in (["users", "2"], ["sessions", "10"], ["clicks", "10"], ["train", "8"], ["test", "2"]):
        assert row in cells


def test_help_names_every_reader_and_list_every_option():
    assert all(name in run("convert", "--help")[1] for name in READERS)
    code, printed, _ = run("convert", "--list")
    assert code == 0
    assert all(name in printed for name in (*READERS, "min_rating", "price_bands", "long_view", "schema", "columns"))


def test_the_command_line_starts_without_heavy_imports():
    heavy = "{'torch', 'polars', 'numpy', 'scipy', 'sklearn', 'faiss'}"
    code = f"import sys, micrec.cli.data_commands; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
