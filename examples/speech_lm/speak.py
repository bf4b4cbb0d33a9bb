"""What a trained model says, hears and goes on with; and the voice that it says it in."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel, StoppingCriteria, StoppingCriteriaList

import speechtok
from examples.speech_lm import models
from examples.speech_lm.data import SAID, SAY, SCRIPT, LanguageExamples, crop_frames
from examples.speech_lm.phones import HEARD, LETTERS, SILENCE, Phone, heard
from examples.speech_lm.prepare import Utterance, plain_text
from examples.speech_lm.train import losses
from speechtok.errors import FingerprintError, InputError
from speechtok.lm import AudioVocabulary, Line, SpeechLogitsProcessor
from speechtok.lm.vocabulary import SLOT

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
        spoken = [one for one in self._takes(text, takes, temperature) if one.tokens.codes.shape[2]]
        if not spoken:
            raise InputError(f"{text!r} became silence; train longer, or raise the temperature or the takes")
        best = min(spoken, key=self.surprise) if len(spoken) > 1 else spoken[0]
        return best.tokens.codes[0, 0]

    def pronounce(self, text: str) -> str:
        """The phones of a text, a letter of :mod:`~examples.speech_lm.phones` each; empty if the model says it without.

        Raises:
            InputError: the text is empty.
        """
        text = plain_text(text)
        if not text:
            raise InputError("the text is empty; expected something to pronounce")
        prompt = self.processor(SAY.format(text=text))["input_ids"]
        written = self._generate(
            prompt,
            max_new_tokens=MOST_LETTERS,
            eos_token_id=self._end_of_text,
            stopping_criteria=StoppingCriteriaList([_Line(self, prompt.shape[1])]),
        )
        line, newline, _ = self._text(written[0, prompt.shape[1] :]).partition("\n")
        return "".join(letter for letter in line if letter in _KNOWN) if newline else ""

    def transcribe(self, tokens: speechtok.SpeechTokens) -> str:
        """What an utterance, a batch of one, says."""
        return self.hear(tokens)[0]

    def hear(self, tokens: speechtok.SpeechTokens) -> tuple[str, str]:
        """What an utterance, a batch of one, says; and its phones, if the model writes them down."""
        if self.config.phones:
            prompt, phones = self._hear_phones(tokens)
        else:
            prompt, phones = self.processor(SLOT + SAID, [tokens])["input_ids"], ""
        written = self._generate(prompt, max_new_tokens=MOST_LETTERS, eos_token_id=self._end_of_text)
        return plain_text(self._text(written[0, prompt.shape[1] :])), phones

    def _hear_phones(self, tokens: speechtok.SpeechTokens) -> tuple[Tensor, str]:
        """Hear it piece by piece, and write down the phones that come to mind. Ids up to the text, and the phones."""
        v = self.vocabulary
        text_ids = self.processor.text_tokenizer
        letters = {text_ids(letter, add_special_tokens=False)["input_ids"][0]: letter for letter in _KNOWN}
        following = torch.tensor([*letters, v.begin_id])  # a phone, or what comes next
        ids: list[int] = []
        phones, cache, read = "", None, 0
        last = text_ids(SAID, add_special_tokens=False)["input_ids"]
        pieces = heard(tokens, ())
        for number, (piece, _) in enumerate(pieces, 1):
            ids += v.to_ids(piece)[0].tolist()
            if number == len(pieces):
                following[-1] = last[0]
            for _ in range(HEARD):
                with torch.inference_mode():
                    out = self.model(input_ids=torch.tensor([ids[read:]]), past_key_values=cache, use_cache=True)
                cache, read = out.past_key_values, len(ids)
                best = int(following[out.logits[0, -1, following].argmax()])
                if best not in letters:
                    break
                ids.append(best)
                phones += letters[best]
        return torch.tensor([ids + last]), phones

    def go_on(self, tokens: speechtok.SpeechTokens, seconds: float, temperature: float = 0.8) -> Tensor:
        """Codes of codebook 0 that may follow an utterance, a batch of one: ``(T,)``, at most so many seconds."""
        prompt = self.vocabulary.to_ids(tokens)[:, :-1]  # the utterance is not over
        whole = self._speech(prompt, seconds, 1, temperature, at_least=seconds / 2)[0]
        heard = tokens.codes.shape[2]
        # an id may be a run of many frames, so that there can be more than were asked for
        return whole[0, heard : heard + int(seconds * tokens.frame_rate)]

    def surprise(self, one: Utterance) -> float:
        """Minus the log probability of writing down its text, and its phones if it has them, while it is heard."""
        task = "hear_phones" if one.phones else "hear"
        batch = LanguageExamples([one], self.processor, [task]).batch([0], 0)
        with torch.inference_mode():
            nll, labels = losses(self.model, batch, self.config)
        return float(nll[(labels >= 0) & (labels < self.vocabulary.offset)].sum())

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

    def _text(self, ids: Tensor) -> str:
        return self.processor.decode(ids).text

    def _takes(self, text: str, takes: int, temperature: float) -> list[Utterance]:
        """Ways to say a text, in the same order of phones if it is said by them."""
        phones = self.pronounce(text) if self.config.phones else ""
        if phones:
            return [
                Utterance("", text, "", self.tokens_of(codes), said)
                for codes, said in self._speak(text, phones, takes, temperature)
            ]
        prompt = self.processor(SAY.format(text=text) + "<|speech_begin|>")["input_ids"]
        spoken = self._speech(prompt, MOST_SECONDS, takes, temperature)
        return [Utterance("", text, "", self.tokens_of(codes)) for codes in spoken]

    def _speak(self, text: str, phones: str, takes: int, temperature: float) -> list[tuple[Tensor, tuple[Phone, ...]]]:
        """Phones to speech, each in turn: codes ``(1, T)``, and how long each phone is."""
        v = self.vocabulary
        asked = self.processor(SAY.format(text=text))["input_ids"]
        written = self.processor(SCRIPT.format(script=phones), add_special_tokens=False)["input_ids"]
        prompt = torch.cat([asked, written], 1)
        rows = self._generate(
            prompt,
            max_new_tokens=3 * len(phones) + int(MOST_SECONDS * v.steps_per_second),
            eos_token_id=None,
            logits_processor=LogitsProcessorList([_Spelling(self, phones, prompt.shape[1]), SpeechLogitsProcessor(v)]),
            stopping_criteria=StoppingCriteriaList([_Spoken(self, len(phones), prompt.shape[1])]),
            num_return_sequences=takes,
            **_drawing(temperature),
        )
        spoken = []
        for row in rows[:, prompt.shape[1] :]:
            pieces = [v.to_codes(row[span], strict=False).codes[0] for span in v.spans(row)[: len(phones)]]
            said = tuple(
                Phone(letter, piece.shape[1]) for letter, piece in zip(phones, pieces, strict=False) if piece.shape[1]
            )
            spoken.append((torch.cat(pieces, 1), said))
        return spoken

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
            **_drawing(temperature),
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


_KNOWN = (*LETTERS.values(), SILENCE)

LONGEST_PHONE = 0.6
"""Seconds, of one that is spoken; a pause may be twice as long."""


def _drawing(temperature: float) -> dict[str, object]:
    """What ``generate`` takes: the likeliest id each time if ``temperature`` is 0."""
    return {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}


class _Line(StoppingCriteria):
    """A line of text is over, or speech has begun."""

    def __init__(self, talker: Talker, start: int) -> None:
        self._talker, self._start = talker, start

    def __call__(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:
        written = input_ids[0, self._start :]
        over = int(written[-1]) == self._talker.vocabulary.begin_id or "\n" in self._talker._text(written)
        return torch.tensor([over])


class _Spoken(StoppingCriteria):
    """So many pieces of speech have ended."""

    def __init__(self, talker: Talker, pieces: int, start: int) -> None:
        self._end, self._pieces, self._start = talker.vocabulary.end_id, pieces, start

    def __call__(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:
        return (input_ids[:, self._start :] == self._end).sum(1) >= self._pieces


class _Spelling(LogitsProcessor):
    """Each phone of a script is written, and then spoken: nothing is left out, and nothing said twice.

    Args:
        talker: whose ids these are.
        phones: the script.
        start: ids before what is generated.
    """

    def __init__(self, talker: Talker, phones: str, start: int) -> None:
        v = talker.vocabulary
        self._begin, self._end, self._start, self._v = v.begin_id, v.end_id, start, v
        ids = talker.processor.text_tokenizer
        self._forced = [[*ids(letter, add_special_tokens=False)["input_ids"], v.begin_id] for letter in phones]
        rate = v.facts.sample_rate / v.facts.hop_length
        self._most = [round(LONGEST_PHONE * rate * (1 + (letter == SILENCE))) for letter in phones]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``input_ids``: ``(B, L)``; ``scores``: ``(B, ids)``."""
        scores = scores.clone()
        for row, score in zip(input_ids[:, self._start :], scores, strict=True):
            ends = (row == self._end).nonzero().flatten()
            number, since = len(ends), row[int(ends[-1]) + 1 :] if len(ends) else row
            if number >= len(self._forced):
                continue  # it is over
            forced = self._forced[number]
            if len(since) < len(forced):
                kept = score[forced[len(since)]].clone()
                score.fill_(-torch.inf)
                score[forced[len(since)]] = torch.where(kept.isfinite(), kept, 0.0)
            elif len(since) == len(forced):
                score[self._end] = -torch.inf  # it sounds for a frame at least
            else:
                spoken = self._v.to_codes(since[len(forced) - 1 :], strict=False).codes.shape[2]
                if spoken >= self._most[number]:
                    kept = score[self._end].clone()
                    score.fill_(-torch.inf)
                    score[self._end] = kept
        return scores


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
