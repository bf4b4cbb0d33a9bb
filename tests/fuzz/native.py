"""Fuzzer of compiled code under a tokenizer: random shapes and instruction sets, swapped modules and open streams.

Whatever the modules compute, compiled code must compute to the bit. A model whose layers do not fit each other must be
refused with an error of ours, in an open stream too. Memory errors need sanitizers to be seen: ``make test-native``.
"""

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from speechtok import ConvNeXtConfig, ConvNeXtStackConfig, ConvNeXtTokenizer
from speechtok.errors import SpeechtokError
from speechtok.nn.convolution import CausalConvNeXtBlock
from speechtok.nn.exact import ExactLinear
from speechtok.nn.native import NativeDecoder, NativeEncoder, library, use_isa
from speechtok.nn.skip_init import SkipInit
from speechtok.nn.state import pack_state
from tests.fuzz._sanitizers import use_library
from tests.fuzz.runner import Fuzzer, Report, run_here

use_library()

STEPS = 12
"""Calls and swaps of one input."""


@dataclass
class Case:
    """A tokenizer, and the random numbers of what is done with it."""

    config: dict[str, Any]
    isa: str | None
    seed: int


class Inputs(Fuzzer):
    """Tokenizers, and what is done with them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.compared = 0

    def make(self, rng: random.Random) -> Case:
        return Case(_random_config(rng), rng.choice(library.available_isas() or (None,)), rng.getrandbits(32))

    def passes(self, made: Case) -> bool:
        return made.isa is not None

    def use(self, made: Case) -> None:
        session = _Session(made)
        for _ in range(STEPS):
            session.step()
        self.compared += session.compared


class _Session:
    """One tokenizer with two open streams, of compiled code and of the modules."""

    def __init__(self, made: Case) -> None:
        self.rng, self.isa = random.Random(made.seed), made.isa
        self.tok = _new_tokenizer(ConvNeXtConfig(**made.config), made.seed)
        self.batch = self.rng.randint(1, 3)
        self.undo: Callable[[], object] | None = None
        self.fits = self.comparable = True
        self.compared = 0
        self.open_streams()

    def open_streams(self) -> None:
        self.streams = {}
        for isa in (self.isa, None):
            with use_isa(isa):
                self.streams[isa] = self.tok.stream(self.batch)

    def step(self) -> None:
        actions = [self.stream, self.stream, self.stream, self.whole, self.hostile, self.swap, self.swap]
        if self.undo is not None:
            actions = [self.stream, self.stream, self.whole, self.restore, self.restore]
        self.rng.choice(actions)()

    def restore(self) -> None:
        assert self.undo is not None
        self.undo()
        self.undo, self.fits, self.comparable = None, True, True
        self.open_streams()

    def compare(self, call: Callable[[str | None], tuple[Tensor, ...]]) -> None:
        """Make a call with compiled code and with the modules. Both must give the same, or refuse it."""
        try:
            with use_isa(self.isa):
                found = call(self.isa)
        except SpeechtokError:
            assert not self.fits, "a model that fits is refused"
            self.restore()
            return
        except (RuntimeError, TypeError, IndexError):  # PyTorch's, from modules that compiled code does not support
            if self.comparable:
                raise
            self.restore()
            return
        try:
            with use_isa(None):
                expected = call(None)
        except Exception:
            if self.fits:
                raise
            self.restore()
            return
        if self.comparable:
            assert all(map(torch.equal, found, expected)), "compiled code differs from the modules"
            self.compared += 1

    def stream(self) -> None:
        rng, hop, q = self.rng, self.tok.hop_length, self.tok.num_codebooks
        chunk = 0.1 * _noise(rng, self.batch, rng.randint(0, 3 * hop))
        codes = torch.randint(0, self.tok.codebook_size, (self.batch, rng.randint(1, q), rng.randint(0, 3)))
        kind = rng.choice(["encode", "encode", "decode", "decode", "end", "reset"])
        rows = rng.choice([None, [rng.randrange(self.batch)]])

        def call(isa: str | None) -> tuple[Tensor, ...]:
            s = self.streams[isa]
            if kind == "encode":
                return (s.encode(chunk),)
            if kind == "decode":
                return (s.decode(codes),)
            if kind == "end":
                results = s.flush(), s.drain()
                s.reset()
                return results
            s.reset(rows)
            return (s.num_samples,)

        self.compare(call)

    def whole(self) -> None:
        x = 0.1 * _noise(self.rng, self.rng.randint(1, 3), self.rng.randint(1, 4 * self.tok.hop_length))
        self.compare(lambda _: ((tokens := self.tok.encode(x, self.tok.sample_rate)).codes, self.tok.decode(tokens)))

    def hostile(self) -> None:
        """Arguments that no call of the package passes on; an error of ours or a result, nothing else."""
        rng, tok, batch = self.rng, self.tok, self.batch
        encoder, decoder = NativeEncoder(tok.encoder, tok.quantizer), NativeDecoder(tok.quantizer, tok.decoder)
        states = [pack_state(half.initial_state(batch)) for half in (tok.encoder, tok.decoder)]
        x = _noise(rng, batch, rng.randint(0, 3) * tok.hop_length)
        codes = torch.randint(0, tok.codebook_size, (batch, tok.num_codebooks, rng.randint(0, 3)))
        given: list[Any] = [x, states[0], tok.num_codebooks, codes, states[1], codes.shape[2], None]
        if rng.random() < 0.3:
            given[6] = torch.randint(-2, 4, (batch,))
        for _ in range(rng.randint(1, 2)):
            at = rng.randrange(7)
            if isinstance(given[at], Tensor):
                given[at] = _mangled(rng, given[at])
            elif given[at] is not None:
                given[at] = rng.choice([-1, 0, 1, 5, True, 2.0, None, 2**64 + 1 if at == 2 else 3, "2"])
        with use_isa(self.isa):
            for call in (lambda: encoder(*given[:3]), lambda: decoder(*given[3:])):
                with contextlib.suppress(SpeechtokError):
                    call()

    def swap(self) -> None:
        self.undo = self.rng.choice(
            [
                self.swap_block, self.swap_half, self.swap_codebooks, self.write_codebooks, self.swap_data,
                self.swap_parameter, self.load, self.free, self.parametrize, self.hook, self.change_depth,
                self.swap_noise, self.overflow,
            ]
        )()  # fmt: skip

    def swap_block(self) -> Callable[[], object]:
        rng, stack = self.rng, self.random_stack()
        dim, at = stack.blocks[0].conv.weight.shape[1], rng.randrange(len(stack.blocks))
        dim = dim if rng.random() < 0.6 else rng.randint(1, 12)
        old = stack.blocks[at]
        stack.blocks[at] = CausalConvNeXtBlock(dim, rng.randint(1, 9), rng.randint(1, 4)).requires_grad_(False)
        self.fits = False  # for an open stream; a fitting block works in new calls
        return lambda: stack.blocks.__setitem__(at, old)

    def swap_half(self) -> Callable[[], object]:
        name = self.rng.choice(["encoder", "decoder", "quantizer"])
        config = self.tok.config.to_dict() if self.rng.random() < 0.3 else _random_config(self.rng)
        other = _new_tokenizer(ConvNeXtConfig.from_dict(config) if "family" in config else ConvNeXtConfig(**config), 1)
        old = getattr(self.tok, name)
        setattr(self.tok, name, getattr(other, name))
        self.fits = False
        return lambda: setattr(self.tok, name, old)

    def swap_codebooks(self) -> Callable[[], object]:
        rng, quantizer = self.rng, self.tok.quantizer
        old, shape = quantizer.codebooks, list(quantizer.codebooks.shape)
        if rng.random() < 0.8:
            shape[rng.randrange(3)] = rng.randint(1, 80)
            self.fits = False
        quantizer.codebooks = torch.randn(shape).to(rng.choice([torch.float32, torch.float64, torch.float16]))
        return lambda: setattr(quantizer, "codebooks", old)

    def write_codebooks(self) -> Callable[[], object]:
        codebooks = self.tok.quantizer.codebooks
        old = codebooks.clone()
        codebooks[self.rng.randrange(len(codebooks))] = torch.randn(codebooks.shape[1:])
        return lambda: codebooks.copy_(old)

    def swap_data(self) -> Callable[[], object]:
        """Replace the memory of a weight, by one of another shape, dtype or layout perhaps."""
        weight = self.random_weight()
        old = weight.data
        weight.data = self.other(old)
        return lambda: setattr(weight, "data", old)

    def swap_parameter(self) -> Callable[[], object]:
        table, name = self.rng.choice([(m._parameters, n) for m in self.tok.modules() for n in m._parameters])
        old = table[name]
        table[name] = nn.Parameter(self.other(old.detach()), requires_grad=False)
        return lambda: table.__setitem__(name, old)

    def load(self) -> Callable[[], object]:
        old = {name: tensor.clone() for name, tensor in self.tok.state_dict().items()}
        assign = self.rng.random() < 0.5
        self.tok.load_state_dict(_new_tokenizer(self.tok.config, 2).state_dict(), assign=assign)
        return lambda: self.tok.load_state_dict(old)

    def free(self) -> Callable[[], object]:
        """Give back the memory of a weight as FSDP does; PyTorch itself would read there."""
        with use_isa(self.isa):
            self.tok.decode(self.tok.encode(torch.zeros(1, 9), self.tok.sample_rate))
            weight = self.random_weight()
            old, weight.data = weight.data, weight.data.clone()
            steps = self.tok._find_encoder(1, 1), self.tok._find_decoder(1, 1)
            weight.untyped_storage().resize_(0)
            refused = 0
            for call in (self.tok._find_encoder, self.tok._find_decoder):
                try:
                    call(1, 1)
                except SpeechtokError:
                    refused += 1
            assert refused
            if None not in steps:  # a call that another thread began before
                steps[0](torch.zeros(1, self.tok.hop_length), *self.tok.encoder_state(1), 1)
                steps[1](None, *self.tok.decoder_state(1), 2)
        weight.data = old
        return lambda: None

    def parametrize(self) -> Callable[[], object]:
        class Negated(nn.Module):
            def forward(self, weight: Tensor) -> Tensor:
                return -weight

        layer = self.rng.choice([m for m in self.tok.modules() if isinstance(m, ExactLinear)])
        parametrize.register_parametrization(layer, "weight", Negated())
        return lambda: parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)

    def hook(self) -> Callable[[], object]:
        module = self.rng.choice([m for m in self.tok.modules() if isinstance(m, ExactLinear)])
        return module.register_forward_hook(lambda _, __, output: output + 1).remove

    def change_depth(self) -> Callable[[], object]:
        blocks = self.random_stack().blocks
        self.fits = False
        if self.rng.random() < 0.5:
            old = blocks[-1]
            del blocks[-1]
            return lambda: blocks.append(old)
        dim = blocks[0].conv.weight.shape[1]
        blocks.append(CausalConvNeXtBlock(dim, self.rng.randint(1, 4), 2).requires_grad_(False))
        return lambda: blocks.__delitem__(-1)

    def swap_noise(self) -> Callable[[], object]:
        decoder = self.tok.decoder
        old, decoder.noise = decoder.noise, None
        if old is not None and self.rng.random() < 0.5:
            decoder.noise = old.__class__(self.rng.randint(1, 4), self.rng.choice([2, decoder.patch_length]), 16_000)
        self.fits = False
        return lambda: setattr(decoder, "noise", old)

    def overflow(self) -> Callable[[], object]:
        """Weights that are not finite, or overflow: any result is fine, and none of the modules is defined."""
        weight = self.random_weight()
        old = weight.data.clone()
        weight.view(-1)[self.rng.randrange(weight.numel())] = self.rng.choice([float("nan"), float("inf"), -3e38, 3e38])
        self.fits = self.comparable = False
        return lambda: weight.copy_(old)  # not through .data, whose writes PyTorch does not count

    def other(self, tensor: Tensor) -> Tensor:
        rng, shape = self.rng, list(tensor.shape)
        kind = rng.choice(["values", "dtype", "strides", "shape", "dimensions", "expanded"])
        if kind == "dtype":
            self.comparable = False  # integers and such: PyTorch may fail
            return tensor.to(rng.choice([torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool]))
        if kind == "strides":
            return tensor.t().contiguous().t() if tensor.ndim == 2 else tensor.repeat_interleave(2, 0)[::2]
        if kind == "expanded":
            return tensor[..., :1].clone().expand(tensor.shape)  # the same address would not be noticed
        if kind == "shape":
            shape[rng.randrange(len(shape))] = rng.randint(0, 12)
        if kind == "dimensions":
            shape = rng.choice([[], [tensor.numel()], [1, *shape], [*shape, 1]])
        self.fits = shape == list(tensor.shape)
        self.comparable = self.fits
        return 0.3 * torch.randn(shape)

    def random_weight(self) -> Tensor:
        return self.rng.choice([*self.tok.parameters(), self.tok.quantizer.codebooks])

    def random_stack(self) -> Any:
        half = self.rng.choice([self.tok.encoder, self.tok.decoder])
        return self.rng.choice([half.patch_blocks, half.frame_blocks])


def _random_config(rng: random.Random) -> dict[str, Any]:
    def width() -> int:
        return rng.randint(1, 9) if rng.random() < 0.8 else rng.randint(10, 70)

    def stack() -> ConvNeXtStackConfig:
        depths = rng.randint(1, 2), rng.randint(1, 2)
        return ConvNeXtStackConfig(width(), depths[0], width(), depths[1], rng.randint(1, 5), rng.randint(1, 3))

    patch, latent = rng.choice([2, 4, 6]), rng.randint(2, 12)
    return {
        "hop_length": patch * rng.randint(1, 4),
        "patch_length": patch,
        "window_length": patch * rng.randint(1, 4),
        "latent_dim": latent,
        "semantic_dim": rng.choice([0, rng.randrange(latent)]),
        "num_codebooks": rng.randint(1, 3),
        "codebook_size": rng.choice([2, 3, 17, 64, 65]),
        "noise_bands": rng.choice([0, 0, 2]),
        "encoder": stack(),
        "decoder": stack(),
    }


def _new_tokenizer(config: ConvNeXtConfig, seed: int) -> ConvNeXtTokenizer:
    with SkipInit():
        tok = ConvNeXtTokenizer(config)
    generator = torch.Generator().manual_seed(seed)
    for weight in (*tok.parameters(), tok.quantizer.codebooks):
        weight.copy_(torch.randn(weight.shape, generator=generator).mul_(weight.shape[-1] ** -0.5))
    return tok


def _noise(rng: random.Random, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(rng.getrandbits(32)))


def _mangled(rng: random.Random, tensor: Tensor) -> Any:
    """The same tensor with another layout, or another one."""
    if not tensor.is_cpu or tensor.layout is not torch.strided or tensor.is_nested or not tensor.numel():
        return tensor
    raw = tensor.resolve_neg().contiguous().view(-1).view(torch.uint8)
    shifted = torch.cat([torch.zeros(1, dtype=torch.uint8), raw]).numpy()[1:]
    return rng.choice(
        [
            lambda: tensor.to(rng.choice([torch.float64, torch.int32, torch.float16, torch.bool])),
            lambda: tensor[..., None],
            lambda: tensor.flatten(),
            lambda: tensor[:0],
            lambda: tensor[:1],
            lambda: tensor[..., 1:],
            lambda: torch.cat([tensor, tensor]),
            lambda: tensor.transpose(0, -1).contiguous().transpose(0, -1),
            lambda: torch.cat([tensor, tensor], -1)[..., ::2],
            lambda: tensor[:1].expand(tensor.shape),
            lambda: torch._neg_view(tensor) if tensor.dtype is not torch.bool else tensor,
            lambda: torch.frombuffer(memoryview(shifted), dtype=tensor.dtype).view(tensor.shape),
            lambda: tensor.to("meta"),
            lambda: tensor.to_sparse() if tensor.ndim else tensor,
            lambda: torch.nested.nested_tensor([tensor[0], tensor[0]]),
            lambda: torch.full_like(tensor, rng.choice([-1, 2, 2**40])),
            lambda: torch.full_like(tensor, float("nan")) if tensor.is_floating_point() else tensor.long() - 2**62,
            lambda: torch.full_like(tensor, float("inf")) if tensor.is_floating_point() else tensor.long() + 2**62,
        ]
    )()


def run(count: int, seed: int = 0) -> Report:
    """Run in this process; see :func:`tests.fuzz.runner.run_here`."""
    return run_here("native", count, seed)
