"""SNAC and X-Codec 2 with stand-ins of the interfaces of their packages."""

import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.codecs.load import load_codec
from speechtok.errors import InputError


class SNAC(nn.Module):
    """Three codebooks whose frames are 8, 4 and 2 samples long."""

    sampling_rate, codebook_size = 24_000, 4_096

    @classmethod
    def from_pretrained(cls, source: str) -> "SNAC":
        if source == "/none":
            raise OSError("not there")
        return cls()

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def encode(self, audio: torch.Tensor) -> list[torch.Tensor]:
        frames = -(-audio.shape[2] // 8)
        return [torch.arange(scale * frames)[None] for scale in (1, 2, 4)]

    def decode(self, codes: list[torch.Tensor]) -> torch.Tensor:
        return torch.zeros(1, 1, 8 * codes[0].shape[1]) + codes[0][0, 1]


class XCodec2Model(nn.Module):
    @classmethod
    def from_pretrained(cls, source: str) -> "XCodec2Model":
        return cls()

    def encode_code(self, input_waveform: torch.Tensor) -> torch.Tensor:
        return torch.full((1, 1, input_waveform.shape[1] // 320), 65_535)

    def decode_code(self, codes: torch.Tensor) -> torch.Tensor:
        return torch.full((1, 1, 320 * codes.shape[2]), 0.25)


@pytest.fixture(autouse=True)
def _packages(monkeypatch) -> None:
    snac, xcodec2 = types.ModuleType("snac"), types.ModuleType("xcodec2.modeling_xcodec2")
    snac.SNAC, xcodec2.XCodec2Model = SNAC, XCodec2Model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "snac", snac)
    monkeypatch.setitem(sys.modules, "xcodec2", types.ModuleType("xcodec2"))
    monkeypatch.setitem(sys.modules, "xcodec2.modeling_xcodec2", xcodec2)


def test_codebooks_of_several_frame_rates_are_columns_of_the_coarsest():
    result = load_codec("snac@hubertsiuzdak/snac_24khz")(torch.zeros(20))
    assert result.codes is not None
    assert np.array_equal(result.codes[:, 1], [1, 2, 3, 4, 5, 6, 7])
    assert result.codes.shape == (7, 3)
    assert result.bits == 7 * 3 * 12
    assert result.waveform.shape == (20,)
    assert result.waveform[0] == 1


def test_one_codebook_of_65536_entries_takes_16_bits_a_frame():
    result = load_codec("xcodec2@HKUSTAudio/xcodec2")(torch.zeros(960))
    assert result.codes is not None
    assert result.codes.shape == (1, 3)
    assert result.bits == 48
    assert torch.equal(result.waveform, torch.full((960,), 0.25))


@pytest.mark.parametrize("name", ["snac", "xcodec2"])
def test_what_is_missing_is_named(name, monkeypatch):
    with pytest.raises(InputError, match=f"expected {name}@DIR"):
        load_codec(name)
    with pytest.raises(InputError, match="without a number"):
        load_codec(f"{name}:2@x")
    monkeypatch.setitem(sys.modules, {"snac": "snac", "xcodec2": "xcodec2.modeling_xcodec2"}[name], None)
    with pytest.raises(InputError, match=f"pip install {name}"):
        load_codec(f"{name}@x")


def test_a_model_that_cannot_be_loaded_is_named():
    with pytest.raises(InputError, match="'/none' cannot be loaded by snac"):
        load_codec("snac@/none")
