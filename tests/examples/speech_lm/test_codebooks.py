import dataclasses
import math
import sys
from pathlib import Path

import pytest
import torch

import speechtok
from examples.speech_lm import codebooks, train
from examples.speech_lm.config import load_config, run
from examples.speech_lm.dataset import CropDataset
from examples.speech_lm.prepare import load_tokenizer, prepare
from examples.speech_lm.trainer import Trainer
from speechtok.lm import AudioVocabulary, GridLanguageModel
from tests.examples.speech_lm.conftest import MODEL, config_of, grid_of

PATTERNS = {
    "depth": {},
    "delay": {"pattern": {"name": "parallel", "delays": [0, 1, 2]}, "heads": {"name": "parallel"}},
    "flatten": {"pattern": {"name": "flatten"}, "heads": {}},
}


@pytest.mark.parametrize("name", ["depth", "delay"])
def test_the_example_trains_and_exports_models_of_grids(values, name):
    folder = train.train(grid_of(values, **PATTERNS[name]))
    model = GridLanguageModel.from_pretrained(folder)
    tok = speechtok.load(folder / "speech_tokenizer")
    ids = model.generate(max_steps=8, generator=torch.Generator().manual_seed(0))
    codes = model.vocabulary.to_codes(ids[0], strict=False)
    assert tok.decode(codes).shape == (1, codes.codes.shape[2] * tok.hop_length)


def test_all_models_train_on_the_same_batches(values, tiny):
    config = grid_of(values)
    utterances = prepare(config, load_tokenizer(config), "train")
    sets = [
        CropDataset(utterances, AudioVocabulary(tiny, pattern, 3), 15, 0)
        for pattern in ("parallel", "flatten", {"name": "parallel", "delays": [0, 1, 2]})
    ]
    assert sets[0].lengths == sets[1].lengths == sets[2].lengths
    codes = []
    for one in sets:
        v = one._vocabulary
        codes.append(v.to_codes(one.batch([0, 1], 3)["input_ids"]).codes)
    assert torch.equal(codes[0], codes[1])
    assert torch.equal(codes[0], codes[2])


@pytest.mark.parametrize("name", list(PATTERNS))
def test_bits_per_second_are_those_of_the_losses(values, name, monkeypatch):
    monkeypatch.setattr(codebooks, "_steps_within", lambda trainer, seconds: 2)
    config = grid_of(values, **PATTERNS[name])
    result = codebooks.train_and_measure(config, name, 1.0)
    tokenizer = load_tokenizer(config)
    dev = prepare(config, tokenizer, "dev")
    frames = sum(min(15, one.tokens.codes.shape[2]) for one in dev)
    # untrained: about uniform over the ids of a step, each head or the whole vocabulary
    ids = 3 * frames + len(dev)
    uniform = ids * math.log2(3 * 32 + 260 if name == "flatten" else 35) / frames * tokenizer.frame_rate
    assert 0.5 * uniform < result.bits_per_second < 2 * uniform
    assert result.steps == 2
    assert result.speech_minutes > 0


def test_the_number_of_steps_follows_from_the_cpu_time(values, monkeypatch):
    config = config_of(values, model=MODEL)
    tokenizer = load_tokenizer(config)
    clock = iter([10.0, 10.5])
    monkeypatch.setattr(codebooks.time, "process_time", lambda: next(clock))
    monkeypatch.setattr(Trainer, "run_step", lambda self: 0.0)
    trainer = object.__new__(Trainer)
    assert codebooks._steps_within(trainer, 60) == 600
    assert tokenizer.num_codebooks == 4


def test_frequencies_of_the_codes_give_their_entropy(values):
    config = grid_of(values)
    train_set = prepare(config, load_tokenizer(config), "train")
    one = train_set[0]
    codes = torch.zeros(1, 3, 320, dtype=torch.int64)
    codes[:, :, 1::2] = 1  # two codes, equally often
    even = dataclasses.replace(
        one, tokens=speechtok.SpeechTokens(codes, torch.tensor([320]), torch.tensor([320 * 320]), 16_000, 320, 32, "")
    )
    bits = codebooks.unigram_bits_per_second([even] * 50, [even])
    assert bits == pytest.approx(3 * 50, rel=0.01)


def test_the_command_prints_the_table_and_keeps_results(values, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(codebooks, "_steps_within", lambda trainer, seconds: 1)
    small = ["model.hidden_size=32", "model.intermediate_size=32", "model.num_hidden_layers=1", "num_codebooks=3"]
    paths = [f"{name}={values[name]}" for name in ("data", "tokens", "tokenizer")]
    out = str(tmp_path / "out")
    monkeypatch.setattr(
        sys, "argv", ["codebooks", *paths, *small, "utterances=0", "--models", "flatten", "depth", "--out", out]
    )
    assert run(codebooks.main) == 0
    table = capsys.readouterr().out.splitlines()[-5:]
    assert table[0].startswith("| model |")
    assert table[2].startswith("| frequencies of the codes |")
    assert table[4].startswith("| depth transformer over the codebooks of a frame |")
    monkeypatch.setattr(codebooks, "train_and_measure", lambda *_: pytest.fail("trained again"))
    assert run(codebooks.main) == 0
    assert capsys.readouterr().out.splitlines()[-5:] == table


def test_the_configs_differ_in_pattern_and_heads_only():
    configs = [load_config(str(codebooks.CONFIGS / f"{name}.yaml"), ["data=DIR"]) for name in codebooks.MODELS]
    same = [dataclasses.replace(config, pattern={}, heads={}, out="out") for config in configs]
    assert same[0] == same[1] == same[2]
    assert Path(configs[0].out).name == "depth"
