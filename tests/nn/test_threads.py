"""Work that is shared among threads."""

import signal
import threading
import time

import pytest

from speechtok.nn.native import threads
from speechtok.nn.native.threads import run_all


def test_results_come_in_the_order_of_the_items_and_threads_share_the_work():
    both = threading.Barrier(2, timeout=60)

    def work(item: int) -> int:
        if item < 2:
            both.wait()  # passes only if two threads are here
        return item * item

    assert run_all(work, range(5)) == [0, 1, 4, 9, 16]
    assert run_all(work, []) == []


def test_this_thread_does_all_the_work_where_no_thread_can_be_started(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert run_all(lambda _: threading.current_thread(), range(3)) == [threading.current_thread()] * 3
    monkeypatch.undo()
    monkeypatch.setattr(threads.sys, "is_finalizing", lambda: True)
    assert run_all(lambda _: threading.current_thread(), range(3)) == [threading.current_thread()] * 3


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_is_raised_when_no_thread_works_any_more(failing):
    both = threading.Barrier(2, timeout=60)
    ended = []

    def work(item: int) -> None:
        both.wait()
        if item == failing:
            raise MemoryError
        time.sleep(0.05)
        ended.append(item)

    with pytest.raises(MemoryError):
        run_all(work, range(2))
    assert ended == [1 - failing]


def test_ctrl_c_waits_for_the_threads_whose_memory_the_caller_would_free():
    ended = []
    both = threading.Barrier(2, timeout=60)

    def work(item: int) -> None:
        both.wait()
        if threading.current_thread() is threading.main_thread():
            signal.raise_signal(signal.SIGINT)
        time.sleep(0.05)
        ended.append(item)

    with pytest.raises(KeyboardInterrupt):
        run_all(work, range(2))
    assert len(ended) == 1
