"""KuaiRand: exposures of short videos in an app, April and May 2022 (Pure, 1K and 27K editions)."""

from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import Field

from micrec.data.readers import DatasetFrames, Reader
from micrec.data.readers.catalogue import CatalogueConfig, choose_catalogue
from micrec.data.readers.files import existing, files_like, read_csv, readable, scan_csv
from micrec.data.schema import DatasetSchema, FieldType, Roles
from micrec.errors import MicrecError

LOG_COLUMNS = {
    "user_id": pl.Int64,
    "video_id": pl.Int64,
    "time_ms": pl.Int64,
    "is_click": pl.Int8,
    "is_like": pl.Int8,
    "is_follow": pl.Int8,
    "long_view": pl.Int8,
    "play_time_ms": pl.Int64,
}
VIDEO_COLUMNS = {
    "video_id": pl.Int64,
    "author_id": pl.Int64,
    "video_type": pl.String,
    "upload_dt": pl.String,
    "upload_type": pl.String,
    "video_duration": pl.Float64,
    "music_type": pl.Float64,
    "tag": pl.String,
}
FLAGS = ("is_lowactive_period", "is_live_streamer", "is_video_author")
ONEHOTS = tuple(f"onehot_feat{i}" for i in range(18))
RANGES = ("follow_user_num_range", "fans_user_num_range", "friend_user_num_range", "register_days_range")
COUNTS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
USER_COLUMNS = {
    "user_id": pl.Int64,
    "user_active_degree": pl.String,
    **dict.fromkeys(RANGES, pl.String),
    **dict.fromkeys((*FLAGS, *ONEHOTS, *COUNTS), pl.Float64),
}
SOURCE = (
    "KuaiRand. Gao C. et al. (2022), KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed "
    "Videos, CIKM, doi 10.1145/3511808.3557624."
)


class KuaiRandConfig(CatalogueConfig):
    """Options of the reader."""

    click: Literal["is_click", "long_view"] = Field(
        "is_click", description="is_click: the video was opened or watched; long_view: it was watched for long."
    )
    logs: Literal["standard", "random", "all"] = Field(
        "standard", description="standard: shown by the platform's policy; random: inserted at random; all: both."
    )


def read_kuairand(folder: Path, options: KuaiRandConfig) -> DatasetFrames:
    """Read ``log_*.csv``, ``user_features*.csv`` and ``video_features_basic*.csv`` (``.gz`` too, several of each).

    A click is an exposure with ``options.click`` = 1. The other rows are dropped and counted. The log repeats rows:
    clicks alike in (user_id, video_id, time_ms) are one click, with the longest play time of the copies and a like or
    follow if any copy has one; the surplus is counted. Rows come out in time order, ties in file order.

    Missing values: negative codes, empty cells and ``UNKNOWN`` are read as missing. The one negative code met is -124
    in ``is_live_streamer``, whose only other value is 1, so nothing is lost by it.

    Fields: videos have ``tag``, ``category`` (their first tag), ``author_id``, ``video_type``, ``upload_type``,
    ``music_type``, ``video_duration`` (s) and ``upload_dt`` (a day, midnight UTC); users have activity degree, flags,
    counts with their ranges, and the anonymous ``onehot_feat*``. ``video_features_statistic`` is not read: it counts
    behaviour over the whole period, the test included. By default users are those with a click, and videos the whole
    pool (see ``CatalogueConfig``).

    Raises:
        MicrecError: If a file or column is missing or cannot be read, or no row is a click.
    """
    existing(folder)
    folder = next((place for place in _places(folder) if files_like(place, "log_*.csv*")), folder)
    logs = _files(folder, *(f"log_{kind}*.csv*" for kind in _log_kinds(options)))
    clicks, n_rows, dropped = _clicks(logs, options.click)
    user_files, video_files = _files(folder, "user_features*.csv*"), _files(folder, "video_features_basic*.csv*")
    users, items, left_out = choose_catalogue(_users(user_files), _videos(video_files), clicks, options)
    return DatasetFrames(
        schema=_schema([*logs, *user_files, *video_files], users, n_rows, dropped | left_out, options),
        users=users,
        items=items,
        clicks=clicks,
        dropped=dropped | left_out,
    )


def is_kuairand(folder: Path) -> bool:
    """Whether ``folder``, or ``data`` in it, has the files of KuaiRand."""
    return any(
        files_like(place, "log_*.csv*") and files_like(place, "user_features*.csv*") for place in _places(folder)
    )


def _places(folder: Path) -> tuple[Path, Path]:
    """Where the files may be: the archives unpack into ``data``."""
    return folder, folder / "data"


def _log_kinds(options: KuaiRandConfig) -> tuple[str, ...]:
    return ("standard", "random") if options.logs == "all" else (options.logs,)


def _files(folder: Path, *patterns: str) -> list[Path]:
    """All files of ``folder`` that match ``patterns``, at least one."""
    files = [path for pattern in patterns for path in files_like(folder, pattern)]
    if not files:
        raise MicrecError(
            f"{folder}: no file {' or '.join(patterns)} in it: give the folder with KuaiRand's CSV files."
        )
    return files


def _clicks(logs: list[Path], click: str) -> tuple[pl.DataFrame, int, dict[str, int]]:
    """Deduplicated clicks in time order, the number of log rows, and the dropped ones by reason."""
    counts, parts = zip(*(_read_log(path, click) for path in logs), strict=True)
    n_rows, clicked = sum(counts), pl.concat(parts)
    if clicked.is_empty():
        raise MicrecError(f"{logs[0].parent}: none of the {n_rows:,} log rows has {click} = 1.")
    distinct = clicked.group_by("user_id", "video_id", "time_ms", maintain_order=True).max()
    clicks = distinct.sort("time_ms", maintain_order=True).select(
        "user_id",
        item_id="video_id",
        timestamp="time_ms",
        dwell_s=(pl.col("play_time_ms") / 1000).cast(pl.Float32),
        like=pl.col("is_like") == 1,
        follow=pl.col("is_follow") == 1,
    )
    dropped = {
        f"exposures without a click ({click} is not 1)": n_rows - len(clicked),
        "repeated rows of one click": len(clicked) - len(distinct),
    }
    return clicks, n_rows, dropped


def _read_log(path: Path, click: str) -> tuple[int, pl.DataFrame]:
    """The number of rows of one log, and its clicks with what is kept of them; the other rows are never in memory."""
    exposures = scan_csv(path, LOG_COLUMNS)
    clicked = exposures.filter(pl.col(click) == 1).drop("is_click", "long_view")
    with readable(path):
        count, clicks = pl.collect_all([exposures.select(pl.len()), clicked])
    return count.item(), clicks


def _users(files: list[Path]) -> pl.DataFrame:
    frame = _concat(files, USER_COLUMNS)
    codes = pl.col(*FLAGS, *ONEHOTS)
    return frame.select(
        "user_id",
        _known(pl.col("user_active_degree", *RANGES)),
        pl.when(codes >= 0).then(codes.cast(pl.Int64)),
        pl.when(pl.col(*COUNTS) >= 0).then(pl.col(*COUNTS)),
    ).unique("user_id", keep="first", maintain_order=True)


def _videos(files: list[Path]) -> pl.DataFrame:
    tags = pl.col("tag").str.split(",").list.eval(pl.element().str.strip_chars()).list.drop_nulls()
    frame = _concat(files, VIDEO_COLUMNS)
    return frame.select(
        item_id="video_id",
        tag=tags.list.unique(maintain_order=True),
        category=tags.list.first(),
        author_id="author_id",
        video_type=_known(pl.col("video_type")),
        upload_type=_known(pl.col("upload_type")),
        music_type=pl.col("music_type").cast(pl.Int64),
        video_duration=pl.col("video_duration") / 1000,
        upload_dt=pl.col("upload_dt").str.to_datetime("%Y-%m-%d", strict=False, time_unit="ms", time_zone="UTC"),
    ).unique("item_id", keep="first", maintain_order=True)


def _concat(files: list[Path], columns: dict[str, type[pl.DataType]]) -> pl.DataFrame:
    return pl.concat([read_csv(path, columns) for path in files])


def _known(text: pl.Expr) -> pl.Expr:
    return pl.when(text != "UNKNOWN").then(text)


def _schema(
    files: list[Path], users: pl.DataFrame, n_rows: int, dropped: dict[str, int], options: KuaiRandConfig
) -> DatasetSchema:
    numeric = dict.fromkeys(COUNTS, FieldType.NUMERIC)
    return DatasetSchema(
        name="kuairand",
        licence="CC BY-SA 4.0",
        source=SOURCE,
        time_unit="ms",
        users={name: numeric.get(name, FieldType.CATEGORICAL) for name in users.columns if name != "user_id"},
        items={
            "tag": FieldType.MULTI_CATEGORICAL,
            "category": FieldType.CATEGORICAL,
            "author_id": FieldType.ID,
            "video_type": FieldType.CATEGORICAL,
            "upload_type": FieldType.CATEGORICAL,
            "music_type": FieldType.CATEGORICAL,
            "video_duration": FieldType.NUMERIC,
            "upload_dt": FieldType.TIMESTAMP,
        },
        roles=Roles(category="category", taxonomy="tag"),
        provenance={
            "reader": "kuairand",
            "files": [path.name for path in files],
            "options": options.model_dump(),
            "rows": n_rows,
            "dropped": dropped,
            "missing": "negative codes such as -124, empty cells and UNKNOWN",
        },
    )


KUAIRAND = Reader(
    "KuaiRand: a folder with log_*, user_features* and video_features_basic* files",
    KuaiRandConfig,
    read_kuairand,
    is_kuairand,
)
