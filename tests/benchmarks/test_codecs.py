import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.codecs import CODECS, load_codec, parse
from benchmarks.evaluate import find_delay
from speechtok.errors import InputError
from speechtok.metrics import pesq_wb


@pytest.fixture(scope="module")
def audio() -> torch.Tensor:
    from tests.conftest import make_speech

    return torch.from_numpy(make_speech(2, seed=1))


def test_a_specification_is_name_number_and_source():
    spec = parse("encodec:1.5@some/dir:with@signs")
    assert (spec.name, spec.number, spec.source) == ("encodec", 1.5, "some/dir:with@signs")
    assert parse("speechtok").whole is None
    assert parse("codec2:3200").whole == 3200


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nosuch", "unknown; expected one of speechtok"),
        ("opus:", "expected NAME"),
        ("", "expected NAME"),
        ("opus:5", "5 kbit/s; expected 6 to 256"),
        ("speechtok:1.5", "whole number"),
        ("speechtok:0", "whole number"),
        ("speechtok:99", "99 codebooks; expected at most 8"),
        ("speechtok@/none", "none"),
        ("mimi:8", "no source"),
        ("dac@/none", "cannot be loaded"),
        ("identity:3", "expected identity alone"),
        ("lowpass:9000", "in hertz"),
    ],
)
def test_what_cannot_be_a_codec_is_told_why(text, says):
    with pytest.raises(InputError, match=says):
        load_codec(text)


def test_identity_loses_nothing_and_lowpass_what_is_above(audio):
    same = load_codec("identity")(audio)
    assert torch.equal(same.waveform, audio)
    assert same.bits == 16 * len(audio)
    low = load_codec("lowpass:2000")(audio)
    assert len(low.waveform) == len(audio)
    power = torch.fft.rfft(low.waveform).abs().square()
    hertz = torch.fft.rfftfreq(len(audio), 1 / 16_000)
    assert power[hertz > 2300].sum() < 1e-4 * power.sum()
    assert power[hertz < 1500].sum() > 0.5 * torch.fft.rfft(audio).abs().square()[hertz < 1500].sum()


def test_speechtok_has_the_codes_and_bits_of_its_codebooks(tiny, audio, tmp_path):
    tiny.save(tmp_path)
    codec = load_codec(f"speechtok:2@{tmp_path}")
    coded = codec(audio)
    assert coded.codes is not None
    assert coded.codes.shape == (2, 100)
    assert coded.bits == 2 * 100 * 5
    tokens = tiny.encode(audio, 16_000, num_codebooks=2)
    assert np.array_equal(coded.codes, tokens.codes[0])
    assert torch.equal(coded.waveform, tiny.decode(tokens)[0])
    assert load_codec(f"speechtok:3@{tmp_path}").identity != codec.identity


def test_opus_spends_more_bits_on_better_speech(audio):
    low, high = (load_codec(f"opus:{rate}")(audio) for rate in (6, 24))
    assert len(low.waveform) == len(high.waveform) == len(audio)
    assert 3_000 < low.bits / 2 < 12_000  # measured, a second
    assert 15_000 < high.bits / 2 < 40_000
    assert pesq_wb(audio, low.waveform, 16_000) < pesq_wb(audio, high.waveform, 16_000)


def test_opus_gives_every_sample_where_it_was(audio):
    """Of any length, and without the encoder's delay; the bits are near the rate that was asked for."""
    for length in (1, 319, 320, 16_123):
        assert len(load_codec("opus:24")(audio[:length]).waveform) == length
    coded = load_codec("opus:64")(audio)
    assert find_delay([(audio, coded.waveform)]) == 0
    assert 0.8 * 64_000 < coded.bits / 2 < 1.2 * 64_000
    assert float((coded.waveform - audio).square().mean() / audio.square().mean()) < 0.1


def test_opus_without_its_library_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match="needs PyAV"):
        load_codec("opus:6")


def test_codec2_by_its_programs_or_told_that_they_are_absent(audio, monkeypatch, tmp_path):
    """Programs that keep every 50th byte stand in for the real ones."""
    for name, script in (("c2enc", "head -c 800 $2 > $3"), ("c2dec", "cat $2 $2 > $3")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{Path(shutil.which('head')).parent}")
    coded = load_codec("codec2:3200")(audio[::2].contiguous())
    assert coded.bits == 6400
    assert len(coded.waveform) == 800
    assert torch.allclose(coded.waveform[:400], audio[::2][:400], atol=1e-4)
    with pytest.raises(InputError, match="3201 is no mode"):
        load_codec("codec2:3201")
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    with pytest.raises(InputError, match="needs c2enc, which is absent"):
        load_codec("codec2")


def small_models() -> dict[str, object]:
    from transformers import DacConfig, DacModel, EncodecConfig, EncodecModel, MimiConfig, MimiModel

    torch.manual_seed(0)
    return {
        "encodec:3": EncodecModel(
            EncodecConfig(target_bandwidths=[1.5, 3.0], num_filters=4, hidden_size=16, codebook_size=1024)
        ),
        "mimi:2": MimiModel(
            MimiConfig(
                num_filters=4,
                hidden_size=16,
                codebook_size=64,
                codebook_dim=8,
                upsample_groups=16,
                vector_quantization_hidden_dimension=8,
                num_quantizers=4,
                num_hidden_layers=1,
                intermediate_size=16,
                num_attention_heads=2,
                num_key_value_heads=2,
                head_dim=8,
            )
        ),
        "dac:3": DacModel(
            DacConfig(
                encoder_hidden_size=8,
                decoder_hidden_size=32,
                n_codebooks=4,
                codebook_size=64,
                codebook_dim=4,
                downsampling_ratios=[2, 4, 5, 8],
                upsampling_ratios=[8, 5, 4, 2],
                sampling_rate=16_000,
            )
        ),
    }


def test_codecs_of_transformers_from_a_directory(audio, tmp_path):
    bits = {"encodec:3": 4 * 10, "mimi:2": 2 * 6, "dac:3": 3 * 6}
    for spec, model in small_models().items():
        model.save_pretrained(tmp_path / spec)
        codec = load_codec(f"{spec}@{tmp_path / spec}")
        coded = codec(torch.nn.functional.interpolate(audio[None, None], codec.sample_rate * 2)[0, 0])
        assert coded.waveform.ndim == 1
        assert abs(len(coded.waveform) - 2 * codec.sample_rate) <= 2_000
        assert coded.waveform.isfinite().all()
        assert coded.codes is not None
        assert coded.bits == coded.codes.shape[1] * bits[spec]
    with pytest.raises(InputError, match="is a dac; expected a mimi"):
        load_codec(f"mimi@{tmp_path / 'dac:3'}")
    with pytest.raises(InputError, match="9 kbit/s; expected one of"):
        load_codec(f"encodec:9@{tmp_path / 'encodec:3'}")
    with pytest.raises(InputError, match="5 codebooks; expected at most 4"):
        load_codec(f"dac:5@{tmp_path / 'dac:3'}")


def test_every_codec_has_a_name_that_can_be_written():
    assert all(parse(name).name == name for name in CODECS)
