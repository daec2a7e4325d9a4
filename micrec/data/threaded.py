"""Work on parts of a log by threads: NumPy lets go of the interpreter while it sorts and adds up."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

import polars as pl

Part = TypeVar("Part")
Result = TypeVar("Result")
MOST_THREADS = 4  # each holds a part


def in_order(work: Callable[[Part], Result], parts: Iterable[Part], *, threads: int | None = None) -> Iterator[Result]:
    """``work`` on every part, by threads; the results in the order of the parts.

    Args:
        work: What is done; it must not depend on other parts.
        parts: Taken from the thread that asks for results, one more than there are threads at a time.
        threads: How many; None = those that Polars has (``POLARS_MAX_THREADS``), at most ``MOST_THREADS``.
    """
    threads, parts = threads or min(pl.thread_pool_size(), MOST_THREADS), iter(parts)
    first = list(islice(parts, 2))
    parts = chain(first, parts)
    if threads == 1 or len(first) < 2:
        yield from map(work, parts)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for part in parts:
                waiting.append(pool.submit(work, part))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
