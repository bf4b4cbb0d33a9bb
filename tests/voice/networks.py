"""Voice models with random weights."""

from pathlib import Path

import torch

from speechtok import ConvNeXtTokenizer
from speechtok.voice.config import VoiceConfig
from speechtok.voice.latents import statistics
from speechtok.voice.model import VoiceModel, write_voice
from speechtok.voice.network import VoiceNetwork

LOOKAHEAD = 3
WINDOW = 6


def make_network(tokenizer: ConvNeXtTokenizer) -> tuple[VoiceConfig, VoiceNetwork]:
    """A network for a tokenizer, and its architecture."""
    count, size, dim = tokenizer.quantizer.codebooks.shape
    config = VoiceConfig(
        codebook_size=size,
        latent_dim=dim - tokenizer.quantizer.semantic_dim,
        num_codebooks=count,
        dim=24,
        depth=2,
        heads=2,
        head_depth=2,
        window=WINDOW,
        history=2,
        lookahead=LOOKAHEAD,
        embedding_dim=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = VoiceNetwork(config)
        for parameter in network.parameters():  # layers that start at 0 would hide faults
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
        codes = torch.randint(0, size, (count, 500))
    mean, deviation = statistics(tokenizer.quantizer, codes)
    network.mean.copy_(mean)
    network.deviation.copy_(deviation)
    return config, network.eval().requires_grad_(False)


def make_voice_model(tokenizer: ConvNeXtTokenizer, path: Path) -> VoiceModel:
    """A voice model for a tokenizer, and its file."""
    write_voice(path, *make_network(tokenizer), tokenizer.fingerprint)
    return VoiceModel(tokenizer, path)
