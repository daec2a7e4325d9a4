"""Requests that come while a search is under way are answered together by the next one."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Batcher(Generic[Asked, Answer]):
    """Puts single requests into batches, without making any wait for company.

    One batch is under way at a time, in a thread of its own, so that the event loop reads further requests meanwhile.
    What has gathered when it ends, up to ``most``, is the next one.

    Args:
        answer: Answers of a batch, in its order; runs in the thread.
        most: Most requests of a batch, >= 1.
        observe: Called with the size of each batch.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Asked]], Sequence[Answer]],
        *,
        most: int,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._answer = answer
        self._most = most
        self._observe = observe
        self._waiting: deque[tuple[Asked, asyncio.Future[Answer]]] = deque()
        self._running = False
        self._thread: Executor = ThreadPoolExecutor(1, thread_name_prefix="search")

    async def ask(self, request: Asked) -> Answer:
        """The answer to one request.

        Raises:
            Exception: What ``answer`` raised for its batch.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if not self._running:
            self._running = True
            self._task = asyncio.ensure_future(self._run())
        return await future

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                self._observe(len(batch))
                try:
                    answers = await loop.run_in_executor(self._thread, self._answer, [asked for asked, _ in batch])
                except Exception as fault:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(fault)
                    continue
                for (_, future), found in zip(batch, answers, strict=True):
                    if not future.done():  # its client may have gone
                        future.set_result(found)
        finally:
            self._running = False

    def close(self) -> None:
        """Let the thread end; requests after this fail."""
        self._thread.shutdown(wait=False)
