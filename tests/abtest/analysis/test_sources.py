"""Logs wherever they lie: DuckDB files and queries, addresses, CSV files of other habits; one verdict from each."""

import json
import os
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

import abtest
from abtest.cli.main import app
from micrec.data.locations import open_location
from micrec.data.table_files import open_table
from micrec.data.table_options import TableOptions
from micrec.errors import MicrecError

from .logs import users

LOG = users(1000, lift=0.2)
AB = {"control": "A", "treatment": "B"}


@pytest.fixture(scope="module")
def expected() -> pl.DataFrame:
    return abtest.analyze(LOG, **AB).to_frame()


@pytest.fixture
def warehouse(tmp_path) -> Path:
    """A DuckDB file with the log and a table beside it."""
    duckdb = pytest.importorskip("duckdb")
    LOG.write_parquet(tmp_path / "log.parquet")
    with duckdb.connect(str(tmp_path / "house.duckdb")) as connection:
        connection.execute(f"CREATE TABLE visits AS SELECT * FROM read_parquet('{tmp_path / 'log.parquet'}')")
        connection.execute("CREATE TABLE other AS SELECT 1 AS one")
    return tmp_path / "house.duckdb"


class TestDuckdb:
    def test_a_query_gives_the_same_numbers(self, warehouse, expected):
        found = abtest.analyze(str(warehouse), query="SELECT * FROM visits", **AB)
        assert found.to_frame().equals(expected)
        assert any("result of a DuckDB query" in note for note in found.notes)

    def test_files_are_the_table_log_of_a_query(self, warehouse, expected):
        folder = warehouse.parent / "parts"
        folder.mkdir()
        for place, part in enumerate((LOG[:300], LOG[300:])):
            part.rename({"clicks": "n"}).write_parquet(folder / f"{place}.parquet")
        query = "SELECT * EXCLUDE n, n AS clicks FROM log ORDER BY user_id"
        assert abtest.analyze(str(folder), query=query, **AB).to_frame().equals(expected)

    def test_a_file_of_several_tables_asks_which(self, warehouse):
        with pytest.raises(MicrecError, match=r"--query 'SELECT … FROM …': its tables are other, visits"):
            abtest.analyze(str(warehouse), **AB)

    @pytest.mark.parametrize("query", ["SELECT * FROM nothing", "DROP TABLE visits", "SELECT"])
    def test_a_broken_query_is_told_and_changes_nothing(self, warehouse, query):
        with pytest.raises(MicrecError, match="correct the path or the --query"):
            abtest.analyze(str(warehouse), query=query, **AB)
        assert abtest.analyze(str(warehouse), query="SELECT * FROM visits", **AB).decision == "ship"

    def test_the_copy_goes_when_the_log_goes(self, warehouse):
        table = open_location(str(warehouse), TableOptions(), query="SELECT * FROM visits")
        (copy,) = table.files
        assert copy.exists()
        del table
        assert not copy.exists()

    def test_csv_options_are_refused_beside_a_query(self, warehouse):
        with pytest.raises(MicrecError, match="say it in the query"):
            abtest.analyze(str(warehouse), query="SELECT * FROM visits", separator=";", **AB)


class TestAddress:
    def test_parquet_at_an_address_and_hive_parts(self, tmp_path, expected):
        LOG.write_parquet(tmp_path / "log.parquet")
        found = abtest.analyze(f"file://{tmp_path}/log.parquet", **AB)
        assert found.to_frame().equals(expected)
        for arm, part in LOG.partition_by("arm", as_dict=True, include_key=False).items():
            (tmp_path / "hive" / f"arm={arm[0]}").mkdir(parents=True)
            part.write_parquet(tmp_path / "hive" / f"arm={arm[0]}" / "part-0.parquet")
        hive = abtest.analyze(f"file://{tmp_path}/hive/", **AB).to_frame()
        assert hive["p"].to_list() == pytest.approx(expected["p"].to_list(), rel=1e-9)

    def test_another_log_has_another_hash(self, tmp_path):
        hashes = set()
        for size in (500, 600):
            LOG[:size].write_parquet(tmp_path / "log.parquet")
            hashes.add(abtest.analyze(f"file://{tmp_path}/log.parquet", **AB).to_dict()["dataset"]["hash"])
        assert len(hashes) == 2

    def test_csv_is_refused(self, tmp_path):
        with pytest.raises(MicrecError, match="Parquet alone is read at an address"):
            abtest.analyze(f"file://{tmp_path}/log.csv", **AB)

    def test_nothing_there(self, tmp_path):
        with pytest.raises(MicrecError, match="cannot be read"):
            abtest.analyze(f"file://{tmp_path}/none.parquet", **AB)


class TestCsvHabits:
    def test_german_numbers(self, tmp_path):
        exact = LOG.with_columns(dwell_s=(20 * pl.col("dwell_s")).floor() + 0.5)
        whole = pl.col("dwell_s").floor().cast(pl.Int64).cast(pl.String).str.replace(r"(\d)(\d{3})$", "$1.$2")
        text = exact.with_columns(dwell_s=whole + ",5")
        assert text["dwell_s"].str.contains(r"\d\.\d{3},5").any()
        text.write_csv(tmp_path / "log.csv", separator=";")
        found = abtest.analyze(str(tmp_path / "log.csv"), decimal="comma", **AB).to_frame()
        assert found.equals(abtest.analyze(exact, **AB).to_frame())

    def test_english_thousands(self, tmp_path):
        path = tmp_path / "t.csv"
        path.write_text('user_id,v\n1,"1,234.5"\n2,"12,345"\n3,7\n')
        rows = open_table(path, options=TableOptions(decimal="point")).rows.collect()
        assert rows["v"].to_list() == [1234.5, 12345.0, 7.0]

    def test_ids_and_words_keep_their_marks(self, tmp_path):  # ids are not numbers, and words no thousands
        path = tmp_path / "t.csv"
        path.write_text("user_id;v;w\n1.234;1.234;a, b\n1.235;2,5;c. d\n")
        rows = open_table(path, options=TableOptions(decimal="comma"), spelled=["user_id"]).rows.collect()
        assert rows.rows() == [(1.234, 1234.0, "a, b"), (1.235, 2.5, "c. d")]

    def test_words_for_no_value(self, tmp_path):
        path = tmp_path / "t.csv"
        path.write_text("user_id,v,w\n1,-999,missing\n2,3,x\n")
        rows = open_table(path, options=TableOptions(null_values=("-999", "missing"))).rows.collect()
        assert rows.rows() == [(1, None, None), (2, 3, "x")]

    def test_types(self, tmp_path):
        path = tmp_path / "t.csv"
        path.write_text("user_id,a,b,c,d\n1,01,7.0,yes,5\n2,02, 8,no,\n")
        types = {"A": "text", "b": "integer", "c": "boolean", "d": "number"}
        rows = open_table(path, options=TableOptions(types=types)).rows.collect()
        assert rows.rows() == [(1, "01", 7, True, 5.0), (2, "02", 8, False, None)]
        assert rows.schema["d"] == pl.Float64

    def test_types_of_parquet(self, tmp_path):
        pl.DataFrame({"user_id": [1, 2], "v": ["3", "4.5"]}).write_parquet(tmp_path / "t.parquet")
        rows = open_table(tmp_path / "t.parquet", options=TableOptions(types={"v": "number", "user_id": "text"})).rows
        assert rows.collect().rows() == [("1", 3.0), ("2", 4.5)]

    @pytest.mark.parametrize(
        ("options", "part"),
        [
            ({"decimal": "dot"}, "--decimal 'dot': must be comma or point"),
            ({"separator": "::"}, "--separator '::': must be one character"),
            ({"dtype": {"clicks": "float"}}, "--dtype clicks=float: must be one of text, integer, number, boolean"),
            ({"dtype": {"click": "number"}}, "--dtype click=number: no such column, did you mean clicks?"),
            ({"dtype": {"arm": "number"}}, "--dtype arm=number: 1,000 cells are no number, the first is 'A'"),
        ],
    )
    def test_mistakes(self, tmp_path, options, part):
        LOG.write_csv(tmp_path / "log.csv")
        with pytest.raises(MicrecError) as fault:
            abtest.analyze(str(tmp_path / "log.csv"), **AB, **options)
        assert part in str(fault.value)


@pytest.mark.parametrize("command", ["analyze", "power", "aa"])
def test_every_command_has_every_option(command, tmp_path):
    text = LOG.select(
        "user_id", "arm", v=pl.col("dwell_s").round(1).cast(pl.String).str.replace(".", ",", literal=True)
    )
    text.with_columns(v=pl.when(pl.col("user_id") > 990).then(pl.lit("-1")).otherwise("v")).write_csv(
        tmp_path / "l.csv", separator="|"
    )
    options = ["--separator", "pipe", "--decimal", "comma", "--null-values", "-1", "--dtype", "user_id=text"]
    options += ["--columns", "dwell_s=v", "--rows", "users", "--timezone", "Europe/Oslo"]
    more = {"analyze": ["--control", "A", "--treatment", "B"], "power": [], "aa": ["--splits", "20"]}[command]
    done = CliRunner().invoke(app, [command, str(tmp_path / "l.csv"), *options, *more, "--json"])
    assert done.exit_code == 2, done.output
    assert "dwell_s: 9 rows" in done.stderr  # the cells that mean no value
    kept = ["--dtype", "user_id=text", "--null-values", "nothing"]
    done = CliRunner().invoke(
        app, [command, str(tmp_path / "l.csv"), *options[:4], *kept, *options[8:], *more, "--json"]
    )
    assert "below 0" in done.stderr


def test_the_environment_holds_the_keys_of_an_object_store(monkeypatch):
    """No request leaves the machine: the address of the store is one where nobody listens."""
    monkeypatch.setitem(os.environ, "AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "y", "REGION": "z", "ALLOW_HTTP": "true"}.items():
        monkeypatch.setitem(os.environ, f"AWS_{name}", value)
    monkeypatch.setenv("POLARS_CLOUD_MAX_RETRIES", "0")
    with pytest.raises(MicrecError) as fault:
        abtest.analyze("s3://bucket/log.parquet", **AB)
    assert "127.0.0.1:9" in str(fault.value) or "s3://bucket/log.parquet: cannot be read" in str(fault.value)
    assert json.dumps(str(fault.value))
