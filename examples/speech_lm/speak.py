"""What a trained model says, hears and goes on with; and the voice that it says it in."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedModel

import speechtok
from examples.speech_lm import models
from examples.speech_lm.data import SAID, SAY, LanguageExamples, crop_frames
from examples.speech_lm.prepare import Utterance, plain_text
from examples.speech_lm.train import losses
from speechtok.errors import FingerprintError, InputError
from speechtok.lm import AudioVocabulary, Line, SpeechLogitsProcessor

MOST_SECONDS = 16.0
"""Of one utterance, as long as those that it learned."""

MOST_LETTERS = 300
"""Of a transcript, likewise."""


class Talker:
    """A language model of text and speech, and a voice for what it says.

    Without a voice, what is said is decoded from codebook 0 alone: intelligible at best.

    Args:
        directory: the folder ``model`` of a training of the stage ``language``.
        voice: that of one of the stage ``voice``.

    Raises:
        SpeechtokError: one of them is not there, or damaged.
        FingerprintError: they were trained with different speech tokenizers.
    """

    def __init__(self, directory: str | Path, voice: str | Path | None = None) -> None:
        self.model, self.processor, self.config = models.load(directory, "language")
        self.tokenizer, self.vocabulary = self.processor.tokenizer, self.processor.vocabulary
        self.voice = Voice(voice) if voice else None
        if self.voice and self.voice.vocabulary.fingerprint != self.vocabulary.fingerprint:
            raise FingerprintError(
                f"{directory} was trained with the speech tokenizer {self.vocabulary.fingerprint}, and {voice} with "
                f"{self.voice.vocabulary.fingerprint}; expected the same one"
            )

    def say(self, text: str, takes: int = 1, temperature: float = 0.0) -> Tensor:
        """The codes of codebook 0 that say a text, ``(T,)``.

        Args:
            text: any.
            takes: how many are tried; the model keeps the one from which it would best write down the text.
            temperature: of sampling; 0: the likeliest code each time.

        Raises:
            InputError: the text is empty, or nothing was said.
        """
        text = plain_text(text)
        if not text:
            raise InputError("the text is empty; expected something to say")
        prompt = self.processor(SAY.format(text=text) + "<|speech_begin|>")["input_ids"]
        spoken = [row for row in self._speech(prompt, MOST_SECONDS, takes, temperature) if row.shape[1]]
        if not spoken:
            raise InputError(f"{text!r} became silence; train longer, or raise the temperature or the takes")
        return min(spoken, key=lambda codes: self.surprise(text, codes))[0] if len(spoken) > 1 else spoken[0][0]

    def transcribe(self, tokens: speechtok.SpeechTokens) -> str:
        """What an utterance, a batch of one, says."""
        prompt = self.processor(SAID, [tokens])["input_ids"]
        written = self._generate(prompt, max_new_tokens=MOST_LETTERS, eos_token_id=self._end_of_text)
        return plain_text(self.processor.decode(written[0, prompt.shape[1] :]).text)

    def go_on(self, tokens: speechtok.SpeechTokens, seconds: float, temperature: float = 0.8) -> Tensor:
        """Codes of codebook 0 that may follow an utterance, a batch of one: ``(T,)``, at most so many seconds."""
        prompt = self.vocabulary.to_ids(tokens)[:, :-1]  # the utterance is not over
        whole = self._speech(prompt, seconds, 1, temperature, at_least=seconds / 2)[0]
        heard = tokens.codes.shape[2]
        # an id may be a run of many frames, so that there can be more than were asked for
        return whole[0, heard : heard + int(seconds * tokens.frame_rate)]

    def surprise(self, text: str, codes: Tensor) -> float:
        """Minus the log probability of writing down ``text`` after hearing ``codes`` ``(Q, T)``, in nats."""
        utterance = Utterance("", text, "", self.tokens_of(codes))
        batch = LanguageExamples([utterance], self.processor, ["write"]).batch([0], 0)
        with torch.inference_mode():
            return float(losses(self.model, batch, self.config)[0].sum())

    def audio(self, codes: Tensor, reference: speechtok.SpeechTokens | None = None, temperature: float = 0.8) -> Tensor:
        """Codes of codebook 0, ``(T,)``, to audio ``(S,)``, in the voice of ``reference``, all its codebooks needed.

        Raises:
            InputError: there is a reference and no voice.
        """
        if self.voice is None:
            if reference is not None:
                raise InputError("a reference is given and no voice that could be like it; pass --voice too")
            return self.tokenizer.decode(codes[None, None])[0]
        heard = None if reference is None else reference.codes[0, : self.voice.vocabulary.num_codebooks]
        return self.tokenizer.decode(self.voice(codes, heard, temperature)[None])[0]

    @property
    def _end_of_text(self) -> int | None:
        return self.processor.text_tokenizer.eos_token_id

    def _speech(
        self, prompt: Tensor, seconds: float, takes: int, temperature: float, at_least: float = 0.0
    ) -> list[Tensor]:
        """What follows a prompt ``(1, L)`` within an utterance, with what of that the prompt has: ``(Q, T)`` each."""
        v = self.vocabulary
        rows = self._generate(
            prompt,
            max_new_tokens=max(1, int(seconds * v.steps_per_second)),
            min_new_tokens=int(at_least * v.steps_per_second),
            eos_token_id=v.end_id,
            logits_processor=LogitsProcessorList([SpeechLogitsProcessor(v)]),
            num_return_sequences=takes,
            **({"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}),
        )
        begin = int((prompt[0] == v.begin_id).nonzero()[-1])
        return [v.to_codes(row[begin:], strict=False).codes[0] for row in rows]

    def _generate(self, prompt: Tensor, **arguments: object) -> Tensor:
        pad = self.vocabulary.pad_id
        with torch.inference_mode():
            out = self.model.generate(
                input_ids=prompt, attention_mask=torch.ones_like(prompt), pad_token_id=pad, **arguments
            )
        assert isinstance(out, Tensor)
        return out

    def tokens_of(self, codes: Tensor) -> speechtok.SpeechTokens:
        """Codes ``(Q, T)`` as an utterance."""
        frames = torch.tensor([codes.shape[1]])
        t = self.tokenizer
        return speechtok.SpeechTokens(
            codes[None], frames, frames * t.hop_length, t.sample_rate, t.hop_length, t.codebook_size, t.fingerprint
        )


class Voice:
    """Gives codes of codebook 0 the other codebooks, as those of a voice that it hears before.

    Args:
        directory: the folder ``model`` of a training of the stage ``voice``.
    """

    def __init__(self, directory: str | Path) -> None:
        self.model, processor, config = models.load(directory, "voice")
        self.vocabulary: AudioVocabulary = processor.vocabulary
        self.frames = crop_frames(config, self.vocabulary)  # what it learned to look at

    def __call__(self, codes: Tensor, reference: Tensor | None = None, temperature: float = 0.8) -> Tensor:
        """``codes``: ``(T,)`` of codebook 0; ``reference``: ``(Q, R)``. The codes of all codebooks, ``(Q, T)``."""
        known = torch.full((self.vocabulary.num_codebooks, len(codes)), -1)
        known[0] = codes
        start = 0
        if reference is not None:
            start = min(reference.shape[1], self.frames // 2)
            known = torch.cat([reference[:, reference.shape[1] - start :], known], 1)
        begin, done, total = start, start, known.shape[1]
        while done < total:  # in windows that each see the end of the one before
            first = max(0, done - self.frames // 2)
            window = known[:, first : first + self.frames]
            filled = fill(self.model, self.vocabulary, window, temperature)
            last = first + window.shape[1]
            # the last frames of a window lack the codes that follow them
            kept = last if last == total else max(done + 1, last - self.frames // 8)
            known[:, done:kept] = filled[:, done - first : kept - first]
            done = kept
        return known[:, begin:]


@torch.inference_mode()
def fill(model: PreTrainedModel, vocabulary: AudioVocabulary, codes: Tensor, temperature: float) -> Tensor:
    """``codes``: ``(Q, T)``, -1 where the model is to write them, in the order of the vocabulary's pattern."""
    num_codebooks, frames = codes.shape
    pattern = vocabulary.pattern
    assert isinstance(pattern, Line)
    places = pattern.places(frames, num_codebooks).flatten()
    line = torch.empty_like(places)
    line[places] = torch.arange(len(places))  # cell of each place
    filled = codes.flatten().clone()
    coming, cache = [vocabulary.begin_id], None
    for cell in line.tolist():
        first = vocabulary.first_code + cell // frames * vocabulary.codebook_size
        if filled[cell] < 0:
            out = model(input_ids=torch.tensor([coming]), past_key_values=cache, use_cache=True)
            coming, cache = [], out.past_key_values
            scores = out.logits[0, -1, first : first + vocabulary.codebook_size].float()
            filled[cell] = pick(scores, temperature)
        coming.append(first + int(filled[cell]))
    return filled.view(num_codebooks, frames)


def pick(scores: Tensor, temperature: float) -> Tensor:
    """One of ``(N,)`` scores: the highest if ``temperature`` is 0, drawn otherwise."""
    return torch.multinomial(torch.softmax(scores / temperature, 0), 1)[0] if temperature else scores.argmax()


def letter_errors(said: Sequence[str], heard: Sequence[str]) -> float:
    """Character error rate: insertions, deletions and substitutions, over the letters of ``said``."""
    return sum(map(_distance, said, heard)) / max(1, sum(map(len, said)))


def _distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]
