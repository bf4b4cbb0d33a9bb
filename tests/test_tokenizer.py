import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

import speechtok.tokenizer
from speechtok import ConvNeXtTokenizer, SpeechTokens
from speechtok.errors import AudioError, FingerprintError, InputError, SpeechtokError, TokensError

RATE, HOP, Q, N = 16_000, 320, 4, 32  # of the tiny tokenizer


def random_codes(batch: int, frames: int, seed: int = 0) -> Tensor:
    return torch.randint(0, N, (batch, Q, frames), generator=torch.Generator().manual_seed(seed))


def tokens_of(tiny: ConvNeXtTokenizer, codes: Tensor, num_samples: list[int]) -> SpeechTokens:
    samples = torch.tensor(num_samples)
    return SpeechTokens(codes, -(-samples // HOP), samples, RATE, HOP, N, tiny.fingerprint)


# --- promise 1: length, range, no NaN


def check_round_trip(tiny: ConvNeXtTokenizer, x: np.ndarray) -> None:
    tokens = tiny.encode(x, RATE)
    frames = math.ceil(x.shape[-1] / HOP)
    assert tokens.codes.shape == (1, Q, frames)
    assert tokens.codes.dtype == torch.int64
    assert 0 <= tokens.codes.min() <= tokens.codes.max() < N
    assert tokens.lengths.tolist() == [frames]
    assert tokens.num_samples.tolist() == [x.shape[-1]]
    y = tiny.decode(tokens)
    assert y.shape == (1, x.shape[-1])
    assert y.dtype == torch.float32
    assert y.isfinite().all()


@settings(max_examples=40)
@given(samples=st.integers(1, 4_000))
def test_round_trip_keeps_any_length(tiny, speech, samples):
    check_round_trip(tiny, speech(samples / RATE))


@pytest.mark.parametrize("samples", [1, 2, HOP - 1, HOP, HOP + 1, 2 * HOP - 1, 2 * HOP, 2 * HOP + 1])
def test_round_trip_keeps_lengths_next_to_a_frame(tiny, speech, samples):
    check_round_trip(tiny, speech(samples / RATE))


EXTREMES = {
    "silence": np.zeros(2_000),
    "negative zero": -np.zeros(2_000),
    "full positive DC": np.ones(2_000),
    "full negative DC": -np.ones(2_000),
    "clipped": np.sign(np.sin(np.arange(2_000) / 9)),
    "Nyquist at full scale": (-1.0) ** np.arange(2_000),
    "first impulse": np.eye(1, 2_000, 0)[0],
    "last impulse": np.eye(1, 2_000, 1_999)[0],
    "white noise": np.random.default_rng(0).uniform(-1, 1, 2_000),
    "tiny": np.full(2_000, 1e-30),
    "subnormal": np.full(2_000, 1e-42),
    "below float32": np.full(2_000, 1e-300),
    "over full scale": np.full(2_000, 1.99),
    "one sample": np.ones(1),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_no_code_is_out_of_range_and_nothing_is_nan_for_extreme_input(tiny, name):
    check_round_trip(tiny, EXTREMES[name])


@settings(max_examples=40)
@given(x=hnp.arrays(np.float32, st.integers(1, 700), elements=st.floats(-2, 2, width=32)))
def test_no_code_is_out_of_range_and_nothing_is_nan_for_any_finite_input(tiny, x):
    check_round_trip(tiny, x)


def test_less_than_a_frame_is_completed_with_silence_not_refused(tiny, speech):
    x = speech(100 / RATE)
    padded = np.pad(x, (0, HOP - 100))
    assert torch.equal(tiny.encode(x, RATE).codes, tiny.encode(padded, RATE).codes)


def test_the_same_input_gives_the_same_tokens_twice(tiny, speech):
    x = speech(0.5)
    first, second = tiny.encode(x, RATE), tiny.encode(x, RATE)
    assert torch.equal(first.codes, second.codes)
    assert torch.equal(tiny.decode(first), tiny.decode(second))


def test_different_audio_gives_different_tokens(tiny, speech):
    assert not torch.equal(tiny.encode(speech(0.5), RATE).codes, tiny.encode(speech(0.5, seed=1), RATE).codes)
    assert len(tiny.encode(speech(0.5), RATE).semantic.unique()) > 3


def test_pcm_and_floats_of_one_recording_give_the_same_tokens(tiny, speech):
    pcm = np.rint(speech(0.3) * 32_768).clip(-32_768, 32_767).astype(np.int16)
    expected = tiny.encode(pcm / np.float32(32_768), RATE).codes
    assert torch.equal(tiny.encode(pcm, RATE).codes, expected)
    assert torch.equal(tiny.encode(pcm.astype(np.int32) << 16, RATE).codes, expected)


def test_tokens_can_be_trained_on_and_audio_can_be_changed_in_place(tiny, speech):
    tokens = tiny.encode(speech(0.1), RATE)
    torch.nn.Embedding(N, 4)(tokens.semantic).sum().backward()
    audio = tiny.decode(tokens)
    audio *= 0.5
    (audio * torch.ones(1, requires_grad=True)).sum().backward()


def test_no_gradient_is_kept_of_encoding_or_decoding(new_tokenizer, speech):
    trained = new_tokenizer().requires_grad_()
    audio = trained.decode(trained.encode(torch.from_numpy(speech(0.1)).requires_grad_(), RATE))
    assert not audio.requires_grad


def test_weights_of_any_precision_compute_in_float32(new_tokenizer, speech):
    rounded = new_tokenizer().round_weights()
    expected = rounded.encode(speech(0.3), RATE)
    for tok in (copy.deepcopy(rounded).half(), copy.deepcopy(rounded).half().double()):
        assert tok.device.type == "cpu"
        assert tok.quantizer.codebooks.dtype != torch.float32
        assert tok.fingerprint == rounded.fingerprint
        tokens = tok.encode(speech(0.3), RATE)
        assert torch.equal(tokens.codes, expected.codes)
        assert torch.equal(tok.decode(tokens), rounded.decode(expected))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_a_conversion_that_would_change_the_codes_leaves_the_weights_and_says_so(tiny, new_tokenizer, speech, dtype):
    model = torch.nn.ModuleDict({"tokenizer": new_tokenizer(), "head": torch.nn.Linear(2, 2)})
    with pytest.warns(UserWarning, match=f"keeps its weights in torch.float32: {dtype} would change its codes"):
        model.to(dtype)
    tok = model["tokenizer"]
    assert model["head"].weight.dtype == dtype
    assert tok.fingerprint == tiny.fingerprint
    assert tok.decoder_fingerprint == tiny.decoder_fingerprint
    assert torch.equal(tok.encode(speech(0.3), RATE).codes, tiny.encode(speech(0.3), RATE).codes)


def test_neither_autocast_nor_default_dtypes_and_devices_nor_inference_mode_change_a_token(tiny, speech):
    def results():
        tokens = tiny.encode(np.stack([speech(0.3), speech(0.3, seed=1)]), RATE, lengths=[4800, 1000])
        with tiny.stream(2) as stream:
            codes = stream.encode(torch.from_numpy(np.stack([speech(0.1)] * 2)), lengths=[1600, 100])
            flushed = stream.flush()
            audio = stream.decode(tokens.codes)
            drained = stream.drain()
        return [tokens.codes, tiny.decode(tokens), tiny.embed(tokens), codes, flushed, audio, drained]

    expected = results()

    def check():
        assert all(torch.equal(a, b) for a, b in zip(results(), expected, strict=True))

    with torch.autocast("cpu", torch.bfloat16):
        check()
    with torch.inference_mode():
        check()
    for device in ("meta", "cuda"):  # whether or not it exists
        with torch.device(device):
            check()
    for dtype in (torch.float64, torch.bfloat16):
        torch.set_default_dtype(dtype)
        try:
            check()
        finally:
            torch.set_default_dtype(torch.float32)


def test_a_call_is_encode_and_data_parallel_says_why_it_cannot(tiny, speech):
    expected = tiny.encode(speech(0.1), RATE, num_codebooks=2)
    assert torch.equal(tiny(speech(0.1), RATE, num_codebooks=2).codes, expected.codes)
    assert torch.equal(torch.nn.DataParallel(tiny)(speech(0.1), RATE, num_codebooks=2).codes, expected.codes)
    replica = tiny._replicate_for_data_parallel()  # as it does on several devices
    for call in (lambda: replica(speech(0.1), RATE), lambda: replica.decode(expected)):
        with pytest.raises(InputError, match=r"copy made by torch.nn.DataParallel.*one tokenizer per device"):
            call()


# --- promise 5: no lookahead in the encoder, at most one frame in the decoder


def encoder_latent(tiny: ConvNeXtTokenizer, x: Tensor) -> Tensor:
    return tiny.encoder(x, tiny.encoder.initial_state(len(x)))[0]


def test_encoder_has_no_lookahead_at_any_cut(tiny, speech):
    frames = 4
    x = torch.from_numpy(speech(frames * HOP / RATE, seed=3))
    cuts = torch.arange(1, frames * HOP)
    changed = torch.where(torch.arange(frames * HOP) < cuts[:, None], x, -x - 0.1)  # one row a cut
    latent, changed_latent = encoder_latent(tiny, x[None])[0], encoder_latent(tiny, changed)
    whole_before = cuts // HOP  # frames that end before the cut
    for row, before in zip(changed_latent, whole_before.tolist(), strict=True):
        assert torch.allclose(row[:before], latent[:before], atol=1e-5, rtol=0)
        assert not torch.allclose(row[before], latent[before], atol=1e-5, rtol=0)


def test_codes_of_past_frames_never_change_when_the_future_does(tiny, speech):
    x, other = speech(1.0, seed=4), speech(1.0, seed=5)
    codes = tiny.encode(x, RATE).codes
    for frame in range(0, 50, 7):
        cut = frame * HOP
        changed = tiny.encode(np.concatenate([x[:cut], other[cut:]]), RATE).codes
        assert torch.equal(changed[..., :frame], codes[..., :frame])
        assert torch.equal(tiny.encode(np.append(x[:cut], 0.0), RATE).codes[..., :frame], codes[..., :frame])


def test_decoder_looks_ahead_one_frame_and_no_more(tiny):
    frames = 12
    codes = random_codes(1, frames)
    audio = tiny.decode(codes)
    for t in range(frames):
        changed = codes.clone()
        changed[..., t] = (changed[..., t] + 7) % N
        difference = (tiny.decode(changed) - audio).abs()[0]
        assert not difference[: max(0, t - 1) * HOP].any()
        assert difference[max(0, t - 1) * HOP : (t + 1) * HOP].any()
    assert tiny.lookahead == HOP


def test_decoder_uses_the_frame_ahead(tiny):
    codes = random_codes(1, 6)
    changed = codes.clone()
    changed[..., 4] = (changed[..., 4] + 7) % N
    difference = (tiny.decode(changed) - tiny.decode(codes)).abs()[0]
    assert difference[3 * HOP : 4 * HOP].any()


@pytest.mark.parametrize("piece_frames", [1, 2, 3, 7, 49, 50, 51])
def test_offline_pieces_of_any_size_give_the_same_codes_and_audio(tiny, speech, monkeypatch, piece_frames):
    x = np.stack([speech(1.0, seed=6), speech(1.0, seed=7)])[:, :-100]
    tokens = tiny.encode(x, RATE, lengths=[15_900, 9_000])
    audio = tiny.decode(tokens)
    monkeypatch.setattr(speechtok.convnext, "_PIECE_FRAMES", 2 * piece_frames)
    pieces = tiny.encode(x, RATE, lengths=[15_900, 9_000])
    assert torch.equal(pieces.codes, tokens.codes)
    assert torch.allclose(tiny.decode(tokens), audio, atol=1e-5)


def test_a_batch_larger_than_a_piece_is_encoded(tiny, speech, monkeypatch):
    monkeypatch.setattr(speechtok.convnext, "_PIECE_FRAMES", 2)
    x = np.stack([speech(0.1, seed=seed) for seed in range(5)])
    tokens = tiny.encode(x, RATE)
    assert tokens.codes.shape == (5, Q, 5)
    assert tiny.decode(tokens).shape == (5, 1_600)


# --- batches


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_row_of_a_batch_has_the_codes_and_audio_that_it_has_alone(tiny, speech, seed):
    lengths = [16_000, 1, HOP, 5_000, HOP + 1, 12_345]
    rows = [speech(n / RATE, seed=10 * seed + i) for i, n in enumerate(lengths)]
    padded = np.stack([np.pad(row, (0, 16_100 - len(row)), constant_values=0.7) for row in rows])
    tokens = tiny.encode(padded, RATE, lengths=lengths)
    audio = tiny.decode(tokens)
    assert tokens.num_samples.tolist() == lengths
    assert tokens.codes.shape == (6, Q, 50)
    assert audio.shape == (6, 16_000)
    for i, row in enumerate(rows):
        alone = tiny.encode(row, RATE)
        frames = int(tokens.lengths[i])
        assert torch.equal(tokens[i].codes, alone.codes)
        assert not tokens.codes[i, :, frames:].any()
        assert torch.allclose(audio[i, : len(row)], tiny.decode(alone)[0], atol=1e-5)
        assert not audio[i, len(row) :].any()


def test_what_stands_in_the_padding_is_irrelevant(tiny, speech):
    x = np.stack([speech(0.5, seed=1), speech(0.5, seed=2)])
    other = x.copy()
    other[1, 3_000:] = 1.0
    lengths = [8_000, 3_000]
    assert torch.equal(tiny.encode(x, RATE, lengths).codes, tiny.encode(other, RATE, lengths).codes)


@pytest.mark.parametrize("padding", [np.nan, np.inf, 1e9])
def test_padding_may_hold_anything(tiny, padding):
    x = np.zeros((2, 1_000), np.float32)
    expected = tiny.encode(x, RATE, lengths=[1_000, 900]).codes
    x[1, 900:] = padding
    assert torch.equal(tiny.encode(x, RATE, lengths=[1_000, 900]).codes, expected)
    with tiny.stream(2) as s:
        assert torch.equal(s.encode(x, lengths=[1_000, 900])[1, :, :2], expected[1, :, :2])
    with pytest.raises(AudioError, match=r"at row 1, sample 900|has a peak of 1e"):
        tiny.encode(x, RATE, lengths=[1_000, 901])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.float64])
def test_padding_is_silence_in_every_type(tiny, dtype):
    x = torch.full((2, 1_000), 128 if dtype is torch.uint8 else 0, dtype=dtype)
    expected = tiny.encode(torch.zeros(2, 1_000), RATE, lengths=[1_000, 900]).codes
    x[1, 900:] = 7
    assert torch.equal(tiny.encode(x, RATE, lengths=[1_000, 900]).codes, expected)


def test_a_type_that_holds_no_audio_is_named_with_lengths_too(tiny):
    x = torch.zeros(2, 1_000).to(torch.float8_e4m3fn)
    with pytest.raises(AudioError, match=r"dtype torch.float8_e4m3fn; expected floating point"):
        tiny.encode(x, RATE, lengths=[1_000, 900])


@pytest.mark.parametrize("length", [0, -1, 1_001])
def test_a_length_that_cannot_be_is_named_with_what_can(tiny, length):
    with pytest.raises(AudioError, match="expected 1 to 1000"):
        tiny.encode(torch.zeros(2, 1_000), RATE, lengths=[1_000, length])


def test_replaced_weights_have_another_fingerprint(new_tokenizer):
    tok = new_tokenizer()
    for seed in range(20):  # memory that was freed may be given out again
        before, random = tok.fingerprint, torch.Generator().manual_seed(seed)
        shape = tok.quantizer.codebooks.shape
        del tok.quantizer.codebooks
        tok.quantizer.register_buffer("codebooks", torch.randn(shape, generator=random))
        assert tok.fingerprint != before


def test_codes_in_padding_frames_are_irrelevant_to_decoding(tiny):
    codes = random_codes(2, 6)
    changed = codes.clone()
    changed[1, :, 3:] = 5
    num_samples = [6 * HOP, 3 * HOP - 7]
    first = tiny.decode(tokens_of(tiny, codes, num_samples))
    assert torch.equal(first, tiny.decode(tokens_of(tiny, changed, num_samples)))


def test_an_utterance_of_no_frames_in_a_batch_decodes_to_silence(tiny):
    audio = tiny.decode(tokens_of(tiny, random_codes(2, 3), [900, 0]))
    assert audio.shape == (2, 900)
    assert audio[0].any()
    assert not audio[1].any()


@pytest.mark.parametrize("shape", [(1, Q, 0), (3, Q, 0), (0, Q, 5)])
def test_no_codes_decode_to_no_samples(tiny, shape):
    audio = tiny.decode(torch.zeros(shape, dtype=torch.int64))
    assert audio.numel() == 0
    assert audio.shape[0] == shape[0]


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_resampled_batch_has_the_length_and_the_codes_of_each_row_alone(tiny, speech, rate):
    lengths = [rate // 2, 1, rate // 5 + 3]
    rows = [speech(n / rate, seed=i, sample_rate=rate) for i, n in enumerate(lengths)]
    padded = np.stack([np.pad(row, (0, rate // 2 - len(row)), constant_values=-0.9) for row in rows])
    tokens = tiny.encode(padded, rate, lengths=lengths)
    assert tokens.num_samples.tolist() == [math.ceil(n * RATE / rate) for n in lengths]
    assert tiny.decode(tokens).shape == (3, math.ceil(lengths[0] * RATE / rate))
    for i, row in enumerate(rows):
        assert torch.equal(tokens[i].codes, tiny.encode(row, rate).codes)


@settings(max_examples=30)
@given(samples=st.integers(1, 2_000), rate=st.sampled_from([8_000, 44_100, 48_000, 11_025, 192_000]))
def test_length_at_other_rates_is_the_duration_rounded_up(tiny, samples, rate):
    tokens = tiny.encode(np.zeros(samples), rate)
    expected = math.ceil(samples * RATE / rate)
    assert tokens.num_samples.tolist() == [expected]
    assert tiny.decode(tokens).shape == (1, expected)


BAD_LENGTHS = {
    "too few": [5],
    "too many": [5, 6, 7],
    "a scalar": 5,
    "two axes": [[5, 6]],
    "none": [],
    "zero": [5, 0],
    "negative": [5, -1],
    "over": [5, 1_001],
    "over 64 bits": [5, 2**70],
    "floats": [5.0, 6.0],
    "float tensor": torch.tensor([5.0, 6.0]),
    "bool": [True, True],
    "complex": [5j, 6],
    "text": "56",
    "texts": ["5", "6"],
    "with None": [5, None],
    "ragged": [[5], [6, 7]],
}


@pytest.mark.parametrize("name", BAD_LENGTHS)
def test_bad_lengths_are_refused_with_their_value_and_what_was_expected(tiny, name):
    with pytest.raises(AudioError) as caught:
        tiny.encode(np.zeros((2, 1_000)), RATE, lengths=BAD_LENGTHS[name])
    assert f"lengths is {BAD_LENGTHS[name]!r}; expected" in str(caught.value)


@pytest.mark.parametrize(
    "lengths",
    [
        (500, 1_000),
        [np.int64(500), 1_000],
        [torch.tensor(500), torch.tensor(1_000)],
        torch.tensor([500, 1_000]),
        torch.tensor([500, 1_000], dtype=torch.int16),
        *(np.array([500, 1_000], dtype) for dtype in ("i4", "u2", "u4", "u8", ">i4", ">u8")),
        np.array([1_000, 500])[::-1],
        np.array([[500, 0], [1_000, 0]])[:, 0],
    ],
    ids=repr,
)
def test_whole_lengths_of_any_type_are_taken(tiny, lengths):
    assert tiny.encode(np.zeros((2, 1_000)), RATE, lengths=lengths).num_samples.tolist() == [500, 1_000]


# --- any prefix of the codebooks


@pytest.mark.parametrize("k", [1, 2, 3, 4, np.int64(2)])
def test_any_prefix_of_the_codebooks_is_a_valid_encoding(tiny, speech, k):
    x = speech(0.4)
    tokens, prefix = tiny.encode(x, RATE), tiny.encode(x, RATE, num_codebooks=k)
    assert torch.equal(prefix.codes, tokens.codes[:, :k])
    assert prefix.num_codebooks == k
    audio = tiny.decode(prefix)
    assert torch.equal(tiny.decode(tokens, num_codebooks=k), audio)
    assert torch.equal(tiny.decode(tokens.codes[:, :k])[:, : audio.shape[1]], audio)


def test_fewer_codebooks_are_other_audio(tiny, speech):
    tokens = tiny.encode(speech(0.4), RATE)
    assert not torch.allclose(tiny.decode(tokens, num_codebooks=1), tiny.decode(tokens), atol=1e-4)


@pytest.mark.parametrize("k", [0, -1, 5, 9, True, 1.0, "2", [2], np.int64(0), float("nan")])
def test_bad_num_codebooks_is_refused_with_its_value_and_what_was_expected(tiny, k):
    tokens = tiny.encode(np.zeros(500), RATE)
    for call in (lambda: tiny.encode(np.zeros(500), RATE, num_codebooks=k), lambda: tiny.decode(tokens, k)):
        with pytest.raises(InputError) as caught:
            call()
        assert str(caught.value) == f"num_codebooks is {k!r}; expected 1 to 4"


def test_more_codebooks_than_the_tokens_have_is_refused(tiny):
    tokens = tiny.encode(np.zeros(500), RATE, num_codebooks=2)
    with pytest.raises(InputError, match="num_codebooks is 3; expected 1 to 2"):
        tiny.decode(tokens, num_codebooks=3)


# --- promise 2: bad input (all of it in test_audio.py and test_tokens.py; here: that encode and decode look at it)


@pytest.mark.parametrize(
    ("waveform", "rate"),
    [([], RATE), ([float("nan")], RATE), (torch.zeros(1, 1, 9), RATE), (None, RATE), ("in.wav", RATE)]
    + [(np.zeros(9), rate) for rate in (None, 0, True, "16000", 16_000.5)],
)
def test_encode_refuses_what_is_no_audio_or_has_no_rate(tiny, waveform, rate):
    with pytest.raises(AudioError, match="expected") as caught:
        tiny.encode(waveform, rate)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, SpeechtokError)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (None, "tokens is a NoneType; expected SpeechTokens or a tensor"),
        ([[[1]]], "tokens is a list; expected SpeechTokens or a tensor"),
        (np.zeros((1, Q, 3), np.int64), "tokens is a ndarray; expected SpeechTokens or a tensor"),
        (torch.zeros(1, Q, 3), "dtype torch.float32; expected torch.int64"),
        (torch.zeros(1, Q, 3, dtype=torch.int32), "dtype torch.int32; expected torch.int64"),
        (torch.zeros(Q, 3, dtype=torch.int64), r"shape \(4, 3\); expected \(B, Q, T\)"),
        (torch.zeros(1, 0, 3, dtype=torch.int64), r"shape \(1, 0, 3\); expected \(B, Q, T\) with at least one"),
        (torch.zeros(1, 5, 3, dtype=torch.int64), "have 5 codebooks; expected at most 4"),
        (torch.full((1, Q, 3), N), "values from 32 to 32; expected 0 to 31"),
        (torch.full((1, Q, 3), -1), "values from -1 to -1; expected 0 to 31"),
    ],
)
def test_decode_refuses_codes_that_it_cannot_have_made(tiny, codes, message):
    with pytest.raises(TokensError, match=message):
        tiny.decode(codes)


@pytest.mark.parametrize(("rate", "hop", "size"), [(8_000, HOP, N), (RATE, 2 * HOP, N), (RATE, HOP, 2 * N)])
def test_decode_refuses_tokens_whose_facts_are_not_the_tokenizers(tiny, rate, hop, size):
    codes = torch.full((1, Q, 3), size - 1)
    tokens = SpeechTokens(codes, torch.tensor([3]), torch.tensor([3 * hop]), rate, hop, size, tiny.fingerprint)
    with pytest.raises(TokensError, match=f"codebook_size {size}; expected 16000, 320 and 32"):
        tiny.decode(tokens)


# --- promise 6: tokens know their tokenizer


def test_tokens_of_another_tokenizer_are_refused_with_both_fingerprints(tiny, new_tokenizer, speech):
    other = new_tokenizer(seed=1)
    tokens = other.encode(speech(0.1), RATE)
    assert tokens.fingerprint == other.fingerprint
    with pytest.raises(FingerprintError, match=f"{other.fingerprint}.*{tiny.fingerprint}"):
        tiny.decode(tokens)


def test_bare_codes_carry_no_fingerprint_and_are_decoded_in_whole_frames(tiny, speech):
    tokens = tiny.encode(speech(0.11), RATE)
    audio = tiny.decode(tokens.codes)
    assert audio.shape == (1, tokens.codes.shape[2] * HOP)
    assert torch.equal(audio[:, : tokens.num_samples[0]], tiny.decode(tokens))


def test_fingerprint_is_equal_for_equal_tokenizers(tiny, new_tokenizer):
    assert new_tokenizer().fingerprint == tiny.fingerprint == tiny.fingerprint
    assert copy.deepcopy(tiny).fingerprint == tiny.fingerprint
    assert new_tokenizer().to("cpu").fingerprint == tiny.fingerprint
    assert new_tokenizer().train().eval().requires_grad_().fingerprint == tiny.fingerprint


def test_fingerprint_is_a_short_hexadecimal_hash(tiny):
    assert len(tiny.fingerprint) == 16
    int(tiny.fingerprint, 16)


def test_every_weight_counts_in_one_of_the_fingerprints(new_tokenizer):
    tokenizer = new_tokenizer()
    for name, tensor in tokenizer.state_dict().items():
        codes, decoder = tokenizer.fingerprint, tokenizer.decoder_fingerprint
        with torch.no_grad():
            tensor.view(-1)[-1] += 1e-3
        assert (tokenizer.fingerprint == codes) == name.startswith("decoder.")
        assert (tokenizer.decoder_fingerprint == decoder) != name.startswith("decoder.")


def add_in_place(tok: ConvNeXtTokenizer) -> None:
    with torch.no_grad():
        tok.encoder.embed.weight.add_(1e-3)


def add_to_codebooks(tok: ConvNeXtTokenizer) -> None:
    tok.quantizer.codebooks += 1e-3


def replace_parameter(tok: ConvNeXtTokenizer) -> None:
    tok.encoder.project.weight = torch.nn.Parameter(tok.encoder.project.weight + 1e-3)


def replace_codebooks(tok: ConvNeXtTokenizer) -> None:
    tok.quantizer.codebooks = tok.quantizer.codebooks + 1e-3


def load_state(tok: ConvNeXtTokenizer) -> None:
    tok.load_state_dict({name: tensor + 1e-3 for name, tensor in tok.state_dict().items()})


def assign_state(tok: ConvNeXtTokenizer) -> None:
    tok.load_state_dict({name: tensor + 1e-3 for name, tensor in tok.state_dict().items()}, assign=True)


def optimise(tok: ConvNeXtTokenizer) -> None:
    tok.requires_grad_()
    optimizer = torch.optim.AdamW(tok.parameters(), lr=1e-3)
    for parameter in tok.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def round_weights(tok: ConvNeXtTokenizer) -> None:
    tok.round_weights()


CHANGES = [
    add_in_place,
    add_to_codebooks,
    replace_parameter,
    replace_codebooks,
    load_state,
    assign_state,
    optimise,
    round_weights,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_fingerprint_changes_with_the_weights(tiny, new_tokenizer, speech, change):
    tokenizer = new_tokenizer()
    tokens = tokenizer.encode(speech(0.1), RATE)
    change(tokenizer)
    assert tokenizer.fingerprint != tiny.fingerprint
    with pytest.raises(FingerprintError):
        tokenizer.decode(tokens)


def test_fingerprint_counts_the_config(tiny, new_tokenizer):
    config = tiny.config.to_dict()
    other = new_tokenizer(config=speechtok.ConvNeXtConfig.from_dict({**config, "sample_rate": 24_000}))
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), tiny.parameters(), strict=True))
    assert other.fingerprint != tiny.fingerprint


def test_a_tokenizer_made_in_inference_mode_works_and_notices_a_change(tiny, new_tokenizer, speech):
    with torch.inference_mode():
        tokenizer = new_tokenizer()
        assert tokenizer.fingerprint == tiny.fingerprint
        tokens = tokenizer.encode(speech(0.1), RATE)
        assert torch.equal(tokens.codes, tiny.encode(speech(0.1), RATE).codes)
        tokenizer.quantizer.codebooks += 1e-3
        assert tokenizer.fingerprint != tiny.fingerprint


def test_properties_are_those_of_the_config(tiny):
    assert (tiny.sample_rate, tiny.hop_length, tiny.num_codebooks, tiny.codebook_size) == (RATE, HOP, Q, N)
    assert tiny.frame_rate == 50.0
    assert tiny.device == torch.device("cpu")
