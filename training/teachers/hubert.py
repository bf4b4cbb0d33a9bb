"""A small HuBERT (Hsu et al. 2021, arXiv 2106.07447) on log-mel spectra, with a phone classifier."""

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from speechtok.errors import CheckpointError, ConfigError, MissingFileError
from speechtok.files import make_folder, replacing_all
from speechtok.mapping import from_mapping
from training.teachers.log_mel import LogMel
from training.teachers.teacher import AVERAGE, Layer, Teacher

CONFIG_NAME, WEIGHTS_NAME = "config.json", "model.safetensors"


@dataclass(frozen=True)
class HubertConfig:
    """Architecture of the network.

    Attributes:
        sample_rate: in hertz.
        hop_length: samples per frame, a multiple of 4. A frame is two stacked log-mel spectra.
        bands: mel bands of a spectrum.
        dim: width ``D``.
        depth: number of blocks.
        heads: attention heads; must divide ``dim``.
        kernel_size: kernel size of the convolution in a block, in frames; odd.
        expansion: hidden width of the feed-forward networks, in multiples of ``dim``.
        dropout: dropout of each residual branch.
    """

    sample_rate: int = 16_000
    hop_length: int = 320
    bands: int = 80
    dim: int = 256
    depth: int = 5
    heads: int = 4
    kernel_size: int = 15
    expansion: int = 3
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("sample_rate", "hop_length", "bands", "dim", "depth", "heads", "kernel_size", "expansion"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.hop_length % 4:
            raise ConfigError(f"hop_length is {self.hop_length}; expected a multiple of 4")
        if self.dim % self.heads:
            raise ConfigError(f"dim is {self.dim}; expected a multiple of heads ({self.heads})")
        if not self.kernel_size % 2:
            raise ConfigError(f"kernel_size is {self.kernel_size}; expected an odd number")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}; expected at least 0 and below 1")

    @property
    def frame_rate(self) -> float:
        """In hertz."""
        return self.sample_rate / self.hop_length


class HubertBlock(nn.Module):
    """Self-attention over all frames, then a depthwise convolution and a feed-forward network, both residual.

    Args:
        dim: width ``D``.
        heads: attention heads.
        kernel_size: kernel size of the convolution, in frames.
        expansion: hidden width of the feed-forward network, in multiples of ``dim``.
        dropout: dropout of each residual branch.
        depth: blocks of the network. It scales the initial weights, so that the output starts as loud as the input.
    """

    def __init__(self, dim: int, heads: int, kernel_size: int, expansion: int, dropout: float, depth: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(dim)
        self.attention_in = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.convolution = nn.Conv1d(dim, dim, kernel_size, padding="same", groups=dim)
        self.forward_norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, expansion * dim)
        self.contract = nn.Linear(expansion * dim, dim)
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            for linear in (self.attention_out, self.contract):
                linear.weight.mul_((2 * depth) ** -0.5)
                linear.bias.zero_()

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Compute the block.

        Args:
            x: ``(B, T, D)``.
            valid: bool ``(B, T)``, false in padding.
        """
        batch, frames, dim = x.shape
        qkv = self.attention_in(self.attention_norm(x)).view(batch, frames, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=valid[:, None, None, :])
        x = x + self.dropout(self.attention_out(attended.transpose(1, 2).reshape(batch, frames, dim)))
        mixed = self.convolution((x * valid[..., None]).transpose(1, 2)).transpose(1, 2)
        hidden = nn.functional.gelu(self.expand(self.forward_norm(mixed)))
        return x + self.dropout(self.contract(hidden))


class Hubert(nn.Module):
    """Log-mel front end, bidirectional blocks, phone classifier.

    Args:
        config: architecture.
        phones: names of the classes of the phone classifier; may be empty.
    """

    def __init__(self, config: HubertConfig, phones: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.config, self.phones = config, phones
        self.log_mel = LogMel(config.sample_rate, config.hop_length // 2, config.bands)
        self.embed = nn.Linear(2 * config.bands, config.dim)
        self.mask_vector = nn.Parameter(torch.randn(config.dim))
        self.blocks = nn.ModuleList(
            HubertBlock(config.dim, config.heads, config.kernel_size, config.expansion, config.dropout, config.depth)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim)
        self.phone_head = nn.Linear(config.dim, len(phones))

    def spectra(self, waveform: Tensor, valid: Tensor | None = None) -> Tensor:
        """Log-mel spectra, two per frame; each band of a row has mean 0 and variance 1 over time.

        Args:
            waveform: ``(B, S)``.
            valid: bool ``(B, T)``, false in padding. Mean and variance leave padding out.

        Returns:
            Float32 ``(B, T, 2 * bands)``.
        """
        frames = -(-waveform.shape[1] // self.config.hop_length)
        waveform = nn.functional.pad(waveform, (0, frames * self.config.hop_length - waveform.shape[1]))
        mel = self.log_mel(waveform)
        counted = mel.new_ones(mel.shape[:2]) if valid is None else valid.repeat_interleave(2, 1).float()
        weight = (counted / counted.sum(1, keepdim=True).clamp_min(1))[..., None]
        mean = (mel * weight).sum(1, keepdim=True)
        deviation = ((mel - mean).square() * weight).sum(1, keepdim=True).sqrt()
        mel = (mel - mean) / (deviation + 0.1)
        return mel.reshape(len(mel), frames, 2 * self.config.bands)

    def forward(self, spectra: Tensor, valid: Tensor, masked: Tensor | None = None) -> list[Tensor]:
        """Outputs of the blocks, each ``(B, T, D)``; layer norm is applied to the last one.

        Args:
            spectra: output of :meth:`spectra`, ``(B, T, 2 * bands)``.
            valid: bool ``(B, T)``, false in padding.
            masked: bool ``(B, T)``, true where a frame is replaced by the mask vector.
        """
        x = self.embed(spectra)
        if masked is not None:
            x = torch.where(masked[..., None], self.mask_vector.to(x.dtype), x)
        layers = []
        for block in self.blocks:
            x = block(x, valid)
            layers.append(x)
        layers[-1] = self.norm(x)
        return layers

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        directory = make_folder(directory)
        description = {"teacher": dataclasses.asdict(self.config), "phones": self.phones}
        tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in self.state_dict().items()}
        with replacing_all([directory / WEIGHTS_NAME, directory / CONFIG_NAME]) as (weights, config):
            weights.write(safetensors.torch.save(tensors))
            config.write((json.dumps(description, indent=2) + "\n").encode())


def load_hubert(directory: str | os.PathLike[str]) -> Hubert:
    """Load what :meth:`Hubert.save` wrote, in evaluation mode and without gradients.

    Raises:
        MissingFileError: the directory or one of its files does not exist.
        ConfigError: the config is not a valid :class:`HubertConfig`.
        CheckpointError: the description or the weights are damaged, or do not fit each other.
    """
    config_path, weights_path = Path(directory) / CONFIG_NAME, Path(directory) / WEIGHTS_NAME
    for path in (config_path, weights_path):
        if not path.is_file():
            raise MissingFileError(
                f"{path} does not exist; a teacher is a folder with {CONFIG_NAME} and {WEIGHTS_NAME}: "
                "train one with python -m training.teachers.pretrain"
            )
    try:
        description: Any = json.loads(config_path.read_text(encoding="utf-8"))
        values, phones = description["teacher"], tuple(map(str, description["phones"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{config_path} does not describe a teacher ({error!r}); export it again") from error
    network = Hubert(from_mapping(HubertConfig, values, "teacher"), phones)
    try:
        network.load_state_dict(safetensors.torch.load_file(weights_path))
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{weights_path} does not fit {config_path} ({error}); export both again") from error
    return network.eval().requires_grad_(False)


class HubertTeacher(Teacher):
    """A :class:`Hubert` as a teacher."""

    def __init__(self, network: Hubert, layer: Layer = AVERAGE) -> None:
        config = network.config
        offset = config.hop_length / 2 / config.sample_rate
        super().__init__(config.sample_rate, config.dim, config.frame_rate, offset, config.depth, layer, network.phones)
        self.network = network

    def layers(self, waveform: Tensor) -> Sequence[Tensor]:
        """See :class:`Teacher`."""
        spectra = self.network.spectra(waveform)
        return self.network(spectra, torch.ones(spectra.shape[:2], dtype=torch.bool, device=spectra.device))

    def phone_logits(self, waveform: Tensor) -> Tensor:
        """See :class:`Teacher`."""
        if not self.phones:
            return super().phone_logits(waveform)
        return self.network.phone_head(self.layers(waveform)[-1])


def load(directory: str, layer: Layer) -> Teacher:
    """Load a teacher that ``python -m training.teachers.pretrain`` trained; errors as in :func:`load_hubert`."""
    return HubertTeacher(load_hubert(directory), layer)
