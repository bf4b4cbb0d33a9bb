"""The logits processors of vLLM, with vLLM if it is installed, else with stand-ins for the three classes they build on.

``python -m tests.lm.vllm_engine`` runs them in an engine.
"""

import importlib
import importlib.util
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum, auto
from types import ModuleType, SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer

import speechtok
from speechtok.errors import VocabularyError
from speechtok.lm import SpeechLogitsProcessor

PROMPT = [5, 6]


class MoveDirectionality(Enum):
    UNIDIRECTIONAL = auto()
    SWAP = auto()


@dataclass(frozen=True)
class BatchUpdate:
    batch_size: int
    removed: list
    added: list
    moved: list


class LogitsProcessor(ABC):
    @abstractmethod
    def __init__(self, vllm_config, device, is_pin_memory): ...

    @abstractmethod
    def apply(self, logits): ...

    @abstractmethod
    def is_argmax_invariant(self): ...

    @abstractmethod
    def update_state(self, batch_update): ...


class SlotLogitsProcessor(ABC):
    def __init__(self, vllm_config, req_states):  # noqa: B027
        pass

    @abstractmethod
    def apply(self, logits, ctx): ...


@pytest.fixture
def plugin(monkeypatch):
    """``speechtok.lm.vllm``."""
    if importlib.util.find_spec("vllm") is None:
        for name, members in {
            "vllm.v1.sample.logits_processor": {
                "BatchUpdate": BatchUpdate,
                "LogitsProcessor": LogitsProcessor,
                "MoveDirectionality": MoveDirectionality,
            },
            "vllm.v1.worker.gpu.sample.logits_processor": {"LogitsProcessor": SlotLogitsProcessor},
        }.items():
            parts = name.split(".")
            for n in range(1, len(parts) + 1):
                module = ".".join(parts[:n])
                if module not in sys.modules:
                    monkeypatch.setitem(sys.modules, module, ModuleType(module))
            for member, value in members.items():
                setattr(sys.modules[name], member, value)
    monkeypatch.delitem(sys.modules, "speechtok.lm.vllm", raising=False)
    yield importlib.import_module("speechtok.lm.vllm")
    sys.modules.pop("speechtok.lm.vllm", None)


@pytest.fixture(params=["flatten", "delay", "semantic"])
def config(request, tiktoken, tiny, tmp_path):
    """The vocabulary, and the config of an engine whose model has it."""
    vocab = speechtok.lm.extend_tokenizer(tiktoken, speechtok.AudioVocabulary(tiny, request.param))
    tiktoken.save_pretrained(tmp_path)
    model = SimpleNamespace(tokenizer=str(tmp_path), model="", tokenizer_revision=None, trust_remote_code=False)
    return vocab, SimpleNamespace(model_config=model)


def expected_logits(vocab, sequences, logits):
    rows = [SpeechLogitsProcessor(vocab)(torch.tensor([row]), logits[i : i + 1]) for i, row in enumerate(sequences)]
    return torch.cat(rows)


def sequences_of(vocab, tokens):
    """Sequences of text and speech, complete and cut, valid and not."""
    ids = vocab.to_ids(tokens[0])[0].tolist()
    return [[*PROMPT, *ids[:7]], [*PROMPT, *ids], PROMPT, [*PROMPT, *ids[:4], 9, 9], [*PROMPT, *ids, 7, ids[0]]]


def test_each_request_is_masked_like_in_transformers(plugin, config, tokens):
    vocab, engine = config
    processor = plugin.SpeechLogitsProcessor(engine, torch.device("cpu"), False)
    assert not processor.is_argmax_invariant()
    sequences = sequences_of(vocab, tokens)
    generated = [[] for _ in sequences]
    update = plugin.BatchUpdate(
        len(sequences), [], [(i, None, row[:2], generated[i]) for i, row in enumerate(sequences)], []
    )
    logits = torch.randn(len(sequences), vocab.stop_id + 5)
    processor.update_state(update)
    for length in range(2, max(map(len, sequences)) + 1):
        so_far = [row[:length] for row in sequences]
        for row, known in zip(so_far, generated, strict=True):
            known[:] = row[2:]
        processor.update_state(None)
        assert torch.equal(processor.apply(logits.clone()), expected_logits(vocab, so_far, logits))


def test_rows_are_followed_when_requests_come_go_and_move(plugin, config, tokens):
    vocab, engine = config
    processor = plugin.SpeechLogitsProcessor(engine, torch.device("cpu"), False)
    sequences = sequences_of(vocab, tokens)
    added = [(i, None, row, []) for i, row in enumerate(sequences)]
    swap, one_way = plugin.MoveDirectionality.SWAP, plugin.MoveDirectionality.UNIDIRECTIONAL
    processor.update_state(plugin.BatchUpdate(5, [], added, [(0, 3, swap)]))
    rows = [sequences[i] for i in (3, 1, 2, 0, 4)]
    logits = torch.randn(5, vocab.stop_id)
    assert torch.equal(processor.apply(logits.clone()), expected_logits(vocab, rows, logits))
    processor.update_state(plugin.BatchUpdate(4, [1], [], [(4, 1, one_way)]))
    rows = [sequences[i] for i in (3, 4, 2, 0)]
    assert torch.equal(processor.apply(logits[:4].clone()), expected_logits(vocab, rows, logits[:4]))
    processor.update_state(plugin.BatchUpdate(2, [0, 2], [(2, None, sequences[1], [-1])], []))
    masked = processor.apply(logits[:4].clone())
    rows = [sequences[i] for i in (4, 1, 0)]
    assert torch.equal(masked[0], logits[0])  # nobody's row
    assert torch.equal(masked[1:], expected_logits(vocab, rows, logits[1:4]))


def test_slots_and_draft_tokens_are_masked_by_what_comes_before_them(plugin, config, tokens):
    vocab, engine = config
    sequences = sequences_of(vocab, tokens)
    slots = [3, 0, 2, 1, 4]
    history = torch.zeros(6, 200, dtype=torch.int32)
    for slot, row in zip(slots, sequences, strict=True):
        history[slot, : len(row)] = torch.tensor(row)
    states = SimpleNamespace(device=torch.device("cpu"), all_token_ids=SimpleNamespace(gpu=history))
    processor = plugin.SpeechSlotLogitsProcessor(engine, states)
    assert all(processor.add_request(slot, None) for slot in slots)
    draft = 3  # the last tokens of each sequence come as a draft
    for _ in range(2):
        for slot, row in zip(slots, sequences, strict=True):
            committed = max(1, len(row) - draft)
            history[slot, committed:] = -1
        steps = [
            (slot, offset, row[committed + offset - 1], committed + offset - 1, row[: committed + offset])
            for slot, row in zip(slots, sequences, strict=True)
            for committed in [max(1, len(row) - draft)]
            for offset in range(len(row) - committed + 1)
        ]
        steps.append((5, 0, 7, 0, None))  # a slot of nobody
        logits = torch.randn(len(steps), vocab.stop_id + 1)
        slot, offset, inputs, pos = (torch.tensor([step[i] for step in steps]) for i in range(4))
        context = SimpleNamespace(expanded_idx_mapping=slot, expanded_local_pos=offset, input_ids=inputs, pos=pos)
        masked = processor.apply(logits.clone(), context)
        assert torch.equal(masked[-1], logits[-1])
        assert torch.equal(masked[:-1], expected_logits(vocab, [step[4] for step in steps[:-1]], logits[:-1]))


def test_a_model_without_speech_is_refused(plugin, tiktoken, tmp_path, config):
    vocab, engine = config
    engine.model_config.tokenizer = str(tmp_path / "plain")
    text = AutoTokenizer.from_pretrained(tmp_path)
    text.init_kwargs.pop("speechtok")
    text.save_pretrained(tmp_path / "plain")
    with pytest.raises(VocabularyError, match="has no audio vocabulary; expected a folder"):
        plugin.SpeechLogitsProcessor(engine, torch.device("cpu"))
    engine.model_config.tokenizer = str(tmp_path)
    processor = plugin.SpeechLogitsProcessor(engine, torch.device("cpu"))
    processor.update_state(plugin.BatchUpdate(1, [], [(0, None, PROMPT, [])], []))
    with pytest.raises(VocabularyError, match=f"has scores for {vocab.stop_id - 1} ids"):
        processor.apply(torch.zeros(1, vocab.stop_id - 1))
