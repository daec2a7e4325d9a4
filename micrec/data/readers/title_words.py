"""Tags and a main category from short catalogue titles such as ``WHITE HANGING HEART T-LIGHT HOLDER``."""

import polars as pl


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STOP_WORDS = _words(
    "and are but can for from has have her his its not now off our own per that the their them they this too was with "
    "you your set pack pair piece pieces assorted asst asstd"
)
"""Words that say nothing about an item, or only how it is packed."""

MODIFIERS = _words(
    # colours
    "amber amethyst black blue brown clear cream fuschia gold green grey ivory jet lilac mint multicolour natural "
    "orange pastel pink purple red silver turquoise white yellow "
    # sizes and shapes
    "big giant jumbo large medium mini oval round size slim small square tall tier tiny triple "
    # patterns, styles and occasions
    "antique apple artificial babushka baroque birthday butterfly christmas classic colour daisy decorative design "
    "diner dolly easter edwardian english finish flock floral flower font french funky garden gingham girl hanging "
    "heart image jack london love painted paisley pantry paris polkadot print regency retro retrospot rose rustic "
    "scandinavian scented shape skull spaceboy spot star strawberry stripe style traditional union victorian vintage "
    "woodland "
    # materials
    "acrylic ceramic cotton enamel felt metal paper plastic wicker wire wood wooden zinc"
)
"""Words that usually describe the thing sold rather than name it; they often follow the noun in catalogue titles."""

_WORD = r"[a-z]{3,}"
_PLURALS = (("s$", ""), ("es$", ""), ("ies$", "y"))  # the first whose result the catalogue uses wins
_HEAD_PHRASE = r"^(.*?[a-z]{3,}.*?)\b(?:with|w|for|in|on|to|from|by|at)\b"


def title_words(titles: pl.DataFrame, *, min_items: int = 5) -> pl.DataFrame:
    """Split titles into tags, and pick one of them as the category.

    A word is a run of at least three letters, lower-case; a plural becomes its singular where the catalogue uses the
    singular too (``boxes`` is ``box``, ``glass`` stays). Stop words, and words of fewer than ``min_items`` items, go.

    The category is the head noun of the title: what precedes the first ``with``, ``for``, ``in`` ... names the thing
    sold, and its last word is the noun, colours, sizes, patterns and materials aside. So ``LUNCH BAG RED RETROSPOT``
    and ``JUMBO BAG WITH ZIP`` are both ``bag``. Failing that it is the last noun of the whole title, then its last
    word of any kind; it is null for a title without words.

    Args:
        titles: Columns ``item_id`` (unique) and ``title`` (null allowed).
        min_items: Items that must share a word for it to count, at least 1.

    Returns:
        ``item_id``, ``words`` (distinct, in title order, may be empty) and ``category``, in the order of ``titles``.
    """
    titles = titles.select("item_id", title=pl.col("title").str.to_lowercase())
    tokens = _tokens(titles)
    vocabulary = _vocabulary(tokens, min_items)
    words = _known(tokens, vocabulary)
    head = _known(_tokens(titles.with_columns(pl.col("title").str.extract(_HEAD_PHRASE))), vocabulary)
    noun = ~pl.col("word").is_in(MODIFIERS)
    frame = titles.select("item_id").join(
        words.group_by("item_id").agg(words=pl.col("word").unique(maintain_order=True)),
        on="item_id",
        how="left",
        maintain_order="left",
    )
    for name, candidates in (("head", head.filter(noun)), ("noun", words.filter(noun)), ("last", words)):
        last = candidates.group_by("item_id").agg(pl.col("word").last().alias(name))
        frame = frame.join(last, on="item_id", how="left", maintain_order="left")
    empty = pl.lit([], dtype=pl.List(pl.String))
    return frame.select("item_id", pl.col("words").fill_null(empty), category=pl.coalesce("head", "noun", "last"))


def _tokens(titles: pl.DataFrame) -> pl.DataFrame:
    """One row (``item_id``, ``token``) per word, in title order."""
    tokens = titles.select("item_id", token=pl.col("title").str.extract_all(_WORD))
    return tokens.explode("token").drop_nulls("token")


def _vocabulary(tokens: pl.DataFrame, min_items: int) -> pl.DataFrame:
    """(``token``, ``word``) for each token in use; ``word`` is the singular where the catalogue has it."""
    plural = tokens.select(token=pl.col("token").unique())
    singulars = [plural.select("token", word=pl.col("token").str.replace(ending, stem)) for ending, stem in _PLURALS]
    found = (
        pl.concat(singulars)
        .filter(pl.col("word") != pl.col("token"))
        .join(plural, left_on="word", right_on="token", how="semi", maintain_order="left")
    )
    first = found.unique("token", keep="first", maintain_order=True)
    vocabulary = plural.join(first, on="token", how="left").with_columns(pl.col("word").fill_null(pl.col("token")))
    counts = tokens.join(vocabulary, on="token").group_by("word").agg(items=pl.col("item_id").n_unique())
    used = counts.filter(pl.col("items") >= min_items, ~pl.col("word").is_in(STOP_WORDS))
    return vocabulary.join(used, on="word", how="semi")


def _known(tokens: pl.DataFrame, vocabulary: pl.DataFrame) -> pl.DataFrame:
    """(``item_id``, ``word``) of the tokens in use, in title order."""
    return tokens.join(vocabulary, on="token", maintain_order="left").select("item_id", "word")
