"""Steps of a voice model in compiled code: equal to those of :mod:`speechtok.voice.steps` to the bit, and faster."""

import ctypes

import torch
from torch import Tensor

from speechtok.errors import InputError
from speechtok.nn.native import library
from speechtok.nn.native.packing import Packer
from speechtok.voice.network import VoiceNetwork
from speechtok.voice.steps import ExactSteps, State


class NativeSteps(ExactSteps):
    """Steps of a network with its present weights, whose states hold levels as int8.

    Args:
        network: in float32, on the CPU.
        compiled: the library.

    Raises:
        InputError: the shapes of the weights do not fit each other.
    """

    vector_type = torch.int8

    def __init__(self, network: VoiceNetwork, compiled: library.Library) -> None:
        super().__init__(network)
        self._library, self._packer = compiled, Packer()
        pack, dim = self._packer, len(self.enter.weight)
        blocks = []
        for block in self.blocks:
            hidden = block.contract.weight.shape[1]
            blocks.append(
                library.VoiceBlock(
                    pack.linear(block.enter, dim, 3 * dim),
                    pack.linear(block.leave, dim, dim),
                    pack.linear(block.expand, dim, 2 * hidden),
                    pack.linear(block.contract, hidden, dim),
                    pack.floats(block.gain[0]),
                )
            )
        layers = [library.VoiceLayer(pack.linear(a, dim, 2 * dim), pack.linear(b, dim, dim)) for a, b in self.layers]
        self._latent_dim = len(self.head_leave.weight)
        self._structure = library.Voice(
            dim,
            len(blocks),
            self.heads,
            self.window,
            self._latent_dim,
            len(layers),
            pack.array(blocks),
            pack.floats(network.distance_bias),
            pack.floats(network.prompt_bias),
            pack.linear(self.modulate, dim, (3 * len(layers) + 2) * dim),
            pack.linear(self.head_enter, self._latent_dim, dim),
            pack.linear(self.head_leave, dim, self._latent_dim),
            pack.array(layers),
        )
        if compiled.check_voice(ctypes.addressof(self._structure)):
            raise InputError("the shapes of a voice model do not fit each other; fetch or train it again")

    def frame(
        self,
        x: Tensor,
        state: State,
        prompt: State | None = None,
        heard: Tensor | None = None,
        noise: Tensor | None = None,
        times: Tensor | None = None,
        guidance: Tensor | None = None,
    ) -> Tensor:
        """See :meth:`ExactSteps.frame`."""
        if state.frames == state.keys.shape[3]:
            state.shift(self.window - 1)
        x = x.contiguous().clone()
        latent = torch.zeros(0, self._latent_dim) if noise is None else noise.contiguous().clone()
        times = torch.zeros(0) if times is None else times.contiguous()
        guidance = torch.zeros(0) if guidance is None else guidance.contiguous()
        bytes_heard = None if heard is None else heard.to(torch.uint8).contiguous()
        past, old = _past(state), None if prompt is None else _past(prompt)
        status = self._library.voice(
            library.current_isa(),
            ctypes.addressof(self._structure),
            len(x),
            len(latent),
            *_array(x),
            ctypes.addressof(past),
            None if old is None else ctypes.addressof(old),
            *((None, 0) if bytes_heard is None else _array(bytes_heard)),
            *_array(latent),
            *_array(times),
            len(times),
            *_array(guidance),
        )
        if status == library.NO_MEMORY:
            raise MemoryError(f"no memory for a frame of {len(x)} rows")
        if status:
            raise InputError(f"compiled code refused a frame of {len(x)} rows (error {status}): its sizes do not fit")
        state.frames += 1
        return latent


def _array(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), tensor.numel()


def _past(state: State) -> library.VoicePast:
    keys, key_factors, values, value_factors = state.tensors
    return library.VoicePast(
        keys.data_ptr(),
        values.data_ptr(),
        key_factors.data_ptr(),
        value_factors.data_ptr(),
        min(keys.numel(), values.numel()),
        min(key_factors.numel(), value_factors.numel()),
        keys.shape[3],
        state.frames,
    )
