import copy

import pytest
import torch

import speechtok
from benchmarks.seanet_reference import BASE, Reference, write_published
from speechtok import ConvNeXtTokenizer, SEANetConfig, SEANetTokenizer
from speechtok.errors import ConfigError, SpeechtokError
from speechtok.nn.seanet import MatmulLayer
from tests.training.helpers import config_of, extracted, trainer_of
from training.autoencoder import make_autoencoder
from training.checkpoints import read_checkpoint, save_checkpoint
from training.train import train

pytestmark = pytest.mark.slow

PUBLISHED = {
    "family": "seanet", "filters": 4, "latent_dim": 16, "codebook_size": 16, "num_codebooks": 3, "lstm_layers": 1
}  # fmt: skip
CAUSAL = PUBLISHED | {"causal": True, "bidirectional": False, "activation": "snake"}
FAMILIES = [pytest.param(PUBLISHED, id="as published"), pytest.param(CAUSAL, id="causal")]


@pytest.fixture
def values(tiny_config) -> dict:
    """Plain values of the config of a SEANet training that takes a second."""
    return tiny_config | {"model": PUBLISHED, "batch_size": 2, "validation_utterances": 1}


def make_seanet(model: dict) -> SEANetTokenizer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SEANetTokenizer(SEANetConfig(**model))


@pytest.mark.parametrize("model", FAMILIES)
def test_training_a_seanet_lowers_the_loss(values, model):
    config = config_of(values, model=model, steps=30, optimizer={"warmup_steps": 2})
    trainer = trainer_of(config)
    mel = [float(trainer.run_step(trainer.batch(step))["mel"]) for step in range(30)]
    assert sum(mel[-5:]) < 0.8 * sum(mel[:5])
    # each weight has a gradient: all of them change
    initial = dict(trainer_of(config).autoencoder.named_parameters())
    assert not any(torch.equal(initial[name], now) for name, now in trainer.autoencoder.named_parameters())


@pytest.mark.parametrize("model", FAMILIES)
def test_a_saved_seanet_gives_the_codes_and_the_audio_of_training(values, model, tmp_path):
    config = config_of(values, model=model, optimizer={"adamw_lr": 1e-5, "ema_decay": 0.0})
    trainer = trainer_of(config)
    for step in range(5):
        trainer.run_step(trainer.batch(step))
    trainer.tokenizer.save(tmp_path)
    loaded = speechtok.load(tmp_path)
    waveform = trainer.batch(7).waveform
    latent = trainer._encode(waveform)
    quantized, _, _, codes = trainer.quantizer(latent, torch.full((2,), 3))
    assert latent.requires_grad
    assert codes.unique().numel() > 8
    assert torch.equal(loaded.encode(waveform, 16_000).codes, codes)
    audio = trainer._decode(quantized).detach()
    assert torch.allclose(loaded.decode(codes), audio, atol=1e-5 * max(1.0, float(audio.abs().max())))


def test_an_interrupted_training_of_a_seanet_reaches_the_weights_of_an_uninterrupted_one(values, tmp_path):
    config = config_of(values)
    whole, cut, resumed = (trainer_of(config) for _ in range(3))
    for step in range(6):
        whole.run_step(whole.batch(step))
    for step in range(3):
        cut.run_step(cut.batch(step))
    save_checkpoint(cut.state_dict(), tmp_path / "c.pt")
    resumed.load_state_dict(read_checkpoint(tmp_path / "c.pt"))
    for step in range(3, 6):
        resumed.run_step(resumed.batch(step))
    expected = whole.autoencoder.state_dict()
    assert all(torch.equal(x, expected[name]) for name, x in resumed.autoencoder.state_dict().items())
    assert resumed.tokenizer.fingerprint == whole.tokenizer.fingerprint
    assert speechtok.load(tmp_path / "c.pt").fingerprint == cut.tokenizer.fingerprint


def test_a_seanet_trains_with_a_teacher_and_its_decoder_with_an_adversary(values, tmp_path):
    trainer = trainer_of(config_of(values, distillation={"features": extracted(values, tmp_path / "features")}))
    terms = [trainer.run_step(trainer.batch(step)) for step in range(3)]
    assert 0 < terms[-1]["features_over_time"] < 1.4
    trainer.tokenizer.round_weights().save(tmp_path / "first")
    stage = config_of(
        values,
        start_from=str(tmp_path / "first"),
        train_only="decoder",
        adversary={"weight": 1.0, "period_channels": 8, "spectrum_channels": 4},
    )
    first, second = speechtok.load(tmp_path / "first"), trainer_of(stage)
    second.load_tokenizer(first)
    for step in range(3):
        assert second.run_step(second.batch(step))["adversarial"].isfinite()
    second = second.tokenizer
    audio = torch.sin(torch.arange(8000) / 10) * 0.3
    codes = first.encode(audio, 16_000).codes
    assert torch.equal(second.encode(audio, 16_000).codes, codes)
    assert not torch.equal(second.decode(codes), first.decode(codes))


def test_training_starts_from_a_published_tokenizer(values, tmp_path):
    torch.manual_seed(0)
    size = {"n_filters": 4, "dimension": 16, "semantic_dimension": 8, "codebook_size": 16, "n_q": 3, "lstm_layers": 1}
    write_published(Reference(BASE | size), BASE | size, tmp_path)
    published = speechtok.load(tmp_path)
    trainer = trainer_of(config_of(values, start_from=str(tmp_path)))
    trainer.load_tokenizer(published)
    assert trainer.tokenizer.fingerprint == published.fingerprint
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in trainer.autoencoder.paired_parameters(published))
    assert torch.isfinite(trainer.run_step(trainer.batch(0))["mel"])


@pytest.mark.parametrize("train_only", ["", "encoder", "decoder"])
@pytest.mark.parametrize("kind", ["convnext", "as published", "causal"])
def test_an_autoencoder_computes_what_its_tokenizer_computes(kind, train_only, tiny):
    made = {"convnext": tiny, "as published": make_seanet(PUBLISHED), "causal": make_seanet(CAUSAL)}[kind]
    waveform = torch.randn(2, 6_400, generator=torch.Generator().manual_seed(0)) * 0.1
    autoencoder = make_autoencoder(copy.deepcopy(made), train_only)
    pairs = list(autoencoder.paired_parameters(made))
    parts = [getattr(made, part) for part in ("encoder", "decoder") if train_only in ("", part)]
    assert {id(weight) for weight, _ in pairs} == {id(p) for part in parts for p in part.parameters()}
    assert all(torch.allclose(ours, weight, atol=1e-6) for weight, ours in pairs)
    codes = made.encode(waveform, 16_000).codes
    if train_only != "encoder":
        assert torch.allclose(autoencoder.decode(made.quantizer.decode(codes))[0], made.decode(codes), atol=1e-4)
    if train_only != "decoder":
        latent = autoencoder.encode(waveform)
        assert latent.shape == (2, 20, made.config.latent_dim)
        assert (made.quantizer.encode(latent.detach(), 3) == codes[:, :3]).float().mean() > 0.95


def test_each_convolution_of_a_seanet_has_weight_norm_as_published():
    tokenizer = make_seanet(PUBLISHED)
    convolutions = sum(isinstance(module, MatmulLayer) for module in tokenizer.modules())
    autoencoder = make_autoencoder(tokenizer)
    norms = [p for name, p in autoencoder.named_parameters() if name.endswith(".original0")]
    assert len(norms) == convolutions == 2 * 18
    assert all(p.shape[1:] == (1, 1) for p in norms)
    assert autoencoder.muon_parameters() == []


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"family": "sea"}, r"config\.model\.family is 'sea'; expected 'convnext' or 'seanet'"),
        ({"family": "seanet", "hop_length": 320}, r"config\.model has an unknown field 'hop_length'; known fields"),
        ({"family": "seanet", "filter": 4}, "'filter'; did you mean 'filters'"),
        ({"family": "seanet", "causal": True}, "causal is true and bidirectional is true"),
        ({"family": "seanet", "strides": 320}, "strides is 320; expected 1 to 8 whole numbers"),
        ({"filters": 4}, "unknown field 'filters'"),
    ],
)
def test_a_mistake_in_the_model_is_named_before_the_first_step(values, model, message):
    with pytest.raises(ConfigError, match=message):
        config_of(values, model=model)


def test_starting_from_a_tokenizer_of_another_family_is_an_error(values, tiny, tmp_path):
    tiny.save(tmp_path / "other")
    assert isinstance(tiny, ConvNeXtTokenizer)
    with pytest.raises(SpeechtokError, match=r"start_from is .*other, whose config is .* but model is"):
        train(config_of(values, start_from=str(tmp_path / "other")))
