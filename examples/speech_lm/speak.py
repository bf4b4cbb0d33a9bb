"""What a trained model says, hears and goes on with; and the voice that it says it in."""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedModel

import speechtok
from examples.speech_lm import models
from examples.speech_lm.data import SAID, SAY, LanguageExamples, crop_frames, one_id_each, opening, text_ids
from examples.speech_lm.phones import LETTERS, SILENCE, Phone, Word, heard, words_of
from examples.speech_lm.prepare import Utterance, plain_text
from examples.speech_lm.train import losses
from speechtok.errors import FingerprintError, InputError
from speechtok.lm import (
    PLACEHOLDER_TOKEN,
    AudioStreamer,
    AudioVocabulary,
    InterleavedPattern,
    SpeechLogitsProcessor,
    SpeechProcessor,
)

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

    def say(
        self,
        text: str,
        takes: int = 1,
        temperature: float = 0.0,
        guidance: float = 0.0,
        play: Callable[[Tensor], object] | None = None,
    ) -> Utterance:
        """A text as an utterance, of codebook 0 only.

        Args:
            text: any.
            takes: how many are tried; the model keeps the one from which it would best write down the text.
            temperature: of sampling; 0: the likeliest code each time.
            guidance: by how much more the phones count than the codes before, if it is said by phones; 0: as learned.
            play: takes each chunk of audio ``(S,)`` while the next is being said; there is one take then.

        Raises:
            InputError: the text is empty, or nothing was said.
        """
        text = plain_text(text)
        if not text:
            raise InputError("the text is empty; expected something to say")
        streamer = None
        if play is not None:
            streamer, takes = AudioStreamer(self.vocabulary, self.tokenizer, play, joined=True), 1
        spoken = [one for one in self._takes(text, takes, temperature, guidance, streamer) if one.tokens.codes.shape[2]]
        if not spoken:
            raise InputError(f"{text!r} became silence; train longer, or raise the temperature or the takes")
        if len(spoken) == 1:
            return spoken[0]
        return min(spoken, key=lambda one: (len(left_out(one)), self.surprise(one)))

    def hear(self, tokens: speechtok.SpeechTokens) -> tuple[str, str]:
        """What an utterance, a batch of one, says; and its phones, a letter each, if the model writes them down."""
        if self.config.lexicon:
            return self._hear_phones(tokens)
        prompt = self.processor(PLACEHOLDER_TOKEN + SAID, [tokens])["input_ids"]
        written = self._generate(prompt, max_new_tokens=MOST_LETTERS, eos_token_id=self._end_of_text)
        return plain_text(self.processor.decode(written[0, prompt.shape[1] :]).text), ""

    def go_on(self, tokens: speechtok.SpeechTokens, seconds: float, temperature: float = 0.8) -> Tensor:
        """Codes of codebook 0 that may follow an utterance, a batch of one: ``(T,)``, at most so many seconds."""
        begun = self.vocabulary.to_ids(tokens)[:, :-1]  # the utterance is not over
        prompt = torch.cat([torch.tensor([opening(self.processor)], dtype=torch.int64), begun], 1)
        whole = self._speech(prompt, seconds, 1, temperature, at_least=seconds / 2)[0]
        heard = tokens.codes.shape[2]
        # an id may be a run of many frames, so that there can be more than were asked for
        return whole[0, heard : heard + int(seconds * tokens.frame_rate)]

    def surprise(self, one: Utterance) -> float:
        """Minus the log probability of writing down its text, and its phones if it has them, and no more of either."""
        task = "hear_phones" if one.words else "hear"
        batch = LanguageExamples([one], self.processor, [task]).batch([0], 0)
        with torch.inference_mode():
            nll, labels = losses(self.model, batch, self.config)
        return float(nll[(labels >= 0) & (labels <= self.vocabulary.bos_id)].sum())  # at a begin, no more is written

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

    def _takes(
        self, text: str, takes: int, temperature: float, guidance: float = 0.0, streamer: AudioStreamer | None = None
    ) -> list[Utterance]:
        """Ways to say a text."""
        takes = takes if temperature else 1  # they would all be the same
        if not self.config.lexicon:
            prompt = self.processor(SAY.format(text=text) + "<|speech_begin|>")["input_ids"]
            spoken = self._speech(prompt, MOST_SECONDS, takes, temperature, streamer=streamer)
            return [Utterance("", text, "", self.tokens_of(codes)) for codes in spoken]
        words = words_of(text)
        if not words:
            raise InputError(f"the text is {text!r}, which has no words; expected something to pronounce")
        prompt = self.processor(SAY.format(text=text))["input_ids"].expand(takes, -1)
        writers = [Writer(self.processor, words).write() for _ in range(takes)]
        said = write_together(self.model, prompt, writers, self.vocabulary, temperature, guidance, streamer)
        return [Utterance("", text, "", self.tokens_of(codes), found) for codes, found in said]

    @torch.inference_mode()
    def _hear_phones(self, tokens: speechtok.SpeechTokens) -> tuple[str, str]:
        """Hear an utterance piece by piece, and write down the likeliest phones and words after each."""
        v, ids = self.vocabulary, opening(self.processor)
        letters = dict(zip(one_id_each(self.processor, _LETTERS), _LETTERS, strict=True))
        open_id, close_id = one_id_each(self.processor, "[]")
        outside = torch.tensor([*letters, open_id, v.bos_id])  # a phone, a word, or more of the speech
        inside = torch.arange(v.offset)
        pieces = [piece for piece, _ in heard(tokens, ())]
        phones, words, cache, read = "", [], None, 0
        for number, piece in enumerate(pieces, 1):
            ids += v.to_ids(piece)[0].tolist()
            if number == len(pieces):
                outside[-1] = open_id if self._end_of_text is None else self._end_of_text
            word: list[int] | None = None  # that is being written
            for left in reversed(range(MOST_PHONES)):
                out = self.model(input_ids=torch.tensor([ids[read:]]), past_key_values=cache, use_cache=True)
                cache, read = out.past_key_values, len(ids)
                among = outside if word is None else inside
                best = int(among[out.logits[0, -1, among].argmax()])
                if word is None:
                    if best == open_id and left:
                        word = []
                    elif best in letters:
                        phones += letters[best]
                    else:
                        break
                elif left and best not in (close_id, self._end_of_text):
                    word.append(best)
                else:
                    words.append(self.processor.decode(word).text)
                    word, best = None, close_id
                ids.append(best)
        return plain_text(" ".join(words)), phones

    def _speech(
        self,
        prompt: Tensor,
        seconds: float,
        takes: int,
        temperature: float,
        at_least: float = 0.0,
        streamer: AudioStreamer | None = None,
    ) -> list[Tensor]:
        """What follows a prompt ``(1, L)`` within an utterance, with what of that the prompt has: ``(Q, T)`` each."""
        v = self.vocabulary
        rows = self._generate(
            prompt,
            max_new_tokens=max(1, int(seconds * v.steps_per_second)),
            min_new_tokens=int(at_least * v.steps_per_second),
            eos_token_id=v.eos_id,
            logits_processor=LogitsProcessorList([SpeechLogitsProcessor(v)]),
            num_return_sequences=takes,
            streamer=streamer,
            **_drawing(temperature),
        )
        begin = int((prompt[0] == v.bos_id).nonzero()[-1])
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


_LETTERS = "".join([*dict.fromkeys(LETTERS.values()), SILENCE])

GUIDANCE = 2.0
"""What sentences are said with, unless told otherwise."""

LONGEST_PHONE = 0.6
"""Seconds, of one that is spoken; a pause may be twice as long."""

MOST_PHONES = 24
"""Of a word that is said; and letters that are written after a piece of speech that is heard."""

Ask = tuple[list[int], str]
"""Ids of which one is to be written next, and how: the ``"likeliest"``, ``"drawn"``, or as ``"speech"``."""

Said = tuple[Tensor, tuple[Word, ...]]
"""What was said: codes ``(1, T)`` of codebook 0, and the words and pauses."""


def _drawing(temperature: float) -> dict[str, object]:
    """What ``generate`` takes: the likeliest id each time if ``temperature`` is 0."""
    return {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}


def left_out(one: Utterance) -> list[str]:
    """The last words of what was to be said that were not, as there was no time; none if it was not said by words."""
    return words_of(one.text)[sum(bool(word.text) for word in one.words) :] if one.words else []


class Writer:
    """Writes words, their phones, and each phone's speech: none is left out but for want of time, none is said twice.

    Args:
        processor: of text and speech.
        words: what is said.
    """

    def __init__(self, processor: SpeechProcessor, words: Sequence[str]) -> None:
        self._processor, self._words, self._v = processor, words, processor.vocabulary
        self._rate = self._v.tokenizer_info.sample_rate / self._v.tokenizer_info.hop_length
        self._codes: list[Tensor] = [torch.zeros(1, 0, dtype=torch.int64)]

    def write(self) -> Generator[Ask, int, Said]:
        """Asks for each id, is sent it, and returns what was said."""
        said: list[Word] = []
        (pause_id, open_id, close_id, space_id) = one_id_each(self._processor, SILENCE + "[] ")
        letters = dict(zip(one_id_each(self._processor, _LETTERS[:-1]), _LETTERS, strict=False))
        end = self._processor.text_tokenizer.eos_token_id
        for number in range(len(self._words) + 1):
            last = number == len(self._words)
            following = end if last else open_id
            if (yield [pause_id, *([] if following is None else [following])], "drawn") == pause_id:
                said.append(Word("", ((yield from self._sound(SILENCE)),)))
                if not last:
                    yield [open_id], "likeliest"
            if last or sum(codes.shape[1] for codes in self._codes) > MOST_SECONDS * self._rate:
                break
            for id_ in [*text_ids(self._processor, self._words[number]), close_id]:
                yield [id_], "likeliest"
            script: list[int] = []
            while len(script) < MOST_PHONES:
                id_ = yield [*letters, *([space_id] if script else [])], "likeliest"
                if id_ == space_id:
                    break
                script.append(id_)
            else:
                yield [space_id], "likeliest"
            phones = []
            for id_ in script:
                yield [id_], "likeliest"
                phones.append((yield from self._sound(letters[id_])))
            said.append(Word(self._words[number], tuple(phones)))
        return torch.cat(self._codes, 1), tuple(said)

    def _sound(self, letter: str) -> Generator[Ask, int, Phone]:
        """The speech of a phone, of which the letter was written."""
        v = self._v
        ids = [(yield [v.bos_id], "likeliest")]
        most, frames = round(LONGEST_PHONE * self._rate * (1 + (letter == SILENCE))), 0
        while frames < most:
            allowed = v.continuations(ids).nonzero().flatten().tolist()
            ids.append((yield [i for i in allowed if frames or i != v.eos_id], "speech"))
            if ids[-1] == v.eos_id:
                break
            frames = v.to_codes(ids).codes.shape[2]
        else:
            yield [v.eos_id], "likeliest"
        codes = v.to_codes([i for i in ids if i != v.eos_id]).codes[0]
        self._codes.append(codes)
        return Phone(letter, codes.shape[1])


@torch.inference_mode()
def write_together(
    model: PreTrainedModel,
    prompt: Tensor,
    writers: Sequence[Generator[Ask, int, Said]],
    vocabulary: AudioVocabulary,
    temperature: float,
    guidance: float = 0.0,
    streamer: AudioStreamer | None = None,
) -> list[Said]:
    """Let a model answer what each writer asks, after its row of ``prompt`` ``(B, L)``. What each has said.

    With ``guidance``, codes are told by how much likelier they are where it is known what is said than where only the
    codes before are: classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598), as language models have it
    (arXiv 2306.17806). For that, each row has a second one, of the begin and the codes alone.

    A ``streamer`` gets the ids of one row as they come, as transformers' ``generate`` has it.
    """
    v, rows = vocabulary, len(writers)
    asked: dict[int, Ask] = {row: next(writer) for row, writer in enumerate(writers)}
    done: dict[int, Said] = {}
    coming, mask, cache = prompt, torch.ones_like(prompt), None
    if guidance:
        alone = torch.full_like(prompt, v.pad_id)
        alone[:, -1] = v.bos_id
        coming = torch.cat([prompt, alone])
        mask = torch.cat([mask, (alone == v.bos_id).long()])
    unguided = torch.zeros(rows, 0)
    while asked:
        if streamer is not None:
            streamer.put(coming[:1] if cache is None else coming[0])
        places = (mask.cumsum(1) - 1).clamp_min(0)[:, -coming.shape[1] :]
        out = model(input_ids=coming, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True)
        cache, scores = out.past_key_values, out.logits[:, -1].float()
        if guidance:  # a row that had nothing new says what it said before
            new = mask[rows:, -1:].bool()
            unguided = torch.where(new, scores[rows:], unguided) if unguided.numel() else scores[rows:]
        coming = torch.full((len(coming), 1), v.pad_id)
        fresh = torch.ones_like(coming)
        for row, (ids, how) in list(asked.items()):
            told = scores[row, ids]
            if len(ids) == 1:
                place = 0
            elif how == "speech":
                without = unguided[row, ids] if guidance else None
                place = pick_speech(told, without, torch.tensor(ids) - v.first_code, v, temperature, guidance)
            else:
                place = int(pick(told, temperature if how == "drawn" else 0.0))
            coming[row] = ids[place]
            try:
                asked[row] = writers[row].send(ids[place])
            except StopIteration as stop:
                del asked[row]
                done[row] = stop.value
        if guidance:
            is_speech = coming[:rows] >= v.first_code
            coming[rows:] = torch.where(is_speech, coming[:rows], v.pad_id)
            fresh[rows:] = is_speech.long()
        mask = torch.cat([mask, fresh], 1)
    if streamer is not None:
        streamer.end()
    return [done[row] for row in range(rows)]


def pick_speech(
    told: Tensor,
    without: Tensor | None,
    symbols: Tensor,
    vocabulary: AudioVocabulary,
    temperature: float,
    guidance: float,
) -> int:
    """The place of one of some ids: ``told`` are their scores, and ``without`` those without what is said.

    Guidance says which code comes next, not whether one does.
    """
    codes = (symbols >= 0) & (symbols < vocabulary.codebook_size)
    scores = torch.log_softmax(told, 0)
    if without is not None and codes.any():
        likely = torch.log_softmax(told[codes], 0)
        guided = likely + guidance * (likely - torch.log_softmax(without[codes], 0))
        scores[codes] = torch.log_softmax(guided, 0) + scores[codes].logsumexp(0)
    return int(pick(scores, temperature))


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
    assert isinstance(pattern, InterleavedPattern)
    places = pattern.positions(frames, num_codebooks).flatten()
    line = torch.empty_like(places)
    line[places] = torch.arange(len(places))  # cell of each place
    filled = codes.flatten().clone()
    coming, cache = [vocabulary.bos_id], None
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
