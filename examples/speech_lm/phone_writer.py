"""Speech through phones: generation of words, their phones, and the speech of each phone."""

from collections.abc import Generator, Sequence
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from examples.speech_lm.phones import SILENCE, Phone, Word
from examples.speech_lm.prompts import PHONE_LETTERS, letter_ids, text_ids
from examples.speech_lm.sampling import sample, sample_speech
from speechtok.lm import AudioStreamer, AudioVocabulary, SpeechProcessor

MAX_PHONE_SECONDS = 0.6
"""Longest phone; a pause may be twice as long."""

MAX_PHONES = 24
"""Largest number of phones in a word."""

Request = tuple[list[int], Literal["greedy", "sample", "speech"]]
"""Candidates for the next id, and how to choose: greedily, by sampling, or by sampling with guidance."""

Spoken = tuple[Tensor, tuple[Word, ...]]
"""Codes ``(1, T)`` of codebook 0, and the words and pauses that were spoken."""


class PhoneWriter:
    """Writes words, their phones and the speech of each phone. No word is skipped or repeated.

    Args:
        processor: for text and speech.
        words: words to speak.
        max_seconds: duration after which no further word begins.
    """

    def __init__(self, processor: SpeechProcessor, words: Sequence[str], max_seconds: float) -> None:
        self._processor, self._words, self._v = processor, words, processor.vocabulary
        info = self._v.tokenizer_info
        self._frame_rate = info.sample_rate / info.hop_length
        self._max_frames = max_seconds * self._frame_rate
        self._codes: list[Tensor] = [torch.zeros(1, 0, dtype=torch.int64)]

    def write(self) -> Generator[Request, int, Spoken]:
        """Yield a request for each id, receive the chosen id, and return what was spoken."""
        spoken: list[Word] = []
        pause_id, open_id, close_id, space_id = letter_ids(self._processor, SILENCE + "[] ")
        letters = dict(zip(letter_ids(self._processor, PHONE_LETTERS[:-1]), PHONE_LETTERS, strict=False))
        end = self._processor.tokenizer.eos_token_id
        for number in range(len(self._words) + 1):
            last = number == len(self._words)
            following = end if last else open_id
            if (yield [pause_id, *([] if following is None else [following])], "sample") == pause_id:
                spoken.append(Word("", ((yield from self._speak(SILENCE)),)))
                if not last:
                    yield [open_id], "greedy"
            if last or sum(codes.shape[1] for codes in self._codes) > self._max_frames:
                break
            for id_ in [*text_ids(self._processor, self._words[number]), close_id]:
                yield [id_], "greedy"
            script: list[int] = []
            while len(script) < MAX_PHONES:
                id_ = yield [*letters, *([space_id] if script else [])], "greedy"
                if id_ == space_id:
                    break
                script.append(id_)
            else:
                yield [space_id], "greedy"
            phones = []
            for id_ in script:
                yield [id_], "greedy"
                phones.append((yield from self._speak(letters[id_])))
            spoken.append(Word(self._words[number], tuple(phones)))
        return torch.cat(self._codes, 1), tuple(spoken)

    def _speak(self, letter: str) -> Generator[Request, int, Phone]:
        """Generate the speech of one phone."""
        v = self._v
        ids = [(yield [v.bos_id], "greedy")]
        max_frames, frames = round(MAX_PHONE_SECONDS * self._frame_rate * (1 + (letter == SILENCE))), 0
        while frames < max_frames:
            allowed = v.continuations(ids).nonzero().flatten().tolist()
            ids.append((yield [i for i in allowed if frames or i != v.eos_id], "speech"))
            if ids[-1] == v.eos_id:
                break
            frames = v.to_codes(ids).codes.shape[2]
        else:
            yield [v.eos_id], "greedy"
        codes = v.to_codes([i for i in ids if i != v.eos_id]).codes[0]
        self._codes.append(codes)
        return Phone(letter, codes.shape[1])


@torch.inference_mode()
def write_batch(
    model: PreTrainedModel,
    prompt: Tensor,
    writers: Sequence[Generator[Request, int, Spoken]],
    vocabulary: AudioVocabulary,
    temperature: float,
    guidance: float = 0.0,
    streamer: AudioStreamer | None = None,
) -> list[Spoken]:
    """Run several writers as one batch.

    With guidance, each row has a second, unconditional row, which holds a start token and the codes alone, as in
    classifier-free guidance for language models (arXiv 2306.17806).

    Args:
        model: the model.
        prompt: ids before the output of each writer, ``(B, L)``.
        writers: of :meth:`PhoneWriter.write`, one for each row.
        vocabulary: the vocabulary.
        temperature: of sampling; 0 for greedy choice.
        guidance: strength of the guidance; 0 for none.
        streamer: receives the ids of a single row as they are generated, as in ``generate`` of transformers.
    """
    v, rows = vocabulary, len(writers)
    requests: dict[int, Request] = {row: next(writer) for row, writer in enumerate(writers)}
    results: dict[int, Spoken] = {}
    incoming, mask, cache = prompt, torch.ones_like(prompt), None
    if guidance:
        start_only = torch.full_like(prompt, v.pad_id)
        start_only[:, -1] = v.bos_id
        incoming = torch.cat([prompt, start_only])
        mask = torch.cat([mask, (start_only == v.bos_id).long()])
    unconditional = torch.zeros(rows, 0)
    while requests:
        if streamer is not None:
            streamer.put(incoming[:1] if cache is None else incoming[0])
        positions = (mask.cumsum(1) - 1).clamp_min(0)[:, -incoming.shape[1] :]
        out = model(
            input_ids=incoming, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        cache, scores = out.past_key_values, out.logits[:, -1].float()
        if guidance:  # an unconditional row without a new id keeps its scores
            new = mask[rows:, -1:].bool()
            unconditional = torch.where(new, scores[rows:], unconditional) if unconditional.numel() else scores[rows:]
        incoming = torch.full((len(incoming), 1), v.pad_id)
        visible = torch.ones_like(incoming)
        for row, (ids, choice) in list(requests.items()):
            candidates = scores[row, ids]
            if len(ids) == 1:
                index = 0
            elif choice == "speech":
                without = unconditional[row, ids] if guidance else None
                symbols = torch.tensor(ids) - v.first_code
                index = sample_speech(candidates, without, symbols, v, temperature, guidance)
            else:
                index = int(sample(candidates, temperature if choice == "sample" else 0.0))
            incoming[row] = ids[index]
            try:
                requests[row] = writers[row].send(ids[index])
            except StopIteration as stop:
                del requests[row]
                results[row] = stop.value
        if guidance:
            is_speech = incoming[:rows] >= v.first_code
            incoming[rows:] = torch.where(is_speech, incoming[:rows], v.pad_id)
            visible[rows:] = is_speech.long()
        mask = torch.cat([mask, visible], 1)
    if streamer is not None:
        streamer.end()
    return [results[row] for row in range(rows)]
