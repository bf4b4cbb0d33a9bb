import numpy as np

from benchmarks.speaker_probe import probe_speakers


def test_the_probe_finds_speakers_only_where_units_carry_them():
    rng = np.random.default_rng(0)
    speakers = [*("ab" * 15), None, "c"]
    blind = [rng.integers(0, 8, (1, 40)) for _ in speakers]
    leaking = [
        np.concatenate([row, np.full((1, 40), "ab".find(s or "-") % 8)]) for row, s in zip(blind, speakers, strict=True)
    ]
    found = probe_speakers(leaking, speakers, 8)
    assert found is not None
    assert (found.accuracy, found.chance, found.speakers) == (1.0, 0.5, 2)
    guess = probe_speakers(blind, speakers, 8)
    assert guess is not None
    assert 0.15 < guess.accuracy < 0.85
    assert probe_speakers(blind, [None] * len(blind), 8) is None
