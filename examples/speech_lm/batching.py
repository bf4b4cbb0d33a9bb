"""Batches of an epoch: examples of similar length together, up to a number of ids."""

from collections.abc import Iterator, Sequence

import numpy as np


def make_batches(lengths: Sequence[int], max_ids: int, seed: int, epoch: int) -> list[list[int]]:
    """Group all examples into batches, deterministically.

    Args:
        lengths: number of ids of each example.
        max_ids: largest number of ids in a batch, padding included; a longer example has a batch of its own.
        seed: of the order.
        epoch: number of the epoch, which changes the order.

    Returns:
        Indices of the examples of each batch.
    """
    rng = np.random.default_rng((seed, epoch))
    order = np.argsort(np.asarray(lengths) * rng.uniform(0.9, 1.1, len(lengths)), kind="stable")
    batches = list(_cut(order.tolist(), lengths, max_ids))
    return [batches[i] for i in rng.permutation(len(batches))]


def _cut(order: Sequence[int], lengths: Sequence[int], max_ids: int) -> Iterator[list[int]]:
    batch: list[int] = []
    longest = 0
    for index in order:
        longest = max(longest, lengths[index])
        if batch and longest * (len(batch) + 1) > max_ids:
            yield batch
            batch, longest = [], lengths[index]
        batch.append(index)
    if batch:
        yield batch
