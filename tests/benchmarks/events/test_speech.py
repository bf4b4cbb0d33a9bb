import numpy as np
import pytest

from benchmarks.events.cache import Cache
from benchmarks.events.detectors import at_frames, webrtc
from benchmarks.events.speech import best_threshold, f1, mix_noise, score
from benchmarks.events.tables import write_tables
from training.events.scenes import Turn


def test_scores_of_a_perfect_and_of_a_useless_detector():
    labels = [np.array([0, 0, 1, 1, -1]), np.array([1, 0])]
    perfect = [np.array([0.1, 0.2, 0.6, 0.9, 0.0]), np.array([0.7, 0.3])]
    found = score(labels, perfect, 0.95)
    assert (found.auc, found.f1, found.f1_chosen) == (1.0, 1.0, 0.0)
    assert 0.3 < best_threshold(labels, perfect) <= 0.6
    assert score(labels, [np.zeros(5), np.zeros(2)], 0.5).auc == 0.5


def test_f1_is_the_harmonic_mean_of_precision_and_recall():
    truth, found = np.array([1, 1, 1, 0, 0], bool), np.array([1, 0, 0, 1, 0], bool)
    assert f1(truth, found) == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))


def test_windows_of_32_ms_are_read_at_frames_of_20_ms():
    windows = np.array([1.0, 2.0, 3.0])
    causal = at_frames(windows, 5 * 320, 320, True)
    assert causal.tolist() == [0, 1, 1, 2, 3]  # frames end at 20, 40, 60, 80 and 100 ms
    assert at_frames(windows, 4 * 320, 320, False).tolist() == [1, 1, 2, 3]  # centres at 10, 30, 50 and 70 ms


def test_a_mixture_has_the_labels_of_its_speech_and_the_ratio_of_its_noise():
    t = np.arange(32_000) / 16_000
    wave = (0.1 * np.sin(2 * np.pi * 300 * t) * (t < 1)).astype(np.float32)
    mixture = mix_noise(Turn(wave, ((0, 16_000),)), None, 6.0, 320, 16_000, 0)
    assert mixture.labels.speech.tolist() == [1] * 50 + [0] * 50
    noise = np.sqrt(np.mean(np.square(mixture.waveform - wave)))
    assert 20 * np.log10(0.1 / np.sqrt(2) / noise) == pytest.approx(6.0, abs=0.1)


def test_results_of_baselines_are_computed_once(tmp_path):
    cache, rows = Cache(tmp_path, None), [np.arange(3.0), np.zeros(0), np.ones(2)]
    assert list(map(len, cache("a", lambda: rows))) == [3, 0, 2]
    again = cache("a", lambda: pytest.fail("computed twice"))
    assert all(map(np.array_equal, again, rows))


def test_the_detector_of_webrtc_hears_a_loud_voice(speech):
    pytest.importorskip("webrtcvad")
    votes = webrtc(320)(np.concatenate([np.zeros(16_000, np.float32), speech(1.0)]))
    assert votes.shape == (100,)
    assert votes[60:].mean() > votes[:45].mean()


def test_the_tables_hold_every_figure():
    scores = {"auc": 0.91234, "f1": 0.8, "f1_chosen": 0.85, "threshold": 0.4}
    row = {
        "wanted": 0.2,
        "policy": {"threshold": 0.35, "min_delay": 5, "max_delay": 40},
        "delay": 0.213,
        "cut_off": 0.25,
        "timers": {"alignment": {"cut_off": 0.5, "more": [0.2, 0.3]}},
    }
    text = write_tables(
        {
            "tokenizer": "abc",
            "utterances": [3, 4],
            "speech": {"speechtok": {"20 dB": scores}},
            "overlap": scores,
            "turns": {"clean": [row]},
            "price": {"whole": 1.5},
        }
    )
    for figure in ("0.9123", "0.800", "0.850", "0.35", "100, 800", "213", "25.0 %", "50.0 %", "1.5"):
        assert figure in text
