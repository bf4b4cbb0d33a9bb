"""Formulas that PyTorch rewrites on other devices: codes and audio do not depend on it.

The kernels of other devices compute some operations in other ways than those of CPUs. On a CPU, :class:`Rewritten`
computes what CUDA kernels compute. It knows the operations whose results are the same everywhere, and refuses all
others. Where there is a GPU, the GPU itself is compared.
"""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import speechtok
from bindings.conformance.golden import KNOWN_ANSWER, audio_hashes, read_golden
from bindings.conformance.stress import fnv1a, stress_input
from speechtok.convnext import _pieces
from speechtok.nn import exact
from speechtok.nn.exact import divided_hard_swish, hard_swish, use_int8
from speechtok.nn.native import use_isa

SUITE = Path(speechtok.__file__).parents[1] / "bindings" / "conformance"
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")

_NAMES = """
    abs add alias amax any arange argmax bitwise_and bitwise_xor cat ceil clamp clamp_min clone constant_pad_nd copy
    detach embedding empty eq expand fill full gather ge gt index index_select lift_fresh lt masked_fill max min mul
    ne neg ones_like pow reciprocal remainder round scalar_tensor select slice split split_with_sizes sqrt stack sub
    t _to_copy transpose unbind _unsafe_view equal unfold unsqueeze view where zero zeros zeros_like
    _local_scalar_dense
"""
SAME_EVERYWHERE = set(_NAMES.split())
"""Copies, comparisons, maxima, and operations on numbers that IEEE 754 defines to the last bit."""
WHOLE = {"convolution", "mm", "sum"}
"""Operations whose order differs between devices, which does not matter for whole numbers."""


def is_floating_point(x) -> bool:
    tensors = x if isinstance(x, (list, tuple)) else [x]
    return any(isinstance(tensor, torch.Tensor) and tensor.is_floating_point() for tensor in tensors)


class Rewritten(TorchDispatchMode):
    """Computes what CUDA kernels compute, and counts how often the program waits for a value."""

    def __init__(self) -> None:
        super().__init__()
        self.reads, self.seen = 0, set()
        self.made: list[torch.Tensor] = []  # numbers that are on the device

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        plain = name.rstrip("_")
        self.seen.add(plain)
        if plain in {"div", "hardswish"}:
            result = self.divide(*args) if plain == "div" else args[0] * (args[0] + 3).clamp(0, 6) * (1 / 6)
            return args[0].copy_(result) if name.endswith("_") else result
        if plain in {"add", "sub"}:
            assert kwargs.get("alpha", 1) == 1, "a sum with a factor is one fused operation on CUDA"
        if plain in WHOLE:
            tensors = [x for x in args if isinstance(x, torch.Tensor)]
            assert all(torch.equal(x, x.round()) for x in tensors if x.is_floating_point()), f"{name} of fractions"
        elif plain not in SAME_EVERYWHERE and any(map(is_floating_point, args)):
            with self:
                result = func.decompose(*args, **kwargs)
            assert result is not NotImplemented, f"is the result of {name} the same on every device, to the last bit?"
            return result
        self.reads += plain in {"_local_scalar_dense", "equal"}
        result = func(*args, **kwargs)
        if plain == "full":
            self.made.append(result)
        return result

    def divide(self, x, divisor):
        on_device = [number.data_ptr() for number in self.made]
        if isinstance(divisor, torch.Tensor) and (divisor.ndim or divisor.data_ptr() in on_device):
            return torch.ops.aten.div.Tensor(x, divisor)
        return x * (1 / torch.as_tensor(float(divisor), dtype=torch.float32))  # a number becomes its reciprocal


@pytest.fixture
def other_device(monkeypatch):
    """Computes as other devices than CPUs do, in the modules of PyTorch."""
    monkeypatch.setattr("speechtok.nn.convolution.hard_swish", divided_hard_swish)
    exact._kept_six.cache_clear()
    with use_isa(None), use_int8(False):
        yield
    exact._kept_six.cache_clear()


@pytest.fixture(scope="module")
def case():
    """A tokenizer, and the part of the stress input that is compared with its golden file."""
    tokenizer, golden = speechtok.load(), read_golden(SUITE / "speechtok-v2.txt")
    start = KNOWN_ANSWER[0]
    return tokenizer, torch.from_numpy(stress_input()[start : start + KNOWN_ANSWER[1]]), golden.fields


def passes(tokenizer, samples, fields) -> bool:
    """Whether the known answer comes out."""
    tokens = tokenizer.encode(samples, tokenizer.sample_rate)
    codes, audio = tokens.codes[0].cpu().numpy(), tokenizer.decode(tokens)[0].cpu().numpy()
    hashes = np.asarray(audio_hashes(audio, tokenizer.hop_length), dtype="<u4")
    found = fnv1a(codes.T.astype("<u2").tobytes()), fnv1a(hashes.tobytes())
    return [f"{value:08x}" for value in found] == [fields["known_answer_codes"], fields["known_answer_audio"]]


def test_what_cuda_rewrites_changes_neither_codes_nor_audio(other_device, case):
    tokenizer = copy.deepcopy(case[0])  # its weights are rounded on the device, too
    with Rewritten() as device:
        assert passes(tokenizer, *case[1:])
    assert {"div", "mm", "round", "amax"} <= device.seen
    assert "hardswish" not in device.seen


def test_hard_swish_of_cuda_would_change_the_audio(other_device, case, monkeypatch):
    monkeypatch.setattr("speechtok.nn.convolution.hard_swish", F.hardswish)
    with Rewritten():
        assert not passes(*case)


def test_a_division_by_a_number_is_one_that_cuda_rewrites():
    x = torch.arange(2**23, 2**23 + 999).float()
    with Rewritten():
        by_number, by_tensor = x / 6.0, x / torch.full((), 6.0)
    assert not torch.equal(by_number, by_tensor)
    assert torch.equal(x / 6.0, by_tensor)


def test_the_program_does_not_wait_for_each_row(other_device, tiny):
    reads = []
    for rows in (2, 9):
        x = torch.zeros(rows, 3_200)
        tiny.decode(tiny.encode(x, 16_000))  # what is kept is made
        with Rewritten() as device:
            tiny.decode(tiny.encode(x, 16_000, lengths=[3_200 - 300 * row for row in range(rows)]))
        reads.append(device.reads)
    assert reads[0] == reads[1]


def test_pieces_of_other_devices_are_large_enough_to_keep_them_busy():
    on_cuda = list(_pieces([1_500] * 64, torch.device("cuda")))
    assert [count for _, _, count in on_cuda] == [512, 512, 476]
    assert len(list(_pieces([1_500] * 64, torch.device("cpu")))) > 100


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (64, 384)])
def test_hard_swish_is_the_same_number_in_both_forms(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 4
    assert torch.equal(hard_swish(x.clone()), divided_hard_swish(x))


@needs_gpu
def test_a_gpu_gives_the_known_answer(case):
    tokenizer, samples, fields = case
    assert passes(copy.deepcopy(tokenizer).cuda(), samples, fields)


@needs_gpu
@pytest.mark.slow
def test_a_gpu_gives_the_codes_of_a_cpu_in_batches_and_streams(speech):
    tokenizer = speechtok.load()
    on_gpu = speechtok.load().cuda()
    rows = torch.stack([torch.from_numpy(speech(3.0, seed)) for seed in range(8)])
    lengths = [48_000 - 1_111 * row for row in range(8)]
    expected, tokens = tokenizer.encode(rows, 16_000, lengths), on_gpu.encode(rows, 16_000, lengths)
    assert torch.equal(tokens.codes.cpu(), expected.codes)
    assert torch.equal(on_gpu.decode(tokens).cpu(), tokenizer.decode(expected))
    with on_gpu.stream(batch_size=8) as stream:
        codes = torch.cat([stream.encode(chunk) for chunk in rows.split(777, 1)] + [stream.flush()], 2)
    assert torch.equal(codes.cpu(), tokenizer.encode(rows, 16_000).codes)


@needs_gpu
def test_a_gpu_is_not_waited_for_within_a_piece():
    tokenizer = speechtok.load(SUITE / "random").cuda()
    x = torch.zeros(4, 10 * tokenizer.hop_length, device="cuda")
    for mode in ("default", "error"):  # the first pass makes what is kept
        torch.cuda.set_sync_debug_mode(mode)
        try:
            codes, _ = tokenizer.encode_frames(x, tokenizer.encoder_state(4), tokenizer.num_codebooks)
            tokenizer.decode_frames(codes, tokenizer.decoder_state(4), 10)
        finally:
            torch.cuda.set_sync_debug_mode("default")
