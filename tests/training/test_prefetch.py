import multiprocessing
import os
import subprocess

import pytest
import torch

from speechtok.errors import AudioError
from training.prefetch import ahead


def square(step: int) -> torch.Tensor:
    return torch.tensor([step * step, os.getpid()])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_from_the_first_to_before_the_last(workers):
    made = torch.stack(list(ahead(square, 3, 12, workers)))
    assert made[:, 0].tolist() == [step * step for step in range(3, 12)]
    assert len(set(made[:, 1].tolist())) == max(1, workers)
    assert (os.getpid() in made[:, 1].tolist()) is not bool(workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_is_made_where_nothing_is_left(workers):
    assert list(ahead(square, 5, 5, workers)) == []


def broken(step: int) -> torch.Tensor:
    if step == 2:
        raise AudioError("step 2 has no audio")
    return square(step)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_cannot_be_made_is_an_error_at_its_step(workers):
    batches = ahead(broken, 0, 5, workers)
    assert [int(next(batches)[0]) for _ in range(2)] == [0, 1]
    with pytest.raises(AudioError, match=r"^step 2 has no audio$"):
        next(batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_it_can_be_left_in_the_middle(workers):
    batches = ahead(square, 0, 1000, workers)
    assert int(next(batches)[0]) == 0
    batches.close()
    with pytest.raises(StopIteration):
        next(batches)


def test_what_ends_a_job_reaches_every_process_and_ends_those_that_make_batches_last():
    batches = ahead(square, 0, 1000, 2)
    assert [int(next(batches)[0]) for _ in range(2)] == [0, 1]  # one of each: both are at work
    processes = [str(process.pid) for process in multiprocessing.active_children()]
    assert len(processes) == 2
    for name in ("INT", "TERM"):
        subprocess.run(["kill", f"-{name}", *processes], check=True)  # not from this process: from whoever ends the job
    assert [int(next(batches)[0]) for _ in range(30)] == [step * step for step in range(2, 32)]
    batches.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_random_numbers_of_the_training_stay_its_own(workers):
    state = torch.get_rng_state()
    list(ahead(square, 0, 3, workers))
    assert torch.equal(torch.get_rng_state(), state)
