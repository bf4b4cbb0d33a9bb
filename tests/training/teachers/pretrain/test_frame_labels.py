from pathlib import Path

import numpy as np
import torch

from training.dataset import Corpus
from training.manifest import Phone, Utterance
from training.teachers.pretrain.frame_labels import FrameLabels, label_clusters, label_phones, phone_names


def test_frames_have_the_phone_at_their_centre():
    corpus = Corpus(np.zeros(1_000, np.int16), np.array([0, 600, 1_000]), ())
    utterances = [
        Utterance(Path("a"), "a", phones=(Phone("AA", 0.0, 0.02), Phone("SIL", 0.02, 0.031))),
        Utterance(Path("b"), "b"),
    ]
    labels = label_phones(utterances, corpus, phone_names(utterances), 160, 16_000)
    assert labels.values.tolist() == [1, 1, 0, -1, -1, -1, -1]
    assert labels.at(0, np.array([0, 159, 400, 10_000])).tolist() == [1, 1, 0, -1]
    assert labels.labelled_utterances.tolist() == [True, False]


def test_silence_is_the_first_phone_and_no_alignment_means_no_phones():
    assert phone_names([Utterance(Path("a"), "a", phones=(Phone("T", 0, 1), Phone("AA", 1, 2)))]) == ("SIL", "AA", "T")
    assert phone_names([Utterance(Path("a"), "a")]) == ()


def test_clusters_are_computed_again_if_and_only_if_their_input_changes(tmp_path):
    rng = np.random.default_rng(0)
    corpus = Corpus((rng.standard_normal(64_000) * 3000).astype(np.int16), np.array([0, 30_000, 64_000]), ())
    calls = []

    def compute(waveform: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        frames = -(-waveform.shape[1] // 320)
        waveform = torch.nn.functional.pad(waveform, (0, frames * 320 - waveform.shape[1]))
        return waveform.unflatten(1, (frames, 320))[..., :8]

    def labels(corpus: Corpus = corpus, clusters: int = 4, seed: int = 0, features: str = "a") -> FrameLabels:
        return label_clusters(compute, corpus, 320, clusters, seed, tmp_path / "c.npy", features)

    first = labels()
    others = [
        {"corpus": Corpus(corpus.samples[::-1].copy(), corpus.offsets, ())},
        {"corpus": Corpus(corpus.samples, np.array([0, 30_400, 64_000]), ())},
        {"clusters": 5},
        {"seed": 1},
        {"features": "b"},
    ]
    for changes in others:
        calls.clear()
        labels(**changes)
        assert len(calls) == 2, changes
    calls.clear()
    assert np.array_equal(labels().values, first.values)
    assert not calls
