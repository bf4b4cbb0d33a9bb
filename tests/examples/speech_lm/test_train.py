import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from examples.speech_lm import train
from examples.speech_lm.talker import Talker
from examples.speech_lm.trainer import Trainer
from speechtok.errors import CheckpointError
from tests.examples.speech_lm.conftest import MODEL, config_of, grid_of, weights_of


@pytest.mark.parametrize("make", [config_of, grid_of])
def test_an_interrupted_training_reaches_the_weights_of_an_uninterrupted_one(values, make, tmp_path, monkeypatch):
    dropout = MODEL | {"attention_dropout": 0.3}
    train.train(make(values, model=dropout))
    resumed = make(values, model=dropout, out=str(tmp_path / "resumed"))
    step = Trainer.run_step

    def interrupted(self):
        if self.step == 3:
            raise RuntimeError("power cut")
        return step(self)

    monkeypatch.setattr(Trainer, "run_step", interrupted)
    with pytest.raises(RuntimeError, match="power cut"):
        train.train(resumed)
    monkeypatch.setattr(Trainer, "run_step", step)
    train.train(resumed)
    one, other = weights_of(values["out"]), weights_of(resumed.out)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_ctrl_c_saves_a_checkpoint_and_exports_the_model(values, monkeypatch):
    config = config_of(values, steps=1000, checkpoint_every=1000, validate_every=1000)
    step = Trainer.run_step

    def interrupted(self):
        if self.step == 2:
            signal.raise_signal(signal.SIGINT)
        return step(self)

    monkeypatch.setattr(Trainer, "run_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.train(config)
    assert torch.load(Path(config.out) / "checkpoint.pt", weights_only=True)["place"][0] == 3
    assert Talker(Path(config.out) / "model").say("yes", temperature=1.0).tokens.codes.shape[:2] == (1, 1)


def test_keep_best_exports_the_weights_with_the_lowest_loss(values):
    config = config_of(values, keep_best=True, learning_rate=0.5, steps=8, validate_every=1)  # it diverges
    train.train(config)
    rows = [json.loads(line) for line in (Path(config.out) / "log.jsonl").read_text().splitlines()]
    assert min(row["loss"] for row in rows) < rows[-1]["loss"]
    best = torch.load(Path(config.out) / "best.pt", weights_only=True)
    exported = AutoModelForCausalLM.from_pretrained(Path(config.out) / "model").state_dict()
    assert all(torch.equal(exported[name], weight) for name, weight in best.items())


def test_a_checkpoint_of_another_training_or_tokenizer_is_refused(values, new_tokenizer, tmp_path):
    train.train(config_of(values))
    with pytest.raises(CheckpointError, match=r"text_weight 1\.0, and the config says 2\.0"):
        train.train(config_of(values, text_weight=2.0))
    new_tokenizer(seed=1).save(tmp_path / "other")
    with pytest.raises(CheckpointError, match="trained with the speech tokenizer"):
        train.train(config_of(values, tokenizer=str(tmp_path / "other")))
    corrected = tmp_path / "corrected"
    shutil.copytree(values["data"], corrected)
    lines = (corrected / "train.jsonl").read_text()
    (corrected / "train.jsonl").write_text(lines.replace('"yes"', '"yes indeed"'))
    with pytest.raises(CheckpointError, match="trained on other utterances, texts or phones"):
        train.train(config_of(values, data=str(corrected)))
    (Path(values["out"]) / "checkpoint.pt").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="delete it to start again"):
        train.train(config_of(values))
