"""The processes of one run under torchrun: which of them this is, and what they tell each other.

A command joins them with ``joined``; code beneath it asks ``present`` and does nothing new where there is one process.
Rank 0 alone reads and writes files of the run, and speaks. Every method with "all take part" must be called by all
processes, in the same order.
"""

import json
import os
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from micrec.errors import MicrecError

Value = TypeVar("Value")

WAIT_S = 5.0  # for the other processes to end as well, once one has failed
_LOST = ("connection", "socket", "gloo", "nccl", "timed out", "broken pipe")  # in what torch says of a lost process
_FIRST_RANK = 0


class RankGroup:
    """Processes 0 .. size - 1 of a run; by default this one alone.

    Args:
        rank: Which of them this is.
        size: How many there are.
        store: Where they leave notes, of several processes.
    """

    def __init__(self, rank: int = 0, size: int = 1, store: dist.Store | None = None) -> None:
        self.rank, self.size, self._store = rank, size, store

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == _FIRST_RANK

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    @property
    def size_here(self) -> int:
        """How many of the processes run on this machine, as torchrun tells."""
        return min(self.size, int(os.environ.get("LOCAL_WORLD_SIZE", self.size)))

    # -- tensors -------------------------------------------------------------------------------------------------

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum of all processes' tensors, in place; all take part."""
        if not self.alone:
            dist.all_reduce(tensor)
        return tensor

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Give every process what the first has in its tensors, in place; all take part."""
        if not self.alone:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), _FIRST_RANK)

    def counts(self, given: Tensor) -> list[int]:
        """What each process has for this one, where ``given`` (size,), int64, says what this one has for each."""
        taken = torch.empty_like(given)
        dist.all_to_all_single(taken, given)
        return [int(count) for count in taken.tolist()]

    def exchange(self, rows: Tensor, given: Sequence[int], taken: Sequence[int]) -> Tensor:
        """Send consecutive parts of ``rows`` to the processes, and return what they send, in their order.

        Args:
            rows: Shape (sum of ``given``, ...).
            given: Rows for each process.
            taken: Rows from each process.
        """
        received = rows.new_empty(sum(taken), *rows.shape[1:])
        dist.all_to_all_single(received, rows.contiguous(), list(taken), list(given))
        return received

    # -- words ---------------------------------------------------------------------------------------------------

    def tell(self, value: Any) -> Any:
        """What the first process passes in, a JSON value, to all; the others may pass anything. All take part."""
        if self.alone:
            return value
        text = json.dumps(value).encode() if self.is_first else b""
        length = torch.tensor([len(text)])
        dist.broadcast(length, _FIRST_RANK)
        data = torch.frombuffer(bytearray(text), dtype=torch.uint8) if text else torch.empty(int(length)).byte()
        dist.broadcast(data, _FIRST_RANK)
        return json.loads(bytes(data.numpy()))

    def by_first(self, work: Callable[[], Value]) -> Value:
        """Do something in the first process alone, and give its result, a JSON value, to all; all take part.

        Raises:
            MicrecError: In every process, what ``work`` raised in the first.
        """
        if self.alone:
            return work()
        told: Any = None
        if self.is_first:
            try:
                told = {"value": work()}
            except MicrecError as fault:
                told = {"error": str(fault)}
        told = self.tell(told)
        if "error" in told:
            raise MicrecError(told["error"])
        found: Value = told["value"]
        return found

    def one_first(self, work: Callable[[], Value]) -> Value:
        """What ``work`` returns; on each machine one process does it before the others, and may leave them files."""
        leads = self.alone or os.environ.get("LOCAL_RANK", str(self.rank)) == "0"
        found = [work()] if leads else []
        self.add_up(torch.zeros(1))
        return found[0] if leads else work()

    def check_same(self, given: Mapping[str, str], what: str) -> None:
        """Stop the process whose values are not those of the first; all take part.

        Raises:
            MicrecError: Naming the rank and the keys that differ.
        """
        first: dict[str, str] = self.tell(dict(given))
        if differing := [key for key in first if first[key] != given.get(key)]:
            raise MicrecError(
                f"rank {self.rank}: its {' and '.join(differing)} differ from those of rank 0: {what} must be the same "
                "for every process."
            )

    # -- the end -------------------------------------------------------------------------------------------------

    def end_together(self, message: str) -> NoReturn:
        """Say why the run ends, unless another process has said so, and leave with exit code 2 when all are ready to.

        Whoever waits for this process notices that it has gone, and ends as well; torchrun would end it with a signal.
        """
        assert self._store is not None
        if self._store.add("told", 1) == 1:
            print(message, file=sys.stderr, flush=True)
        with suppress(RuntimeError):
            dist.destroy_process_group()
        self._store.add("ended", 1)
        until_s = time.monotonic() + WAIT_S
        with suppress(RuntimeError):  # the store may go before us
            while self._store.add("ended", 0) < self.size and time.monotonic() < until_s:
                time.sleep(0.02)
        raise SystemExit(2)


_ALONE = RankGroup()
_joined: list[RankGroup] = []


def present() -> RankGroup:
    """The processes that this one works with: those it has joined, or itself alone."""
    return _joined[-1] if _joined else _ALONE


def under_torchrun() -> bool:
    """Whether torchrun started this process as one of several."""
    return dist.is_torchelastic_launched() and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def joined() -> Iterator[RankGroup]:
    """Work with the other processes that torchrun started, through the block; without torchrun, alone.

    A MicrecError in any process ends all of them with exit code 2 and one message, and so does the loss of a process.
    """
    if not under_torchrun() or _joined:
        yield present()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    with working_together(*next(dist.rendezvous("env://"))) as group:
        yield group


@contextmanager
def working_together(store: dist.Store, rank: int, size: int) -> Iterator[RankGroup]:
    """As ``joined``, for a process that knows its place among ``size`` others, which meet at ``store``."""
    store = store_of_attempt(store, rank, size)
    group = RankGroup(rank, size, dist.PrefixStore("micrec", store))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, store=dist.PrefixStore("torch", store), rank=rank, world_size=size)
        _joined.append(group)
        yield group
        group.add_up(torch.zeros(1))  # nobody leaves while another still writes
        dist.destroy_process_group()
    except MicrecError as fault:
        group.end_together(f"error: {fault}")
    except RuntimeError as fault:
        if not _is_loss(fault):
            raise
        group.end_together(
            f"error: rank {rank} lost another process of the run ({_first_line(fault)}). The same command goes on from "
            "the last checkpoint; torchrun --max-restarts N gives it again by itself."
        )
    finally:
        _joined.clear()


def store_of_attempt(store: dist.Store, rank: int, size: int) -> dist.Store:
    """A part of a store for these very processes.

    When torchrun starts processes again it may hand them the store of those that died, with their addresses. So each
    process leaves a name of its own, and rank 0 answers whoever has come with the name of the attempt.
    """
    own = uuid.uuid4().hex
    if rank != _FIRST_RANK:
        store.set(f"hello/{rank}", own)
        attempt = store.get(f"welcome/{own}").decode()  # waits
        store.add(f"here/{attempt}", 1)
        return dist.PrefixStore(attempt, store)
    while store.add(f"here/{own}", 0) < size - 1:
        for other in range(1, size):
            store.set(f"welcome/{store.get(f'hello/{other}').decode()}", own)
        time.sleep(0.01)
    return dist.PrefixStore(own, store)


def _is_loss(fault: RuntimeError) -> bool:
    """Whether torch reports that it no longer reaches another process."""
    text = str(fault).lower()
    return isinstance(fault, dist.DistError) or any(word in text for word in _LOST)


def _first_line(fault: RuntimeError) -> str:
    """What torch says, without the place in its code."""
    lines = re.sub(r"^\[[^\]]*\]\s*", "", str(fault).strip()).splitlines()
    return lines[0].split(". ")[0][:160].rstrip(".") if lines else type(fault).__name__
