import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import speechtok
from examples.speech_lm import models, train
from examples.speech_lm.talker import Talker
from examples.speech_lm.text_tokenizer import byte_tokenizer
from speechtok.errors import ConfigError, SpeechtokError
from tests.examples.speech_lm.conftest import MODEL, config_of, weights_of


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_lora_trains_a_pretrained_model_and_the_new_ids(values, tmp_path, tied):
    pytest.importorskip("peft")
    base = tmp_path / "base"
    text = byte_tokenizer()
    text.save_pretrained(base)
    fields = {name: value for name, value in MODEL.items() if name not in ("model_type", "tie_word_embeddings")}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(text), tie_word_embeddings=tied, **fields)).save_pretrained(base)
    del values["model"]
    train.train(config_of(values, pretrained=str(base), lora_rank=2, learning_rate=0.05))
    before = AutoModelForCausalLM.from_pretrained(base)
    after = AutoModelForCausalLM.from_pretrained(Path(values["out"]) / "model")
    old = before.get_input_embeddings().weight
    assert torch.equal(after.get_input_embeddings().weight[: len(old)], old)  # embeddings of text are unchanged
    assert not torch.equal(after.model.layers[0].mlp.up_proj.weight, before.model.layers[0].mlp.up_proj.weight)
    start = models.make_model(config_of(values, pretrained=str(base)), Talker(Path(values["out"]) / "model").processor)
    for table in ("get_input_embeddings", "get_output_embeddings"):
        new, made = getattr(after, table)().weight, getattr(start, table)().weight
        assert new.shape == made.shape
        assert not torch.equal(new[len(old) :], made[len(old) :])
    assert len(weights_of(values["out"])) < 40  # the checkpoint holds no weight of the pretrained model
    assert Talker(Path(values["out"]) / "model").say("yes", temperature=1.0).tokens.codes.shape[:2] == (1, 1)


def test_lora_without_peft_says_what_to_install(values, monkeypatch, tiny):
    del values["model"]
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "peft" else find(name, *rest))
    monkeypatch.setattr(models, "_from_pretrained", lambda kind, name, **_: LlamaForCausalLM(
        LlamaConfig(vocab_size=300, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    ))  # fmt: skip
    processor = models.SpeechProcessor(byte_tokenizer(), tiny, speechtok.AudioVocabulary(tiny, "semantic"))
    with pytest.raises(ConfigError, match="pip install"):
        models.make_model(config_of(values, pretrained="anything", lora_rank=2), processor)


def test_a_damaged_model_is_named(values):
    folder = train.train(config_of(values, steps=1))
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(SpeechtokError, match="cannot be read"):
        Talker(folder)
