import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechtok.errors import InputError
from speechtok.metrics import (
    pesq_wb,
    phone_normalised_mutual_information,
    phone_score,
    speaker_embedding,
    speaker_similarity,
    stoi,
)

pytest.importorskip("pesq")
pytest.importorskip("pystoi")


def bursts(seconds: float, rate: int = 16_000) -> torch.Tensor:
    """Noise with two bursts a second."""
    samples = int(seconds * rate)
    envelope = np.sin(2 * np.pi * np.arange(samples) / rate) ** 2
    return torch.from_numpy((envelope * np.random.default_rng(0).standard_normal(samples) * 0.1).astype(np.float32))


@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_a_perfect_copy_gets_the_best_scores(rate):
    x = bursts(2, rate)
    assert pesq_wb(x, x, rate) == pytest.approx(4.64, abs=0.01)
    assert stoi(x, x, rate) == pytest.approx(1.0, abs=1e-4)


def test_pesq_and_stoi_equal_their_libraries():
    from pesq import pesq
    from pystoi import stoi as reference

    x = bursts(3)
    y = x + torch.randn(len(x), generator=torch.Generator().manual_seed(0)) * 0.02
    assert pesq_wb(x, y, 16_000) == pytest.approx(pesq(16_000, x.numpy(), y.numpy(), "wb"))
    assert stoi(x, y, 16_000) == pytest.approx(reference(x.numpy(), y.numpy(), 16_000))


def test_extended_stoi_equals_its_library():
    from pystoi import stoi as reference

    x = bursts(3)
    y = x + torch.randn(len(x), generator=torch.Generator().manual_seed(0)) * 0.02
    expected = reference(x.numpy(), y.numpy(), 16_000, extended=True)
    assert stoi(x, y, 16_000, extended=True) == pytest.approx(expected)


def test_long_audio_that_crashes_the_pesq_library_is_scored_in_segments():
    x = bursts(45)
    assert pesq_wb(x, x, 16_000) == pytest.approx(4.64, abs=0.01)


def test_silence_and_very_short_audio_have_no_score():
    for x in (torch.zeros(16_000), bursts(0.1)):
        assert math.isnan(pesq_wb(x, x, 16_000))
        assert math.isnan(stoi(x, x, 16_000))
    assert math.isnan(pesq_wb(bursts(2), torch.zeros(32_000), 16_000))


def test_pnmi_is_1_for_the_phones_themselves_and_0_for_a_constant_label():
    phones = np.random.default_rng(0).integers(0, 5, 200)
    same = phone_score(phones, phones)
    assert (same.pnmi, same.phone_purity, same.cluster_purity, same.frames) == (1.0, 1.0, 1.0, 200)
    constant = phone_score(np.zeros(200, int), phones)
    assert constant.pnmi == 0.0
    assert constant.phone_purity == np.bincount(phones).max() / 200
    assert constant.cluster_purity == 1.0


frames = st.lists(st.tuples(st.integers(-1, 6), st.integers(-1, 4)), min_size=1, max_size=60).filter(
    lambda rows: any(a >= 0 and b >= 0 for a, b in rows)
)


@given(frames, st.permutations(range(7)), st.permutations(range(5)))
def test_phone_scores_are_within_bounds_and_independent_of_the_numbering(rows, labels, phones):
    x, y = np.array(rows).T
    score = phone_score(x, y)
    assert math.isnan(score.pnmi) or 0 <= score.pnmi <= 1
    assert 0 < score.phone_purity <= 1
    assert 0 < score.cluster_purity <= 1
    renamed = phone_score(np.append(labels, -1)[x], np.append(phones, -1)[y])
    assert renamed.pnmi == pytest.approx(score.pnmi, nan_ok=True, abs=1e-12)
    assert (renamed.phone_purity, renamed.cluster_purity) == pytest.approx((score.phone_purity, score.cluster_purity))


@given(frames)
def test_mutual_information_equals_scikit_learn(rows):
    metrics = pytest.importorskip("sklearn.metrics")
    x, y = np.array([row for row in rows if min(row) >= 0]).T
    entropy = metrics.mutual_info_score(y, y)
    if entropy > 1e-9:
        expected = metrics.mutual_info_score(x, y) / entropy
        assert phone_normalised_mutual_information(*np.array(rows).T) == pytest.approx(expected, abs=1e-9)


def test_pnmi_of_a_single_phone_is_nan():
    assert math.isnan(phone_normalised_mutual_information([1, 2, 3], [4, 4, 4]))


@pytest.mark.parametrize(
    ("labels", "phones", "message"),
    [
        ([1, 2], [1], "2 labels and 1 phones"),
        ([1.0, 2.0], [1, 2], r"labels is float64 \(2,\)"),
        ([1, 2], [[1, 2]], r"phones is int64 \(1, 2\)"),
        ([1, -1], [-1, 1], "none of 2 frames"),
    ],
)
def test_labels_and_phones_that_cannot_be_compared_are_refused(labels, phones, message):
    with pytest.raises(InputError, match=message):
        phone_score(labels, phones)


@pytest.mark.slow
def test_speaker_similarity_is_high_for_one_speaker_and_nan_for_silence(speech):
    pytest.importorskip("resemblyzer")
    low, high = (torch.from_numpy(speech(3, seed=3, sample_rate=rate)) for rate in (16_000, 9_000))  # played at 16 kHz
    assert speaker_similarity(low, low, 16_000) == pytest.approx(1.0, abs=1e-5)
    assert speaker_similarity(low, 0.5 * low, 16_000) > 0.9
    assert speaker_similarity(low, high, 16_000) < 0.9
    embedding = speaker_embedding(low, 16_000)
    assert embedding is not None
    assert embedding.shape == (256,)
    assert np.linalg.norm(embedding) == pytest.approx(1.0, abs=1e-5)
    for silence in (torch.zeros(16_000), torch.zeros(0), torch.full((1_600,), 1e-6)):
        assert speaker_embedding(silence, 16_000) is None
        assert math.isnan(speaker_similarity(low, silence, 16_000))
