"""Sources of the agent's speech: codes, ids of a language model, or text, as a whole or while a model writes them."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from speechtok.errors import InputError, SpeechtokError, TokensError, quoted
from speechtok.live.playback import Utterance
from speechtok.lm import AudioVocabulary
from speechtok.tokens import SpeechTokens, check_codes

MAX_WAITING_SECONDS = 10.0
"""How far a model may be ahead of what is played. Then it waits, so that an interruption wastes little work."""

Synthesise = Callable[[str], Iterable[Any]]
"""Text to codes, as a whole or piece by piece."""


class Speaker:
    """Turns what a model yields into codes.

    Args:
        num_codebooks: most codebooks of the tokenizer.
        codebook_size: its entries ``N``.
        made: whether tokens with a fingerprint are the tokenizer's.
        vocabulary: of ids.
        synthesise: of text that has no codes of its own.
    """

    def __init__(
        self,
        num_codebooks: int,
        codebook_size: int,
        made: Callable[[str], bool],
        vocabulary: AudioVocabulary | None = None,
        synthesise: Synthesise | None = None,
    ) -> None:
        self.num_codebooks, self.codebook_size = num_codebooks, codebook_size
        self._made = made
        self._vocabulary = vocabulary
        self._synthesise = synthesise

    def as_codes(self, item: Any) -> Tensor:
        """Codes ``(Q, T)`` of tokens, or of a tensor ``(Q, T)`` or ``(1, Q, T)``.

        Raises:
            TokensError: they are not codes of one utterance, or of another tokenizer.
        """
        if isinstance(item, SpeechTokens):
            if not self._made(item.fingerprint):
                raise TokensError(
                    f"the tokens are of tokenizer {item.fingerprint}; expected those of the session's own"
                )
            if len(item) != 1:
                raise TokensError(f"the tokens are {len(item)} utterances; expected one: take tokens[i]")
            return item.codes[0, :, : int(item.lengths)].cpu()
        codes = item[None] if isinstance(item, Tensor) and item.ndim == 2 else item
        check_codes(codes, self.codebook_size)
        if len(codes) != 1 or codes.shape[1] > self.num_codebooks:
            raise TokensError(
                f"codes has shape {tuple(codes.shape)}; expected (Q, T) or (1, Q, T) with at most "
                f"{self.num_codebooks} codebooks"
            )
        return codes[0].cpu()

    def pieces(self, source: Any) -> Iterator[Tensor | str]:
        """Codes ``(Q, T)``, and text that goes with the codes after it.

        Raises:
            InputError: the source yields something that is neither codes nor text nor ids, or ids without a vocabulary.
        """
        if isinstance(source, str | SpeechTokens | Tensor):
            source = [source]
        ids = _Ids(self._vocabulary)
        for item in source:
            if isinstance(item, str):
                yield item
                if self._synthesise is not None:
                    for part in _parts(self._synthesise(item)):
                        yield self.as_codes(part)
            elif isinstance(item, SpeechTokens) or (isinstance(item, Tensor) and item.ndim >= 2):
                yield self.as_codes(item)
            else:
                yield from (codes for codes in ids.feed(item) if codes.shape[1])
        yield from (codes for codes in ids.finish() if codes.shape[1])

    def start(
        self, source: Any, utterance: Utterance, frames_ahead: int, failed: Callable[[Exception], object]
    ) -> None:
        """Fill an utterance in a thread of its own, and end it.

        Args:
            source: see :meth:`pieces`.
            utterance: to fill.
            frames_ahead: frames that may wait to be played.
            failed: called with an exception of the source, after what came before it was put in.
        """
        threading.Thread(
            target=self._fill, args=(source, utterance, frames_ahead, failed), name="speechtok-speaker", daemon=True
        ).start()

    def _fill(self, source: Any, utterance: Utterance, ahead: int, failed: Callable[[Exception], object]) -> None:
        try:
            self.fill(source, utterance, ahead)
        except Exception as error:  # of a model: the conversation goes on
            failed(error)
        finally:
            utterance.end()
            close = getattr(source, "close", None)  # a generator notices that nobody listens
            if callable(close):
                close()

    def fill(self, source: Any, utterance: Utterance, ahead: int | None = None) -> None:
        """Put everything that a source yields into an utterance, until it is interrupted."""
        for piece in self.pieces(source):
            if isinstance(piece, str):
                utterance.put_text(piece)
                if utterance.cancelled:
                    return
            elif not utterance.put(piece, limit=ahead):
                return


class _Ids:
    """Parses ids; what is no speech is skipped, as text is."""

    def __init__(self, vocabulary: AudioVocabulary | None) -> None:
        self._vocabulary = vocabulary
        self._parser = vocabulary.parser() if vocabulary is not None else None
        self._ended = False

    def feed(self, item: Any) -> Iterator[Tensor]:
        if isinstance(item, bool) or not isinstance(item, int | Tensor):
            raise InputError(f"the source yields {quoted(item)}; expected codes (Q, T), text or ids")
        if self._vocabulary is None or self._parser is None:
            raise InputError(f"the source yields the id {quoted(item)}; expected codes: pass vocabulary= to read ids")
        v = self._vocabulary
        flat = torch.as_tensor(item).reshape(-1).tolist()
        steps = [flat] if v.is_grid else [[id_] for id_ in flat]
        for step in steps:
            if step[0] == v.eos_id and not v.is_grid:
                yield from self.finish()
            elif step[0] == v.bos_id:
                yield from self.finish()
                self._parser, self._ended = v.parser(), False
            elif not self._ended and all(v.first_code <= id_ < v.stop_id for id_ in step):
                try:
                    yield self._parser.feed([id_ - v.first_code for id_ in step])
                except SpeechtokError:  # as AudioStreamer: an utterance ends before its first invalid id
                    yield from self.finish()

    def finish(self) -> Iterator[Tensor]:
        if self._parser is not None and not self._ended:
            self._ended = True
            yield self._parser.finish()


def _parts(result: Any) -> Iterable[Any]:
    return [result] if isinstance(result, SpeechTokens | Tensor) else result
