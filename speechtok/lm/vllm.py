"""Valid speech from vLLM: logits processors for its two model runners.

vLLM loads them by name, and they read the vocabulary from the text tokenizer of the served model:

>>> LLM("talker", logits_processors=["speechtok.lm.vllm:SpeechLogitsProcessor"])
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from speechtok.errors import VocabularyError, quoted
from speechtok.lm.continuations import Continuations
from speechtok.lm.extend import vocabulary_of
from speechtok.lm.vocabulary import AudioVocabulary

try:  # the newer model runner, vLLM 0.32 and later
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as _SlotLogitsProcessor
except ImportError:
    _SlotLogitsProcessor = object


class _Masks:
    """Masks of the ids of a model on its device; an utterance needs few different ones.

    Args:
        vocabulary: the vocabulary.
        device: device of the logits.
    """

    def __init__(self, vocabulary: AudioVocabulary, device: torch.device) -> None:
        self._vocabulary, self._device = vocabulary, device
        self._indices: dict[tuple[range, ...], int] = {}
        self._forbidden = torch.empty(0, 0, dtype=torch.bool, device=device)

    def apply(self, logits: Tensor, rows: Sequence[int], sequences: Sequence[Continuations]) -> Tensor:
        """Set the logits ``(B, number of ids)`` of invalid ids to ``-inf``, in place.

        Args:
            logits: scores of the next ids.
            rows: rows of ``logits``.
            sequences: the sequence of each of them.
        """
        if not rows:
            return logits
        self._check(logits)
        indices = torch.tensor([self._index(one, logits.shape[1]) for one in sequences], device=self._device)
        if len(rows) == len(logits) and [*rows] == [*range(len(rows))]:
            return logits.masked_fill_(self._forbidden[indices], -torch.inf)
        selected = torch.tensor(rows, device=self._device)
        logits[selected] = logits[selected].masked_fill_(self._forbidden[indices], -torch.inf)
        return logits

    def _index(self, sequence: Continuations, num_ids: int) -> int:
        key = sequence.ranges()
        if key not in self._indices:
            mask = ~sequence.mask(num_ids).to(self._device)
            self._forbidden = torch.cat([self._forbidden.view(-1, num_ids), mask[None]])
            self._indices[key] = len(self._indices)
        return self._indices[key]

    def _check(self, logits: Tensor) -> None:
        if logits.shape[1] < self._vocabulary.stop_id:
            raise VocabularyError(
                f"the model has scores for {logits.shape[1]} ids; expected at least {self._vocabulary.stop_id}, for "
                "all ids of the vocabulary: extend the model with speechtok.lm.extend_model, and save it with its "
                "processor"
            )


class SpeechLogitsProcessor(LogitsProcessor):  # type: ignore[misc]
    """Allows only valid continuations of text and speech, in each request.

    For the model runner V1 of vLLM, which runs on CPUs, and on GPUs up to vLLM 0.31 or with
    ``VLLM_USE_V2_MODEL_RUNNER=0``.

    Args:
        vllm_config: config of the engine, which names the text tokenizer.
        device: device of the logits.
        is_pin_memory: not used.

    Raises:
        VocabularyError: the text tokenizer of the model has no audio vocabulary.
    """

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool = False) -> None:
        self._vocabulary = served_vocabulary(vllm_config)
        self._masks = _Masks(self._vocabulary, device)
        self._requests: dict[int, _Request] = {}

    def is_argmax_invariant(self) -> bool:
        """Whether greedy decoding ignores the processor: it does not."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the rows of the batch."""
        if batch_update is None:
            return
        for index in batch_update.removed:
            self._requests.pop(index, None)
        for index, _, prompt, generated in batch_update.added:
            self._requests[index] = _Request(self._vocabulary, prompt or [], generated)
        for one, other, direction in batch_update.moved:
            moved, replaced = self._requests.pop(one, None), self._requests.pop(other, None)
            if moved is not None:
                self._requests[other] = moved
            if replaced is not None and direction == MoveDirectionality.SWAP:
                self._requests[one] = replaced

    def apply(self, logits: Tensor) -> Tensor:
        """Mask the logits ``(B, number of ids)`` of the next ids."""
        rows = sorted(index for index in self._requests if index < len(logits))
        return self._masks.apply(logits, rows, [self._requests[index].current() for index in rows])


class _Request:
    """Sequence of a request, whose list of generated ids vLLM extends."""

    def __init__(self, vocabulary: AudioVocabulary, prompt: Sequence[int], generated: Sequence[int]) -> None:
        self._generated, self._taken = generated, 0
        self._sequence = Continuations(vocabulary)
        self._sequence.feed(prompt)

    def current(self) -> Continuations:
        new = self._generated[self._taken :]
        new = new[: next((i for i, id_ in enumerate(new) if id_ < 0), len(new))]  # -1 stands for ids still to come
        self._sequence.feed(new)
        self._taken += len(new)
        return self._sequence


class SpeechSlotLogitsProcessor(_SlotLogitsProcessor):  # type: ignore[misc]
    """:class:`SpeechLogitsProcessor` for the model runner V2, the default on GPUs from vLLM 0.32 on.

    Serves speculative decoding too: each draft token has a row, which is masked by the tokens before it.

    Args:
        vllm_config: config of the engine, which names the text tokenizer.
        req_states: tokens of the requests.

    Raises:
        VocabularyError: the text tokenizer of the model has no audio vocabulary.
    """

    def __init__(self, vllm_config: Any, req_states: Any) -> None:
        super().__init__(vllm_config, req_states)
        self._vocabulary = served_vocabulary(vllm_config)
        self._masks = _Masks(self._vocabulary, req_states.device)
        self._tokens = req_states.all_token_ids
        self._sequences: dict[int, tuple[Continuations, int]] = {}  # by slot, with the number of tokens taken

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """Start with an empty sequence; the slot may have served another request."""
        self._sequences[req_idx] = Continuations(self._vocabulary), 0
        return True

    def apply(self, logits: Tensor, ctx: Any) -> Tensor:
        """Mask the logits ``(rows, number of ids)`` of the next ids."""
        slots, positions, offsets, inputs = (
            values.tolist() for values in (ctx.expanded_idx_mapping, ctx.pos, ctx.expanded_local_pos, ctx.input_ids)
        )
        first = {slot: row for row, (slot, offset) in enumerate(zip(slots, offsets, strict=True)) if offset == 0}
        rows, sequences = [], []
        for row, slot in enumerate(slots):
            if slot not in self._sequences:
                continue
            start = first.get(slot, row)
            committed = self._committed(slot, positions[start] + 1)
            drafted = inputs[start + 1 : row + 1]
            rows.append(row)
            sequences.append(committed.followed_by(drafted) if drafted else committed)
        return self._masks.apply(logits, rows, sequences)

    def _committed(self, slot: int, length: int) -> Continuations:
        """The sequence of a slot with its first ``length`` tokens."""
        sequence, taken = self._sequences[slot]
        if length < taken:  # resumed from an earlier position
            sequence, taken = Continuations(self._vocabulary), 0
        if length > taken:
            sequence.feed(self._tokens.gpu[slot, taken:length].tolist())
            self._sequences[slot] = sequence, length
        return sequence


def served_vocabulary(vllm_config: Any) -> AudioVocabulary:
    """Vocabulary in the text tokenizer of the model that an engine serves.

    Args:
        vllm_config: config of the engine.

    Raises:
        VocabularyError: there is none.
    """
    model = vllm_config.model_config
    name = model.tokenizer or model.model
    tokenizer = AutoTokenizer.from_pretrained(  # type: ignore[no-untyped-call]
        name, revision=model.tokenizer_revision, trust_remote_code=model.trust_remote_code
    )
    saved = vocabulary_of(tokenizer)
    if saved is None:
        raise VocabularyError(
            f"the text tokenizer {quoted(name)} has no audio vocabulary; expected a folder that "
            "SpeechProcessor.save_pretrained wrote, with the model in it"
        )
    return AudioVocabulary.from_dict(saved)
