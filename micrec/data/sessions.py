"""Sessions: which clicks of a user belong together (paper 4.1)."""

import numpy as np
from numpy.typing import NDArray

from micrec.config import SessionsConfig
from micrec.data.array_space import MEMORY, ArraySpace
from micrec.data.histories import Histories
from micrec.data.sorting import stable_order
from micrec.data.threaded import in_order

Ints = NDArray[np.int64]
_BLOCK_CLICKS = 1 << 18  # clicks of whole users that are cut into sessions at a time


def assign_sessions(user_ids: NDArray[np.int32], time_ms: Ints, config: SessionsConfig) -> Ints:
    """Session of every click.

    ``window``: a session ends ``max_s`` after it started, and the next click starts another (paper 4.1: "no more than
    one hour"). ``gap``: it ends when the user does nothing for more than ``max_s``.

    Args:
        user_ids: Dense user ids, shape (n,).
        time_ms: Milliseconds, shape (n,), never falling within a user.
        config: The mode and the length.

    Returns:
        Session numbers, shape (n,), in the order of the input; 0 .. S - 1 by user, then by time.

    Raises:
        ValueError: If time falls within a user.
    """
    rows, starts = session_starts(user_ids, time_ms, config)
    sessions = np.empty(len(rows), dtype=np.int64)
    sessions[rows] = np.cumsum(starts, dtype=np.int64) - 1
    return sessions


def session_starts(
    user_ids: NDArray[np.int32], time_ms: Ints, config: SessionsConfig, *, block_clicks: int = _BLOCK_CLICKS
) -> tuple[Ints, NDArray[np.bool_]]:
    """The clicks by user and time, and which of them start a session; see ``assign_sessions``.

    Returns:
        Rows of the input by user, then in the order given, shape (n,); and whether a session starts there, shape (n,).

    Raises:
        ValueError: If time falls within a user.
    """
    rows = stable_order(user_ids)
    users = user_ids[rows]
    offsets = np.append(np.flatnonzero(np.diff(users, prepend=users[:1] - 1)), len(users))
    log = Histories(items=users, users=users, rows=rows, offsets=offsets, time_ms=time_ms[rows])
    return rows, starts_of(log, config, block_clicks=block_clicks)


def starts_of(
    log: Histories, config: SessionsConfig, *, space: ArraySpace = MEMORY, block_clicks: int = _BLOCK_CLICKS
) -> NDArray[np.bool_]:
    """Which clicks start a session; see ``assign_sessions``.

    Memory beside the result (a byte a click) is bounded by ``block_clicks`` or the clicks of one user.

    Args:
        log: The clicks by user, with their times.
        config: The mode and the length.
        space: Where the result is put.
        block_clicks: Clicks that are looked at together.

    Returns:
        Whether a session starts at each position, shape (n,).

    Raises:
        ValueError: If time falls within a user.
    """
    assert log.time_ms is not None
    limit_ms = limit_of(log.time_ms, config)
    starts = space.empty(len(log.users), np.bool_)

    def find(block: slice) -> None:
        assert log.time_ms is not None
        clock = clock_of(log.users[block], log.time_ms[block], limit_ms)
        found = np.diff(clock, prepend=-limit_ms - 1) > limit_ms
        starts[block] = _window_starts(clock, found, limit_ms) if config.mode == "window" else found

    for _ in in_order(find, log.blocks(block_clicks)):
        pass
    return starts


def limit_of(time_ms: Ints, config: SessionsConfig) -> int:
    """``max_s`` in milliseconds, at most the span of the log: a longer one splits nothing and could overflow."""
    return min(config.max_s * 1000, int(np.ptp(time_ms))) if len(time_ms) else 0


def clock_of(groups: NDArray[np.integer], time_ms: Ints, limit_ms: int) -> Ints:
    """One clock for all groups: as ``time_ms``, but every pause that exceeds the limit, and every change of group,
    lasts ``limit_ms + 1``. Two clicks are in one group and within the limit exactly if they are within it here."""
    pause = np.diff(time_ms)
    same = groups[1:] == groups[:-1]
    if (pause[same] < 0).any():
        raise ValueError("time_ms falls within a user: sort the clicks by time.")
    pause = np.where(same, np.minimum(pause, limit_ms + 1), limit_ms + 1)
    return np.concatenate([np.zeros(min(len(time_ms), 1), np.int64), np.cumsum(pause, dtype=np.int64)])


def _window_starts(clock: Ints, after_pause: NDArray[np.bool_], limit_ms: int) -> NDArray[np.bool_]:
    """Greedy windows: a click after a pause starts one; the first click beyond a window's end starts the next.

    Following these jumps one by one is serial, so they are doubled: after round r every start up to 2**r windows
    after a pause is known, and ``jump`` leads 2**r windows ahead. Time O(n log(windows between two pauses)).
    """
    n = len(clock)
    starts = after_pause.copy()
    jump = np.append(np.searchsorted(clock, clock + limit_ms, side="right"), n)  # n = no further window
    jump[np.append(after_pause, False)[jump]] = n  # starts already, with its own chain
    found = np.flatnonzero(starts)
    while True:
        ahead = jump[found]
        ahead = ahead[ahead < n]
        if not len(ahead):
            return starts
        starts[ahead] = True
        found = np.concatenate([found, ahead])
        jump = jump[jump]
