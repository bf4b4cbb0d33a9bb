import copy

import pytest
import torch

import speechtok
from speechtok.errors import ConfigError, InputError
from tests.training.helpers import config_of, exported_of, extracted, state_of, tensors_of, trainer_of
from training.autoencoder import make_autoencoder
from training.distributed import World
from training.splits import load_splits
from training.trainer import Batch, Trainer, make_optimizers

pytestmark = pytest.mark.slow


def test_training_lowers_the_loss(tiny_config):
    config = config_of(tiny_config, steps=60)
    trainer = trainer_of(config)
    mel = [float(trainer.run_step(trainer.batch(step))["mel"]) for step in range(60)]
    assert sum(mel[-5:]) < 0.7 * sum(mel[:5])


def test_a_loss_without_a_weight_is_an_error(tiny_config):
    trainer = trainer_of(config_of(tiny_config))
    del trainer.loss_weights["mel"]
    with pytest.raises(KeyError, match="mel"):
        trainer.run_step(trainer.batch(0))


def test_every_prefix_of_the_codebooks_is_trained(tiny_config):
    config = config_of(tiny_config)
    trainer = trainer_of(config)
    frames = set()
    for step in range(8):
        counts = trainer.run_step(trainer.batch(step)).get("counts")
        if counts is not None:
            frames |= {tuple((counts.sum(1) / config.crop_frames).tolist())}
    # rows of a batch of 4 that use each of the 3 codebooks: all the first, and not always all the others
    assert all(rows[0] == 4 for rows in frames)
    assert len({rows[1] for rows in frames}) > 1
    assert len({rows[2] for rows in frames}) > 1


def test_a_training_starts_from_a_tokenizer(trained, tmp_path):
    first = exported_of(trained)
    config = config_of(trained, out=str(tmp_path / "second"), start_from=str(first))
    trainer = trainer_of(config)
    started = speechtok.load(first)
    trainer.load_tokenizer(started)
    assert trainer.tokenizer.fingerprint == started.fingerprint
    assert trainer.quantizer.started
    assert torch.equal(trainer.quantizer.codebooks, started.quantizer.codebooks)
    trained_weights = dict(trainer.autoencoder.named_parameters())
    assert all(torch.equal(p, trained_weights[f"encoder.{name}"]) for name, p in started.encoder.named_parameters())
    trainer.run_step(trainer.batch(0))
    drift = (trainer.quantizer.codebooks - started.quantizer.codebooks).abs().max()
    assert 0 < drift < started.quantizer.codebooks.abs().max()


def test_the_trained_autoencoder_computes_what_the_exported_tokenizer_computes(tiny_config):
    config = config_of(tiny_config)
    trainer = trainer_of(config)
    waveform = trainer.batch(0).waveform
    simulated = trainer._encode(waveform)
    with torch.no_grad():
        exactly, _ = trainer.tokenizer.encoder(waveform, trainer.tokenizer.encoder.initial_state(len(waveform)))
        padded = torch.nn.functional.pad(exactly, (0, 0, 0, 1))
        audio, _ = trainer.tokenizer.decoder(padded, trainer.tokenizer.decoder.initial_state(len(waveform)))
    assert simulated.requires_grad
    assert torch.allclose(simulated, exactly, atol=1e-4)
    assert torch.allclose(trainer._decode(exactly), audio[:, 320:], atol=1e-4)


def spoil(batch: Batch, bad: bool) -> Batch:
    return batch._replace(waveform=batch.waveform * (float("nan") if bad else 1.0))


def test_a_step_that_is_not_finite_changes_no_state_and_is_counted(tiny_config, monkeypatch):
    original, bad = Trainer.batch, {1, 4, 6}
    monkeypatch.setattr(Trainer, "batch", lambda self, step: spoil(original(self, step), step in bad))
    trainer = trainer_of(config_of(tiny_config))
    for step in range(8):
        before = {name: value.clone() for name, value in tensors_of(trainer.state_dict())}
        trainer.run_step(trainer.batch(step))
        same = all(
            torch.equal(before[name], value) for name, value in tensors_of(trainer.state_dict()) if name in before
        )
        assert same == (step in bad)
    assert trainer.skipped.total == 3
    assert all(torch.isfinite(value).all() for _, value in tensors_of(trainer.state_dict()))


def test_accumulated_parts_give_the_step_of_the_whole_batch(tiny_config, tmp_path):
    values = tiny_config | {"steps": 20, "crop_seconds": 0.6, "loss": {"loudness": 3.0, "intelligibility": 3.0}}
    whole = trainer_of(config_of(values))
    parts = trainer_of(config_of(values, accumulate=4))
    for step in range(12):
        parts.load_state_dict(copy.deepcopy(whole.state_dict()))  # each step by itself: Muon amplifies rounding
        left, right = whole.run_step(whole.batch(step)), parts.run_step(parts.batch(step))
        assert left.keys() == right.keys()
        for name in left:
            assert torch.allclose(left[name], right[name], rtol=1e-4, atol=1e-5), (step, name)
    assert torch.allclose(whole.quantizer.codebooks, parts.quantizer.codebooks, rtol=1e-3, atol=1e-4)


def test_a_batch_that_cannot_be_shared_evenly_is_named(tiny_config):
    config = config_of(tiny_config, accumulate=2)
    corpus = load_splits(config, World()).train
    with pytest.raises(ConfigError, match=r"batch_size is 4; expected a multiple of 6: accumulate \(2\) times the n"):
        Trainer(config, corpus, World(size=3))


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_this_machine_lacks_is_named(tiny_config, device):
    with pytest.raises(InputError, match=f"device is '{device}', which cannot be used here"):
        trainer_of(config_of(tiny_config, device=device))


def test_the_exported_weights_are_an_average_of_the_trained_ones(trained):
    state = state_of(trained)
    latest, averaged = state["autoencoder"]["encoder.embed.weight"], state["tokenizer"]["encoder.embed.weight"]
    assert not torch.equal(latest, averaged)
    assert torch.nn.functional.cosine_similarity(latest.flatten(), averaged.flatten(), dim=0) > 0.9


def test_each_parameter_has_one_optimizer_and_matrices_of_blocks_have_muon(tiny_config):
    autoencoder = make_autoencoder(speechtok.ConvNeXtTokenizer(config_of(tiny_config).model))
    (muon, _), (adamw, _) = make_optimizers(autoencoder, torch.nn.Module(), config_of(tiny_config)).peaks
    groups = [{id(p) for p in optimizer.param_groups[0]["params"]} for optimizer in (muon, adamw)]
    assert not groups[0] & groups[1]
    assert groups[0] | groups[1] == {id(p) for p in autoencoder.parameters()}
    names = {name for name, p in autoencoder.named_parameters() if id(p) in groups[0]}
    assert {"encoder.merge.weight", "decoder.split.weight", "encoder.frame_blocks.blocks.0.expand.weight"} <= names
    assert not any("conv" in name or "head" in name or "embed" in name for name in names)


def test_codebook_0_learns_from_a_teacher(tiny_config, tmp_path):
    features = extracted(tiny_config, tmp_path / "features")
    model = tiny_config["model"] | {"semantic_dim": 3}
    config = config_of(
        tiny_config, steps=60, model=model, distillation={"features": features, "features_by_frame": 5.0}
    )
    trainer = trainer_of(config)
    losses = [trainer.run_step(trainer.batch(step)) for step in range(60)]
    first, last = (sum(float(x["features_by_frame"]) for x in some) for some in (losses[:10], losses[-10:]))
    assert last < 0.8 * first
    trainer.load_state_dict(trainer.state_dict())
    assert trainer.tokenizer.config.semantic_dim == 3


def test_distillation_heads_are_fitted_to_the_tokenizer_to_start_from(encoder_stage):
    values = encoder_stage | {"train_only": ""}
    config = config_of(values)
    losses = []
    for fitted in (True, False):
        trainer = trainer_of(config)
        trainer.load_tokenizer(speechtok.load(values["start_from"]))
        if not fitted:
            trainer._init_distillation = lambda: None
        losses.append(float(trainer.run_step(trainer.batch(0))["features_by_frame"]))
    assert losses[0] < 0.8 * losses[1]
