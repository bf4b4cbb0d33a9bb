"""Labels describe what is in the audio, and never drop an utterance."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from speechtok.corpus import Corpus
from speechtok.corpus.labels import Clip, Label, load_label, split_labels
from speechtok.corpus.labels.caption import describe
from speechtok.errors import InputError

RATE = 16_000


def clip_of(waveform, values=None) -> Clip:
    waveform = np.asarray(waveform, np.float32)
    codes = np.zeros((4, -(-len(waveform) // 320)), np.uint16)
    return Clip(waveform, RATE, waveform, RATE, codes, 50.0, values or {})


def voice(seconds: float, pitch: float) -> np.ndarray:
    """Vowels of a steady pitch, four a second, after half a second of near silence."""
    t = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * k * pitch * t) / k for k in range(1, 20))
    envelope = np.clip(np.sin(2 * np.pi * 2 * t), 0, None) + np.clip(-np.sin(2 * np.pi * 2 * t), 0, None)
    quiet = np.zeros(RATE // 2)
    noise = np.random.default_rng(0).standard_normal(len(t) + 2 * len(quiet))
    return np.concatenate([quiet, 0.2 * envelope * tone, quiet]) + 1e-3 * noise


@pytest.mark.parametrize("pitch", [80.0, 130.0, 240.0, 400.0])
def test_pitch_is_that_of_the_voice(pitch):
    found = load_label("prosody")(clip_of(voice(2, pitch)))
    assert found["pitch"] == pytest.approx(pitch, rel=0.03)
    assert found["pitch_range"] < 2
    assert found["rate"] == pytest.approx(4, abs=1)


@pytest.mark.parametrize("snr", [10, 20, 30])
def test_snr_is_near_the_one_of_the_mixture(snr):
    speech = voice(3, 120)
    noise = np.random.default_rng(1).standard_normal(len(speech))
    power = np.square(speech[RATE // 2 : -RATE // 2]).mean()
    mixed = speech + noise * np.sqrt(power / 10 ** (snr / 10))
    assert load_label("level")(clip_of(0.5 * mixed))["snr"] == pytest.approx(snr, abs=4)


def test_flat_tops_are_clipping_and_peaks_are_not():
    speech = voice(1, 150)
    speech /= np.abs(speech).max()
    assert load_label("level")(clip_of(speech))["clipped"] == 0
    assert load_label("level")(clip_of((3 * speech).clip(-1, 1)))["clipped"] > 0.01
    assert load_label("level")(clip_of(0.5 * (3 * speech).clip(-1, 1)))["clipped"] > 0.01


def test_noise_and_silence_are_not_speech():
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE)
    label = load_label("speech")
    assert label(clip_of(noise))["speech"] < 0.1
    assert label(clip_of(np.zeros(RATE)))["speech"] == 0
    found = label(clip_of(voice(2, 150)))
    assert found["speech"] == pytest.approx(2 / 3, abs=0.1)
    assert found["speech_segments"][0] == pytest.approx(0.5, abs=0.1)


def test_captions_follow_from_the_columns():
    quick = {"pitch": 240.0, "rate": 6.0, "pitch_range": 8.0, "snr": 40.0, "clipped": 0.0}
    assert describe(quick) == "a quick, high voice, quiet room"
    slow = {"pitch": 100.0, "rate": 2.0, "pitch_range": 2.0, "snr": 5.0, "pauses": 2, "pause_seconds": 3.0}
    assert describe(slow) == "a slow, low voice, monotone, with pauses, noisy"
    assert describe({}) is None


class Loudest(Label):
    """A label of the user."""

    columns = {"loudest": "float32", "tags": "list<string>"}  # noqa: RUF012

    def __call__(self, clip):
        return {"loudest": float(np.abs(clip.waveform).max()), "tags": ["a", "b"]}


def test_duplicates_are_found_and_kept(recordings, tmp_path, build_corpus, speech):
    long = speech(3.0, 40)
    for name, gain in (("x1", 0.9), ("x2", 0.9)):
        soundfile.write(recordings / f"{name}.wav", gain * long, RATE, subtype="FLOAT")
    noise = 0.1 * np.random.default_rng(3).standard_normal(3 * RATE)
    soundfile.write(recordings / "noise.wav", noise, RATE)
    labels = ("duplicates", "caption", "speech", f"{__name__}:Loudest")
    import sys

    sys.modules.setdefault(__name__, sys.modules.get(__name__) or __import__(__name__))
    build_corpus(recordings, tmp_path / "corpus", labels=labels)
    rows = {row["id"]: row for row in pq.read_table(tmp_path / "corpus" / "data").to_pylist()}
    assert len(rows) == 10
    assert rows["x2.wav"]["duplicate_of"] == "x1.wav"
    assert [key for key, row in rows.items() if row["duplicate_of"]] == ["x2.wav"]
    assert rows["noise.wav"]["speech"] < 0.1
    assert rows["x1.wav"]["tags"] == ["a", "b"]
    chosen = Corpus(tmp_path / "corpus", where="speech > 0.1 and duplicate_of is None")
    assert len(chosen) == len(list(chosen))
    assert not {"x2.wav", "noise.wav"} & {u.id for u in chosen}


def test_labels_that_cannot_be_made_are_refused_before_the_work():
    with pytest.raises(InputError, match="'unknown'"):
        split_labels(("unknown",))
    with pytest.raises(InputError, match="No module named"):
        split_labels(("no_such_module:Label",))
    with pytest.raises(InputError, match="column 'speech'"):
        split_labels(("speech", "turns"))


def test_speakers_are_groups_of_similar_voices():
    import pyarrow as pa

    label = load_label("speakers")
    rng = np.random.default_rng(0)
    voices = rng.standard_normal((3, 256))
    voices /= np.linalg.norm(voices, axis=1, keepdims=True)
    order = [0, 1, 0, 2, 1, 0]
    rows = [voices[i] + 0.02 * rng.standard_normal(256) for i in order]
    table = pa.table({"voice": [None, *(list(row / np.linalg.norm(row)) for row in rows)]})
    label.observe(table)
    assert label.values(table)["speaker_group"] == [None, *order]
