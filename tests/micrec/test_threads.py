"""However many threads are asked for, a machine is not asked for more than it bears; parts computed at once."""

import os
import subprocess
import sys
import threading

import pytest
import torch

from micrec.threads import side_by_side

CODE = """
import os, torch
from micrec.threads import use_threads
use_threads({count})
torch.rand(2_000, 500) @ torch.rand(500, 300)
print(torch.get_num_threads(), 8 * os.cpu_count())
"""


@pytest.mark.parametrize("count", [1, 2, 1_000, 10_000])
def test_what_is_asked_up_to_eight_a_core(count):
    done = subprocess.run([sys.executable, "-c", CODE.format(count=count)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    used, most = map(int, done.stdout.split())
    assert used == min(count, most)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_tasks_run_at_once_with_one_thread_each_and_come_back_in_order(count):
    threads, meet = torch.get_num_threads(), threading.Barrier(count, timeout=30)
    weight = torch.ones(2, requires_grad=True)

    def task(number: int):
        meet.wait()  # ends only if all are here at once
        return number, torch.get_num_threads(), (weight * number).requires_grad, threading.get_ident()

    found = side_by_side([lambda number=number: task(number) for number in range(count)])
    assert [number for number, *_ in found] == list(range(count))
    assert not any(grad for *_, grad, _ in found)
    assert len({ident for *_, ident in found}) == count
    if count > 1:
        assert {alone for _, alone, *_ in found} == {1}
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("fails", [0, 1, 2])
def test_a_task_that_fails_ends_the_others_first_and_leaves_all_as_it_was(fails):
    threads, ended = torch.get_num_threads(), []

    def task(number: int):
        if number == fails:
            raise ValueError(f"task {number}")
        ended.append(number)

    with pytest.raises(ValueError, match=f"task {fails}"):
        side_by_side([lambda number=number: task(number) for number in range(3)])
    assert sorted(ended) == [number for number in range(3) if number != fails]
    assert torch.get_num_threads() == threads
    assert side_by_side([lambda: 1, lambda: 2]) == [1, 2]


def test_many_callers_do_not_wait_for_each_other():
    def call():
        found.extend(side_by_side([lambda: 1, lambda: 2, lambda: 3]) for _ in range(20))

    found: list[list[int]] = []
    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=60)
    assert found == [[1, 2, 3]] * 80


def test_a_task_may_itself_have_parts():
    assert side_by_side([lambda: side_by_side([lambda: 1, lambda: 2]), lambda: 3]) == [[1, 2], 3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_has_threads_of_its_own():
    code = """
import os
from micrec.threads import side_by_side
side_by_side([lambda: 1, lambda: 2])
child = os.fork()
if not child:
    os._exit(0 if side_by_side([lambda: 1, lambda: 2]) == [1, 2] else 1)
print(os.waitpid(child, 0)[1])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "0", done.stderr
