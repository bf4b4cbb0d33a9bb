import shutil
from pathlib import Path

import pytest
import torch

import speechtok
from speechtok.errors import CheckpointError, ConfigError
from tests.training.helpers import config_of, exported_of, scalars_of, state_of, trainer_of
from training.checkpoints import CHECKPOINT_NAME
from training.train import train

pytestmark = pytest.mark.slow


def test_a_decoder_stage_is_not_resumed_if_the_codes_have_changed(trained, tmp_path):
    start = exported_of(trained)
    changes = {"out": str(tmp_path / "second"), "start_from": str(start), "train_only": "decoder"}
    train(config_of(trained, **changes))
    train(config_of(trained, steps=10, **changes))
    shutil.rmtree(trained["out"])
    train(config_of(trained, seed=1))
    with pytest.raises(CheckpointError, match="which has changed since"):
        train(config_of(trained, steps=12, **changes))


def test_a_decoder_stage_from_a_checkpoint_trains_on_the_rounded_codes(trained, tmp_path):
    start = str(Path(trained["out"]) / CHECKPOINT_NAME)
    changes = {"out": str(tmp_path / "second"), "start_from": start, "train_only": "decoder", "steps": 3}
    config = config_of(trained, **changes)
    trainer = trainer_of(config)
    trainer.load_tokenizer(speechtok.load(start))
    trained_on = {name: x.clone() for name, x in trainer.tokenizer.state_dict().items() if name[:7] != "decoder"}
    exported = speechtok.load(train(config)).state_dict()
    assert all(torch.equal(x, exported[name]) for name, x in trained_on.items())


def test_a_decoder_stage_does_not_change_the_codes(trained, tmp_path):
    first = speechtok.load(exported_of(trained))
    changes = {"out": str(tmp_path / "second"), "start_from": str(exported_of(trained))}
    second = speechtok.load(train(config_of(trained, train_only="decoder", **changes)))
    audio = torch.sin(torch.arange(8000) / 10) * 0.3
    codes = first.encode(audio, 16_000).codes
    assert torch.equal(codes, second.encode(audio, 16_000).codes)
    assert not torch.equal(first.decode(codes), second.decode(codes))


def test_an_encoder_stage_improves_codebook_0_and_keeps_acoustic_dimensions(encoder_stage):
    values = encoder_stage
    config = config_of(values, steps=90)
    trainer = trainer_of(config)
    first = speechtok.load(values["start_from"])
    trainer.load_tokenizer(first)
    terms = [trainer.run_step(trainer.batch(step % 3)) for step in range(90)]
    assert "mel" not in terms[0]
    assert float(terms[0]["acoustic"]) < 1e-6
    early, late = (sum(float(x["features_by_frame"]) for x in some) for some in (terms[:3], terms[-3:]))
    assert late < 0.85 * early
    audio = torch.sin(torch.arange(8000) / 10)[None] * 0.3
    then, now = (x.encoder(audio, x.encoder.initial_state(1))[0] for x in (first, trainer.tokenizer))
    moved = (now - then).square().mean((0, 1))
    assert moved[3:].mean() < 0.1 * moved[:3].mean()
    exported, given = trainer.tokenizer.state_dict(), first.state_dict()
    assert all(torch.equal(x, given[name]) for name, x in exported.items() if name.startswith("decoder."))
    assert not torch.equal(exported["quantizer.codebooks"][0], given["quantizer.codebooks"][0])


def test_a_resumed_encoder_stage_keeps_its_frozen_encoder(encoder_stage):
    values = encoder_stage
    train(config_of(values, steps=6))
    once = state_of(values)
    shutil.rmtree(values["out"])
    train(config_of(values, steps=6, checkpoint_every=3))
    assert all(torch.equal(x, once["autoencoder"][name]) for name, x in state_of(values)["autoencoder"].items())
    shutil.rmtree(values["start_from"])  # the checkpoint has the frozen encoder
    train(config_of(values, steps=8))
    assert all(torch.equal(x, once["frozen_encoder"][name]) for name, x in state_of(values)["frozen_encoder"].items())
    assert scalars_of(values, "train/acoustic")


def test_an_encoder_stage_is_not_resumed_if_start_from_has_changed(encoder_stage):
    values = encoder_stage
    train(config_of(values))
    train(config_of(values, steps=10))
    first = Path(values["start_from"])
    speechtok.load(first).round_weights().save(first)  # the same
    train(config_of(values, steps=11))
    changed = speechtok.load(first)
    changed.encoder.embed.bias += 0.25
    changed.save(first)
    with pytest.raises(CheckpointError, match="which has changed since"):
        train(config_of(values, steps=12))


def test_a_decoder_stage_adds_noise_and_does_not_change_the_codes(trained, tmp_path):
    first = speechtok.load(exported_of(trained))
    changes = {
        "out": str(tmp_path / "second"),
        "start_from": str(exported_of(trained)),
        "train_only": "decoder",
        "model": trained["model"] | {"noise_bands": 5},
        "loss": {"phase_limit": 3_000.0, "energy_distance": 3.0, "band_energy": 0.3},
    }
    trainer = trainer_of(config_of(trained, steps=30, **changes))
    trainer.load_tokenizer(first)
    codes = torch.arange(25 * first.num_codebooks).view(1, -1, 25) * 7 % first.codebook_size
    silent_noise = speechtok.load(exported_of(trained)).decode(codes) - trainer.tokenizer.decode(codes)
    assert 0 < silent_noise.abs().max() < 0.02
    terms = [trainer.run_step(trainer.batch(step % 2)) for step in range(30)]
    assert float(terms[-1]["energy_distance"]) < float(terms[0]["energy_distance"])
    second = speechtok.load(train(config_of(trained, **changes)))
    assert second.fingerprint == first.fingerprint
    combined = first.with_decoder(tmp_path / "second" / "tokenizer")
    assert torch.equal(combined.decode(codes), second.decode(codes))


def test_the_noise_of_a_step_depends_on_seed_and_step_only(trained):
    changes = {"model": trained["model"] | {"noise_bands": 5}, "loss": {"energy_distance": 1.0}}
    trainer, again = trainer_of(config_of(trained, **changes)), trainer_of(config_of(trained, **changes))
    positions = trainer.batch(3).noise_positions
    assert torch.equal(positions, again.batch(3).noise_positions)
    assert not torch.equal(positions, trainer.batch(4).noise_positions)
    latent = torch.zeros(len(positions), 25, trainer.config.model.latent_dim)
    first, second = trainer.autoencoder.decode(latent, positions)
    assert not torch.equal(first, second)
    assert torch.equal(trainer.autoencoder.decode(latent, positions.flip(1))[0], second)


def test_an_encoder_stage_with_disturbed_views_makes_codes_robust(encoder_stage):
    values = encoder_stage | {
        "augmentation": {"noise_share": 1.0, "snr_low_db": 0.0, "snr_high_db": 0.0},
        "quantizer": {"start_step": 0},
    }
    trainer = trainer_of(config_of(values, steps=60))
    trainer.load_tokenizer(speechtok.load(values["start_from"]))
    batches = [trainer.batch(step) for step in range(3)]
    assert all(batch.disturbed is not None and batch.disturbed.shape == batch.waveform.shape for batch in batches)
    assert torch.equal(batches[1].disturbed, trainer.batch(1).disturbed)
    terms = [trainer.run_step(batches[step % 3]) for step in range(60)]
    assert sum(float(x["consistency"]) for x in terms[-3:]) < 0.7 * sum(float(x["consistency"]) for x in terms[:3])
    assert int(terms[-1]["counts"][0].sum()) == 4 * config_of(values).crop_frames  # codebooks follow the clean views


def test_a_resumed_encoder_stage_with_disturbed_views_reaches_the_same_weights(encoder_stage):
    values = encoder_stage | {"augmentation": {"noise_share": 0.8, "room_share": 0.3, "band_share": 0.3}}
    train(config_of(values, steps=6))
    once = state_of(values)
    shutil.rmtree(values["out"])
    train(config_of(values, steps=6, checkpoint_every=3))
    assert all(torch.equal(x, once["autoencoder"][name]) for name, x in state_of(values)["autoencoder"].items())
    assert scalars_of(values, "train/consistency")


def test_an_encoder_stage_lengthens_filters_and_starts_with_the_same_codes(encoder_stage):
    first = speechtok.load(encoder_stage["start_from"])
    model = encoder_stage["model"]
    values = encoder_stage | {"model": model | {"encoder": model["encoder"] | {"kernel_size": 9}}}
    trainer = trainer_of(config_of(values))
    trainer.load_tokenizer(first)
    audio = torch.sin(torch.arange(8000) / 10) * 0.3
    grown = trainer.tokenizer.encode(audio, 16_000).codes
    assert torch.equal(grown, first.encode(audio, 16_000).codes)
    train(config_of(values, steps=3))
    exported = speechtok.load(train(config_of(values, steps=20)))  # resumed
    assert exported.config.encoder.kernel_size == 9
    assert exported.encoder.frame_blocks.blocks[0].conv.weight[7:].any()
    shorter = encoder_stage | {"model": model | {"encoder": model["encoder"] | {"kernel_size": 5}}}
    with pytest.raises(ConfigError, match="expected equal configs"):
        trainer_of(config_of(shorter)).load_tokenizer(first)


def test_an_encoder_stage_adds_blocks_and_a_hold_and_starts_with_the_same_latents(encoder_stage):
    first = speechtok.load(encoder_stage["start_from"])
    depth = first.config.encoder.frame_depth + 1
    model = encoder_stage["model"]
    deeper = model | {"encoder": model["encoder"] | {"frame_depth": depth}}
    audio = torch.sin(torch.arange(8000) / 10) * 0.3
    trainer = trainer_of(config_of(encoder_stage | {"model": deeper}))
    trainer.load_tokenizer(first)
    codes = first.encode(audio, 16_000).codes
    assert torch.equal(trainer.tokenizer.encode(audio, 16_000).codes, codes)
    values = encoder_stage | {"model": deeper | {"hold": 2**24}}
    exported = speechtok.load(train(config_of(values, steps=3)))
    assert (exported.config.encoder.frame_depth, exported.config.hold) == (depth, 2**24)
    assert exported.encoder.frame_blocks.blocks[-1].contract.weight.any()
    held = exported.encode(audio, 16_000).codes[0, 0]
    assert (held[1:] == held[:-1]).sum() >= len(held) - 1 - len(held) // 32
