"""Requests that come during a search share the next one."""

import asyncio
import threading

import pytest

from micrec.serving.batcher import Batcher


class Slow:
    """Answers with the request doubled; each batch waits until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.started, self.gate = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, asked):
        self.batches.append(list(asked))
        self.started.release()
        self.gate.acquire()
        return [2 * one for one in asked]


async def started(slow: Slow) -> None:
    await asyncio.to_thread(slow.started.acquire)


def test_what_comes_during_a_search_is_answered_by_the_next_one():
    async def story():
        slow, sizes = Slow(), []
        batcher = Batcher(slow, most=3, observe=sizes.append)
        first = asyncio.ensure_future(batcher.ask(0))
        await started(slow)  # nothing waited for company
        others = [asyncio.ensure_future(batcher.ask(number)) for number in range(1, 6)]
        await asyncio.sleep(0)
        for _ in range(3):
            slow.gate.release()
        answers = await asyncio.gather(first, *others)
        batcher.close()
        return slow.batches, sizes, answers

    batches, sizes, answers = asyncio.run(story())
    assert batches == [[0], [1, 2, 3], [4, 5]]
    assert sizes == [1, 3, 2]
    assert answers == [0, 2, 4, 6, 8, 10]


def test_an_error_is_told_to_its_batch_alone():
    def answer(asked):
        if 1 in asked:
            raise ValueError("one")
        return asked

    async def story():
        batcher = Batcher(answer, most=1)
        found = await asyncio.gather(*(batcher.ask(number) for number in range(3)), return_exceptions=True)
        again = await batcher.ask(7)
        batcher.close()
        return found, again

    (zero, one, two), again = asyncio.run(story())
    assert (zero, two, again) == (0, 2, 7)
    with pytest.raises(ValueError, match="one"):
        raise one


def test_a_client_that_left_harms_nobody():
    async def story():
        slow = Slow()
        batcher = Batcher(slow, most=8)
        first = asyncio.ensure_future(batcher.ask(0))
        await started(slow)
        gone, stays = asyncio.ensure_future(batcher.ask(1)), asyncio.ensure_future(batcher.ask(2))
        await asyncio.sleep(0)
        gone.cancel()
        slow.gate.release()
        slow.gate.release()
        answers = await asyncio.gather(first, stays)
        batcher.close()
        return answers

    assert asyncio.run(story()) == [0, 4]
