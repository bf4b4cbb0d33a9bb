import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechtok.errors import AudioError
from training.dataset import Corpus, in_threads, pack
from training.manifest import read_manifest


def corpus_of(lengths: list[int]) -> Corpus:
    """A corpus whose utterance ``i`` has the constant value ``1000 * (i + 1)``."""
    samples = np.concatenate([np.full(n, 1000 * (i + 1), np.int16) for i, n in enumerate(lengths)])
    return Corpus(samples, np.cumsum([0, *lengths]), ())


def draw(corpus: Corpus, seed: int, step: int, batch_size: int, samples: int, gains, rows=slice(None)) -> torch.Tensor:
    return corpus.read(corpus.draw(seed, step, batch_size, samples, gains, 1.0, rows), samples)


def test_packing_keeps_every_sample_and_skips_files_that_are_not_audio(speech_folder, tmp_path):
    train = [u.audio for u in read_manifest(speech_folder / "train.jsonl")]
    corpus = pack(train, 16_000, tmp_path)
    assert [name.rpartition("/")[2] for name in corpus.skipped] == ["broken.flac"]
    assert len(corpus) == 10
    expected, _ = soundfile.read(speech_folder / "4.flac", dtype="float32")
    assert np.abs(corpus[4].numpy() - expected).max() < 2 / 32_768


def test_packing_the_same_files_again_reuses_the_packed_file(speech_folder, tmp_path, monkeypatch):
    train = [u.audio for u in read_manifest(speech_folder / "train.jsonl")]
    first = pack(train, 16_000, tmp_path)
    monkeypatch.setattr("training.dataset.read_audio", lambda path: pytest.fail("read again"))
    assert torch.equal(pack(train, 16_000, tmp_path)[3], first[3])


def test_threads_keep_the_order_and_read_at_most_two_files_each_ahead():
    started = []
    results = in_threads(lambda file: (started.append(file), file)[1], range(100), 3)
    for expected in range(100):
        assert next(results) == expected
        assert len(started) <= expected + 2 * 3 + 1
    with pytest.raises(StopIteration):
        next(results)


def test_packing_resamples(speech_folder, tmp_path):
    train = [u.audio for u in read_manifest(speech_folder / "train.jsonl")]
    corpus = pack(train[:2], 24_000, tmp_path)
    assert len(corpus[1]) == round(0.5 * 24_000)


def test_no_readable_file_is_an_error_and_leaves_no_file(tmp_path):
    (tmp_path / "a.wav").write_text("x")
    with pytest.raises(AudioError, match="none of 1 files"):
        pack([tmp_path / "a.wav"], 16_000, tmp_path / "packed")
    assert not list((tmp_path / "packed").iterdir())


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=8),
    seed=st.integers(0, 2**32),
    step=st.integers(0, 2**41),
    samples=st.integers(1, 200),
)
def test_a_batch_depends_on_seed_and_step_only_and_no_crop_crosses_utterances(lengths, seed, step, samples):
    corpus = corpus_of(lengths)
    batch = draw(corpus, seed, step, 5, samples, (0.0, 0.0))
    assert torch.equal(batch, draw(corpus, seed, step, 5, samples, (0.0, 0.0)))
    assert batch.shape == (5, samples)
    for row in batch:
        values = set((row[row != 0] * 32_768).round().int().tolist())
        assert len(values) == 1
        length = lengths[values.pop() // 1000 - 1]
        assert int((row != 0).sum()) == min(length, samples)


def test_speed_changes_the_duration_and_the_pitch_of_crops():
    tone = np.sin(2 * np.pi * 500 * np.arange(64_000) / 16_000) * 10_000
    corpus = Corpus(tone.astype(np.int16), np.array([0, 64_000]), ())
    crops = corpus.draw(0, 0, 32, 16_000, (0.0, 0.0), 1.25)
    speeds = np.array([crop.samples / 16_000 for crop in crops])
    assert 0.8 <= speeds.min() < 0.9
    assert 1.1 < speeds.max() <= 1.25
    peaks = np.abs(np.fft.rfft(corpus.read(crops, 16_000).numpy())).argmax(1)
    np.testing.assert_allclose(peaks, 500 * speeds, atol=1)
    assert all(crop.start + crop.samples <= 64_000 for crop in crops)
    unchanged = corpus.draw(0, 0, 32, 16_000, (0.0, 0.0), 1.0)
    assert [crop.utterance for crop in crops] == [crop.utterance for crop in unchanged]


def test_an_utterance_shorter_than_its_crop_ends_according_to_its_speed():
    corpus = Corpus(np.full(8_000, 10_000, np.int16), np.array([0, 8_000]), ())
    crops = corpus.draw(0, 0, 8, 16_000, (0.0, 0.0), 1.25)
    for row, crop in zip(corpus.read(crops, 16_000), crops, strict=True):
        assert int(row.nonzero().max()) + 1 == pytest.approx(8_000 * 16_000 / crop.samples, abs=1)


def test_steps_and_seeds_draw_different_crops():
    corpus = Corpus(np.arange(1, 30_000, dtype=np.int16), np.array([0, 29_999]), ())
    draws = {tuple(draw(corpus, seed, step, 2, 4, (0, 0)).flatten().tolist()) for seed in (0, 1) for step in range(5)}
    assert len(draws) == 10


def test_crops_are_drawn_in_proportion_to_the_length_of_utterances():
    batch = draw(corpus_of([9000, 1000]), 0, 0, 2000, 10, (0.0, 0.0))
    share = float((batch[:, 0] < 1.5 * 1000 / 32_768).float().mean())
    assert 0.87 < share < 0.93


def test_gain_stays_within_full_scale():
    corpus = Corpus(np.full(100, 20_000, np.int16), np.array([0, 100]), ())
    levels = draw(corpus, 0, 0, 300, 10, (-12.0, 12.0))[:, 0] / (20_000 / 32_768)
    assert levels.max() <= 32_768 / 20_000 + 1e-6
    assert levels.min() == pytest.approx(10 ** (-12 / 20), abs=0.02)


def test_rows_of_a_batch_are_those_of_the_whole_batch():
    corpus = corpus_of([400, 300, 500])
    whole = draw(corpus, 3, 7, 6, 50, (-6.0, 6.0))
    parts = [draw(corpus, 3, 7, 6, 50, (-6.0, 6.0), slice(start, start + 2)) for start in (0, 2, 4)]
    assert torch.equal(torch.cat(parts), whole)
