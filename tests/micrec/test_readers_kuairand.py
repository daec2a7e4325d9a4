"""The KuaiRand reader on tiny files of its layout."""

import gzip
from pathlib import Path

import pytest

from micrec.data.readers.kuairand import COUNTS, FLAGS, ONEHOTS, RANGES, KuaiRandConfig, read_kuairand
from micrec.data.schema import FieldType
from micrec.errors import MicrecError

LOG_HEADER = "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,long_view,play_time_ms,tab\n"
LOG = """\
1,10,20220425,0,3000,1,0,0,1,1500,1
2,11,20220425,0,1000,0,1,0,0,0,1
2,11,20220425,0,2000,1,0,1,0,250,1
1,10,20220425,0,3000,1,1,0,1,4000,1
1,11,20220425,0,3000,0,0,0,1,9000,1
"""
USER_HEADER = ",".join(("user_id", "user_active_degree", *FLAGS, *COUNTS, *RANGES, *ONEHOTS)) + "\n"
VIDEOS = """\
video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,music_id,music_type,tag
10,7,NORMAL,2022-04-10,Web,0.0,5500.0,1,9.0,"39,68"
11,8,UNKNOWN,2022-04-09,UNKNOWN,0.0,,0,,
12,8,AD,2022-04-09,Web,0.0,1000.0,0,4.0,3
"""


def user_row(user_id: int, degree: str, flag: int) -> str:
    values = [
        user_id,
        degree,
        *[flag] * len(FLAGS),
        *range(len(COUNTS)),
        *["[1,5)"] * len(RANGES),
        *["2.0"] * len(ONEHOTS),
    ]
    return ",".join(f'"{value}"' if isinstance(value, str) and "," in value else str(value) for value in values) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "log_standard_a.csv").write_text(LOG_HEADER + LOG)
    users = USER_HEADER + user_row(1, "full_active", -124) + user_row(2, "UNKNOWN", 1) + user_row(3, "day_new", 0)
    (tmp_path / "user_features_pure.csv.gz").write_bytes(gzip.compress(users.encode()))
    (tmp_path / "video_features_basic_pure.csv").write_text(VIDEOS)
    return tmp_path


def test_repeated_rows_are_one_click_and_the_rest_is_counted(folder: Path):
    read = read_kuairand(folder, KuaiRandConfig())
    assert read.clicks.rows() == [(2, 11, 2000, 0.25, False, True), (1, 10, 3000, 4.0, True, False)]
    assert read.clicks.columns == ["user_id", "item_id", "timestamp", "dwell_s", "like", "follow"]
    assert read.dropped == {
        "exposures without a click (is_click is not 1)": 2,
        "repeated rows of one click": 1,
        "users without a kept click": 1,
    }
    assert read.schema.provenance["rows"] == 5


def test_long_views_may_be_the_clicks(folder: Path):
    read = read_kuairand(folder, KuaiRandConfig(click="long_view"))
    assert read.clicks.select("user_id", "item_id", "dwell_s").rows() == [(1, 10, 4.0), (1, 11, 9.0)]
    assert read.dropped["exposures without a click (long_view is not 1)"] == 2


def test_missing_values_of_videos(folder: Path):
    videos = {row["item_id"]: row for row in read_kuairand(folder, KuaiRandConfig()).items.to_dicts()}
    assert list(videos) == [10, 11, 12]  # 12 was never clicked, and is still in the pool
    assert videos[10]["tag"] == ["39", "68"]
    assert videos[10]["category"] == "39"
    assert videos[10]["video_duration"] == 5.5
    assert videos[10]["music_type"] == 9
    assert f"{videos[10]['upload_dt']:%Y-%m-%d %H:%M %Z}" == "2022-04-10 00:00 UTC"
    assert videos[11]["author_id"] == 8
    missing = ("tag", "category", "video_type", "upload_type", "music_type", "video_duration")
    assert [videos[11][name] for name in missing] == [None] * len(missing)


def test_missing_values_of_users(folder: Path):
    one, two = read_kuairand(folder, KuaiRandConfig()).users.to_dicts()
    assert one["user_active_degree"] == "full_active"
    assert two["user_active_degree"] is None
    assert [(one[flag], two[flag]) for flag in FLAGS] == [(None, 1)] * len(FLAGS)
    assert one["register_days_range"] == "[1,5)"
    assert [one[name] for name in COUNTS] == [0, 1, 2, 3]
    assert one["onehot_feat17"] == 2


def test_every_field_is_declared(folder: Path):
    read = read_kuairand(folder, KuaiRandConfig())
    assert ["user_id", *read.schema.users] == read.users.columns
    assert set(read.schema.items) | {"item_id"} == set(read.items.columns)
    assert {name for name, kind in read.schema.users.items() if kind is FieldType.NUMERIC} == set(COUNTS)


def test_the_catalogue_is_a_choice(folder: Path):
    read = read_kuairand(folder, KuaiRandConfig(users="all", items="clicked"))
    assert read.users["user_id"].to_list() == [1, 2, 3]
    assert read.items["item_id"].to_list() == [10, 11]
    assert read.dropped["items without a kept click"] == 1


def test_several_logs_are_one_in_time_order(folder: Path):
    (folder / "log_standard_b.csv.gz").write_bytes(gzip.compress((LOG_HEADER + "1,12,0,0,500,1,0,0,0,0,1\n").encode()))
    (folder / "log_random_c.csv").write_text(LOG_HEADER + "1,12,0,0,1500,1,0,0,0,0,1\n")
    times = {
        logs: read_kuairand(folder, KuaiRandConfig(logs=logs)).clicks["timestamp"].to_list()
        for logs in ("standard", "random", "all")
    }
    assert times == {"standard": [500, 2000, 3000], "random": [1500], "all": [500, 1500, 2000, 3000]}


def test_archives_keep_their_files_in_data(folder: Path, tmp_path: Path):
    (tmp_path / "KuaiRand-Pure").mkdir()
    data = tmp_path / "KuaiRand-Pure" / "data"
    data.mkdir()
    for path in folder.glob("*.csv*"):
        path.rename(data / path.name)
    assert len(read_kuairand(tmp_path / "KuaiRand-Pure", KuaiRandConfig()).clicks) == 2


def test_a_missing_file_is_told(folder: Path):
    with pytest.raises(MicrecError, match=r"no file log_random\*\.csv\* in it"):
        read_kuairand(folder, KuaiRandConfig(logs="random"))


def test_a_missing_column_is_told(folder: Path):
    (folder / "log_standard_a.csv").write_text("user_id,video_id\n1,2\n")
    with pytest.raises(
        MicrecError, match=r"log_standard_a\.csv: columns time_ms, is_click, .* missing \(it has user_id"
    ):
        read_kuairand(folder, KuaiRandConfig())


def test_a_text_in_a_number_column_is_told(folder: Path):
    (folder / "log_standard_a.csv").write_text(LOG_HEADER + LOG.replace("2000", "noon"))
    with pytest.raises(MicrecError, match=r"cannot be read .*noon"):
        read_kuairand(folder, KuaiRandConfig())


def test_a_cut_archive_is_told(folder: Path):
    (folder / "log_standard_a.csv").unlink()
    whole = gzip.compress((LOG_HEADER + LOG).encode())
    (folder / "log_standard_a.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MicrecError, match=r"log_standard_a\.csv\.gz: cannot be read"):
        read_kuairand(folder, KuaiRandConfig())


def test_a_log_without_clicks_is_told(folder: Path):
    (folder / "log_standard_a.csv").write_text(LOG_HEADER + "1,10,0,0,500,0,0,0,0,0,1\n")
    with pytest.raises(MicrecError, match="none of the 1 log rows has is_click = 1"):
        read_kuairand(folder, KuaiRandConfig())
