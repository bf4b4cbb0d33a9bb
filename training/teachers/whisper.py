"""The encoder of Whisper (Radford et al. 2022, arXiv 2212.04356) as a teacher."""

import inspect
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from training.teachers.teacher import AVERAGE, Layer, Teacher


class WhisperLogMel(nn.Module):
    """Log-mel spectrogram of ``WhisperFeatureExtractor``, ``(B, S)`` to ``(B, bands, S // hop_length)``.

    Frame ``t`` is centred on sample ``t * hop_length``. Each row is limited to the 80 dB below its maximum.

    Args:
        filters: mel filters, ``(fft_length // 2 + 1, bands)``.
        fft_length: samples of a window.
        hop_length: samples per frame.
        sample_rate: in hertz.
    """

    def __init__(self, filters: Tensor, fft_length: int, hop_length: int, sample_rate: int) -> None:
        super().__init__()
        self.fft_length, self.hop_length, self.sample_rate = fft_length, hop_length, sample_rate
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(fft_length), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """``(B, S)`` to ``(B, bands, T)``."""
        spectrum = torch.stft(waveform, self.fft_length, self.hop_length, window=self.window, return_complex=True)
        power = self.filters.T @ spectrum[..., :-1].abs().square()
        log_mel = power.clamp_min(1e-10).log10()
        log_mel = torch.maximum(log_mel, log_mel.amax((1, 2), keepdim=True) - 8)
        return (log_mel + 4) / 4


class WhisperTeacher(Teacher):
    """The encoder of Whisper: 50 frames per second, frame ``t`` centred at ``t / 50`` seconds.

    Whisper takes windows of 30 s. :meth:`forward` pads shorter waveforms with silence, and cuts longer ones into
    overlapping windows. :meth:`extract_features` packs several short waveforms into each window, which is faster.

    Args:
        encoder: ``transformers.WhisperModel(...).encoder``.
        log_mel: input of the encoder.
        layer: see :class:`Teacher`.
    """

    CONTEXT_SECONDS = 2.0
    """Features at inner edges of windows that are not kept."""

    GAP_SECONDS = 1.0
    """Silence between packed waveforms."""

    def __init__(self, encoder: Any, log_mel: WhisperLogMel, layer: Layer = AVERAGE) -> None:
        config = encoder.config
        self.hop_length = log_mel.hop_length * encoder.conv1.stride[0] * encoder.conv2.stride[0]
        rate = log_mel.sample_rate
        super().__init__(rate, config.d_model, rate / self.hop_length, 0.0, config.encoder_layers, layer)
        self.encoder, self.log_mel = encoder, log_mel
        self.window_frames = config.max_source_positions
        self.context_frames = round(self.CONTEXT_SECONDS * self.frame_rate)
        self.gap_frames = round(self.GAP_SECONDS * self.frame_rate)

    def layers(self, waveform: Tensor) -> Sequence[Tensor]:
        """See :class:`Teacher`."""
        hop, length = self.hop_length, self.window_frames
        pieces = []
        for start, first, end in windows(self._frames(waveform.shape[1]), length, self.context_frames):
            samples = waveform[:, start * hop : (start + length) * hop]
            outputs = self._encode(self._log_mel(samples, length))
            pieces.append([output[:, first - start : end - start] for output in outputs])
        return [torch.cat(layer, 1) for layer in zip(*pieces, strict=True)]

    def extract_features(self, waveforms: Iterable[Tensor]) -> Iterator[Tensor]:
        """See :class:`Teacher`. Windows hold as many consecutive waveforms as fit, with silence between them."""
        pack: list[Tensor] = []
        used = 0
        for waveform in waveforms:
            frames = self._frames(len(waveform))
            if pack and used + frames > self.window_frames:
                yield from self._encode_pack(pack)
                pack, used = [], 0
            pack.append(waveform)
            used += frames + self.gap_frames
        if pack:
            yield from self._encode_pack(pack)

    def _encode_pack(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Features of waveforms ``(S,)`` that share a window, ``(T, D)`` each; a single one may be longer."""
        if len(waveforms) == 1:
            return [self(waveforms[0][None])[0]]
        counts = [self._frames(len(waveform)) for waveform in waveforms]
        starts = list(itertools.accumulate((count + self.gap_frames for count in counts[:-1]), initial=0))
        ends = [*starts[1:], self.window_frames]
        pieces = [
            self._log_mel(waveform[None], end - start)
            for waveform, start, end in zip(waveforms, starts, ends, strict=True)
        ]
        features = self.select(self._encode(torch.cat(pieces, 2)))[0]
        return [features[start : start + count] for start, count in zip(starts, counts, strict=True)]

    def _frames(self, samples: int) -> int:
        return -(-samples // self.hop_length)

    def _log_mel(self, waveform: Tensor, frames: int) -> Tensor:
        """Log-mel spectrogram of ``(B, S)``, padded with silence to ``frames`` frames."""
        return self.log_mel(nn.functional.pad(waveform, (0, frames * self.hop_length - waveform.shape[1])))

    def _encode(self, log_mel: Tensor) -> list[Tensor]:
        """Outputs of the layers up to :attr:`layer`; later layers are not computed."""
        encoder = self.encoder
        x = nn.functional.gelu(encoder.conv1(log_mel))
        x = nn.functional.gelu(encoder.conv2(x)).transpose(1, 2)
        x = x + encoder.embed_positions.weight
        needed = self.layer if isinstance(self.layer, int) else self.num_layers
        outputs = []
        for layer in encoder.layers[:needed]:
            x = _run_layer(layer, x)
            outputs.append(x)
        if needed == self.num_layers:
            outputs[-1] = encoder.layer_norm(x)
        return outputs


def windows(frames: int, length: int, context: int) -> Iterator[tuple[int, int, int]]:
    """Cut a sequence into overlapping windows, of which the middles are kept.

    Args:
        frames: frames of the sequence.
        length: frames of a window, more than ``2 * context``.
        context: frames at an inner edge of a window that are not kept.

    Yields:
        First frame of a window, first frame kept, and end of the kept frames. Kept frames follow each other.
    """
    assert length > 2 * context
    first = 0
    while first < frames:
        start = max(0, min(first - context, frames - length))
        end = frames if start + length >= frames else start + length - context
        yield start, first, end
        first = end


def _run_layer(layer: Any, x: Tensor) -> Tensor:
    arguments = {"attention_mask": None, "layer_head_mask": None}  # transformers 5 has only the first
    accepted = inspect.signature(layer.forward).parameters
    output = layer(x, **{name: value for name, value in arguments.items() if name in accepted})
    return output[0] if isinstance(output, tuple) else output
