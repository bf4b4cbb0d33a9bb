"""Speech generation with ``generate`` of transformers: constrained decoding, and audio while the model generates."""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import LogitsProcessor
from transformers.generation.streamers import BaseStreamer

from speechtok.errors import InputError, VocabularyError, quoted
from speechtok.lm.parser import Parser
from speechtok.lm.vocabulary import AudioVocabulary
from speechtok.tokenizer import Tokenizer
from speechtok.voice.model import VoiceStream


class SpeechLogitsProcessor(LogitsProcessor):
    """Sets the scores of invalid ids to ``-inf``: only text, or what the pattern allows within an utterance, remains.

    It has no state between calls, so beam search may reorder the rows. For a grid, rows and scores are those of a model
    with one head per codebook, as MusicGen of transformers has them: ``(B * Q, L)`` and ``(B * Q, ids of a head)``.

    Args:
        vocabulary: vocabulary with the offset that it has in the text tokenizer.
    """

    def __init__(self, vocabulary: AudioVocabulary) -> None:
        self._vocabulary = vocabulary

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Mask the scores of the next id.

        Args:
            input_ids: ids so far, ``(B, L)``.
            scores: scores of the next id, ``(B, number of ids)``.

        Raises:
            VocabularyError: the model has fewer ids than the vocabulary.
        """
        v = self._vocabulary
        if scores.shape[-1] < v.stop_id:
            raise VocabularyError(
                f"the model has scores for {scores.shape[-1]} ids; expected at least {v.stop_id}, for all ids of the "
                "vocabulary: extend the model with speechtok.lm.extend_model"
            )
        num_heads = v.num_codebooks
        rows = input_ids.view(-1, num_heads, input_ids.shape[1]).transpose(1, 2) if v.is_grid else input_ids
        allowed = torch.stack([v.continuations(row) for row in rows.cpu()]).flatten(0, -2)
        # ids after the vocabulary are text that was added later, or unused rows of the embeddings
        num_later = scores.shape[-1] - v.stop_id
        later = allowed[:, : v.offset].any(1, keepdim=True).expand(-1, num_later)
        return scores.masked_fill(~torch.cat([allowed, later], 1).to(scores.device), -torch.inf)


class AudioStreamer(BaseStreamer):
    """Plays an utterance frame by frame while ``generate`` writes it.

    The chunks of an utterance, concatenated, equal ``decode`` of the whole utterance. The audio of a frame is available
    once the ids of that frame and of the next one are, as the decoder has a lookahead of one frame.

    Speech of the prompt is not played. If the last utterance of the prompt has no end token, the generated audio
    continues it without a seam.

    Generated ids never raise an error: an utterance ends before its first invalid id, and its valid part is played. For
    ``coarse_first``, an incomplete utterance is played with its complete codebooks.

    Args:
        vocabulary: vocabulary with the offset that it has in the text tokenizer.
        tokenizer: speech tokenizer that makes the codes.
        play: called with each chunk of audio, float32 ``(S,)`` on the CPU.
        voice: opens a stream of a voice model, such as ``lambda: model.stream(prompt)``, for a vocabulary of semantic
            codes alone: the voice model generates the other codebooks, and audio comes later by its lookahead.
        joined: whether the generated utterances are pieces of one utterance, with text between them (see
            :meth:`speechtok.SpeechTokens.join`). They are then played without a seam, like the joined pieces. Complete
            utterances of the prompt are not among them.

    Raises:
        FingerprintError: the vocabulary belongs to another tokenizer.
        StreamError: the tokenizer cannot stream.
        InputError: ``voice`` is not a function.
        VocabularyError: there is a voice model, and the vocabulary has acoustic codes already.
    """

    def __init__(
        self,
        vocabulary: AudioVocabulary,
        tokenizer: Tokenizer,
        play: Callable[[Tensor], object],
        joined: bool = False,
        voice: Callable[[], VoiceStream] | None = None,
    ) -> None:
        vocabulary.check_tokenizer(tokenizer)
        if voice is not None and vocabulary.num_codebooks != 1:
            raise VocabularyError(
                f"the vocabulary has {vocabulary.num_codebooks} codebooks; expected codebook 0 alone for a voice "
                "model, or no voice"
            )
        if voice is not None and not callable(voice):
            raise InputError(
                f"voice is {quoted(voice)}; expected a function that opens a stream: lambda: model.stream(prompt)"
            )
        self._open_voice, self._voice = voice, None if voice is None else voice()
        self._vocabulary = vocabulary
        self._play = play
        self._joined = joined
        self._stream = tokenizer.stream(num_codebooks=vocabulary.num_codebooks)
        self._parser: Parser | None = None  # of the current utterance
        self._needs_drain = False
        self._has_prompt = False
        self._hop_length = tokenizer.hop_length
        self._muted_samples = 0  # of the prompt, which the decoder has still to return

    def put(self, value: Tensor) -> None:
        """Take the prompt ``(1, L)``, then each generated id ``(1,)``; for a grid ``(Q, L)``, then each step ``(Q,)``.

        Raises:
            InputError: the ids are those of several sequences.
        """
        num_heads = self._vocabulary.num_codebooks if self._vocabulary.is_grid else 1
        if (len(value) if value.ndim else 1) != num_heads:
            raise InputError(
                f"the streamer received ids of the shape {tuple(value.shape)}; expected those of one sequence: call "
                "generate with a batch of one and without beam search"
            )
        steps = value.cpu().reshape(num_heads, -1).T.tolist()
        if not self._has_prompt:
            self._has_prompt = True
            self._take_prompt(steps)
            return
        for step in steps:
            self._take(step)

    def end(self) -> None:
        """Play the rest; the next :meth:`put` takes a prompt again."""
        self._finish(drain=True)
        self._has_prompt = False

    def _take_prompt(self, steps: list[list[int]]) -> None:
        bos, eos = self._vocabulary.bos_id, self._vocabulary.eos_id
        start = max((i for i, step in enumerate(steps) if step[0] == bos), default=len(steps))
        if not self._vocabulary.is_grid and any(step[0] == eos for step in steps[start:]):
            return  # the last utterance is complete
        parser, codes = self._vocabulary.parser(), []
        for step in steps[start + 1 :]:
            try:
                codes.append(parser.feed(self._symbols(step)))
            except VocabularyError:
                return
        if start < len(steps):
            self._parser = parser
            if codes:
                prompt_codes = torch.cat(codes, 1)
                self._muted_samples = prompt_codes.shape[1] * self._hop_length
                self._decode(prompt_codes)

    def _take(self, step: list[int]) -> None:
        if step[0] == self._vocabulary.bos_id:
            self._finish(drain=not self._joined)
            self._parser = self._vocabulary.parser()
        elif self._parser is not None:
            try:
                self._decode(self._parser.feed(self._symbols(step)))
            except VocabularyError:
                self._finish(drain=not self._joined)

    def _symbols(self, step: list[int]) -> list[int]:
        """Ids minus :attr:`AudioVocabulary.first_code`; raises VocabularyError for ids that are not codes."""
        first, stop = self._vocabulary.first_code, self._vocabulary.stop_id
        for id_ in step:
            if not first <= id_ < stop:
                raise VocabularyError(f"the id {id_} is not a code; expected {first} to {stop - 1}")
        return [id_ - first for id_ in step]

    def _finish(self, drain: bool) -> None:
        """End the current utterance, if any; with ``drain``, play what the decoder holds and reset it."""
        if self._parser is not None:
            codes = self._parser.finish()
            self._parser = None
            self._decode(codes)
            self._needs_drain = True
        if self._needs_drain and drain:
            if self._voice is not None and self._open_voice is not None:
                self._play_codes(self._voice.flush())
                self._voice = self._open_voice()
            self._emit(self._stream.drain())
            self._stream.reset()
            self._muted_samples = 0
            self._needs_drain = False

    def _decode(self, codes: Tensor) -> None:
        """``codes``: ``(Q, T)``."""
        if codes.shape[1]:
            self._play_codes(codes[None] if self._voice is None else self._voice.push(codes))

    def _play_codes(self, codes: Tensor) -> None:
        """``codes``: ``(1, Q, T)``."""
        if codes.shape[2]:
            self._emit(self._stream.decode(codes))

    def _emit(self, audio: Tensor) -> None:
        """Play ``(1, S)``, without the samples of the prompt."""
        muted = min(self._muted_samples, audio.shape[1])
        self._muted_samples -= muted
        if muted < audio.shape[1]:
            self._play(audio[0, muted:].cpu())
