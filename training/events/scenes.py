"""Scenes: recordings put together so that every frame's label is known.

Silences are rebuilt from the recording's own room tone, pauses inside a turn and the silence after it alike: neither
the sound nor the length of a silence alone tells whether the turn goes on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from training.augmentation import coloured_noise
from training.dataset import Corpus
from training.manifest import SILENCE, Phone

MIN_PAUSE = 0.1
"""Shorter gaps between phones are speech, in seconds."""
LEAD, TAIL = 0.03, 0.06
"""Audio kept before and after speech when a silence is rebuilt, in seconds: alignments are some 10 ms wide."""
MAX_END = 2.0
"""Seconds after a turn in which its end is a target; later frames have no label, as the network no longer hears it."""
UNLABELLED = -1
BALANCE_DB = -6.0, 6.0
"""Range of the second talker's level, relative to the first one's."""
NOISE_DBFS = -65.0, -15.0
"""Range of levels of noise in scenes without speech."""

_FADE = 0.01
_MIN_TONE = 0.08
"""Shortest silence that room tone is taken from, in seconds."""
_QUIET_SHARE = 0.1
"""Without such a silence, the quietest share of the recording is its room tone."""

Span = tuple[int, int]
"""First sample of a stretch of speech, and the one after its last."""


class Labels(NamedTuple):
    """Targets of each frame, int8 ``(T,)``: 1, 0, or :data:`UNLABELLED`.

    Attributes:
        speech: whether anyone speaks.
        end_of_turn: whether the silence that the frame lies in ends a turn.
        overlap: whether two talkers speak.
    """

    speech: np.ndarray
    end_of_turn: np.ndarray
    overlap: np.ndarray


@dataclass(frozen=True)
class Turn:
    """An utterance and where in it is speech.

    Attributes:
        waveform: float32 ``(S,)``.
        spans: stretches of speech, in order, with pauses of at least :data:`MIN_PAUSE` between them.
    """

    waveform: np.ndarray
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class SceneConfig:
    """How scenes for training are drawn.

    Attributes:
        seconds: length of a scene.
        overlap_share: share of the scenes with two talkers at a time.
        silent_share: share of the scenes without speech.
        noise_share: share of the scenes with noise.
        snr_low_db: lowest ratio of speech to noise, in dB.
        snr_high_db: highest ratio.
        gain_low_db: lowest gain of a scene, in dB.
        gain_high_db: highest gain.
        stretched_share: share of the pauses that get another length than in the recording.
        stretched_mean: mean length of those, in seconds.
        original_share: share of the pauses that are left as they were recorded.
        tail_low: shortest silence after a turn, in seconds.
        tail_high: longest.
    """

    seconds: float = 10.0
    overlap_share: float = 0.3
    silent_share: float = 0.15
    noise_share: float = 0.75
    snr_low_db: float = -5.0
    snr_high_db: float = 30.0
    gain_low_db: float = -20.0
    gain_high_db: float = 6.0
    stretched_share: float = 0.3
    stretched_mean: float = 0.6
    original_share: float = 0.2
    tail_low: float = 0.5
    tail_high: float = 2.6


def speech_spans(phones: Sequence[Phone], samples: int, sample_rate: int) -> tuple[Span, ...]:
    """Stretches of speech in a forced alignment of a recording of ``samples`` samples."""
    spans: list[list[float]] = []
    for phone in sorted(phones, key=lambda phone: phone.start):
        if phone.name == SILENCE:
            continue
        if spans and phone.start - spans[-1][1] < MIN_PAUSE:
            spans[-1][1] = max(spans[-1][1], phone.end)
        else:
            spans.append([phone.start, phone.end])
    rounded = [(round(start * sample_rate), min(samples, round(end * sample_rate))) for start, end in spans]
    return tuple((start, end) for start, end in rounded if end > start)


def room_tone(turn: Turn, samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Silence of a recording, in random pieces that fade into each other, float32 ``(S,)``."""
    pieces = _silences(turn, sample_rate)
    fade = round(2 * _FADE * sample_rate)
    ramp = np.sqrt((np.arange(fade, dtype=np.float32) + 0.5) / fade)  # of uncorrelated sounds, equal in power
    tone = np.zeros(samples + fade, np.float32)
    end = 0
    while end < samples + fade:
        piece = pieces[int(rng.integers(len(pieces)))]
        length = min(len(piece), int(rng.integers(fade * 2, max(len(piece), fade * 2) + 1)))
        start = int(rng.integers(0, len(piece) - length + 1))
        piece = piece[start : start + length].copy()
        if rng.random() < 0.5:
            piece = piece[::-1].copy()
        piece[: len(ramp)] *= ramp
        piece[-len(ramp) :] *= ramp[::-1]
        start = max(0, end - fade)
        kept = piece[: len(tone) - start]
        tone[start : start + len(kept)] += kept
        end = start + len(piece)
    return tone[fade:]


def _silences(turn: Turn, sample_rate: int) -> list[np.ndarray]:
    """Parts of a recording without speech; its quietest parts if there are none."""
    before, after, shortest = (round(x * sample_rate) for x in (LEAD, TAIL, _MIN_TONE))
    edges = [-after, *(edge for span in turn.spans for edge in span), len(turn.waveform) + before]
    gaps = [(edges[i] + after, edges[i + 1] - before) for i in range(0, len(edges), 2)]
    pieces = [turn.waveform[start:end] for start, end in gaps if end - start >= shortest]
    if pieces:
        return pieces
    frames = max(1, len(turn.waveform) // shortest)
    parts = [turn.waveform[i * shortest : (i + 1) * shortest] for i in range(frames)]
    parts = [part for part in parts if len(part) == shortest] or [np.zeros(shortest, np.float32)]
    parts.sort(key=lambda part: float(np.square(part).mean()))
    return parts[: max(1, round(_QUIET_SHARE * len(parts)))]


def rebuild(
    turn: Turn, sample_rate: int, rng: np.random.Generator, pause: Callable[[int], int | None] = lambda length: length
) -> Turn:
    """A turn from its first to its last sample of speech, with other pauses.

    Args:
        turn: the recording.
        sample_rate: in hertz.
        rng: chooses the room tone.
        pause: the length of a pause, in samples, from its length in the recording; ``None`` leaves it as recorded.
    """
    before, after = (round(x * sample_rate) for x in (LEAD, TAIL))
    x, parts = turn.waveform, []
    spans: list[Span] = []
    at, begin = 0, max(0, turn.spans[0][0] - before)  # samples in parts, and the first one that is yet to be kept
    for index, (start, end) in enumerate(turn.spans):
        spans.append((at + start - begin, at + end - begin))
        following = turn.spans[index + 1][0] if index + 1 < len(turn.spans) else None
        length = 0 if following is None else pause(following - end)
        if length is None:
            continue
        parts.append(x[begin : min(len(x), end + after)])
        at += len(parts[-1])
        if following is not None:
            parts.append(room_tone(turn, max(0, length - before - after), sample_rate, rng))
            at += len(parts[-1])
            begin = following - before
    return Turn(join(parts, sample_rate), tuple(spans))


def frame_labels(turns: Sequence[Sequence[Sequence[Span]]], samples: int, hop_length: int, sample_rate: int) -> Labels:
    """Targets of a scene.

    Args:
        turns: of each talker, the turns, each as its spans in the scene. A scene of two talkers has no targets for the
            end of turn.
        samples: of the scene.
        hop_length: samples per frame; a frame's label is that of its centre.
        sample_rate: in hertz.
    """
    centres = np.arange(samples // hop_length) * hop_length + hop_length // 2
    talking = [_inside([span for turn in talker for span in turn], centres) for talker in turns]
    active = np.sum(talking, 0) if talking else np.zeros(len(centres), int)
    end_of_turn = np.zeros(len(centres), np.int8)
    if len(turns) > 1:
        end_of_turn[:] = UNLABELLED
    elif turns:
        for turn in turns[0]:
            after = centres - turn[-1][1]
            end_of_turn[after >= 0] = 1
            end_of_turn[after >= MAX_END * sample_rate] = UNLABELLED
            end_of_turn[(centres >= turn[0][0]) & (after < 0)] = 0
    return Labels((active > 0).astype(np.int8), end_of_turn, (active > 1).astype(np.int8))


def _inside(spans: Sequence[Span], times: np.ndarray) -> np.ndarray:
    inside = np.zeros(len(times), bool)
    for start, end in spans:
        inside |= (times >= start) & (times < end)
    return inside


class SceneSampler:
    """Draws scenes. A scene depends on the seed and its number alone.

    Args:
        config: what scenes are like.
        corpus: packed audio.
        spans: speech of the utterances of the corpus; empty for one without an alignment, which is left out.
        noise: recordings of noise; without them, noise is coloured noise.
        hop_length: samples per frame.
        sample_rate: in hertz.
        seed: of the scenes.
    """

    def __init__(
        self,
        config: SceneConfig,
        corpus: Corpus,
        spans: Sequence[tuple[Span, ...]],
        noise: Corpus | None,
        hop_length: int,
        sample_rate: int,
        seed: int,
    ) -> None:
        self.config, self.corpus, self.spans, self.noise = config, corpus, spans, noise
        self.hop_length, self.sample_rate, self.seed = hop_length, sample_rate, seed
        self.usable = [index for index, found in enumerate(spans) if found]
        self.samples = round(config.seconds * sample_rate) // hop_length * hop_length

    def __call__(self, number: int) -> tuple[np.ndarray, Labels]:
        """A waveform, float32 ``(S,)`` in [-1, 1], and its labels."""
        c, rng = self.config, np.random.default_rng((self.seed, number))
        kind = rng.random()
        silent, double = kind < c.silent_share, kind > 1 - c.overlap_share
        tracks = [self._track(rng, silent) for _ in range(2 if double else 1)]
        waveform = tracks[0][0]
        if double:
            levels = [active_rms(track, [span for turn in turns for span in turn]) for track, turns in tracks]
            waveform = waveform + tracks[1][0] * (levels[0] / levels[1] * 10 ** (rng.uniform(*BALANCE_DB) / 20))
        spans = [turns for _, turns in tracks]
        labels = frame_labels(spans, self.samples, self.hop_length, self.sample_rate)
        if rng.random() < c.noise_share:
            noise = draw_noise(self.noise, self.samples, rng)
            spoken = [span for turns in spans for turn in turns for span in turn]
            level_db = rng.uniform(*NOISE_DBFS)
            if spoken:
                level_db = 20 * np.log10(active_rms(waveform, spoken)) - rng.uniform(c.snr_low_db, c.snr_high_db)
            waveform = waveform + np.float32(10 ** (level_db / 20)) * noise
        waveform = waveform * 10 ** (rng.uniform(c.gain_low_db, c.gain_high_db) / 20)
        return (waveform / max(1.0, float(np.abs(waveform).max()))).astype(np.float32), labels

    def _track(self, rng: np.random.Generator, silent: bool) -> tuple[np.ndarray, list[tuple[Span, ...]]]:
        """One talker: turns with silence before, between and after them, and the spans of each turn."""
        c, rate = self.config, self.sample_rate
        recorded, turn = self._turn(rng)
        if silent:
            return room_tone(recorded, self.samples, rate, rng), []
        parts = [room_tone(recorded, round(rng.uniform(0.1, c.tail_high / 2) * rate), rate, rng)]
        at, turns = len(parts[0]), []
        while at < self.samples:
            turns.append(tuple((at + start, at + end) for start, end in turn.spans))
            tone = room_tone(recorded, round(rng.uniform(c.tail_low, c.tail_high) * rate), rate, rng)
            parts += [turn.waveform, tone]
            at += len(turn.waveform) + len(tone)
            recorded, turn = self._turn(rng)
        return join(parts, rate)[: self.samples], turns

    def _turn(self, rng: np.random.Generator) -> tuple[Turn, Turn]:
        """An utterance as it was recorded, and with other pauses."""
        c, rate = self.config, self.sample_rate
        index = self.usable[int(rng.integers(len(self.usable)))]
        recorded = Turn(self.corpus[index].numpy(), self.spans[index])

        def pause(length: int) -> int | None:
            kind = rng.random()
            if kind < c.original_share:
                return None
            if kind < c.original_share + c.stretched_share:
                return round(min(MAX_END, MIN_PAUSE + rng.exponential(c.stretched_mean)) * rate)
            return length

        return recorded, rebuild(recorded, rate, rng, pause)


def join(parts: Sequence[np.ndarray], sample_rate: int) -> np.ndarray:
    """Sounds one after the other, each faded in and out, so that no joint clicks."""
    fade = round(_FADE * sample_rate)
    ramp = (np.arange(fade, dtype=np.float32) + 0.5) / fade
    faded = []
    for part in parts:
        n = min(fade, len(part))
        part = part.copy()
        part[:n] *= ramp[:n]
        part[len(part) - n :] *= ramp[::-1][fade - n :]
        faded.append(part)
    return np.concatenate(faded)


def draw_noise(
    noise: Corpus | None, samples: int, rng: np.random.Generator, coloured_share: float = 0.25
) -> np.ndarray:
    """Noise of power 1: a recording, repeated if it is shorter, or coloured noise; float32 ``(S,)``."""
    if noise is None or rng.random() < coloured_share:
        return coloured_noise(rng, samples)
    sound = noise[int(rng.integers(len(noise)))].numpy()
    sound = np.resize(np.roll(sound, -int(rng.integers(len(sound)))), samples)
    return sound / np.float32(np.sqrt(np.mean(np.square(sound)) + 1e-10))


def active_rms(waveform: np.ndarray, spans: Sequence[Span]) -> float:
    """Level of the speech of a scene; of all of it if there is none."""
    parts = [waveform[start:end] for start, end in spans]
    speech = np.concatenate(parts) if parts else waveform
    return float(np.sqrt(np.mean(np.square(speech if len(speech) else waveform)) + 1e-12))
