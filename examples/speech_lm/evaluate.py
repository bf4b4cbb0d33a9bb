"""The figures of a trained model: ``python -m examples.speech_lm.evaluate --config CONFIG.yaml data=DIR``.

With ``utterances`` in the config, whether those are memorised: text to codebook 0 exactly, and speech to text. Without,
what it knows of dev, which it was not trained on: perplexity beside a trigram's, and sentences said.
"""

import argparse
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

import speechtok
from benchmarks.ngram import KneserNey
from examples.speech_lm.config import SpeechLmConfig, add_config, load_config, run
from examples.speech_lm.data import LanguageExamples
from examples.speech_lm.phones import SILENCE, Word, letters_of
from examples.speech_lm.prepare import Utterance, prepare
from examples.speech_lm.speak import GUIDANCE, Talker, letter_errors
from examples.speech_lm.train import nll_totals
from speechtok.audio import resample
from speechtok.errors import InputError
from speechtok.files import replacing
from speechtok.lm import AudioVocabulary
from speechtok.tokens import SpeechTokens

Figures = dict[str, float]


def memorised(talker: Talker, utterances: Sequence[Utterance]) -> Figures:
    """Text to the codes of codebook 0, greedily and in one take, and back."""
    exact, right, frames, heard = 0, 0, 0, []
    for one in tqdm(utterances, desc="memorised", unit="utterance"):
        codes, said = one.tokens.codes[0, 0], talker.say(one.text).tokens.codes[0, 0]
        same = min(len(codes), len(said))
        right += int((codes[:same] == said[:same]).sum())
        frames += len(codes)
        exact += torch.equal(codes, said)
        heard.append(talker.hear(one.tokens)[0])
    return {
        "utterances": len(utterances),
        "said exactly": exact,
        "frames said right": right / frames,
        "letter errors": letter_errors([one.text for one in utterances], heard),
    }


def perplexities(
    talker: Talker, train: Sequence[Utterance], dev: Sequence[Utterance], texts: Sequence[Utterance]
) -> Figures:
    """Of the ids of speech and its ends in ``dev``, by the trigram of ``train`` and by the model; for an id each.

    And of those of ``texts``, when what is said is known, and when it is taken for what another says.
    """
    v = talker.vocabulary
    sequences = [_symbols(v, one) for one in dev]
    trigram = KneserNey((_symbols(v, one) for one in train), num_symbols=v.size - 3)  # no begin, filling or slot
    ids = sum(map(len, sequences))
    by_trigram = sum(trigram.nll(s) for s in tqdm(sequences, desc="trigram", unit="utterance"))
    texts = sorted(texts, key=lambda one: (one.lang, len(one.text)))
    # of another sentence of about the same length
    wrong = [_as_if(a, b) for a, b in zip(texts, texts[1:] + texts[:1], strict=True)]
    by_phones = bool(talker.config.lexicon)
    say = "say_phones" if by_phones else "say"
    right_name, wrong_name = (
        ("of the speech of phones", "of that of other phones")
        if by_phones
        else ("after its text", "after another text")
    )
    by_model: Figures = {}
    for name, utterances, task in (("perplexity", dev, "listen"), (f"perplexity {right_name}", texts, say),
                                   (f"perplexity {wrong_name}", wrong, say)):  # fmt: skip
        examples = LanguageExamples(utterances, talker.processor, [task])
        nats, count = nll_totals(talker.model, examples, talker.processor, talker.config)["speech"]
        assert task != "listen" or count == ids
        by_model[name] = math.exp(nats / count)
    return {"ids of speech": ids, "perplexity of the trigram": math.exp(by_trigram / ids)} | by_model


def _as_if(one: Utterance, other: Utterance) -> Utterance:
    """The speech of one with the text of the other; and with its words, over and over until the speech ends."""
    frames = [phone.frames for word in one.words for phone in word.phones]
    words = []
    for word in itertools.cycle(other.words):
        phones = [dataclasses.replace(phone, frames=n) for phone, n in zip(word.phones, frames, strict=False)]
        if not phones:
            break
        words.append(Word(word.text, tuple(phones)))
        del frames[: len(phones)]
    return dataclasses.replace(one, text=other.text, words=tuple(words))


def _symbols(vocabulary: AudioVocabulary, utterance: Utterance) -> list[int]:
    """The ids of an utterance after its begin, its end among them."""
    symbols: list[int] = vocabulary.to_ids(utterance.tokens)[0, 1:].tolist()
    return symbols


def transcribed(talker: Talker, dev: Sequence[Utterance]) -> Figures:
    """How well speech that it was not trained on is written down."""
    heard = [talker.hear(one.tokens) for one in tqdm(dev, desc="transcribing", unit="utterance")]
    return _errors("", dev, heard)


def _errors(name: str, utterances: Sequence[Utterance], heard: Sequence[tuple[str, str]]) -> Figures:
    """Of what was heard: a text, and the phones of those whose phones are known."""
    figures = {f"letter errors{name}": letter_errors([one.text for one in utterances], [text for text, _ in heard])}
    known = [
        (letters_of(one.words), phones.replace(SILENCE, ""))
        for one, (_, phones) in zip(utterances, heard, strict=True)
        if one.words
    ]
    if known:
        figures[f"phone errors{name}"] = letter_errors(*map(list, zip(*known, strict=True)))
    return figures


def commonest_phones(train: Sequence[Utterance], codebook_size: int) -> list[str]:
    """The letter of the phone that each code of codebook 0 is most often of; none of a code that is not there."""
    counts = [Counter[str]() for _ in range(codebook_size)]
    for one in train:
        for code, letter in _frames(one):
            counts[code][letter] += 1
    return [count.most_common(1)[0][0] if count else "" for count in counts]


def phones_kept(utterances: Sequence[Utterance], commonest: Sequence[str]) -> float:
    """Share of the frames of phones, pauses aside, whose code is most often of just this phone."""
    frames = [(code, letter) for one in utterances for code, letter in _frames(one) if letter != SILENCE]
    return sum(commonest[code] == letter for code, letter in frames) / max(1, len(frames))


def _frames(one: Utterance) -> Iterator[tuple[int, str]]:
    """Codes of codebook 0, each with the letter of its phone."""
    letters = "".join(phone.letter * phone.frames for word in one.words for phone in word.phones)
    return zip(one.tokens.codes[0, 0].tolist(), letters, strict=False)


def said(
    talker: Talker,
    train: Sequence[Utterance],
    dev: Sequence[Utterance],
    out: Path,
    takes: int,
    reference: SpeechTokens | None = None,
) -> Figures:
    """Sentences that it was not trained on are said, into audio files; and heard by itself and by a recogniser."""
    out.mkdir(parents=True, exist_ok=True)
    again, real, spoken, written, kept = [], [], {}, [], []
    for one in tqdm(dev, desc="saying", unit="sentence"):
        take = talker.say(one.text, takes, temperature=0.7, guidance=GUIDANCE)
        again.append(talker.hear(take.tokens))
        real.append(talker.hear(one.tokens))
        if one.words:
            written.append((letters_of(one.words), letters_of(take.words)))
            kept.append(take)
        spoken[one.id] = talker.audio(take.tokens.codes[0, 0], reference)
        speechtok.write_audio(out / f"{one.id.replace('/', '_')}.wav", spoken[one.id], talker.tokenizer.sample_rate)
    texts = [one.text for one in dev]
    (out / "texts.json").write_text(json.dumps(dict(zip([one.id for one in dev], texts, strict=True)), indent=2))
    figures = {"sentences": float(len(dev))}
    figures |= _errors(", said and heard by the model", dev, again) | _errors(
        ", real and heard by the model", dev, real
    )
    if written:
        figures["phone errors, of its own pronunciation"] = letter_errors(*map(list, zip(*written, strict=True)))
        commonest = commonest_phones(train, talker.tokenizer.codebook_size)
        figures["frames whose code is of their phone, said"] = phones_kept(kept, commonest)
        figures["frames whose code is of their phone, real"] = phones_kept(dev, commonest)
    english = [one for one in dev if one.lang == "en"]
    if english and all(importlib.util.find_spec(name) for name in ("pocketsphinx", "jiwer")):
        rate = talker.tokenizer.sample_rate
        whole = {one.id: talker.tokenizer.decode(one.tokens)[0] for one in english}
        for name, audio in (("said", spoken), ("real", whole)):
            figures[f"letter errors, {name}, heard by pocketsphinx"] = _recognised(
                [one.text for one in english], [resample(audio[one.id][None], rate, 16_000)[0] for one in english]
            )
    return figures


def _recognised(texts: Sequence[str], audio: Iterable[torch.Tensor]) -> float:
    from benchmarks.metrics.recognisers import load_recogniser
    from benchmarks.metrics.word_errors import normalise_text

    recognise = load_recogniser("pocketsphinx")
    return letter_errors([normalise_text(t) for t in texts], [normalise_text(recognise(a.numpy())) for a in audio])


def evaluate(
    config: SpeechLmConfig, voice: str | None = None, reference: str | None = None, sentences: int = 20, takes: int = 8
) -> Figures:
    """All figures of a training, written to ``evaluation.json`` in its folder.

    Args:
        config: of the training.
        voice: folder ``model`` of a trained voice.
        reference: audio whose voice it is to be.
        sentences: of dev to say.
        takes: of each.

    Raises:
        SpeechtokError: there is no such model, or no such data.
    """
    if config.stage != "language":
        raise InputError(f"stage is {config.stage}; expected language, and --voice for the model of a voice")
    torch.manual_seed(config.seed)
    talker = Talker(Path(config.out) / "model", voice)
    by_phones = bool(talker.config.lexicon)
    wanted = dataclasses.replace(
        config,
        lexicon=talker.config.lexicon,
        num_codebooks=talker.voice.vocabulary.num_codebooks if talker.voice else 1,
    )
    train = prepare(wanted, talker.tokenizer, "train")
    if config.utterances:
        figures = memorised(talker, train)
    else:
        dev = prepare(wanted, talker.tokenizer, "dev")
        texts = [one for one in dev if (one.words if by_phones else one.text)]
        if not texts:
            raise InputError(f"{config.data}/dev.jsonl has no texts; expected some to say and to write down")
        order = np.random.default_rng(config.seed).permutation(len(texts))[:sentences]
        heard = None if reference is None else talker.tokenizer.encode(*speechtok.read_audio(reference))
        figures = perplexities(talker, train, dev, texts) | transcribed(talker, texts)
        figures |= said(talker, train, [texts[i] for i in sorted(order)], Path(config.out) / "said", takes, heard)
    with replacing(Path(config.out) / "evaluation.json") as temporary:
        temporary.write_text(json.dumps(figures, indent=2))
    return figures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config(parser)
    parser.add_argument("--voice", help="trained voice, such as runs/speech_lm/voice/model")
    parser.add_argument("--reference", help="audio whose voice it is to be (with --voice)")
    parser.add_argument("--sentences", type=int, default=20, help="of dev that are said")
    parser.add_argument("--takes", type=int, default=8, help="tries of each, of which the model keeps the clearest")
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.overrides)
    figures = evaluate(config, arguments.voice, arguments.reference, arguments.sentences, arguments.takes)
    print("\n".join(["| figure | value |", "|---|---|", *(f"| {name} | {v:.4g} |" for name, v in figures.items())]))


if __name__ == "__main__":
    sys.exit(run(main))
