"""Formats of audio in messages: PCM, and Opus with FFmpeg's bindings."""

from abc import ABC, abstractmethod
from fractions import Fraction
from typing import Any

import numpy as np

from speechtok.errors import InputError
from speechtok.extras import install_hint
from speechtok.live.wire import MessageError

FORMATS = "pcm", "float", "opus", "codes"
"""``pcm``: 16 bits; ``float``: 32 bits; ``opus``: one packet a message; ``codes``: see ``wire.CodePacking``."""

OPUS_RATES = 8_000, 12_000, 16_000, 24_000, 48_000
_OPUS_DECODED_RATE = 48_000
MAX_OPUS_SECONDS = 0.12
"""Longest Opus packet."""


class AudioReader(ABC):
    """Bytes to samples.

    Attributes:
        sample_rate: of the samples, in hertz.
    """

    sample_rate: int

    @abstractmethod
    def read(self, payload: memoryview) -> np.ndarray:
        """Samples, float32 ``(S,)``.

        Raises:
            MessageError: the payload is not audio of this format.
        """


class PcmReader(AudioReader):
    """PCM of 16 bits, or floating point of 32."""

    def __init__(self, sample_rate: int, dtype: str) -> None:
        self.sample_rate, self._dtype = sample_rate, np.dtype(dtype)

    def read(self, payload: memoryview) -> np.ndarray:  # noqa: D102
        if len(payload) % self._dtype.itemsize:
            raise MessageError(
                f"audio has {len(payload)} bytes; expected a multiple of {self._dtype.itemsize}, a sample of "
                f"{8 * self._dtype.itemsize} bits"
            )
        samples = np.frombuffer(payload, self._dtype)
        if self._dtype.kind == "i":
            scaled: np.ndarray = samples.astype(np.float32) * np.float32(1 / 32_768)
            return scaled
        if not np.isfinite(samples).all():
            raise MessageError("audio holds NaN or infinity; expected values in [-1, 1]")
        clipped: np.ndarray = samples.clip(-1, 1)
        return clipped


class OpusReader(AudioReader):
    """Packets of Opus, without a container."""

    sample_rate = _OPUS_DECODED_RATE

    def __init__(self) -> None:
        self._av = import_av()
        self._codec = self._av.CodecContext.create("libopus", "r")
        self._codec.sample_rate = _OPUS_DECODED_RATE
        self._codec.layout = "mono"
        self._codec.format = "flt"

    def read(self, payload: memoryview) -> np.ndarray:  # noqa: D102
        if not len(payload):  # FFmpeg would take it for the end
            raise MessageError("audio is empty; expected an Opus packet in each message")
        try:
            frames = self._codec.decode(self._av.Packet(bytes(payload)))
        except self._av.error.FFmpegError as error:
            raise MessageError(f"audio is not an Opus packet ({error}); expected one packet in each message") from error
        parts = [_mono(frame) for frame in frames]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)


class AudioWriter(ABC):
    """Samples at the tokenizer's rate to payloads."""

    @abstractmethod
    def write(self, samples: np.ndarray) -> list[bytes]:
        """Payloads of the messages that ``samples``, float32 ``(S,)``, complete."""

    def finish(self) -> list[bytes]:
        """Payloads of what waited for more samples; silence completes it."""
        return []


class PcmWriter(AudioWriter):
    """PCM of 16 bits, or floating point of 32."""

    def __init__(self, dtype: str) -> None:
        self._dtype = np.dtype(dtype)

    def write(self, samples: np.ndarray) -> list[bytes]:  # noqa: D102
        if self._dtype.kind == "i":
            samples = np.rint(samples.clip(-1, 1) * 32_767)
        return [samples.astype(self._dtype).tobytes()] if len(samples) else []


class OpusWriter(AudioWriter):
    """Packets of Opus of 20 ms, without a container."""

    def __init__(self, sample_rate: int) -> None:
        if sample_rate not in OPUS_RATES:
            raise InputError(f"Opus has no sample rate of {sample_rate} Hz; expected one of {OPUS_RATES}: ask for pcm")
        self._av = import_av()
        self._codec = self._av.CodecContext.create("libopus", "w")
        self._codec.sample_rate = sample_rate
        self._codec.layout = "mono"
        self._codec.format = "flt"
        self._codec.bit_rate = 24_000
        self._codec.time_base = Fraction(1, sample_rate)
        self._codec.options = {"application": "voip", "frame_duration": "20"}
        self._size = sample_rate // 50
        self._waiting = np.zeros(0, np.float32)
        self._time = 0

    def write(self, samples: np.ndarray) -> list[bytes]:  # noqa: D102
        self._waiting = np.concatenate([self._waiting, samples.astype(np.float32)])
        packets: list[bytes] = []
        while len(self._waiting) >= self._size:
            frame = self._av.AudioFrame.from_ndarray(self._waiting[None, : self._size], format="flt", layout="mono")
            self._waiting = self._waiting[self._size :]
            frame.sample_rate, frame.pts = self._codec.sample_rate, self._time
            self._time += self._size
            packets += [bytes(packet) for packet in self._codec.encode(frame)]
        return packets

    def finish(self) -> list[bytes]:  # noqa: D102
        return self.write(np.zeros(-len(self._waiting) % self._size, np.float32))


def make_reader(name: str, sample_rate: int) -> AudioReader:
    """The reader of a format of :data:`FORMATS` other than codes."""
    return OpusReader() if name == "opus" else PcmReader(sample_rate, _DTYPES[name])


def make_writer(name: str, sample_rate: int) -> AudioWriter:
    """The writer of a format of :data:`FORMATS` other than codes."""
    return OpusWriter(sample_rate) if name == "opus" else PcmWriter(_DTYPES[name])


def import_av() -> Any:
    """FFmpeg's bindings.

    Raises:
        InputError: they are not installed.
    """
    try:
        import av
    except ImportError as error:
        raise InputError(f"Opus needs PyAV: {install_hint('live')}; or ask for pcm") from error
    return av


_DTYPES = {"pcm": "<i2", "float": "<f4"}


def _mono(frame: Any) -> np.ndarray:
    samples = frame.to_ndarray()
    channels = frame.layout.nb_channels
    if samples.shape[0] == 1 and channels > 1:  # interleaved
        samples = samples.reshape(-1, channels).T
    scale = 1 / 32_768 if samples.dtype.kind == "i" else 1.0
    mono: np.ndarray = samples.astype(np.float32).mean(0) * np.float32(scale)
    np.clip(mono, -1, 1, out=mono)
    return mono
