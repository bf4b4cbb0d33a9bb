import numpy as np
import pytest

from training.dataset import Corpus
from training.events.scenes import (
    MAX_END,
    UNLABELLED,
    SceneConfig,
    SceneSampler,
    Turn,
    frame_labels,
    rebuild,
    room_tone,
    speech_spans,
)
from training.manifest import Phone

RATE = 16_000


@pytest.fixture
def turn():
    """Two bursts of a tone, 0.4 s and 0.3 s, with 0.3 s between them, in noise of the level 0.01."""
    t = np.arange(RATE * 3 // 2) / RATE
    talks = ((t >= 0.3) & (t < 0.7)) | ((t >= 1.0) & (t < 1.3))
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(t))
    wave = (np.sin(2 * np.pi * 200 * t) * talks + noise).astype(np.float32)
    return Turn(wave, ((4_800, 11_200), (16_000, 20_800)))


def rms(x):
    return float(np.sqrt(np.mean(np.square(x))))


def test_short_gaps_between_phones_are_speech_and_long_ones_are_pauses():
    rows = [("SIL", 0, 0.2), ("AH", 0.2, 0.5), ("SIL", 0.5, 0.55), ("B", 0.55, 0.7), ("SIL", 0.7, 0.9), ("S", 0.9, 1.2)]
    phones = [Phone(*row) for row in reversed(rows)]
    assert speech_spans(phones, 18_000, RATE) == ((3_200, 11_200), (14_400, 18_000))


def test_room_tone_is_as_loud_as_the_silence_of_the_recording_and_has_any_length(turn):
    for samples in (0, 1, 100, 50_000):
        tone = room_tone(turn, samples, RATE, np.random.default_rng(1))
        assert tone.shape == (samples,)
    assert 0.005 < rms(tone) < 0.02


def test_a_recording_without_silence_lends_its_quietest_parts():
    loud = Turn(np.r_[np.ones(8_000), 0.1 * np.ones(8_000)].astype(np.float32), ((0, 16_000),))
    assert rms(room_tone(loud, 4_000, RATE, np.random.default_rng(0))) < 0.2


@pytest.mark.parametrize("seconds", [0.1, 0.3, 1.5])
def test_a_rebuilt_turn_has_its_speech_and_the_pause_that_was_asked_for(turn, seconds):
    new = rebuild(turn, RATE, np.random.default_rng(0), lambda length: round(seconds * RATE))
    (a, b), (c, d) = new.spans
    assert (b - a, d - c) == (6_400, 4_800)
    assert c - b == round(seconds * RATE)
    assert np.array_equal(new.waveform[a + 200 : b], turn.waveform[5_000:11_200])
    assert np.array_equal(new.waveform[c:d], turn.waveform[16_000:20_800])
    assert rms(new.waveform[b + 1_100 : c - 600]) < 0.02 if c - b > 2_000 else True
    assert len(new.waveform) == d + 960


def test_a_pause_can_stay_as_it_was_recorded(turn):
    new = rebuild(turn, RATE, np.random.default_rng(0), lambda length: None)
    assert new.spans == ((480, 6_880), (11_680, 16_480))
    assert np.array_equal(new.waveform[480:16_480], turn.waveform[4_800:20_800])


def test_labels_tell_pauses_from_ends_of_turns():
    second = RATE
    turns = [((second, 2 * second), (3 * second, 4 * second)), ((8 * second, 9 * second),)]
    speech, end, overlap = frame_labels([turns], 12 * second, 320, RATE)
    assert speech.tolist() == ([0] * 50 + [1] * 50) * 2 + [0] * 200 + [1] * 50 + [0] * 150
    kept = round(50 * MAX_END)
    assert end.tolist() == [0] * 200 + [1] * kept + [UNLABELLED] * (200 - kept) + [0] * 50 + [1] * kept + [
        UNLABELLED
    ] * (150 - kept)
    assert not overlap.any()


def test_two_talkers_overlap_where_both_speak_and_have_no_end_of_turn():
    labels = frame_labels([[((0, 16_000),)], [((8_000, 24_000),)]], 32_000, 320, RATE)
    assert labels.overlap.tolist() == [0] * 25 + [1] * 25 + [0] * 50
    assert labels.speech.tolist() == [1] * 75 + [0] * 25
    assert (labels.end_of_turn == UNLABELLED).all()


def sampler_of(turn, **changes):
    pcm = (turn.waveform.clip(-1, 1) * 32_767).astype(np.int16)
    corpus = Corpus(np.tile(pcm, 2), np.array([0, len(pcm), 2 * len(pcm)]), ())
    return SceneSampler(SceneConfig(seconds=4.0, **changes), corpus, [turn.spans, ()], None, 320, RATE, 0)


def test_a_scene_depends_on_its_number_alone(turn):
    sample = sampler_of(turn)
    waveform, labels = sample(7)
    again, labels_again = sampler_of(turn)(7)
    assert np.array_equal(waveform, again)
    assert all(map(np.array_equal, labels, labels_again))
    assert not np.array_equal(waveform, sample(8)[0])
    assert waveform.shape == (64_000,)
    assert waveform.dtype == np.float32
    assert np.abs(waveform).max() <= 1
    assert [x.shape for x in labels] == [(200,)] * 3


def test_speech_frames_of_a_scene_are_louder_than_the_others(turn):
    for number in range(5):
        waveform, labels = sampler_of(turn, noise_share=0.0, silent_share=0.0, overlap_share=0.0)(number)
        frames = waveform.reshape(-1, 320)
        assert rms(frames[labels.speech == 1]) > 8 * rms(frames[labels.speech == 0])


def test_scenes_without_speech_and_with_two_talkers_are_labelled_as_such(turn):
    _, silent = sampler_of(turn, silent_share=1.0, overlap_share=0.0)(0)
    assert not silent.speech.any()
    assert not silent.end_of_turn.any()
    overlaps = [sampler_of(turn, overlap_share=1.0, silent_share=0.0)(n)[1].overlap.any() for n in range(5)]
    assert any(overlaps)
