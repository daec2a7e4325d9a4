"""Which column of a file is meant by one of our names, and what to propose where none is."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence

SYNONYMS = {
    "user_id": "user uid visitor_id customer_id client_id member_id account_id anonymous_id person_id uuid",
    "item_id": "item iid product_id article_id movie_id video_id news_id content_id track_id book_id asin sku",
    "timestamp": "ts time datetime date event_time event_timestamp created_at occurred_at unixtime unix_time time_ms",
    "day": "date dt ds event_date activity_date log_date date_key",
    "arm": "group grp ab_group variant variation bucket treatment_group experiment_group test_group exp_group cohort",
    "event": "event_type event_name action type behavior behaviour interaction",
    "clicks": "n_clicks num_clicks click_count click n_click clk",
    "dwell_s": "dwell dwell_time dwell_sec dwell_seconds watch_time play_time duration_s",
    "likes": "n_likes num_likes like_count like",
    "follows": "n_follows num_follows follow_count follow",
    "impressions": "n_impressions num_impressions impression_count views shows",
    "title": "name headline item_name item_title product_name product_title display_name subject",
    "category": "cat genre topic section category_id category_name item_category product_category main_category class",
}
"""Names under which other programs write what we call the key."""


def parse_pairs(option: str, texts: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """``["a=b,c=d", "e=f"]`` as a mapping; a comma within parentheses belongs to an expression.

    Returns:
        The mapping, and what is wrong with the texts, each headed by the option.
    """
    pairs: dict[str, str] = {}
    faults = []
    for text in texts:
        for pair in re.split(r",(?![^(]*\))", text):
            name, sign, value = pair.partition("=")
            if not (sign and name.strip() and value.strip()):
                faults.append(f"{option} {pair!r}: must be NAME=VALUE.")
            elif name.strip() in pairs:
                faults.append(f"{option} {name.strip()}: appears twice: keep one.")
            else:
                pairs[name.strip()] = value.strip()
    return pairs, faults


def match_column(ours: str, there: Iterable[str]) -> str | None:
    """The column that is called ``ours``, but for white space around it and upper case; None if none or several are.

    An exact match goes first.
    """
    there = list(there)
    if ours in there:
        return ours
    found = [name for name in there if _plain(name) == _plain(ours)]
    return found[0] if len(found) == 1 else None


def propose_by_name(ours: str, there: Sequence[str]) -> str | None:
    """The column that has a name in common use for ``ours``."""
    squeezed = {_squeezed(name): name for name in reversed(there)}
    synonyms = (_squeezed(synonym) for synonym in (ours, *SYNONYMS.get(ours, "").split()))
    return next((squeezed[synonym] for synonym in synonyms if synonym in squeezed), None)


def propose_column(ours: str, there: Sequence[str]) -> str | None:
    """The column that is probably meant by ``ours``: by a name in common use, else by its letters."""
    if (named := propose_by_name(ours, there)) is not None:
        return named
    squeezed = {_squeezed(name): name for name in reversed(there)}
    close = difflib.get_close_matches(_squeezed(ours), squeezed, n=1, cutoff=0.75)
    return squeezed[close[0]] if close else None


def how_to_name(ours: str, there: Sequence[str]) -> str:
    """The option that names the column, with the column that is probably meant."""
    proposed = propose_column(ours, there)
    pair = f"{ours}={proposed or '...'}"
    return f"--columns {pair if proposed is None or proposed.replace('_', '').isalnum() else _quoted(pair)}"


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip().strip("\ufeff\"'`").strip().casefold()


def _squeezed(name: str) -> str:
    return "".join(letter for letter in _plain(name) if letter.isalnum())
