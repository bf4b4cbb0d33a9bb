"""Manifests to tokens, once: ``python -m examples.speech_lm.prepare --config CONFIG.yaml data=DIR``.

Training does it too where it was not done. Interrupted at any moment, the same command goes on.
"""

import argparse
import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import speechtok
from examples.speech_lm.config import SpeechLmConfig, add_config, load_config, run
from examples.speech_lm.phones import Lexicon, Word, align
from speechtok.audio import resample
from speechtok.errors import AudioError, InputError, MissingFileError, OutputError
from speechtok.files import replacing
from speechtok.tokenizer import Tokenizer

SHARD = 32
"""Utterances that are encoded, and saved, at a time."""


@dataclass(frozen=True)
class Utterance:
    """One line of a manifest.

    Attributes:
        id: its name.
        text: what is said, see :func:`plain_text`; empty if that is not known.
        lang: language of the text, such as ``"en"``; empty if that is not known.
        tokens: codes ``(1, Q, T)``.
        words: and the pauses between them, with phones that fill its frames; none if they are not known.
    """

    id: str
    text: str
    lang: str
    tokens: speechtok.SpeechTokens
    words: tuple[Word, ...] = ()


def plain_text(text: str) -> str:
    """A transcript as the model reads and writes it: lower case, single spaces."""
    return " ".join(text.lower().split())


def prepare(config: SpeechLmConfig, tokenizer: Tokenizer, split: str) -> list[Utterance]:
    """The utterances of ``train`` or ``dev``, from the folder ``tokens`` of the config as far as they are there.

    Raises:
        MissingFileError: there is no such manifest.
        InputError: it has no such lines as are expected, or fewer with a text than ``utterances``; or there is a
            lexicon, and none has phones that are its words'.
        AudioError: none of its audio can be read.
        OutputError: the tokens cannot be written.
    """
    manifest = Path(config.data) / f"{split}.jsonl"
    rows = _read(manifest)
    if config.utterances and split == "train":
        rows = _draw(rows, config)
    names = json.dumps([row["audio"] for row in rows])
    key = hashlib.sha256(f"{tokenizer.fingerprint}\n{manifest.resolve()}\n{names}".encode()).hexdigest()[:16]
    folder = Path(config.tokens) / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"tokens is {config.tokens!r}, which cannot be written ({error}); choose another") from error
    starts = range(0, len(rows), SHARD)
    missing = [start for start in starts if not (folder / f"{start:06}.json").exists()]
    for start in tqdm(missing, desc=f"encoding {split}", unit=f"×{SHARD} utterances"):
        _encode(manifest.parent, rows[start : start + SHARD], tokenizer, folder / f"{start:06}.json")
    codebooks = min(config.num_codebooks, tokenizer.num_codebooks)
    utterances = [
        _utterance(row, tokens, config)
        for start in starts
        for row, tokens in _load(folder / f"{start:06}.json", rows[start : start + SHARD], codebooks)
    ]
    if len(utterances) < len(rows):
        print(f"left out {len(rows) - len(utterances)} of {len(rows)} utterances of {manifest}: not readable as audio")
    if not utterances:
        raise AudioError(f"none of the {len(rows)} utterances of {manifest} can be read; expected audio")
    if config.lexicon and not any(one.words for one in utterances):
        raise InputError(
            f"{manifest} has no phones that {config.lexicon} has for its texts; expected some with a text: "
            "[[phone, start_s, end_s], …], or lexicon='' to go without"
        )
    return utterances


def _read(manifest: Path) -> list[dict[str, Any]]:
    if not manifest.is_file():
        raise MissingFileError(
            f"{manifest} does not exist; expected data=DIR with train.jsonl and dev.jsonl, lines such as "
            '{"audio": "a.flac", "text": "good morning"}'
        )
    rows = []
    for number, line in enumerate(manifest.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            audio, text = row["audio"], row.get("text") or ""
            rows.append({"id": str(row.get("id", audio)), "audio": str(audio), "text": plain_text(text),
                         "lang": str(row.get("lang") or ""), "phones": list(row.get("phones") or [])})  # fmt: skip
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{manifest}, line {number} is {line[:80]!r}; expected JSON with an 'audio' path, and a 'text'"
            ) from error
    return rows


def _draw(rows: Sequence[dict[str, Any]], config: SpeechLmConfig) -> list[dict[str, Any]]:
    """So many of them, of different texts: of equal ones no model could know which recording is meant."""
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["text"] and (row["phones"] or not config.lexicon):
            first.setdefault(row["text"], row)
    if len(first) < config.utterances:
        raise InputError(
            f"utterances is {config.utterances}, and {config.data} has {len(first)} with a text of their own"
            f"{' and phones' * bool(config.lexicon)}; expected at most as many"
        )
    order = np.random.default_rng(config.seed).permutation(len(first))
    drawn = list(first.values())
    return [drawn[i] for i in sorted(order[: config.utterances])]


def _encode(folder: Path, rows: Sequence[dict[str, Any]], tokenizer: Tokenizer, index: Path) -> None:
    """A shard to the tokens beside ``index``, which says of which rows; what cannot be read is left out."""
    waveforms, read = [], []
    for number, row in enumerate(rows):
        try:
            waveform, rate = speechtok.read_audio(folder / row["audio"])
        except (AudioError, MissingFileError):
            continue
        waveforms.append(resample(waveform[None], rate, tokenizer.sample_rate)[0])
        read.append(number)
    if read:
        batch = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
        tokenizer.encode(batch, tokenizer.sample_rate, lengths=[len(w) for w in waveforms]).save(_tokens_path(index))
    with replacing(index) as temporary:  # last: a shard that has it is whole
        temporary.write_text(json.dumps(read), encoding="utf-8")


def _load(
    index: Path, rows: Sequence[dict[str, Any]], codebooks: int
) -> Iterator[tuple[dict[str, Any], speechtok.SpeechTokens]]:
    """The rows of a shard that could be read, with their tokens."""
    read: list[int] = json.loads(index.read_text(encoding="utf-8"))
    if not read:
        return
    tokens = speechtok.SpeechTokens.load(_tokens_path(index))
    for place, number in enumerate(read):
        one = tokens[place]
        yield rows[number], dataclasses.replace(one, codes=one.codes[:, :codebooks].clone())


def _utterance(row: dict[str, Any], tokens: speechtok.SpeechTokens, config: SpeechLmConfig) -> Utterance:
    words: tuple[Word, ...] = ()
    if config.lexicon and row["text"]:
        try:
            phones = align(row["phones"], tokens.codes.shape[2], tokens.frame_rate)
        except InputError as error:
            raise InputError(f"{row['id']}: {error}") from error
        words = load_lexicon(config.lexicon).split(row["text"], phones)
    return Utterance(row["id"], row["text"], row["lang"], tokens, words)


@functools.lru_cache(maxsize=1)
def load_lexicon(path: str) -> Lexicon:
    """The lexicon of a config, read once."""
    return Lexicon(path)


def _tokens_path(index: Path) -> Path:
    return index.with_suffix(".tokens")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config(parser)
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.overrides)
    tokenizer = load_tokenizer(config)
    for split in ("train", "dev"):
        utterances = prepare(config, tokenizer, split)
        seconds = sum(int(one.tokens.num_samples) for one in utterances) / tokenizer.sample_rate
        texts = sum(bool(one.text) for one in utterances)
        print(f"{split}: {len(utterances)} utterances, {texts} with a text, {seconds / 60:.1f} minutes")


def load_tokenizer(config: SpeechLmConfig) -> Tokenizer:
    """The speech tokenizer of a config."""
    return speechtok.load(config.tokenizer) if config.tokenizer else speechtok.load()


if __name__ == "__main__":
    sys.exit(run(main))
