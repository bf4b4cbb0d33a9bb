from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import speechtok
from examples.speech_lm import models, train
from examples.speech_lm.config import load_config
from speechtok.errors import ConfigError, InputError, MissingFileError, VocabularyError
from tests.examples.speech_lm.conftest import config_of

CONFIGS = sorted((Path(__file__).resolve().parents[3] / "examples" / "speech_lm" / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_valid_and_no_new_model_has_more_than_30_million_parameters(path):
    config = load_config(str(path), ["data=somewhere"])
    if config.model:
        ids = models.make_processor(config, speechtok.load()).vocabulary.stop_id
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config.model, vocab_size=ids))
        assert sum(p.numel() for p in model.parameters()) < 30e6


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"stage": "music"}, ConfigError, "stage is 'music'; expected one of language, speech"),
        ({"steps": 0}, ConfigError, "steps is 0; expected at least 1"),
        ({"learning_rate": 0.0}, ConfigError, "learning_rate is 0.0; expected above 0"),
        ({"model": {}}, ConfigError, "expected exactly one of them"),
        ({"pretrained": "x"}, ConfigError, "expected exactly one of them"),
        ({"lora_rank": 4}, ConfigError, "lora_rank is 4 without pretrained"),
        ({"heads": {"name": "depth"}}, ConfigError, "heads is {'name': 'depth'} for the stage language"),
        ({"heads": {"name": "tree"}, "stage": "speech"}, ConfigError, "heads is {'name': 'tree'} for the stage speech"),
        ({"lexicon": "words.dict", "stage": "speech"}, ConfigError, "lexicon is 'words.dict' for the stage speech"),
        ({"lexicon": "nothing.dict"}, MissingFileError, "lexicon is 'nothing.dict', which does not exist"),
        ({"lexicon": __file__}, InputError, "line 1: phone is"),
        ({"lexicon": "/dev/null"}, MissingFileError, "expected a pronouncing dictionary"),
        ({"model": {"model_type": "nothing"}}, ConfigError, "which transformers cannot create"),
        ({"model": {"hidden_size": 8}}, ConfigError, "expected a model_type"),
        ({"pattern": {"name": "zigzag"}}, VocabularyError, "pattern is"),
        ({"pattern": {"name": "parallel"}}, VocabularyError, "pattern"),
        ({"data": "nowhere"}, MissingFileError, "train.jsonl does not exist"),
        ({"utterances": 99}, InputError, "utterances is 99, and .* has 4 with a text"),
        ({"tokenizer": "nowhere/at-all/x"}, MissingFileError, "nowhere"),
        ({"device": "cuda:77"}, InputError, "device is 'cuda:77'"),
    ],
)
def test_a_mistake_in_a_config_says_what_was_expected(values, changes, error, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(error, match=message):
        train.train(config_of(values, **changes))


def test_a_missing_pretrained_model_is_named(values, tmp_path):
    del values["model"]
    with pytest.raises(InputError, match="which transformers cannot load"):
        train.train(config_of(values, pretrained=str(tmp_path)))
