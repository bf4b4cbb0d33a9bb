"""Evaluate a trained model: ``python -m examples.speech_lm.evaluate --config CONFIG.yaml data=DIR``.

If the config has ``utterances``, the program measures how many of them the model has memorised. Otherwise, it measures
the perplexity on dev beside that of a trigram model, and the transcripts and the speech of sentences of dev.
"""

import dataclasses
import importlib.util
import itertools
import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.metrics.recognisers import load_recogniser
from benchmarks.metrics.recognition import normalise
from benchmarks.ngram import KneserNey
from examples.speech_lm.config import SpeechLmConfig, config_parser, load_config, run
from examples.speech_lm.dataset import LanguageDataset
from examples.speech_lm.error_rate import character_error_rate
from examples.speech_lm.phones import SILENCE, Word, letters_of
from examples.speech_lm.prepare import TokenizedUtterance, prepare
from examples.speech_lm.talker import GUIDANCE, Talker, write_speech
from examples.speech_lm.trainer import total_nll
from examples.speech_lm.voice import Voice, add_voice_arguments, load_voice
from speechtok.errors import InputError
from speechtok.files import replacing
from speechtok.lm import AudioVocabulary
from speechtok.resampling import resample

Figures = dict[str, float]

TEMPERATURE = 0.7
"""Sampling temperature of the synthesized sentences."""


def memorisation(talker: Talker, utterances: Sequence[TokenizedUtterance]) -> Figures:
    """Accuracy of greedy synthesis and transcription of training utterances."""
    exact, correct, frames, transcripts = 0, 0, 0, []
    for utterance in tqdm(utterances, desc="memorised", unit="utterance"):
        codes, spoken = utterance.tokens.codes[0, 0], talker.say(utterance.text).tokens.codes[0, 0]
        length = min(len(codes), len(spoken))
        correct += int((codes[:length] == spoken[:length]).sum())
        frames += len(codes)
        exact += torch.equal(codes, spoken)
        transcripts.append(talker.transcribe(utterance.tokens)[0])
    return {
        "utterances": len(utterances),
        "utterances with exact codes": exact,
        "frames with the exact code": correct / frames,
        "character error rate of transcripts": character_error_rate([u.text for u in utterances], transcripts),
    }


def perplexities(
    talker: Talker,
    train: Sequence[TokenizedUtterance],
    dev: Sequence[TokenizedUtterance],
    texts: Sequence[TokenizedUtterance],
) -> Figures:
    """Perplexity per speech id, end tokens included.

    Args:
        talker: the model.
        train: utterances to train the trigram model on.
        dev: utterances to measure.
        texts: utterances of ``dev`` with a text, or with phones for models that use them. Their speech is also measured
            given their own text or phones, and given those of another utterance.
    """
    v = talker.vocabulary
    sequences = [_speech_ids(v, utterance) for utterance in dev]
    # of the special tokens, only the end token occurs after the start
    trigram = KneserNey((_speech_ids(v, utterance) for utterance in train), num_symbols=v.size - 3)
    count = sum(map(len, sequences))
    trigram_nats = sum(trigram.nll(s) for s in tqdm(sequences, desc="trigram", unit="utterance"))
    texts = sorted(texts, key=lambda utterance: (utterance.lang, len(utterance.text)))
    # the next sentence of similar length
    mismatched = [_with_text_of(a, b) for a, b in zip(texts, texts[1:] + texts[:1], strict=True)]
    task, given = ("tts_phones", "phones") if talker.config.lexicon else ("tts", "text")
    figures: Figures = {"speech ids": count, "perplexity of a trigram": math.exp(trigram_nats / count)}
    for name, utterances, task_name in (
        ("perplexity", dev, "continuation"),
        (f"perplexity given the {given}", texts, task),
        (f"perplexity given other {given}", mismatched, task),
    ):
        dataset = LanguageDataset(utterances, talker.processor, [task_name])
        nats, ids = total_nll(talker.model, dataset, talker.processor, talker.config)["speech"]
        assert task_name != "continuation" or ids == count
        figures[name] = math.exp(nats / ids)
    return figures


def _with_text_of(utterance: TokenizedUtterance, other: TokenizedUtterance) -> TokenizedUtterance:
    """The speech of one utterance with the text of another, whose words repeat until the speech ends."""
    frames = [phone.frames for word in utterance.words for phone in word.phones]
    words = []
    for word in itertools.cycle(other.words):
        phones = [dataclasses.replace(phone, frames=n) for phone, n in zip(word.phones, frames, strict=False)]
        if not phones:
            break
        words.append(Word(word.text, tuple(phones)))
        del frames[: len(phones)]
    return dataclasses.replace(utterance, text=other.text, words=tuple(words))


def _speech_ids(vocabulary: AudioVocabulary, utterance: TokenizedUtterance) -> list[int]:
    """Ids of an utterance with the end token, without the start token."""
    ids: list[int] = vocabulary.to_ids(utterance.tokens)[0, 1:].tolist()
    return ids


def transcription(talker: Talker, dev: Sequence[TokenizedUtterance]) -> Figures:
    """Error rates of transcripts of held-out speech."""
    transcripts = [talker.transcribe(u.tokens) for u in tqdm(dev, desc="transcribing", unit="utterance")]
    return _error_rates("transcripts", dev, transcripts)


def _error_rates(
    name: str, utterances: Sequence[TokenizedUtterance], transcripts: Sequence[tuple[str, str]]
) -> Figures:
    """Character error rate of texts, and phone error rate of the utterances whose phones are known."""
    texts = [text for text, _ in transcripts]
    figures = {f"character error rate, {name}": character_error_rate([u.text for u in utterances], texts)}
    known = [
        (letters_of(utterance.words), phones.replace(SILENCE, ""))
        for utterance, (_, phones) in zip(utterances, transcripts, strict=True)
        if utterance.words
    ]
    if known:
        figures[f"phone error rate, {name}"] = character_error_rate(*map(list, zip(*known, strict=True)))
    return figures


def phones_of_codes(train: Sequence[TokenizedUtterance], codebook_size: int) -> list[str]:
    """Letter of the most frequent phone of each code of codebook 0; empty for codes that do not occur."""
    counts = [Counter[str]() for _ in range(codebook_size)]
    for utterance in train:
        for code, letter in _codes_and_letters(utterance):
            counts[code][letter] += 1
    return [count.most_common(1)[0][0] if count else "" for count in counts]


def phone_agreement(utterances: Sequence[TokenizedUtterance], phones: Sequence[str]) -> float:
    """Share of the frames, pauses excluded, whose phone is the one that ``phones`` lists for their code."""
    frames = [(code, letter) for u in utterances for code, letter in _codes_and_letters(u) if letter != SILENCE]
    return sum(phones[code] == letter for code, letter in frames) / max(1, len(frames))


def _codes_and_letters(utterance: TokenizedUtterance) -> Iterator[tuple[int, str]]:
    letters = "".join(phone.letter * phone.frames for word in utterance.words for phone in word.phones)
    return zip(utterance.tokens.codes[0, 0].tolist(), letters, strict=False)


def synthesis(
    talker: Talker,
    train: Sequence[TokenizedUtterance],
    dev: Sequence[TokenizedUtterance],
    out: Path,
    candidates: int,
    voice: Voice | None = None,
) -> Figures:
    """Synthesize held-out sentences, write them to audio files, and transcribe them by the model and a recogniser.

    Args:
        talker: the model.
        train: utterances whose codes and phones define :func:`phones_of_codes`.
        dev: sentences to synthesize.
        out: folder for the audio files.
        candidates: number of candidates for each sentence.
        voice: speaks the sentences; without it, codebook 0 is decoded alone.
    """
    out.mkdir(parents=True, exist_ok=True)
    transcripts, originals, audio, pronunciations, spoken = [], [], {}, [], []
    for utterance in tqdm(dev, desc="synthesizing", unit="sentence"):
        synthesized = talker.say(utterance.text, candidates, temperature=TEMPERATURE, guidance=GUIDANCE)
        transcripts.append(talker.transcribe(synthesized.tokens))
        originals.append(talker.transcribe(utterance.tokens))
        if utterance.words:
            pronunciations.append((letters_of(utterance.words), letters_of(synthesized.words)))
            spoken.append(synthesized)
        tokens = synthesized.tokens if voice is None else voice.complete(synthesized.tokens)
        audio[utterance.id] = talker.tokenizer.decode(tokens)[0]
        write_speech(out / f"{utterance.id.replace('/', '_')}.wav", audio[utterance.id], tokens)
    texts = {utterance.id: utterance.text for utterance in dev}
    (out / "texts.json").write_text(json.dumps(texts, indent=2))
    figures = {"sentences": float(len(dev))}
    figures |= _error_rates("synthesized, recognised by the model", dev, transcripts)
    figures |= _error_rates("original, recognised by the model", dev, originals)
    if pronunciations:
        pairs = map(list, zip(*pronunciations, strict=True))
        figures["phone error rate, generated pronunciations"] = character_error_rate(*pairs)
        phones = phones_of_codes(train, talker.tokenizer.codebook_size)
        figures["phone agreement, synthesized"] = phone_agreement(spoken, phones)
        figures["phone agreement, original"] = phone_agreement(dev, phones)
    english = [utterance for utterance in dev if utterance.lang == "en"]
    if english and all(importlib.util.find_spec(name) for name in ("pocketsphinx", "jiwer")):
        rate = talker.tokenizer.sample_rate
        originals_audio = {u.id: talker.tokenizer.decode(u.tokens)[0] for u in english}
        for name, waveforms in (("synthesized", audio), ("original", originals_audio)):
            figures[f"character error rate, {name}, recognised by pocketsphinx"] = _recognise(
                [u.text for u in english], [resample(waveforms[u.id][None], rate, 16_000)[0] for u in english]
            )
    return figures


def _recognise(texts: Sequence[str], audio: Iterable[torch.Tensor]) -> float:
    recognise = load_recogniser("pocketsphinx")
    transcripts = [normalise(recognise(waveform.numpy(), "en"), "en") for waveform in audio]
    return character_error_rate([normalise(text, "en") for text in texts], transcripts)


def evaluate(
    config: SpeechLmConfig,
    prompt: str | None = None,
    voice_model: str | None = None,
    sentences: int = 20,
    candidates: int = 8,
) -> Figures:
    """Evaluate a training, and write the figures to ``evaluation.json`` in its folder.

    Args:
        config: of the training.
        prompt: audio file with some seconds of the voice to use.
        voice_model: file of the voice model; the one of the package by default.
        sentences: number of sentences of dev to synthesize.
        candidates: number of candidates for each sentence.

    Raises:
        SpeechtokError: the model or the data cannot be used.
    """
    if config.stage != "language":
        raise InputError(f"stage is {config.stage}; expected language, a model of text and codebook 0")
    torch.manual_seed(config.seed)
    talker = Talker(Path(config.out) / "model")
    voice = load_voice(talker.tokenizer, prompt, voice_model, seed=config.seed)
    by_phones = bool(talker.config.lexicon)
    wanted = dataclasses.replace(
        config,
        lexicon=talker.config.lexicon,
        num_codebooks=talker.tokenizer.num_codebooks if voice else 1,
    )
    train = prepare(wanted, talker.tokenizer, "train")
    if config.utterances:
        figures = memorisation(talker, train)
    else:
        dev = prepare(wanted, talker.tokenizer, "dev")
        texts = [utterance for utterance in dev if (utterance.words if by_phones else utterance.text)]
        if not texts:
            raise InputError(f"{config.data}/dev.jsonl has no texts; expected some to synthesize and to transcribe")
        chosen = np.random.default_rng(config.seed).permutation(len(texts))[:sentences]
        figures = perplexities(talker, train, dev, texts) | transcription(talker, texts)
        selected, folder = [texts[i] for i in sorted(chosen)], Path(config.out) / "said"
        figures |= synthesis(talker, train, selected, folder, candidates, voice)
    with replacing(Path(config.out) / "evaluation.json") as file:
        file.write(json.dumps(figures, indent=2).encode())
    return figures


def main() -> None:
    """Run the command line."""
    parser = config_parser("evaluate", __doc__)
    add_voice_arguments(parser)
    parser.add_argument("--sentences", type=int, default=20, help="sentences of dev to synthesize (20)")
    parser.add_argument(
        "--candidates", type=int, default=8, help="candidates, of which the model keeps the clearest (8)"
    )
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.overrides)
    figures = evaluate(config, arguments.voice, arguments.voice_model, arguments.sentences, arguments.candidates)
    print("\n".join(["| figure | value |", "|---|---|", *(f"| {name} | {v:.4g} |" for name, v in figures.items())]))


if __name__ == "__main__":
    sys.exit(run(main))
