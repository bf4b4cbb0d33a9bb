import numpy as np
import pytest
import torch

import speechtok
from benchmarks.codecs.load import load_codec
from speechtok.errors import InputError


def test_codes_and_bits_are_those_of_the_first_codebooks(tiny, audio, tmp_path):
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


def test_the_identity_names_encoder_and_decoder(tiny, tmp_path):
    tiny.save(tmp_path)
    identity = load_codec(f"speechtok:2@{tmp_path}").identity
    assert identity == f"speechtok {tiny.fingerprint} {tiny.decoder_fingerprint} 2"


def test_an_utterance_is_encoded_once_for_all_numbers_of_codebooks(tiny, audio, tmp_path, monkeypatch):
    tiny.save(tmp_path)
    codecs = [load_codec(f"speechtok:{count}@{tmp_path}") for count in (4, 2, 1)]
    encode, calls = codecs[0].tokenizer.encode, []
    monkeypatch.setattr(codecs[0].tokenizer, "encode", lambda *given: calls.append(1) or encode(*given))
    for waveform in (audio, audio[:8000]):
        for codec in codecs:
            codec(waveform)
    assert len(calls) == 2


def small_models() -> dict[str, object]:
    from transformers import DacConfig, DacModel, EncodecConfig, EncodecModel, MimiConfig, MimiModel

    torch.manual_seed(0)
    return {
        "encodec:3": EncodecModel(
            EncodecConfig(target_bandwidths=[1.5, 3.0, 6.0], num_filters=4, hidden_size=16, codebook_size=1024)
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


@pytest.mark.slow
def test_peers_are_loaded_from_a_directory(audio, tmp_path):
    bits = {"encodec:3": 4 * 10, "mimi:2": 2 * 6, "dac:3": 3 * 6}
    for spec, model in small_models().items():
        model.save_pretrained(tmp_path / spec)
        codec = load_codec(f"{spec}@{tmp_path / spec}")
        coded = codec(torch.nn.functional.interpolate(audio[None, None], codec.sample_rate * 2)[0, 0])
        assert coded.waveform.shape == (codec.sample_rate * 2,)
        assert coded.waveform.isfinite().all()
        assert coded.codes is not None
        assert coded.bits == coded.codes.shape[1] * bits[spec]
    with pytest.raises(InputError, match="dac"):
        load_codec(f"mimi@{tmp_path / 'dac:3'}")
    with pytest.raises(InputError, match="9 kbit/s; expected one of"):
        load_codec(f"encodec:9@{tmp_path / 'encodec:3'}")
    with pytest.raises(InputError, match="5 codebooks; expected at most 4"):
        load_codec(f"dac:5@{tmp_path / 'dac:3'}")


def test_the_bitrate_of_encodec_selects_the_codebooks_that_transformers_uses(audio, tmp_path):
    model = small_models()["encodec:3"].eval()
    model.save_pretrained(tmp_path)
    waveform = torch.nn.functional.interpolate(audio[None, None], 24_000)[0, 0]
    for bitrate in (1.5, 3.0, 6.0):
        coded = load_codec(f"encodec:{bitrate:g}@{tmp_path}")(waveform)
        with torch.no_grad():
            encoded = model.encode(waveform[None, None], bandwidth=bitrate)
            decoded = model.decode(encoded.audio_codes, encoded.audio_scales).audio_values[0, 0]
        assert np.array_equal(coded.codes, encoded.audio_codes[0, 0])
        assert torch.allclose(coded.waveform, decoded[: len(waveform)], atol=1e-6)


def test_the_published_speechtokenizer_is_loaded_by_its_name(audio, tmp_path):
    from benchmarks.seanet_reference import BASE, Reference, write_published

    small = BASE | {"n_filters": 4, "dimension": 16, "semantic_dimension": 8, "lstm_layers": 1, "codebook_size": 32}
    torch.manual_seed(0)
    write_published(Reference(small), small, tmp_path)
    codec = load_codec(f"speechtokenizer:4@{tmp_path}")
    tokenizer = speechtok.load(tmp_path)
    coded = codec(audio)
    assert np.array_equal(coded.codes, tokenizer.encode(audio, 16_000, num_codebooks=4).codes[0])
    assert codec.identity.startswith("speechtokenizer ")
