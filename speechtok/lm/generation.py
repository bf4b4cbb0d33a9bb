"""Speaking: what ``generate`` of transformers needs to write valid speech, and to be heard while it does."""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import LogitsProcessor
from transformers.generation.streamers import BaseStreamer

from speechtok.errors import FingerprintError, InputError, VocabularyError
from speechtok.lm.reader import Reader
from speechtok.lm.vocabulary import AudioVocabulary
from speechtok.tokenizer import Tokenizer


class SpeechLogitsProcessor(LogitsProcessor):
    """Lets only valid continuations through: text, or what the pattern allows within an utterance.

    It remembers nothing between calls, so beams may be reordered. For a grid, rows and scores are those of a model
    with a head for each codebook, as transformers' MusicGen has them: ``(B * Q, L)`` and ``(B * Q, ids of a head)``.

    Args:
        vocabulary: at its place in the text tokenizer.
    """

    def __init__(self, vocabulary: AudioVocabulary) -> None:
        self._vocabulary = vocabulary

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``input_ids``: ``(B, L)``; ``scores``: ``(B, ids)``. The scores, ``-inf`` where an id cannot be next.

        Raises:
            VocabularyError: the model has fewer ids than the vocabulary.
        """
        v = self._vocabulary
        if scores.shape[-1] < v.end:
            raise VocabularyError(
                f"the model has scores for {scores.shape[-1]} ids; expected {v.end} or more, up to the last of the "
                "vocabulary: extend it with speechtok.lm.extend_model"
            )
        heads = v.num_codebooks
        rows = input_ids.view(-1, heads, input_ids.shape[1]).transpose(1, 2) if v.is_grid else input_ids
        allowed = torch.stack([v.continuations(row) for row in rows.cpu()]).flatten(0, -2)
        # ids after the vocabulary's are text that was added later, or rows that nothing uses
        rest = scores.shape[-1] - v.end
        after = allowed[:, : v.offset].any(1, keepdim=True).expand(-1, rest)
        return scores.masked_fill(~torch.cat([allowed, after], 1).to(scores.device), -torch.inf)


class AudioStreamer(BaseStreamer):
    """Plays an utterance while ``generate`` writes it, frame by frame.

    Put together, what is played is what ``decode`` gives for the whole. A frame's audio comes when the ids of it and of
    the next frame are there, as the decoder looks one frame ahead. Speech of the prompt is not played; if its last
    utterance has no end, what is generated goes on from it without a seam. Nothing that a model writes is an error: an
    utterance ends before the first id that cannot be there, and what came of it is played. An interrupted
    ``coarse_first`` is played with the codebooks that are whole.

    Args:
        vocabulary: at its place in the text tokenizer.
        tokenizer: whose codes the vocabulary's are.
        play: takes each chunk of audio, float32 ``(S,)`` on the CPU.
        joined: what is generated is one utterance in pieces, with text between them (see
            :meth:`speechtok.SpeechTokens.join`): it is played without a seam, as is decoding the pieces joined. Pieces
            that ended in the prompt are not of it.

    Raises:
        FingerprintError: the vocabulary is another tokenizer's.
    """

    def __init__(
        self,
        vocabulary: AudioVocabulary,
        tokenizer: Tokenizer,
        play: Callable[[Tensor], object],
        joined: bool = False,
    ) -> None:
        if tokenizer.fingerprint != vocabulary.fingerprint:
            raise FingerprintError(
                f"the vocabulary is that of tokenizer {vocabulary.fingerprint}, and this is "
                f"{tokenizer.fingerprint}; pass the "
                "tokenizer that the vocabulary was made with"
            )
        self._vocabulary = vocabulary
        self._play = play
        self._joined = joined
        self._stream = tokenizer.stream(num_codebooks=vocabulary.num_codebooks)
        self._reader: Reader | None = None  # of the utterance that has begun
        self._heard = False  # whether the stream holds what is to be drained
        self._prompted = False
        self._hop = tokenizer.hop_length
        self._mute = 0  # samples of the prompt that are still to come

    def put(self, value: Tensor) -> None:
        """Take the prompt, ``(1, L)``, then each id, ``(1,)``; for a grid ``(Q, L)``, then each step, ``(Q,)``.

        Raises:
            InputError: they are of more than one sequence.
        """
        v = self._vocabulary
        heads = v.num_codebooks if v.is_grid else 1
        if (
            value.numel() % heads
            or (value.ndim > 1 and len(value) != heads)
            or (value.ndim == 1 and len(value) != heads)
        ):
            raise InputError(
                f"the streamer got ids of shape {tuple(value.shape)}; expected those of one sequence: generate with "
                "a batch of one and without beams"
            )
        steps = value.cpu().reshape(heads, -1).T.tolist()
        if not self._prompted:
            self._prompted = True
            self._take_prompt(steps)
            return
        for step in steps:
            self._take(step)

    def end(self) -> None:
        """Play what is left; the next ``put`` is a prompt again."""
        self._finish(drain=True)
        self._prompted = False

    def _take_prompt(self, steps: list[list[int]]) -> None:
        begin, end = self._vocabulary.begin_id, self._vocabulary.end_id
        start = max((i for i, step in enumerate(steps) if step[0] == begin), default=len(steps))
        if not self._vocabulary.is_grid and any(step[0] == end for step in steps[start:]):
            return  # it ended, and is only listened to
        reader, codes = self._vocabulary.reader(), []
        for step in steps[start + 1 :]:
            try:
                codes.append(reader.take(self._symbols(step)))
            except VocabularyError:
                return
        if start < len(steps):
            self._reader = reader
            if codes:
                heard = torch.cat(codes, 1)
                self._mute = heard.shape[1] * self._hop
                self._decode(heard)

    def _take(self, step: list[int]) -> None:
        if step[0] == self._vocabulary.begin_id:
            self._finish(drain=not self._joined)
            self._reader = self._vocabulary.reader()
        elif self._reader is not None:
            try:
                self._decode(self._reader.take(self._symbols(step)))
            except VocabularyError:
                self._finish(drain=not self._joined)

    def _symbols(self, step: list[int]) -> list[int]:
        """Counted from the first code.

        Raises:
            VocabularyError: one of them is none of an utterance's.
        """
        v = self._vocabulary
        first = v.first_code
        for value in step:
            if not first <= value < v.end:
                raise VocabularyError(f"the id {value} is none of an utterance's; expected {first} to {v.end - 1}")
        return [value - first for value in step]

    def _finish(self, drain: bool) -> None:
        """End the utterance, if one has begun; and what the decoder still holds, unless more is joined to it."""
        if self._reader is not None:
            rest = self._reader.finish()
            self._reader = None
            self._decode(rest)
            self._heard = True
        if self._heard and drain:
            self._hear(self._stream.drain())
            self._stream.reset()
            self._mute = 0
            self._heard = False

    def _decode(self, codes: Tensor) -> None:
        if codes.shape[1]:
            self._hear(self._stream.decode(codes[None]))

    def _hear(self, audio: Tensor) -> None:
        muted = min(self._mute, audio.shape[1])
        self._mute -= muted
        if muted < audio.shape[1]:
            self._play(audio[0, muted:].cpu())
