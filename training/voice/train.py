"""Training of a voice model: from a manifest and a tokenizer to ``voice.safetensors``."""

import dataclasses
from pathlib import Path

import torch

from speechtok.convnext import ConvNeXtTokenizer
from speechtok.voice.config import VoiceConfig
from speechtok.voice.latents import statistics
from speechtok.voice.model import FILE_NAME, write_voice
from speechtok.voice.network import VoiceNetwork
from training.checkpoints import make_folder
from training.dataset import pack
from training.harness import Run, fit, resume
from training.logs import Report
from training.manifest import Utterance, find_utterances
from training.results import Export
from training.tokenizer import load_tokenizer
from training.voice.batches import SequenceSampler
from training.voice.config import VoiceTrainingConfig
from training.voice.encoding import EncodedVoices, encode_voices
from training.voice.trainer import VoiceTrainer
from training.voice.validation import validate

_DEV_BATCHES = 8


def train_voice(config: VoiceTrainingConfig) -> Path:
    """Train from the start, or from the last checkpoint, and write the model.

    Returns:
        The file of the model.

    Raises:
        SpeechtokError: the config, the data, the tokenizer or a checkpoint cannot be used.
        KeyboardInterrupt: a stop was requested, and the state was saved.
    """
    out = Path(config.out)
    make_folder(out)
    tokenizer = load_tokenizer(config.tokenizer)
    train, dev = find_utterances(config.data)
    sampler = _sampler(config, tokenizer, train, config.speeds, config.balance, "train")
    dev_sampler = _sampler(dataclasses.replace(config, seed=config.seed + 1), tokenizer, dev, (1.0,), 0.0, "dev")
    torch.manual_seed(config.seed)
    network = VoiceNetwork(model_config(config.model, tokenizer))
    mean, deviation = statistics(tokenizer.quantizer, torch.from_numpy(sampler.voices.some_frames()))
    network.mean.copy_(mean)
    network.deviation.copy_(deviation)
    trainer = VoiceTrainer(config, network, tokenizer.quantizer, tokenizer.fingerprint, sampler)
    path = out / FILE_NAME

    def export() -> None:
        write_voice(path, model_config(config.model, tokenizer), trainer.average, tokenizer.fingerprint)

    run = Run(
        out=out,
        steps=config.steps,
        log_every=config.log_every,
        validate_every=config.validate_every,
        checkpoint_every=config.checkpoint_every,
        seconds_per_step=config.batch_size * config.sequence_seconds,
        name="voice model",
        shown=("loss",),
    )
    resume(trainer, run)
    batches = [dev_sampler(step) for step in range(_DEV_BATCHES)]
    size = 2 * sum(tensor.numel() for tensor in network.state_dict().values())
    stopped = fit(trainer, run, lambda: Report(validate(trainer, batches)), Export(path, export, size))
    if stopped:
        raise KeyboardInterrupt
    return path


def model_config(config: VoiceConfig, tokenizer: ConvNeXtTokenizer) -> VoiceConfig:
    """The architecture for a tokenizer."""
    count, size, dim = tokenizer.quantizer.codebooks.shape
    return dataclasses.replace(
        config, codebook_size=size, num_codebooks=count, latent_dim=dim - tokenizer.quantizer.semantic_dim
    )


def _sampler(
    config: VoiceTrainingConfig,
    tokenizer: ConvNeXtTokenizer,
    utterances: list[Utterance],
    speeds: tuple[float, ...],
    balance: float,
    name: str,
) -> SequenceSampler:
    out = Path(config.out)
    corpus = pack([u.audio for u in utterances], tokenizer.sample_rate, out / "audio")
    voices: EncodedVoices = encode_voices(tokenizer, corpus, speeds, balance, out / "codes", f"encoding {name}")
    skipped = set(corpus.skipped)
    speakers = [u.speaker for u in utterances if str(u.audio) not in skipped]
    return SequenceSampler(config, voices, speakers, tokenizer.sample_rate / tokenizer.hop_length)
