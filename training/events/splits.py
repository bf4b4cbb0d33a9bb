"""The data of the training: packed speech with its alignments, and noise, for training and for validation."""

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from speechtok.errors import AudioError
from training.dataset import Corpus, pack
from training.events.config import EventsConfig
from training.events.scenes import Span, speech_spans
from training.manifest import Utterance, find_utterances, read_manifest


class Split(NamedTuple):
    """What scenes are made of.

    Attributes:
        speech: packed utterances.
        spans: where in each utterance is speech; empty for an utterance without phones.
        noise: packed noise.
    """

    speech: Corpus
    spans: list[tuple[Span, ...]]
    noise: Corpus | None


def load_splits(config: EventsConfig, sample_rate: int) -> tuple[Split, Split]:
    """Pack the audio of both splits.

    Raises:
        MissingFileError: ``data`` or ``noise`` does not exist.
        AudioError: no audio can be read, or no utterance of a split has phones.
    """
    directory, workers = Path(config.out) / "audio", config.workers or None
    heard = read_manifest(config.noise) if config.noise else []
    dev_noise = [u for u in heard if fnmatch.fnmatch(u.id, config.noise_dev)]
    held_out = {u.id for u in heard if fnmatch.fnmatch(u.id, config.noise_held_out)} | {u.id for u in dev_noise}
    noises = [u for u in heard if u.id not in held_out], dev_noise
    splits = []
    for utterances, noise in zip(find_utterances(config.data), noises, strict=True):
        corpus = pack([u.audio for u in utterances], sample_rate, directory, workers)
        spans = spans_of(utterances, corpus, sample_rate)
        if not any(spans):
            raise AudioError(
                f"data is {config.data!r}, of whose {len(utterances)} utterances none has phones; expected a manifest "
                "with 'phones' for training and for validation"
            )
        packed = pack([u.audio for u in noise], sample_rate, directory, workers) if noise else None
        splits.append(Split(corpus, spans, packed))
    train, dev = splits
    return train, dev


def load_test_split(config: EventsConfig, sample_rate: int, name: str) -> Split:
    """Pack the utterances of ``dev.jsonl`` or ``test.jsonl`` with phones, and the noise of that split.

    Raises:
        MissingFileError: the manifest does not exist.
        AudioError: no audio can be read, or no utterance has phones.
    """
    directory = Path(config.out) / "audio"
    utterances = [u for u in read_manifest(Path(config.data) / f"{name}.jsonl") if u.phones]
    if not utterances:
        raise AudioError(
            f"{name}.jsonl of {config.data} has no utterance with phones; expected 'phones' in the manifest"
        )
    pattern = config.noise_dev if name == "dev" else config.noise_held_out
    noise = [u.audio for u in read_manifest(config.noise) if fnmatch.fnmatch(u.id, pattern)] if config.noise else []
    corpus = pack([u.audio for u in utterances], sample_rate, directory)
    return Split(
        corpus, spans_of(utterances, corpus, sample_rate), pack(noise, sample_rate, directory) if noise else None
    )


def spans_of(utterances: Sequence[Utterance], corpus: Corpus, sample_rate: int) -> list[tuple[Span, ...]]:
    """Stretches of speech of the utterances of a corpus."""
    skipped = set(corpus.skipped)
    kept = [u for u in utterances if str(u.audio) not in skipped]
    lengths = (corpus.offsets[1:] - corpus.offsets[:-1]).tolist()
    return [
        speech_spans(u.phones, length, sample_rate) if u.phones else () for u, length in zip(kept, lengths, strict=True)
    ]
