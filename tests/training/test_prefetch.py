import multiprocessing
import os
import subprocess

import pytest
import torch

from speechtok.errors import AudioError
from training.prefetch import prefetch


def square(step: int) -> torch.Tensor:
    return torch.tensor([step * step, os.getpid()])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_from_the_first_to_before_the_last(workers):
    made = torch.stack(list(prefetch(square, 3, 12, workers)))
    assert made[:, 0].tolist() == [step * step for step in range(3, 12)]
    assert len(set(made[:, 1].tolist())) == max(1, workers)
    assert (os.getpid() in made[:, 1].tolist()) is not bool(workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_no_steps_give_no_batches(workers):
    assert list(prefetch(square, 5, 5, workers)) == []


def broken(step: int) -> torch.Tensor:
    if step == 2:
        raise AudioError("step 2 has no audio")
    return square(step)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_batch_is_raised_at_its_step(workers):
    batches = prefetch(broken, 0, 5, workers)
    assert [int(next(batches)[0]) for _ in range(2)] == [0, 1]
    with pytest.raises(AudioError, match=r"^step 2 has no audio$"):
        next(batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_iterator_can_be_closed_early(workers):
    batches = prefetch(square, 0, 1000, workers)
    assert int(next(batches)[0]) == 0
    batches.close()
    with pytest.raises(StopIteration):
        next(batches)


def test_workers_ignore_stop_signals_and_end_with_the_training():
    batches = prefetch(square, 0, 1000, 2)
    assert [int(next(batches)[0]) for _ in range(2)] == [0, 1]  # one batch of each: both workers run
    processes = [str(process.pid) for process in multiprocessing.active_children()]
    assert len(processes) == 2
    for name in ("INT", "TERM"):
        subprocess.run(["kill", f"-{name}", *processes], check=True)  # sent by another process, as by a job scheduler
    assert [int(next(batches)[0]) for _ in range(30)] == [step * step for step in range(2, 32)]
    batches.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_prefetching_does_not_change_the_random_state(workers):
    state = torch.get_rng_state()
    list(prefetch(square, 0, 3, workers))
    assert torch.equal(torch.get_rng_state(), state)
