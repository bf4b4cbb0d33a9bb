"""Tokenize the manifests: ``python -m examples.speech_lm.prepare --config CONFIG.yaml data=DIR``.

The training program does this too if needed. After an interruption, the same command continues where it stopped.
"""

import dataclasses
import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import speechtok
from examples.speech_lm.config import SpeechLmConfig, config_parser, load_config, run
from examples.speech_lm.lexicon import Lexicon
from examples.speech_lm.phones import Word, phones_to_frames
from speechtok.errors import AudioError, InputError, MissingFileError, OutputError
from speechtok.files import replacing
from speechtok.lm import AudioVocabulary
from speechtok.resampling import resample
from speechtok.tokenizer import Tokenizer
from training.manifest import Phone, Utterance, read_manifest

SHARD = 32
"""Utterances that are encoded and saved together."""


@dataclass(frozen=True)
class TokenizedUtterance:
    """One line of a manifest, tokenized.

    Attributes:
        id: name of the utterance.
        text: transcript, normalised by :func:`normalise_text`; empty if unknown.
        lang: language tag such as ``"en"``; empty if unknown.
        tokens: codes ``(1, Q, T)``.
        words: words and pauses, whose phones cover all frames; empty if unknown.
    """

    id: str
    text: str
    lang: str
    tokens: speechtok.SpeechTokens
    words: tuple[Word, ...] = ()


def normalise_text(text: str) -> str:
    """Convert a transcript to the form that the model reads and writes: lower case, single spaces."""
    return " ".join(text.lower().split())


def prepare(config: SpeechLmConfig, tokenizer: Tokenizer, split: str) -> list[TokenizedUtterance]:
    """Tokenize the utterances of a split, or load them from the folder ``tokens`` of the config.

    Args:
        config: of the training.
        tokenizer: the speech tokenizer.
        split: ``"train"`` or ``"dev"``.

    Raises:
        MissingFileError: the manifest does not exist.
        InputError: the manifest has fewer texts than ``utterances``; or there is a lexicon, and no utterance has phones
            that match its text.
        AudioError: the manifest is not valid, or none of its audio can be read.
        OutputError: the tokens cannot be written.
    """
    if (Path(config.data) / split / "manifest.json").is_file():
        return _read_corpus(config, tokenizer, split)
    manifest = Path(config.data) / f"{split}.jsonl"
    if not manifest.is_file():
        raise MissingFileError(
            f"{manifest} does not exist; expected data=DIR with train.jsonl and dev.jsonl, lines such as "
            '{"audio": "a.flac", "text": "good morning"}, or with corpora of \'speechtok corpus build\', train and dev'
        )
    utterances = read_manifest(manifest)
    if config.utterances and split == "train":
        utterances = _draw(utterances, config)
    names = json.dumps([os.path.relpath(utterance.audio, manifest.parent) for utterance in utterances])
    key = hashlib.sha256(f"{tokenizer.fingerprint}\n{manifest.resolve()}\n{names}".encode()).hexdigest()[:16]
    folder = Path(config.tokens) / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"tokens is {config.tokens!r}, which cannot be written ({error}); choose another") from error
    starts = range(0, len(utterances), SHARD)
    missing = [start for start in starts if not (folder / f"{start:06}.json").exists()]
    for start in tqdm(missing, desc=f"encoding {split}", unit=f"×{SHARD} utterances"):
        _encode_shard(utterances[start : start + SHARD], tokenizer, folder / f"{start:06}.json")
    num_codebooks = min(config.num_codebooks, tokenizer.num_codebooks)
    tokenized = [
        _add_words(utterance, tokens, config)
        for start in starts
        for utterance, tokens in _load_shard(
            folder / f"{start:06}.json", utterances[start : start + SHARD], num_codebooks
        )
    ]
    if len(tokenized) < len(utterances):
        count = len(utterances) - len(tokenized)
        print(f"skipped {count} of {len(utterances)} utterances of {manifest}, whose audio cannot be read")
    if not tokenized:
        raise AudioError(f"none of the {len(utterances)} utterances of {manifest} can be read; expected audio")
    _check_words(tokenized, config, manifest)
    return tokenized


def _read_corpus(config: SpeechLmConfig, tokenizer: Tokenizer, split: str) -> list[TokenizedUtterance]:
    """The utterances of a corpus of ``speechtok corpus build``, as those of a manifest."""
    from speechtok.corpus import Corpus  # the extra corpus

    corpus = Corpus(Path(config.data) / split)
    if not tokenizer.made(corpus.format.fingerprint):
        raise InputError(
            f"{corpus.path} has the codes of tokenizer {corpus.format.fingerprint}; expected those of "
            f"{tokenizer.fingerprint}: build it again, or choose another tokenizer"
        )
    found: dict[str, tuple[Utterance, speechtok.SpeechTokens]] = {}
    for row in corpus:
        phones = [Phone(one["phone"], one["start"], one["end"]) for one in row.columns["phones"] or ()]
        utterance = Utterance(
            Path(row.columns["source"]), row.id, None, row.text, tuple(phones) or None, row.speaker, row.lang
        )
        found[row.id] = (utterance, row.tokens)
    utterances = [utterance for utterance, _ in found.values()]
    if config.utterances and split == "train":
        utterances = _draw(utterances, config)
    num_codebooks = min(config.num_codebooks, tokenizer.num_codebooks)
    tokenized = []
    for utterance in utterances:
        tokens = found[utterance.id][1]
        some = dataclasses.replace(tokens, codes=tokens.codes[:, :num_codebooks].clone())
        tokenized.append(_add_words(utterance, some, config))
    _check_words(tokenized, config, corpus.path)
    return tokenized


def _check_words(tokenized: Sequence[TokenizedUtterance], config: SpeechLmConfig, where: Path) -> None:
    if config.lexicon and not any(utterance.words for utterance in tokenized):
        raise InputError(
            f"{where} has no phones that match its texts by {config.lexicon}; expected some with a text: "
            "[[phone, start_s, end_s], …], or lexicon='' to train without phones"
        )


def _draw(utterances: Sequence[Utterance], config: SpeechLmConfig) -> list[Utterance]:
    """Draw utterances with distinct texts: a model cannot memorise two recordings of the same text."""
    first: dict[str, Utterance] = {}
    for utterance in utterances:
        if utterance.text and (utterance.phones or not config.lexicon):
            first.setdefault(normalise_text(utterance.text), utterance)
    if len(first) < config.utterances:
        phones = " and phones" if config.lexicon else ""
        raise InputError(
            f"utterances is {config.utterances}, and {config.data} has {len(first)} with a text of their own{phones}; "
            "expected at most as many"
        )
    drawn = list(first.values())
    order = np.random.default_rng(config.seed).permutation(len(drawn))
    return [drawn[i] for i in sorted(order[: config.utterances])]


def _encode_shard(utterances: Sequence[Utterance], tokenizer: Tokenizer, index: Path) -> None:
    """Write the tokens of a shard beside ``index``, which lists the utterances whose audio can be read."""
    waveforms, readable = [], []
    for number, utterance in enumerate(utterances):
        try:
            waveform, rate = speechtok.read_audio(utterance.audio)
        except (AudioError, MissingFileError):
            continue
        waveforms.append(resample(waveform[None], rate, tokenizer.sample_rate)[0])
        readable.append(number)
    if readable:
        batch = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
        lengths = [len(waveform) for waveform in waveforms]
        tokenizer.encode(batch, tokenizer.sample_rate, lengths=lengths).save(_tokens_path(index))
    with replacing(index) as file:  # written last: a shard with an index is complete
        file.write(json.dumps(readable).encode())


def _load_shard(
    index: Path, utterances: Sequence[Utterance], num_codebooks: int
) -> Iterator[tuple[Utterance, speechtok.SpeechTokens]]:
    """The readable utterances of a shard, with their tokens."""
    readable: list[int] = json.loads(index.read_text(encoding="utf-8"))
    if not readable:
        return
    tokens = speechtok.SpeechTokens.load(_tokens_path(index))
    for row, number in enumerate(readable):
        one = tokens[row]
        yield utterances[number], dataclasses.replace(one, codes=one.codes[:, :num_codebooks].clone())


def _add_words(utterance: Utterance, tokens: speechtok.SpeechTokens, config: SpeechLmConfig) -> TokenizedUtterance:
    text = normalise_text(utterance.text or "")
    words: tuple[Word, ...] = ()
    if config.lexicon and text and utterance.phones:
        try:
            phones = phones_to_frames(utterance.phones, tokens.codes.shape[2], tokens.frame_rate)
        except InputError as error:
            raise InputError(f"{utterance.id}: {error}") from error
        words = load_lexicon(config.lexicon).split(text, phones)
    return TokenizedUtterance(utterance.id, text, utterance.lang or "", tokens, words)


@functools.lru_cache(maxsize=1)
def load_lexicon(path: str) -> Lexicon:
    """Load a lexicon once."""
    return Lexicon(path)


def _tokens_path(index: Path) -> Path:
    return index.with_suffix(".tokens")


def load_tokenizer(config: SpeechLmConfig) -> Tokenizer:
    """Load the speech tokenizer of a config."""
    return speechtok.load(config.tokenizer or None)


def main() -> None:
    """Run the command line."""
    arguments = config_parser("prepare", __doc__).parse_args()
    config = load_config(arguments.config, arguments.overrides)
    tokenizer = load_tokenizer(config)
    vocabulary = AudioVocabulary(tokenizer, config.pattern, config.num_codebooks)
    for split in ("train", "dev"):
        utterances = prepare(config, tokenizer, split)
        seconds = sum(int(utterance.tokens.num_samples) for utterance in utterances) / tokenizer.sample_rate
        texts = sum(bool(utterance.text) for utterance in utterances)
        ids = sum(vocabulary.to_ids(utterance.tokens).shape[1] - 2 for utterance in utterances)  # of codes
        print(
            f"{split}: {len(utterances)} utterances, {texts} with a text, {seconds / 60:.1f} minutes, "
            f"{ids / seconds:.1f} ids per second"
        )


if __name__ == "__main__":
    sys.exit(run(main))
