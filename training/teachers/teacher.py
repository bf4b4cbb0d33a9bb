"""The interface of a teacher."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from speechtok.audio import check_sample_rate
from speechtok.errors import InputError, quoted
from training.teachers.frames import interpolate

AVERAGE: Final = "average"
PHONES: Final = "phones"

Layer = int | str
"""A layer, counted from 1; ``"average"`` of all layers; or ``"phones"``, the logits of a phone classifier."""


class Teacher(nn.Module):
    """A model that maps waveforms to features. Frame ``t`` is centred at ``offset + t / frame_rate`` seconds.

    Subclasses implement :meth:`layers`, and :meth:`phone_logits` if they have a phone classifier.

    Args:
        sample_rate: sample rate of the input, in hertz.
        dim: width ``D`` of a layer.
        frame_rate: in hertz.
        offset: centre of the first frame, in seconds.
        num_layers: number of layers.
        layer: what :meth:`forward` returns; see :data:`Layer`.
        phones: names of the classes of the phone classifier; empty without one.
        min_samples: shorter waveforms are padded with silence to this length.

    Raises:
        InputError: the model does not have the layer.
    """

    def __init__(
        self,
        sample_rate: int,
        dim: int,
        frame_rate: float,
        offset: float,
        num_layers: int,
        layer: Layer,
        phones: tuple[str, ...] = (),
        min_samples: int = 1,
    ) -> None:
        super().__init__()
        numbered = isinstance(layer, int) and 1 <= layer <= num_layers
        if not numbered and layer != AVERAGE and not (layer == PHONES and phones):
            others = ", 'average' or 'phones'" if phones else " or 'average'; this teacher has no phone classifier"
            raise InputError(f"layer is {quoted(layer)}; expected 1 to {num_layers}{others}")
        self.sample_rate, self.frame_rate, self.offset = check_sample_rate(sample_rate), frame_rate, offset
        self.num_layers, self.layer, self.phones, self.min_samples = num_layers, layer, phones, min_samples
        self.dim = len(phones) if layer == PHONES else dim

    def layers(self, waveform: Tensor) -> Sequence[Tensor]:
        """Outputs of the layers for ``(B, S)``, each ``(B, T, D)``; layers after :attr:`layer` may be left out."""
        raise NotImplementedError

    def phone_logits(self, waveform: Tensor) -> Tensor:
        """Logits of the phone classifier for ``(B, S)``: ``(B, T, P)``, one for each of :attr:`phones`.

        Raises:
            InputError: the teacher has no phone classifier.
        """
        raise InputError(f"{type(self).__name__} has no phone classifier; expected a teacher trained with phones")

    def forward(self, waveform: Tensor) -> Tensor:
        """Features of :attr:`layer` for ``(B, S)`` at :attr:`sample_rate`: float32 ``(B, T, D)``."""
        waveform = nn.functional.pad(waveform, (0, max(0, self.min_samples - waveform.shape[1])))
        if self.layer == PHONES:
            return self.phone_logits(waveform).float()
        return self.select(self.layers(waveform))

    def select(self, layers: Sequence[Tensor]) -> Tensor:
        """The layer of :attr:`layer`, or the average of all, float32 ``(B, T, D)``."""
        if self.layer == AVERAGE:
            return torch.stack(tuple(layers)).float().mean(0)
        assert isinstance(self.layer, int)
        return layers[self.layer - 1].float()

    def extract_features(self, waveforms: Iterable[Tensor]) -> Iterator[Tensor]:
        """Features of many waveforms ``(S,)``, ``(T, D)`` each, in order.

        A subclass may compute several waveforms together if that is faster. Features then depend slightly on the
        neighbours of a waveform.
        """
        for waveform in waveforms:
            yield self(waveform[None])[0]

    def interpolate(self, features: Tensor, times: Tensor) -> Tensor:
        """Features of this teacher at ``times`` in seconds; see :func:`training.teachers.frames.interpolate`."""
        return interpolate(features, self.frame_rate, self.offset, times)
