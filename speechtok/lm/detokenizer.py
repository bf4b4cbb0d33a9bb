"""Ids from a server to text and audio, while they arrive."""

from collections.abc import Iterable

import torch
from torch import Tensor

from speechtok.lm.generation import AudioStreamer
from speechtok.lm.processor import SpeechProcessor

_INCOMPLETE = "\ufffd"
"""Stands for the bytes of a character that is not complete."""


class SpeechDetokenizer:
    """Turns generated ids into pieces of text and chunks of audio, in order, for any server that streams ids.

    The audio chunks of an utterance, concatenated, equal ``decode`` of the whole utterance. Text is returned as soon as
    its characters are complete. Ids never raise an error: invalid ones end an utterance.

    One object serves one request.

    Args:
        processor: processor for text and speech.
        prompt: ids of the prompt. If it ends within an utterance, the audio continues it without a seam.
        joined: whether the utterances are pieces of one utterance; see :class:`AudioStreamer`.
        skip_special_tokens: whether to leave special tokens of the text tokenizer out of the text.

    Raises:
        StreamError: the speech tokenizer cannot stream.
    """

    def __init__(
        self,
        processor: SpeechProcessor,
        prompt: Iterable[int] = (),
        joined: bool = False,
        skip_special_tokens: bool = True,
    ) -> None:
        self._tokenizer, self._vocabulary = processor.tokenizer, processor.vocabulary
        self._skip_special_tokens = skip_special_tokens
        self._pieces: list[str | Tensor] = []
        self._streamer = AudioStreamer(
            processor.vocabulary, processor.speech_tokenizer, self._pieces.append, joined=joined
        )
        self._streamer.put(torch.tensor([[int(id_) for id_ in prompt]], dtype=torch.int64, device="cpu"))
        self._text: list[int] = []  # ids of the current text
        self._start = self._stop = 0  # the last ids that were returned as text, from which the next ones are decoded

    def feed(self, ids: Iterable[int]) -> list[str | Tensor]:
        """Take the next ids.

        Returns:
            Text, and audio as float32 ``(S,)`` on the CPU, in the order of the ids.
        """
        for id_ in ids:
            is_speech = self._vocabulary.offset <= id_ < self._vocabulary.stop_id
            if is_speech:
                self._finish_text()
            self._streamer.put(torch.tensor([int(id_)], device="cpu"))
            if not is_speech:
                self._take_text(int(id_))
        return self._take_pieces()

    def end(self) -> list[str | Tensor]:
        """The rest: text with an incomplete character, and the audio that the decoder still holds."""
        self._finish_text()
        self._streamer.end()
        return self._take_pieces()

    def _take_pieces(self) -> list[str | Tensor]:
        pieces = self._pieces.copy()
        self._pieces.clear()  # the streamer appends to this list
        return pieces

    def _take_text(self, id_: int) -> None:
        self._text.append(id_)
        new = self._new_text()
        if new and not new.endswith(_INCOMPLETE):
            self._pieces.append(new)
            self._start, self._stop = self._stop, len(self._text)

    def _finish_text(self) -> None:
        if self._stop < len(self._text) and (new := self._new_text()):
            self._pieces.append(new)
        self._text, self._start, self._stop = [], 0, 0

    def _new_text(self) -> str:
        """Text that is not returned yet. Decoding some ids before it keeps the spaces between words."""
        known, whole = (
            str(self._tokenizer.decode(ids, skip_special_tokens=self._skip_special_tokens)) if ids else ""
            for ids in (self._text[self._start : self._stop], self._text[self._start :])
        )
        return whole[len(known) :]
