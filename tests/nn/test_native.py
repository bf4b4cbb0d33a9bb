import copy
import ctypes
import dataclasses
import pickle
import shutil
import threading
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from speechtok import ConvNeXtConfig, ConvNeXtStackConfig, ConvNeXtTokenizer
from speechtok.errors import InputError, StreamError, TokensError
from speechtok.nn.native import NativeCache, NativeDecoder, NativeEncoder, library, threads, use_isa
from speechtok.nn.state import Joined, pack_state, unpack_state

needs_library = pytest.mark.skipif(library.load_library() is None, reason="installed without its compiled library")
ISAS = library.available_isas()

stacks = st.builds(
    ConvNeXtStackConfig,
    patch_dim=st.integers(1, 40),
    patch_depth=st.integers(1, 2),
    frame_dim=st.integers(1, 90),
    frame_depth=st.integers(1, 2),
    kernel_size=st.integers(1, 4),
    expansion=st.integers(1, 3),
)
configs = st.builds(
    ConvNeXtConfig,
    hop_length=st.just(24),
    patch_length=st.sampled_from([4, 8, 24]),
    window_length=st.sampled_from([24, 48]),
    latent_dim=st.integers(2, 70),
    num_codebooks=st.integers(1, 3),
    codebook_size=st.sampled_from([2, 3, 64, 65, 200]),
    noise_bands=st.sampled_from([0, 3]),
    hold=st.sampled_from([0, 500, 2**24]),
    encoder=stacks,
    decoder=stacks,
)


class Native:
    """Encoder and decoder of a tokenizer, as they are used: compiled code where it agrees with the modules."""

    def __init__(self, tok: ConvNeXtTokenizer) -> None:
        self.tok = tok
        self.caches = NativeCache(NativeEncoder), NativeCache(NativeDecoder)

    @property
    def encoder(self) -> NativeEncoder | None:
        return self.caches[0](self.tok.encoder, self.tok.quantizer)

    @property
    def decoder(self) -> NativeDecoder | None:
        return self.caches[1](self.tok.quantizer, self.tok.decoder)


def compiled(tok: ConvNeXtTokenizer) -> tuple[NativeEncoder, NativeDecoder]:
    return NativeEncoder(tok.encoder, tok.quantizer), NativeDecoder(tok.quantizer, tok.decoder)


def noise(tok: ConvNeXtTokenizer, batch: int, frames: int, seed: int = 0):
    return torch.randn(batch, frames * tok.hop_length, generator=torch.Generator().manual_seed(seed))


def initial(tok: ConvNeXtTokenizer, batch: int = 1):
    """Packed states of encoder and decoder."""
    return *tok.encoder_state(batch), *tok.decoder_state(batch)


@torch.no_grad()
def with_modules(tok, x, states, num_codebooks):
    past = unpack_state(states[0], Joined(tok.encoder, tok.quantizer))
    split = len(tok.encoder.initial_state(0))
    latent, encoder_state = tok.encoder(x, past[:split])
    codes, held = tok.quantizer.encode_frames(latent, num_codebooks, past[split:])
    audio, decoder_state = tok.decoder(tok.quantizer.decode(codes), unpack_state(states[1], tok.decoder))
    return codes, audio, pack_state((*encoder_state, *held)), pack_state(decoder_state)


def with_library(halves, x, states, num_codebooks):
    encoder, decoder = halves
    codes, encoder_state = encoder(x, states[0], num_codebooks)
    audio, decoder_state = decoder(codes, states[1], codes.shape[2])
    return codes, audio, encoder_state, decoder_state


def assert_equal(results, expected):
    for result, other in zip(results, expected, strict=True):
        assert torch.equal(result, other)


def test_the_library_is_compiled_where_there_is_a_compiler():
    assert library.load_library() is not None or shutil.which("cc") is None


@needs_library
@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=30)
@given(
    config=configs,
    semantic=st.booleans(),
    batch=st.integers(1, 5),
    pieces=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    scale=st.sampled_from([0.0, 1e-38, 1e-6, 0.1, 1e4]),
    seed=st.integers(0, 9),
)
def test_codes_audio_and_states_equal_those_of_the_modules(
    new_tokenizer, isa, config, semantic, batch, pieces, scale, seed
):
    if semantic:
        config = dataclasses.replace(config, semantic_dim=config.latent_dim // 2)
    tok = new_tokenizer(seed, config)
    halves = compiled(tok)
    states = states_expected = initial(tok, batch)
    num_codebooks = 1 + seed % config.num_codebooks
    for frames in pieces:
        x = scale * noise(tok, batch, frames, seed)
        before = [state.clone() for state in states]
        with use_isa(isa):
            result = with_library(halves, x, states, num_codebooks)
        assert_equal(states, before)  # what was passed in is unchanged
        expected = with_modules(tok, x, states_expected, num_codebooks)
        assert_equal(result, expected)
        states, states_expected = result[2:], expected[2:]


@needs_library
@pytest.mark.parametrize("isa", ISAS)
def test_the_largest_levels_of_each_sign_are_multiplied_exactly(new_tokenizer, isa):
    # pairs of products are added in 16 bits, which just hold them
    tok = new_tokenizer()
    with torch.no_grad():
        for half in (tok.encoder, tok.decoder):
            for weight in (parameter for parameter in half.parameters() if parameter.ndim == 2):
                weight.copy_(torch.where(weight < 0, -0.05, 0.05))
        tok.quantizer.codebooks.copy_(torch.where(tok.quantizer.codebooks < 0, -1.0, 1.0))
    x, states = torch.where(noise(tok, 2, 3) < 0, -1.0, 1.0), initial(tok, 2)
    for num_codebooks in (1, tok.num_codebooks):
        with use_isa(isa):
            result = with_library(compiled(tok), x, states, num_codebooks)
        assert_equal(result, with_modules(tok, x, states, num_codebooks))


@needs_library
@pytest.mark.parametrize("isa", ISAS)
def test_the_first_of_equal_vectors_is_chosen(new_tokenizer, isa):
    tok = new_tokenizer(0, ConvNeXtConfig(latent_dim=6, codebook_size=150, num_codebooks=2))
    with torch.no_grad():
        tok.quantizer.codebooks[:] = tok.quantizer.codebooks[:, torch.arange(150) % 7]
    with use_isa(isa):
        codes, _ = compiled(tok)[0](noise(tok, 2, 9), initial(tok, 2)[0], 2)
    assert codes.max() < 7
    assert len(codes.unique()) > 1


@pytest.mark.slow
@needs_library
@pytest.mark.parametrize("isa", ISAS)
@given(lengths=st.lists(st.integers(0, 3), min_size=3, max_size=3), more=st.integers(0, 2))
def test_latents_of_zeros_follow_the_codes(tiny, isa, lengths, more):
    codes = torch.arange(36).view(3, 4, 3) % tiny.config.codebook_size
    counted = torch.arange(3) < torch.tensor(lengths)[:, None]
    latent = tiny.quantizer.decode(codes) * counted[..., None]
    latent = nn.functional.pad(latent, (0, 0, 0, more))
    with torch.no_grad():
        expected, state_expected = tiny.decoder(latent, tiny.decoder.initial_state(3))
    (_, decoder), (_, state) = compiled(tiny), initial(tiny, 3)
    with use_isa(isa):
        result = decoder(codes, state, 3 + more, torch.tensor(lengths))
        assert_equal(result, (expected, pack_state(state_expected)))
        if not any(lengths):
            assert torch.equal(decoder(None, state, 3 + more)[0], expected)


@needs_library
def test_threads_share_compiled_code(tiny):
    halves = compiled(tiny)
    signals = [noise(tiny, 1, 40, seed) for seed in range(8)]
    expected = [with_modules(tiny, x, initial(tiny), 4) for x in signals]
    results: list = [None] * len(signals)

    def run(i):
        for _ in range(5):
            results[i] = with_library(halves, signals[i], initial(tiny), 4)

    workers = [threading.Thread(target=run, args=(i,)) for i in range(len(signals))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for result, other in zip(results, expected, strict=True):
        assert_equal(result, other)


@needs_library
def test_inputs_and_states_need_not_be_contiguous(tiny):
    (encoder, decoder), (encoder_state, decoder_state) = compiled(tiny), initial(tiny, 2)
    x = noise(tiny, 4, 3)
    strided = encoder_state.t().contiguous().t()
    expected, _ = encoder(x[::2].clone(), encoder_state, 4)
    assert torch.equal(encoder(x[::2], strided, 4)[0], expected)
    assert torch.equal(encoder(x[::2].t().contiguous().t(), encoder_state, 4)[0], expected)
    audio, _ = decoder(expected, decoder_state, 3)
    lengths = torch.full((4,), 3)[::2]
    for codes in (expected.repeat_interleave(2, 0)[::2], expected.transpose(1, 2).contiguous().transpose(1, 2)):
        assert torch.equal(decoder(codes, decoder_state, 3, lengths)[0], audio)


def test_default_device_and_dtype_do_not_matter(new_tokenizer, speech):
    # a program on a GPU may call torch.set_default_device("cuda") and keep its tokenizer on the CPU
    for device, dtype in (("meta", torch.float32), ("cpu", torch.float64)):
        tok, other, audio = new_tokenizer(), new_tokenizer(), torch.from_numpy(speech(0.5))
        tokens = other.encode(audio, other.sample_rate)
        expected = tokens.codes, other.decode(tokens)
        torch.set_default_dtype(dtype)
        try:
            with torch.device(device):
                tokens = tok.encode(audio, tok.sample_rate)
                assert_equal((tokens.codes, tok.decode(tokens)), expected)
                with tok.stream() as s:
                    codes = torch.cat([s.encode(audio), s.flush()], 2)
                    decoded = torch.cat([s.decode(codes), s.drain()], 1)
                    assert s.num_samples.tolist() == [len(audio)]
                    assert s.audio_lengths.tolist() == [tok.hop_length]
            assert_equal((codes, decoded[:, : len(audio)]), expected)
        finally:
            torch.set_default_dtype(torch.float32)


@needs_library
@pytest.mark.parametrize("code", [-1, 32, 2**40])
def test_codes_out_of_range_are_refused(tiny, code):
    codes = torch.zeros(1, 4, 3, dtype=torch.int64)
    codes[0, 2, 1] = code
    with pytest.raises(TokensError, match="a code is out of range; expected codes from 0 to 31"):
        compiled(tiny)[1](codes, initial(tiny)[1], 3)


@needs_library
def test_inputs_that_do_not_fit_the_weights_are_refused(tiny):
    encoder, decoder = compiled(tiny)
    x, codes = noise(tiny, 2, 3), torch.zeros(2, 4, 3, dtype=torch.int64)
    encoder_state, decoder_state = initial(tiny, 2)
    for waveform in (x.double(), x[:, 1:], x.to("meta")):
        with pytest.raises(InputError, match="the waveform is"):
            encoder(waveform, encoder_state, 4)
    for num_codebooks in (0, 5):
        with pytest.raises(InputError, match=f"num_codebooks is {num_codebooks}; expected 1 to 4"):
            encoder(x, encoder_state, num_codebooks)
    for wrong in (codes.int(), codes.repeat(1, 2, 1), codes.to("meta")):
        with pytest.raises(InputError, match="the codes are"):
            decoder(wrong, decoder_state, 3)
    for lengths in (torch.tensor([3]), torch.tensor([3.0, 3.0]), torch.tensor([3, 3], device="meta")):
        with pytest.raises(InputError, match="the lengths are"):
            decoder(codes, decoder_state, 3, lengths)
    for state in (encoder_state[:, 1:], encoder_state[:1], encoder_state.half(), encoder_state.to("meta")):
        with pytest.raises(InputError, match="the state is"):
            encoder(x, state, 4)


@needs_library
def test_a_state_of_layers_that_were_replaced_is_refused(new_tokenizer, speech):
    small = ConvNeXtConfig(latent_dim=8, codebook_size=32, num_codebooks=4, encoder=ConvNeXtStackConfig(16, 1, 48, 1))
    tok, audio = new_tokenizer(), torch.from_numpy(speech(0.1))
    with tok.stream() as s:
        s.encode(audio)
        tok.encoder = new_tokenizer(config=small).encoder
        with pytest.raises(StreamError, match="start anew after replacing layers of the model"):
            s.encode(audio)


def replace_codebooks(tok):
    tok.quantizer.codebooks = torch.zeros(4, 32, 12)


def replace_convolution(tok):
    tok.encoder.patch_blocks.blocks[0].conv.weight = nn.Parameter(torch.zeros(7, 4))


def replace_linear(tok):
    tok.encoder.merge.weight = nn.Parameter(torch.zeros(32, 8))


def replace_bias(tok):
    tok.decoder.head.bias = nn.Parameter(torch.zeros(3))


def replace_hidden_layer(tok):
    tok.decoder.frame_blocks.blocks[0].contract = copy.deepcopy(tok.decoder.split)


def replace_split(tok):
    tok.decoder.split = copy.deepcopy(tok.decoder.project)


@needs_library
@pytest.mark.parametrize(
    "change",
    [replace_codebooks, replace_convolution, replace_linear, replace_bias, replace_hidden_layer, replace_split],
    ids=lambda change: change.__name__,
)
def test_weights_that_do_not_fit_each_other_are_never_used(new_tokenizer, change):
    tok = new_tokenizer()
    native = Native(tok)
    assert None not in (native.encoder, native.decoder)
    change(tok)
    with pytest.raises(InputError, match="does not fit the rest of the model"):
        _ = native.encoder, native.decoder
    with pytest.raises(InputError, match="does not fit the rest of the model"):
        compiled(tok)


@pytest.mark.parametrize("isa", [*ISAS, None])
@pytest.mark.parametrize("shape", [(2, 32, 8), (4, 16, 8), (8, 64, 8), (4, 32, 6)])
def test_codebooks_of_another_shape_than_the_config_says_are_refused(new_tokenizer, speech, isa, shape):
    # codes are checked against the config: the modules would take the vectors of another codebook
    tok, audio = new_tokenizer(), speech(0.1)
    codes = tok.encode(audio, tok.sample_rate).codes
    with use_isa(isa), tok.stream() as s:
        tok.quantizer.codebooks = torch.randn(shape)
        for call in (lambda: tok.encode(audio, tok.sample_rate), lambda: tok.decode(codes), lambda: s.encode(audio)):
            with pytest.raises(InputError, match=r"restore"):
                call()


@pytest.mark.parametrize("isa", [*ISAS, None])
def test_a_half_with_other_frames_than_the_config_says_is_refused(new_tokenizer, speech, isa):
    tok, audio = new_tokenizer(), speech(0.1)
    tok.encoder = new_tokenizer(config=dataclasses.replace(tok.config, hop_length=160)).encoder
    with use_isa(isa), pytest.raises(InputError, match="as the config says"):
        tok.encode(audio, tok.sample_rate)


@needs_library
@pytest.mark.parametrize("isa", ISAS)
def test_memory_of_a_weight_that_was_given_back_is_not_read(new_tokenizer, isa):
    # as FSDP does; PyTorch itself would read there
    tok = new_tokenizer()
    with use_isa(isa):
        decoder = compiled(tok)[1]
        codes, state = torch.zeros(1, 4, 3, dtype=torch.int64), initial(tok)[1]
        expected = decoder(codes, state, 3)
        for weight in (tok.quantizer.codebooks, tok.decoder.head.weight, tok.decoder.frame_blocks.blocks[0].conv.bias):
            weight.data = weight.data.clone()
            weight.untyped_storage().resize_(0)
        assert_equal(decoder(codes, state, 3), expected)  # as a thread does that began before
        with pytest.raises(InputError, match=r"the memory of a weight of shape .* was given back"):
            tok.decode(codes)


@needs_library
def test_a_change_while_weights_are_packed_does_not_break_the_sizes(new_tokenizer, monkeypatch):
    # as from another thread, between the check of a shape and its use
    tok = new_tokenizer()
    levels = tok.quantizer.levels

    def exchange():
        tok.quantizer.codebooks = torch.randn(4, 16, 8)
        return levels()

    monkeypatch.setattr(tok.quantizer, "levels", exchange)
    with pytest.raises(InputError, match="the codebooks does not fit"):
        compiled(tok)


@needs_library
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("value", [float("nan"), -float("nan"), float("inf"), -float("inf"), 3.4e38, -3.4e38])
def test_codes_stay_in_range_for_states_and_weights_that_are_not_finite(new_tokenizer, isa, value):
    tok = new_tokenizer()
    for half in (tok.encoder, tok.decoder):
        half.frame_blocks.blocks[0].conv.bias[::3] = value
        half.patch_blocks.blocks[0].contract.bias[0] = value
    states = [torch.full_like(state, value) for state in initial(tok, 2)]
    with use_isa(isa):
        codes, audio, *_ = with_library(compiled(tok), value * noise(tok, 2, 3), states, 4)
    assert ((codes >= 0) & (codes < 32)).all()
    assert audio.shape == (2, 3 * tok.hop_length)


class Call:
    """A call of the library in C, with memory of the right size."""

    def __init__(self, tok: ConvNeXtTokenizer, half: str) -> None:
        steps = compiled(tok)[half == "decoder"]
        self.library, self.keep = steps._library, steps
        batch, frames, q, hop = 2, 3, tok.num_codebooks, tok.hop_length
        state = initial(tok, batch)[half == "decoder"]
        self.audio, self.codes = torch.zeros(batch, frames * hop), torch.zeros(batch, q, frames, dtype=torch.int64)
        self.states, self.lengths = (state, state.clone()), torch.full((batch,), frames)
        strides = (ctypes.c_int64 * 3)(q * frames, frames, 1)
        self.values = {
            "isa": 0, "model": steps._address, "batch": batch, "start": 0, "first": 0, "stop": frames,
            "audio": self.audio.data_ptr(), "audio_count": self.audio.numel(), "stride": frames * hop, "q": q,
            "frames": frames, "codes": self.codes.data_ptr(), "codes_count": self.codes.numel(), "strides": strides,
            "lengths": self.lengths.data_ptr(), "lengths_count": batch,
            "state": state.data_ptr(), "state_count": state.numel(),
            "next": self.states[1].data_ptr(), "next_count": state.numel(),
        }  # fmt: skip
        states = ["state", "state_count", "next", "next_count"]
        frames_of = ["isa", "model", "batch", "start", "first", "stop"]
        self.order = {
            "encoder": [*frames_of, "audio", "audio_count", "stride", "q", *states, "codes", "codes_count", "strides"],
            "decoder": [*frames_of, "codes", "codes_count", "strides", "q", "frames", "lengths", "lengths_count",
                        *states, "audio", "audio_count", "stride"],
        }[half]  # fmt: skip
        self.function = self.library.encode if half == "encoder" else self.library.decode

    def __call__(self, **changes: object) -> int:
        values = self.values | changes
        return self.function(*(values[name] for name in self.order))


@needs_library
@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_the_library_refuses_calls_whose_sizes_do_not_fit(tiny, half):
    call = Call(tiny, half)
    assert call() == 0
    huge = 2**62
    wrong = [{"isa": n} for n in (-1, 3, huge)] + [{"batch": n} for n in (-1, 3, huge)]
    wrong += [{"stop": n} for n in (-1, 4, huge)] + [{"start": -1}, {"start": 4}, {"first": -1}, {"first": 4}]
    wrong += [{"stride": -1}, {"stride": huge}, {"q": -1}, {"q": 5}, {"q": huge}]
    wrong += [{f"{name}_count": call.values[f"{name}_count"] - 1} for name in ("audio", "codes", "state", "next")]
    wrong += [{f"{name}_count": -1} for name in ("audio", "codes", "state", "next")]
    wrong += [{name: None} for name in ("audio", "codes", "state", "next", "strides")]
    wrong += [{"strides": (ctypes.c_int64 * 3)(*values)} for values in ((-12, 3, 1), (12, huge, 1), (12, 3, -1))]
    wrong += [{"next": call.values["state"] + 4}]  # memory that overlaps
    wrong += [{"frames": -1}, {"lengths_count": 1}] if half == "decoder" else [{"q": 0}]
    assert [change for change in wrong if call(**change) != library.BAD_CALL] == []
    assert call(model=None) == library.BAD_MODEL
    assert call(next=call.values["state"]) == 0  # the same memory is allowed


@needs_library
def test_a_call_without_anything_to_compute_takes_no_time(new_tokenizer):
    stack = ConvNeXtStackConfig(8, 1, 8, 1, kernel_size=1)
    tok = new_tokenizer(config=ConvNeXtConfig(window_length=80, latent_dim=4, codebook_size=8, encoder=stack))
    call = Call(tok, "encoder")
    assert call.states[0].shape == (2, 0)
    assert call(batch=2**59, stop=0) == 0


@needs_library
def test_the_library_refuses_models_whose_sizes_do_not_fit(new_tokenizer):
    tok = new_tokenizer()
    functions = library.load_library()
    for steps, check in zip(compiled(tok), (functions.check_encoder, functions.check_decoder), strict=True):
        structure = steps._structure
        assert check(steps._address) == 0
        for part, name in ((structure, n) for n, kind in structure._fields_ if kind is ctypes.c_int64):
            before = getattr(part, name)
            for wrong in (-1, before + 1, 2**40, 2**63 - 1):
                if name.endswith("_depth") and wrong > 0:  # the length of an array, which the caller vouches for
                    continue
                setattr(part, name, wrong)
                assert check(steps._address) == library.BAD_MODEL, (name, wrong)
            setattr(part, name, before)
        assert check(steps._address) == 0


@needs_library
def test_a_model_beyond_the_limits_of_compiled_code_is_computed_by_the_modules(new_tokenizer, monkeypatch):
    unlimited = library.load_library()
    monkeypatch.setattr(library, "load_library", lambda: unlimited._replace(check_encoder=lambda _: library.BAD_MODEL))
    native = Native(new_tokenizer())
    assert native.encoder is None
    assert native.decoder is not None


@needs_library
def test_tensors_of_any_layout_are_read_right_or_refused(tiny):
    (encoder, decoder), (encoder_state, decoder_state) = compiled(tiny), initial(tiny, 2)
    x, codes = noise(tiny, 2, 3), torch.arange(24).view(2, 4, 3)
    expected, audio = encoder(x, encoder_state, 4)[0], decoder(codes, decoder_state, 3)[0]

    def shifted(tensor):  # an address that is not a multiple of the item's size
        raw = torch.cat([torch.zeros(1, dtype=torch.uint8), tensor.contiguous().view(-1).view(torch.uint8)]).numpy()
        return torch.frombuffer(memoryview(raw[1:]), dtype=tensor.dtype).view(tensor.shape)

    for change in (shifted, lambda tensor: torch._neg_view(-tensor)):
        assert torch.equal(encoder(change(x), change(encoder_state), 4)[0], expected)
        assert torch.equal(decoder(change(codes), change(decoder_state), 3)[0], audio)
    assert torch.equal(encoder(x[:1].expand(2, -1), encoder_state, 4)[0], expected[:1].expand(2, -1, -1))
    for wrong in (x.to_sparse(), x[0], torch.nested.nested_tensor([x[0], x[1]])):
        with pytest.raises(InputError, match="the waveform is"):
            encoder(wrong, encoder_state, 4)
    for wrong in (codes[0], codes.to_sparse()):
        with pytest.raises(InputError, match="the codes are"):
            decoder(wrong, decoder_state, 3)
    for frames in (-1, 1.0, None):
        with pytest.raises(InputError, match="frames is"):
            decoder(codes, decoder_state, frames)
    freed = x.clone()
    freed.untyped_storage().resize_(4)
    with pytest.raises(InputError, match="smaller than its shape"):
        encoder(freed, encoder_state, 4)
    assert [len(result) for result in encoder(x[:0], encoder_state[:0], 4)] == [0, 0]
    assert decoder(codes[..., :0], decoder_state, 0)[0].shape == (2, 0)


@pytest.mark.slow
@needs_library
def test_a_thread_may_swap_layers_while_others_compute(new_tokenizer, speech):
    tok, audio, stop = new_tokenizer(), torch.from_numpy(speech(0.1)), threading.Event()
    halves = [(new_tokenizer(seed).encoder, new_tokenizer(seed).quantizer) for seed in (0, 1)]
    small = new_tokenizer(config=dataclasses.replace(tok.config, encoder=ConvNeXtStackConfig(8, 1, 24, 1, 3))).encoder
    foreign = []

    def run():
        while not stop.is_set():
            try:
                codes = tok.encode(audio, tok.sample_rate).codes
                assert int(codes.max()) < tok.codebook_size
            except InputError:
                pass
            except Exception as error:
                foreign.append(error)

    workers = [threading.Thread(target=run) for _ in range(2)]
    for worker in workers:
        worker.start()
    for i in range(40):
        tok.encoder, tok.quantizer = halves[i % 2] if i % 3 else (small, halves[0][1])
        tok.encoder.frame_blocks.blocks[0].conv.weight.data = torch.randn(7 if i % 3 else 3, 32 if i % 3 else 24)
    stop.set()
    for worker in workers:
        worker.join()
    # PyTorch's own complaint is possible where the modules compute the trial with both shapes
    assert not [error for error in foreign if not isinstance(error, RuntimeError)]


@needs_library
def test_a_library_of_another_version_is_not_used(monkeypatch):
    monkeypatch.setattr(library, "_STRUCTURES", (*library._STRUCTURES[:-1], library.Linear))
    assert library.load_library.__wrapped__() is None


@needs_library
def test_one_instruction_set_can_be_chosen(new_tokenizer, speech):
    tok, audio = new_tokenizer(), torch.from_numpy(speech(0.5))
    expected = tok.encode(audio, tok.sample_rate).codes
    with use_isa(None):
        assert Native(tok).encoder is None
        assert not library.is_faster(1, 1)
        assert torch.equal(tok.encode(audio, tok.sample_rate).codes, expected)
    for isa in ISAS:
        with use_isa(isa):
            assert library.ISAS[library.current_isa()] == isa
            assert library.is_faster(1000, 1000)
            assert torch.equal(tok.encode(audio, tok.sample_rate).codes, expected)
    assert library.current_isa() == len(ISAS) - 1
    with pytest.raises(ValueError, match="the instruction set is 'sse9'; expected one of generic"), use_isa("sse9"):
        pass


@needs_library
class TestCache:
    def test_compiled_code_is_kept_until_the_weights_change(self, new_tokenizer):
        tok = new_tokenizer()
        native = Native(tok)
        encoder, decoder = native.encoder, native.decoder
        assert encoder is not None
        assert decoder is not None
        assert (native.encoder, native.decoder) == (encoder, decoder)
        with torch.no_grad():
            tok.decoder.head.bias.add_(1.0)
        assert native.encoder is encoder
        assert native.decoder not in (None, decoder)

    def test_an_added_block_is_noticed(self, new_tokenizer):
        tok = new_tokenizer()
        native = Native(tok)
        encoder = native.encoder
        tok.encoder.frame_blocks.blocks.append(copy.deepcopy(tok.encoder.frame_blocks.blocks[0]))
        assert native.encoder not in (None, encoder)
        result = with_library((native.encoder, native.decoder), noise(tok, 1, 2), initial(tok), 4)
        assert_equal(result, with_modules(tok, noise(tok, 1, 2), initial(tok), 4))

    def test_a_method_set_on_one_module_is_called(self, new_tokenizer):
        tok = new_tokenizer()
        native = Native(tok)
        forward = tok.encoder.merge.forward
        assert native.encoder is not None
        tok.encoder.merge.forward = lambda x: 2 * forward(x)
        assert native.encoder is None
        assert native.decoder is not None
        del tok.encoder.merge.forward
        assert native.encoder is not None
        tok.quantizer.encode = tok.quantizer.encode
        assert native.encoder is None
        del tok.quantizer.encode
        assert native.encoder is not None

    def test_hooks_of_one_module_are_called(self, new_tokenizer):
        tok, called = new_tokenizer(), []
        native = Native(tok)
        for register in (tok.decoder.head.register_forward_hook, tok.decoder.head.register_forward_pre_hook):
            assert native.decoder is not None
            handle = register(lambda module, *_: called.append(module))
            assert native.decoder is None
            assert native.encoder is not None
            tok.decode(torch.zeros(1, 4, 2, dtype=torch.int64))
            handle.remove()
            assert called.pop() is tok.decoder.head
        assert native.decoder is not None

    def test_hooks_of_all_modules_are_called(self, new_tokenizer):
        tok, called = new_tokenizer(), []
        native = Native(tok)
        assert native.encoder is not None
        for register in (
            nn.modules.module.register_module_forward_hook,
            nn.modules.module.register_module_forward_pre_hook,
        ):
            handle = register(lambda module, *_: called.append(module))
            try:
                assert native.encoder is None
                tok.encode(0.1 * noise(tok, 1, 2), tok.sample_rate)
            finally:
                handle.remove()
            assert tok.encoder.merge in called
            called.clear()
        assert native.encoder is not None

    def test_compiled_code_is_not_held_after_its_weights_moved(self, new_tokenizer):
        native = Native(new_tokenizer())
        encoder = weakref.ref(native.encoder)
        assert encoder() is not None
        native.tok.to("meta")
        assert native.encoder is None
        assert encoder() is None

    def test_compiled_code_that_disagrees_is_not_used(self, new_tokenizer, monkeypatch):
        call = NativeEncoder.__call__
        monkeypatch.setattr(NativeEncoder, "__call__", lambda *args: (call(*args)[0] ^ 1, call(*args)[1]))
        native = Native(new_tokenizer())
        assert native.encoder is None
        assert native.decoder is not None

    def test_the_modules_compute_without_a_library(self, new_tokenizer, speech, monkeypatch):
        tok, audio = new_tokenizer(), torch.from_numpy(speech(0.5))
        with tok.stream() as s:
            codes = s.encode(audio)
            expected = codes, s.decode(codes)
        monkeypatch.setattr(library, "load_library", lambda: None)
        assert Native(tok).encoder is None
        with tok.stream() as s:
            codes = s.encode(audio)
            assert_equal((codes, s.decode(codes)), expected)
        with pytest.raises(OSError, match="installed without its compiled library"):
            compiled(tok)

    def test_modules_of_other_classes_compute_for_themselves(self, new_tokenizer):
        class Louder(nn.Module):
            def __init__(self, inner):
                super().__init__()
                self.inner = inner

            def forward(self, x):
                return 2 * self.inner(x)

        tok = new_tokenizer()
        tok.encoder.project = Louder(tok.encoder.project)
        assert Native(tok).encoder is None

    def test_inference_tensors_are_not_used_because_their_changes_are_not_counted(self, new_tokenizer):
        with torch.inference_mode():
            tok = new_tokenizer()
        assert Native(tok).encoder is None

    def test_weights_may_have_half_precision(self, new_tokenizer):
        native = Native(new_tokenizer().round_weights().half())
        assert native.encoder is not None
        assert native.decoder is not None

    def test_copies_and_pickles_make_their_own(self, new_tokenizer):
        tok = new_tokenizer()
        native = Native(tok)
        for other in (copy.deepcopy(native), pickle.loads(pickle.dumps(native))):
            assert other.encoder not in (None, native.encoder)
            x = 0.1 * noise(tok, 1, 2)
            assert torch.equal(other.tok.encode(x, tok.sample_rate).codes, tok.encode(x, tok.sample_rate).codes)

    def test_it_is_empty_where_compiled_code_would_not_be_used(self, new_tokenizer, speech):
        tok = new_tokenizer()
        try:
            torch.set_num_threads(8)
            tok.encode(speech(2), tok.sample_rate)
            assert tok._native_encoder._cache._entry is None
        finally:
            torch.set_num_threads(1)


@needs_library
class TestThreads:
    def test_pytorch_computes_what_threads_cannot_share_unless_it_is_little(self):
        try:
            torch.set_num_threads(8)
            assert library.is_faster(1, 1)
            assert not library.is_faster(2, 127)
            assert library.is_faster(2, 512) is (len(ISAS) > 1)
        finally:
            torch.set_num_threads(1)

    @pytest.mark.parametrize("rows", [1, 2, 5])
    def test_threads_share_rows_and_long_rows(self, new_tokenizer, rows):
        tok = new_tokenizer()
        encoder, decoder = compiled(tok)
        frames = 3 * library.MIN_SEGMENT_FRAMES
        assert len(threads.split(rows, frames, encoder._warmup, 3)) >= 3
        x, lengths = noise(tok, rows, frames), torch.arange(rows, 0, -1) * frames // rows
        found = []
        for count in (1, 3):
            torch.set_num_threads(count)
            try:
                codes, encoder_state = encoder(x, initial(tok, rows)[0], tok.num_codebooks)
                audio, decoder_state = decoder(codes, initial(tok, rows)[1], frames, lengths)
                found.append((codes, audio, encoder_state, decoder_state))
                wrong = codes.clone()
                wrong[-1, 0, 0] = tok.codebook_size
                with pytest.raises(TokensError, match="out of range"):
                    decoder(wrong, initial(tok, rows)[1], frames)
            finally:
                torch.set_num_threads(1)
        assert_equal(*found)

    @settings(max_examples=40)
    @given(config=configs, rows=st.integers(1, 3), frames=st.integers(1, 70), count=st.integers(2, 6), data=st.data())
    def test_threads_that_begin_in_the_middle_of_a_row_have_its_state(
        self, new_tokenizer, config, rows, frames, count, data
    ):
        tok = new_tokenizer(frames, config)
        encoder, decoder = compiled(tok)
        x, past = noise(tok, rows, frames), noise(tok, rows, 2, 1)
        lengths = torch.tensor(data.draw(st.lists(st.integers(0, frames), min_size=rows, max_size=rows)))
        states = with_library((encoder, decoder), past, initial(tok, rows), config.num_codebooks)[2:]
        found = []
        for number in (1, count):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(threads, "MIN_FRAMES_PER_THREAD", 1)
                patch.setattr(threads, "MIN_SEGMENT_FRAMES", 1)
                patch.setattr(torch, "get_num_threads", lambda number=number: number)
                codes, encoder_state = encoder(x, states[0], config.num_codebooks)
                audio, decoder_state = decoder(codes, states[1], frames, lengths)
            found.append((codes, audio, encoder_state, decoder_state))
        assert_equal(*found)

    @given(st.integers(1, 9), st.integers(1, 3000), st.integers(0, 60), st.integers(1, 64))
    def test_shares_keep_each_frame_once_and_are_of_equal_work(self, rows, frames, warmup, count):
        shares = threads.split(rows, frames, warmup, count)
        kept = torch.zeros(rows, frames, dtype=torch.int64)
        for share in shares:
            kept[share.first_row : share.stop_row, share.first : share.stop] += 1
            assert share.start == max(0, share.first - warmup)
            assert share.stop - share.start >= warmup or not share.start
        assert (kept == 1).all()
        work = [(share.stop - share.start) * (share.stop_row - share.first_row) for share in shares]
        assert max(work) - min(work) <= max(1, frames if rows > count else 1)
