"""MovieLens in its original layouts: ml-100k, ml-1m (and ml-10m), ml-latest (and -small, ml-20m, ml-25m, ml-32m)."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl
from pydantic import Field, NonNegativeFloat

from micrec.bounds import Rows
from micrec.data.readers import DatasetFrames, Reader
from micrec.data.readers.catalogue import CatalogueConfig, choose_catalogue
from micrec.data.readers.files import existing, needed_file, read_csv, read_delimited, readable
from micrec.data.schema import DatasetSchema, FieldType, Roles
from micrec.errors import MicrecError

RATING_COLUMNS = {"user_id": pl.Int64, "item_id": pl.Int64, "rating": pl.Float64, "timestamp": pl.Int64}
GENRES_100K = (  # in the order of the flags of u.item
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
NO_GENRE = ("(no genres listed)", "unknown", "")
SOURCE = (
    "GroupLens MovieLens. Harper F.M., Konstan J.A. (2015), The MovieLens Datasets: History and Context, "
    "ACM Transactions on Interactive Intelligent Systems 5(4):19."
)


class MovieLensConfig(CatalogueConfig):
    """Options of the reader."""

    min_rating: NonNegativeFloat = Field(0.0, description="Ratings below it are not clicks; 0 takes every rating.")
    tags: bool = Field(
        False,
        description="Read tags.csv as an item field. Users write tags all along, so the field knows the test period.",
    )
    min_tag_users: Rows = Field(2, description="Users that must have given an item a tag.")


class ReleaseLayout(NamedTuple):
    """One of the original layouts: the file that gives it away, and how its tables are read."""

    name: str
    mark: str
    ratings: Callable[[Path], pl.DataFrame]  # user_id, item_id, rating, timestamp
    movies: Callable[[Path], pl.DataFrame]  # item_id, title (year in brackets), genres (list)
    users: Callable[[Path], pl.DataFrame | None]  # user_id and fields


def read_movielens(folder: Path, options: MovieLensConfig) -> DatasetFrames:
    """Read a MovieLens folder; its layout is recognised by its files.

    A click is a rating of at least ``options.min_rating``; lower ones are dropped and counted. Clicks come out in time
    order, ties in file order. Movies have ``title`` (without its year), ``year``, ``genres`` and ``category`` (the
    first genre named); ``tags`` on request. Users have ``gender``, ``age`` (years in ml-100k, the bracket's first year
    in ml-1m), ``occupation`` and ``zip_region`` (first character of the zip code), or nothing in later editions.

    Sessions of MovieLens are bursts of ratings at sign-up, not viewing: read results on it with care.

    Raises:
        MicrecError: If the folder has none of the layouts, a file is missing or broken, or no rating is high enough.
    """
    layout = find_layout(existing(folder))
    if layout is None:
        marks = ", ".join(f"{layout.mark} ({layout.name})" for layout in LAYOUTS)
        raise MicrecError(f"{folder}: not a MovieLens folder: it needs one of {marks}.")
    ratings = layout.ratings(folder)
    clicks = ratings.filter(pl.col("rating") >= options.min_rating).sort("timestamp", maintain_order=True)
    if clicks.is_empty():
        raise MicrecError(
            f"{folder}: none of its {len(ratings):,} ratings is at least {options.min_rating:g}: lower min_rating."
        )
    movies = _movies(layout.movies(folder))
    if options.tags:
        movies = movies.join(_tags(folder, options.min_tag_users), on="item_id", how="left", maintain_order="left")
    users = layout.users(folder)
    if users is None:
        users = ratings.select(pl.col("user_id").unique().sort())
    users, movies, left_out = choose_catalogue(users, movies, clicks, options)
    low = {f"ratings below {options.min_rating:g}": len(ratings) - len(clicks)} if options.min_rating > 0 else {}
    dropped = low | left_out
    return DatasetFrames(
        schema=_schema(layout, len(ratings), users, dropped, options),
        users=users,
        items=movies,
        clicks=clicks.select("user_id", "item_id", "timestamp"),
        dropped=dropped,
    )


def find_layout(folder: Path) -> ReleaseLayout | None:
    """The layout of ``folder``, or None if it is not MovieLens."""
    return next((layout for layout in LAYOUTS if (folder / layout.mark).is_file()), None)


def _movies(movies: pl.DataFrame) -> pl.DataFrame:
    """Part title and year, and name the first genre."""
    title = pl.col("title").str.strip_chars()
    year = r"\s*\((\d{4})\)$"
    genres = pl.col("genres").list.filter(~pl.element().is_in(NO_GENRE))
    return movies.select(
        "item_id",
        title=title.str.replace(year, ""),
        year=title.str.extract(year).cast(pl.Int64),
        genres=genres,
        category=genres.list.first(),
    )


def _tags(folder: Path, min_users: int) -> pl.DataFrame:
    """(``item_id``, ``tags``): the lower-case tags that at least ``min_users`` users gave the item."""
    path = needed_file(folder, "tags.csv")
    tags = read_csv(path, {"userId": pl.Int64, "movieId": pl.Int64, "tag": pl.String})
    tags = tags.select("userId", item_id="movieId", tag=pl.col("tag").str.to_lowercase().str.strip_chars())
    counts = tags.drop_nulls().group_by("item_id", "tag").agg(users=pl.col("userId").n_unique())
    shared = counts.filter(pl.col("users") >= min_users).sort(
        "item_id", "users", "tag", descending=[False, True, False]
    )
    return shared.group_by("item_id", maintain_order=True).agg(tags="tag")


def _ratings_100k(folder: Path) -> pl.DataFrame:
    return read_delimited(folder / "u.data", RATING_COLUMNS, separator="\t")


def _movies_100k(folder: Path) -> pl.DataFrame:
    path = needed_file(folder, "u.item")
    texts = dict.fromkeys(("title", "release_date", "video_release_date", "url"), pl.String)
    frame = read_delimited(path, {"item_id": pl.Int64, **texts, **dict.fromkeys(GENRES_100K, pl.Int8)}, separator="|")
    flags = [pl.when(pl.col(genre) == 1).then(pl.lit(genre)) for genre in GENRES_100K]
    return frame.select("item_id", "title", genres=pl.concat_list(flags).list.drop_nulls())


def _users_100k(folder: Path) -> pl.DataFrame:
    path = needed_file(folder, "u.user")
    texts = dict.fromkeys(("gender", "occupation", "zip"), pl.String)
    frame = read_delimited(path, {"user_id": pl.Int64, "age": pl.Int64, **texts}, separator="|")
    return frame.select("user_id", "gender", "age", "occupation", zip_region=pl.col("zip").str.head(1))


def _ratings_1m(folder: Path) -> pl.DataFrame:
    return read_delimited(folder / "ratings.dat", RATING_COLUMNS, separator="::")


def _movies_1m(folder: Path) -> pl.DataFrame:
    columns = {"item_id": pl.Int64, "title": pl.String, "genres": pl.String}
    frame = read_delimited(needed_file(folder, "movies.dat"), columns, separator="::")
    return frame.with_columns(pl.col("genres").str.split("|"))


def _users_1m(folder: Path) -> pl.DataFrame | None:
    path = folder / "users.dat"
    if not path.is_file():  # ml-10m has none
        return None
    texts = dict.fromkeys(("occupation", "zip"), pl.String)
    columns = {"user_id": pl.Int64, "gender": pl.String, "age": pl.Int64, **texts}
    frame = read_delimited(path, columns, separator="::")
    return frame.select("user_id", "gender", "age", "occupation", zip_region=pl.col("zip").str.head(1))


def _ratings_latest(folder: Path) -> pl.DataFrame:
    names = {"userId": "user_id", "movieId": "item_id", "rating": "rating", "timestamp": "timestamp"}
    need = {old: RATING_COLUMNS[new] for old, new in names.items()}
    return read_csv(folder / "ratings.csv", need).rename(names)


def _movies_latest(folder: Path) -> pl.DataFrame:
    path = needed_file(folder, "movies.csv")
    frame = read_csv(path, {"movieId": pl.Int64, "title": pl.String, "genres": pl.String})
    with readable(path):
        return frame.select("title", item_id="movieId", genres=pl.col("genres").str.split("|"))


def _no_users(folder: Path) -> None:
    return None


LAYOUTS = (
    ReleaseLayout("ml-100k", "u.data", _ratings_100k, _movies_100k, _users_100k),
    ReleaseLayout("ml-1m", "ratings.dat", _ratings_1m, _movies_1m, _users_1m),
    ReleaseLayout("ml-latest", "ratings.csv", _ratings_latest, _movies_latest, _no_users),
)


def _schema(
    layout: ReleaseLayout, n_ratings: int, users: pl.DataFrame, dropped: dict[str, int], options: MovieLensConfig
) -> DatasetSchema:
    items = {
        "title": FieldType.TEXT,
        "category": FieldType.CATEGORICAL,
        "genres": FieldType.MULTI_CATEGORICAL,
        "year": FieldType.NUMERIC,
    }
    if options.tags:
        items["tags"] = FieldType.MULTI_CATEGORICAL
    fields = [name for name in users.columns if name != "user_id"]
    return DatasetSchema(
        name=layout.name,
        licence="GroupLens: research use with citation, no redistribution without permission",
        source=SOURCE,
        time_unit="s",
        users={name: FieldType.NUMERIC if name == "age" else FieldType.CATEGORICAL for name in fields},
        items=items,
        roles=Roles(title="title", category="category", taxonomy="genres"),
        provenance={
            "reader": "movielens",
            "layout": layout.name,
            "options": options.model_dump(),
            "rows": n_ratings,
            "dropped": dropped,
        },
    )


MOVIELENS = Reader(
    "MovieLens: the folder of ml-100k, ml-1m, ml-10m, ml-20m ... or ml-latest",
    MovieLensConfig,
    read_movielens,
    lambda source: find_layout(source) is not None,
)
