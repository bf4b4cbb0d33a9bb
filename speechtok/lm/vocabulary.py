"""Audio vocabulary: codes to ids of a language model, and back."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from speechtok.errors import FingerprintError, TokensError, VocabularyError, quoted
from speechtok.fingerprints import canonical_fingerprint
from speechtok.limits import (
    MAX_CODEBOOK_SIZE,
    MAX_CODEBOOKS,
    MAX_FINGERPRINT,
    MAX_HOP_LENGTH,
    MAX_SAMPLE_RATE,
    MAX_VOCABULARY_OFFSET,
    MAX_VOCABULARY_SIZE,
)
from speechtok.lm.deprecation import Renamed, renamed_in_module
from speechtok.lm.ids import as_row, as_rows
from speechtok.lm.layout import make_format
from speechtok.lm.parser import Parser
from speechtok.lm.patterns import Pattern, as_pattern
from speechtok.parsing import check_values
from speechtok.tokens import SpeechTokens, check_codes

if TYPE_CHECKING:
    from speechtok.tokenizer import Tokenizer

_MAX_INFO = {
    "sample_rate": MAX_SAMPLE_RATE,
    "hop_length": MAX_HOP_LENGTH,
    "codebook_size": MAX_CODEBOOK_SIZE,
    "num_codebooks": MAX_CODEBOOKS,
}
"""Upper bounds of the fields of :class:`TokenizerInfo`: damaged values must not exhaust memory."""

_MAX_VALUES = 10_000
"""Most plain values of a saved vocabulary."""


@dataclass(frozen=True)
class TokenizerInfo:
    """Properties of a speech tokenizer that a vocabulary depends on.

    Attributes:
        sample_rate: sample rate in hertz.
        hop_length: samples per frame.
        codebook_size: entries ``N`` of each codebook.
        num_codebooks: number of codebooks ``Q``.
        fingerprint: fingerprint of encoder and codebooks.
        aliases: other fingerprints of the same codes, such as those of versions before 0.2; not compared by ``==``.
    """

    sample_rate: int
    hop_length: int
    codebook_size: int
    num_codebooks: int
    fingerprint: str
    aliases: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        for name, high in _MAX_INFO.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= high:
                raise VocabularyError(f"{name} is {quoted(value)}; expected a whole number from 1 to {high}")
        if not isinstance(self.fingerprint, str) or len(self.fingerprint) > MAX_FINGERPRINT:
            raise VocabularyError(f"fingerprint is {quoted(self.fingerprint)}; expected the text of tok.fingerprint")
        if not isinstance(self.aliases, (tuple, list)) or not all(isinstance(alias, str) for alias in self.aliases):
            raise VocabularyError(f"aliases is {quoted(self.aliases)}; expected a list of fingerprints")
        fingerprint = canonical_fingerprint(self.fingerprint)
        aliases = dict.fromkeys((*self.aliases, self.fingerprint))
        aliases.pop(fingerprint, None)
        object.__setattr__(self, "fingerprint", fingerprint)
        object.__setattr__(self, "aliases", tuple(aliases))

    @classmethod
    def of(cls, tokenizer: "Tokenizer | TokenizerInfo") -> "TokenizerInfo":
        """Properties of ``tokenizer``.

        Raises:
            VocabularyError: it is not a speech tokenizer.
        """
        try:
            return cls(**{f.name: getattr(tokenizer, f.name) for f in fields(cls)})
        except AttributeError as error:
            raise VocabularyError(
                f"tokenizer is a {type(tokenizer).__name__}; expected a speech tokenizer, such as speechtok.load()"
            ) from error

    def made(self, fingerprint: str) -> bool:
        """Whether tokens with this fingerprint are codes of the tokenizer."""
        return canonical_fingerprint(fingerprint) == self.fingerprint or fingerprint in self.aliases


class AudioVocabulary:
    """Maps codes to ids of a language model and back, exactly; no id is shared with the text.

    With an :class:`~speechtok.lm.InterleavedPattern`, an utterance is a line of ids, ``bos id … id eos``. Each code of
    each codebook has an id of its own. The ids from ``offset`` on are: four special tokens, the codes of codebook 0, 1,
    …, and the run lengths 2, 3, … if the pattern has them.

    With a :class:`~speechtok.lm.ParallelPattern`, an utterance is a grid: a step of ``bos``, the steps of codes, and a
    step of ``eos``. Each head has ids of its own: the codes, then three special tokens. A delayed codebook has ``pad``
    before its first code and ``eos`` after its last one.

    Args:
        tokenizer: speech tokenizer that makes the codes.
        pattern: ``"flatten"``, ``"semantic"``, ``"coarse_first"``, ``"delay"``, ``"parallel"``, or a
            :class:`~speechtok.lm.Pattern`.
        num_codebooks: number of codebooks to keep, from the first; by default all that the pattern can hold.
        offset: first id, which is the number of ids of the text; :func:`speechtok.lm.extend_tokenizer` finds it.

    Attributes:
        pattern: the pattern.
        num_codebooks: number of codebooks ``Q`` in the ids.
        codebook_size: entries ``N`` of each codebook.
        offset: first id.
        tokenizer_info: properties of the tokenizer.

    Raises:
        VocabularyError: ``tokenizer``, ``pattern``, ``num_codebooks`` or ``offset`` cannot be used.
    """

    facts = Renamed("tokenizer_info")
    end = Renamed("stop_id")
    begin_id = Renamed("bos_id")
    end_id = Renamed("eos_id")
    slot_id = Renamed("placeholder_id")
    at = Renamed("with_offset")
    reader = Renamed("parser")

    def __init__(
        self,
        tokenizer: "Tokenizer | TokenizerInfo",
        pattern: str | Pattern | Mapping[str, Any] = "flatten",
        num_codebooks: int | None = None,
        offset: int = 0,
    ) -> None:
        self.tokenizer_info = info = TokenizerInfo.of(tokenizer)
        self.pattern = as_pattern(pattern)
        max_codebooks = min(info.num_codebooks, self.pattern.max_codebooks or info.num_codebooks)
        num_codebooks = max_codebooks if num_codebooks is None else _as_int(num_codebooks)
        if type(num_codebooks) is not int or not 1 <= num_codebooks <= max_codebooks:
            raise VocabularyError(
                f"num_codebooks is {quoted(num_codebooks)}; expected 1 to {max_codebooks} for the pattern "
                f"{self.pattern.name!r}"
            )
        self.pattern.validate(num_codebooks)
        self.num_codebooks = num_codebooks
        self.codebook_size = info.codebook_size
        offset = _as_int(offset)
        if type(offset) is not int or not 0 <= offset <= MAX_VOCABULARY_OFFSET:
            raise VocabularyError(
                f"offset is {quoted(offset)}; expected the number of ids of the text, 0 to {MAX_VOCABULARY_OFFSET}"
            )
        if num_codebooks * info.codebook_size > MAX_VOCABULARY_SIZE:
            raise VocabularyError(
                f"num_codebooks is {num_codebooks} with codebooks of {info.codebook_size} entries; expected at most "
                f"{MAX_VOCABULARY_SIZE} codes: keep fewer codebooks"
            )
        self.offset = offset
        self._format = make_format(self.pattern, num_codebooks, self.codebook_size, offset)

    @property
    def is_grid(self) -> bool:
        """Whether a step has one id for each codebook."""
        return self._format.is_grid

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the encoder and codebooks that make the codes."""
        return self.tokenizer_info.fingerprint

    @property
    def size(self) -> int:
        """Number of ids, special tokens included; for a grid, the number of ids of each head."""
        return self._format.size

    @property
    def stop_id(self) -> int:
        """First id after the vocabulary: the smallest number of embeddings that a model needs."""
        return self._format.stop_id

    @property
    def bos_id(self) -> int:
        """Id of the start token of an utterance."""
        return self._format.bos_id

    @property
    def eos_id(self) -> int:
        """Id of the end token of an utterance."""
        return self._format.eos_id

    @property
    def pad_id(self) -> int:
        """Id of padding: after the shorter utterances of a batch, and before the delayed codebooks of a grid."""
        return self._format.pad_id

    @property
    def placeholder_id(self) -> int:
        """Id of the placeholder of an utterance in a text; :class:`SpeechProcessor` replaces it.

        Raises:
            VocabularyError: for a grid, which cannot be mixed with text.
        """
        return self._format.placeholder_id

    @property
    def first_code(self) -> int:
        """Id of code 0 of codebook 0."""
        return self._format.first_code

    @property
    def steps_per_second(self) -> float:
        """Ids per second of speech, or steps per second for a grid; an upper bound if the pattern has run lengths."""
        frame_rate = self.tokenizer_info.sample_rate / self.tokenizer_info.hop_length
        return frame_rate if self.is_grid else frame_rate * self.num_codebooks

    @property
    def tokens(self) -> list[str]:
        """Name of each id in a text tokenizer, :attr:`size` names.

        Raises:
            VocabularyError: for a grid, which cannot be mixed with text.
        """
        return self._format.tokens

    def with_offset(self, offset: int) -> "AudioVocabulary":
        """The same vocabulary with another first id."""
        return AudioVocabulary(self.tokenizer_info, self.pattern, self.num_codebooks, offset)

    def for_tokenizer(self, tokenizer: "Tokenizer") -> "AudioVocabulary":
        """The same vocabulary with the present fingerprint of its tokenizer; the former one becomes an alias.

        Raises:
            FingerprintError: ``tokenizer`` makes other codes.
        """
        self.check_tokenizer(tokenizer)
        info = TokenizerInfo.of(tokenizer)
        info = replace(info, aliases=(*info.aliases, *self.tokenizer_info.aliases, self.fingerprint))
        return AudioVocabulary(info, self.pattern, self.num_codebooks, self.offset)

    def check_tokenizer(self, tokenizer: "Tokenizer") -> None:
        """Check that the codes are those of ``tokenizer``, by its fingerprint or an alias.

        Raises:
            FingerprintError: they are not.
        """
        if not _same_codes(self.tokenizer_info, tokenizer):
            raise FingerprintError(
                f"the vocabulary is for the codes of tokenizer {self.fingerprint:.80}, and this is "
                f"{tokenizer.fingerprint:.80}; expected the same: pass the tokenizer that the vocabulary was made with"
            )

    def equivalent(self, other: "AudioVocabulary") -> bool:
        """Whether both have the same ids for the same codes, except for ``offset``."""
        return (
            self.pattern.to_dict() == other.pattern.to_dict()
            and self.num_codebooks == other.num_codebooks
            and self.codebook_size == other.codebook_size
            and _same_codes(self.tokenizer_info, other.tokenizer_info)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON, with the properties of the tokenizer."""
        return {
            "pattern": self.pattern.to_dict(),
            "num_codebooks": self.num_codebooks,
            "offset": self.offset,
            "tokenizer": asdict(self.tokenizer_info),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], pattern: Pattern | None = None) -> "AudioVocabulary":
        """Inverse of :meth:`to_dict`.

        Args:
            values: output of :meth:`to_dict`.
            pattern: the pattern, if :data:`~speechtok.lm.PATTERNS` does not have it.

        Raises:
            VocabularyError: the values are damaged, or have another pattern than ``pattern``.
        """
        try:
            check_values(values, _MAX_VALUES)
            saved = dict(values["pattern"])
            info = TokenizerInfo(**values["tokenizer"])
            num_codebooks, offset = values["num_codebooks"], values["offset"]
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, VocabularyError):
                raise
            raise VocabularyError(
                f"the vocabulary is {quoted(values)} ({quoted(error)}); expected the output of AudioVocabulary.to_dict"
            ) from error
        if pattern is not None and _plain(pattern.to_dict()) != _plain(saved):
            raise VocabularyError(
                f"pattern is {quoted(pattern.to_dict())}; expected the pattern of the saved vocabulary, {quoted(saved)}"
            )
        return cls(info, saved if pattern is None else pattern, num_codebooks, offset)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, AudioVocabulary)
            and self.equivalent(other)
            and (self.offset, self.tokenizer_info) == (other.offset, other.tokenizer_info)
        )

    def __hash__(self) -> int:
        return hash((self.pattern, self.num_codebooks, self.offset, self.tokenizer_info))

    def __repr__(self) -> str:
        return (
            f"AudioVocabulary({self.pattern!r}, num_codebooks={self.num_codebooks}, ids {self.offset} to "
            f"{self.stop_id - 1}, tokenizer {self.fingerprint})"
        )

    def to_ids(self, tokens: SpeechTokens | Tensor) -> Tensor:
        """Codes to ids, with start and end tokens.

        Args:
            tokens: output of ``tok.encode``, or codes, int64 ``(B, Q, T)``. Codebooks after the first
                :attr:`num_codebooks` are dropped.

        Returns:
            int64 ``(B, L)``, or ``(B, L, Q)`` for a grid; shorter utterances are padded with :attr:`pad_id`.

        Raises:
            FingerprintError: another tokenizer made the tokens.
            TokensError: the codes have a wrong range, dtype or shape, or too few codebooks.
        """
        if isinstance(tokens, SpeechTokens):
            if not self.tokenizer_info.made(tokens.fingerprint):
                raise FingerprintError(
                    f"the tokens were made by tokenizer {tokens.fingerprint:.80}; expected {self.fingerprint:.80}, the "
                    "tokenizer of the vocabulary: encode with it, make a vocabulary for the other one, or call "
                    "vocabulary.for_tokenizer(tok) if both are fingerprints of the same codes"
                )
            codes, lengths = tokens.codes, tokens.lengths.tolist()
        else:
            check_codes(tokens, self.codebook_size)
            codes, lengths = tokens, [tokens.shape[2]] * len(tokens)
        if codes.shape[1] < self.num_codebooks:
            raise TokensError(
                f"the tokens have {codes.shape[1]} codebooks; expected at least {self.num_codebooks}: make the "
                f"vocabulary with num_codebooks={codes.shape[1]}"
            )
        device, codes = codes.device, codes[:, : self.num_codebooks].cpu()
        rows = [self._format.to_ids(row[:, :length]) for row, length in zip(codes, lengths, strict=True)]
        if rows:
            ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.pad_id)
        else:
            ids = torch.zeros(0, 0, self._format.num_heads, dtype=torch.int64, device="cpu")
        return (ids if self.is_grid else ids[..., 0]).to(device)

    def to_codes(self, ids: Any, strict: bool = True) -> SpeechTokens:
        """Ids to codes.

        An utterance may be cut off anywhere: its complete frames are returned. For ``coarse_first``, these are all
        frames with the complete codebooks; a batch keeps the codebooks that are complete in each row with frames.

        Args:
            ids: tensor, array or list, ``(L,)`` or ``(B, L)``; for a grid ``(L, Q)`` or ``(B, L, Q)``; or a list of
                rows of different lengths.
            strict: with ``False``, for generated ids, an utterance ends before its first invalid id, and its start
                token may be missing.

        Returns:
            Tokens ``(B, Q, T)`` of complete frames: ``num_samples`` is ``lengths * hop_length``.

        Raises:
            VocabularyError: ``ids`` has a wrong shape or dtype; or, if ``strict``, an id is invalid at its position.
        """
        rows = [self._format.to_codes(row, index, strict) for index, row in enumerate(as_rows(ids, self._num_heads))]
        lengths = torch.tensor([row.shape[1] for row in rows], dtype=torch.int64, device="cpu")
        if len(rows) == 1:
            codes = rows[0][None]
        else:
            codebooks = min((len(row) for row in rows if row.shape[1]), default=self.num_codebooks)
            codes = torch.zeros(len(rows), codebooks, max(lengths.tolist(), default=0), dtype=torch.int64, device="cpu")
            for padded, row in zip(codes, rows, strict=True):
                if row.shape[1]:
                    padded[:, : row.shape[1]] = row[:codebooks]
        t = self.tokenizer_info
        return SpeechTokens(
            codes, lengths, lengths * t.hop_length, t.sample_rate, t.hop_length, t.codebook_size, t.fingerprint
        )

    def spans(self, ids: Any) -> list[slice]:
        """Positions of the utterances in a mixed sequence ``(L,)``, with their start and end tokens.

        An utterance ends with its end token, or before the first id that is not speech, or before the next start token.

        Raises:
            VocabularyError: for a grid, which cannot be mixed with text; or ``ids`` has a wrong shape or dtype.
        """
        return self._format.spans(as_row(ids, self._num_heads))

    def continuations(self, ids: Any) -> Tensor:
        """Mask of the ids that may follow a sequence.

        Outside of utterances, any text and the start token may follow. After an invalid id in an utterance, only the
        end token may follow.

        Args:
            ids: text and speech ``(L,)``; or ``(L, Q)`` for a grid.

        Returns:
            bool ``(stop_id,)``, or ``(Q, stop_id)`` for a grid.

        Raises:
            VocabularyError: ``ids`` has a wrong shape or dtype.
        """
        allowed = self._format.continuations(as_row(ids, self._num_heads))
        return allowed if self.is_grid else allowed[0]

    def parser(self) -> Parser:
        """Incremental parser for the ids between the start and end token of an utterance, minus :attr:`first_code`."""
        return self._format.parser()

    @property
    def _num_heads(self) -> int | None:
        """Ids per step of a grid; ``None`` for a line."""
        return self._format.num_heads if self.is_grid else None


def _same_codes(one: "Tokenizer | TokenizerInfo", other: "Tokenizer | TokenizerInfo") -> bool:
    return any(
        a.made(fingerprint) for a, b in ((one, other), (other, one)) for fingerprint in (b.fingerprint, *b.aliases)
    )


def _as_int(value: Any) -> Any:
    return int(value) if isinstance(value, np.integer) else value


def _plain(values: Mapping[str, Any]) -> Any:
    """``values`` as JSON gives them back, with lists for tuples."""
    return json.loads(json.dumps(values, default=repr, skipkeys=True))


__getattr__ = renamed_in_module(
    __name__,
    {
        "BEGIN": "BOS_TOKEN",
        "END": "EOS_TOKEN",
        "PAD": "PAD_TOKEN",
        "SLOT": "PLACEHOLDER_TOKEN",
        "TokenizerFacts": "TokenizerInfo",
    },
)
