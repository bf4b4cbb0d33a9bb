"""Formats of audio in messages: PCM, and Opus with FFmpeg's bindings, in packets or in Ogg."""

from abc import ABC, abstractmethod
from fractions import Fraction
from typing import Any

import numpy as np

from speechtok.errors import InputError
from speechtok.extras import install_hint
from speechtok.live.ogg import OggReader, OggWriter
from speechtok.live.wire import MessageError

FORMATS = "pcm", "float", "opus", "ogg", "codes"
"""``pcm``: 16 bits; ``float``: 32 bits; ``opus``: one packet a message; ``ogg``: Opus in pages of Ogg, as Moshi's
clients send it; ``codes``: see ``wire.CodePacking``."""

OPUS_RATES = 8_000, 12_000, 16_000, 24_000, 48_000
_OPUS_DECODED_RATE = 48_000
MAX_OPUS_SECONDS = 0.12
"""Longest Opus packet."""
MAX_OGG_SECONDS = 5.0
"""Audio of one message of Ogg. A packet of one byte may stand for 60 ms: a message of them would be half an hour."""


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


class OggOpusReader(AudioReader):
    """Opus in a stream of Ogg, whose bytes may be cut anywhere."""

    sample_rate = _OPUS_DECODED_RATE

    def __init__(self) -> None:
        self._ogg = OggReader()
        self._opus = OpusReader()
        self._skip, self._gain, self._decoded = 0, 1.0, 0

    def read(self, payload: memoryview) -> np.ndarray:  # noqa: D102
        parts: list[np.ndarray] = []
        seconds = 0.0
        for packet in self._ogg.read(payload):
            if packet.head is not None:
                self._opus = OpusReader()
                self._skip, self._gain, self._decoded = packet.head.pre_skip, packet.head.gain, 0
            samples = self._opus.read(memoryview(packet.data))
            seconds += len(samples) / self.sample_rate
            if seconds > MAX_OGG_SECONDS:
                raise MessageError(f"audio is longer than {MAX_OGG_SECONDS:g} s in one message; expected less")
            self._decoded += len(samples)
            if packet.end is not None:  # the last packet is completed with what is not to be heard
                samples = samples[: max(0, len(samples) - max(0, self._decoded - packet.end))]
            skipped = min(self._skip, len(samples))
            self._skip -= skipped
            samples = samples[skipped:]
            parts.append(samples if self._gain == 1 else (samples * np.float32(self._gain)).clip(-1, 1))
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
        self._codec.open()
        self._size = sample_rate // 50
        self._waiting = np.zeros(0, np.float32)
        self._time = 0

    @property
    def head(self) -> bytes:
        """The packet ``OpusHead``, which begins a stream in a container."""
        return bytes(self._codec.extradata)

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


class OggOpusWriter(AudioWriter):
    """Opus in a stream of Ogg: a page with each packet of 20 ms."""

    def __init__(self, sample_rate: int) -> None:
        self._opus = OpusWriter(sample_rate)
        self._ogg = OggWriter(self._opus.head)

    def write(self, samples: np.ndarray) -> list[bytes]:  # noqa: D102
        return self._pages(self._opus.write(samples))

    def finish(self) -> list[bytes]:  # noqa: D102
        return self._pages(self._opus.finish())

    def _pages(self, packets: list[bytes]) -> list[bytes]:
        return [page for packet in packets for page in self._ogg.write(packet, _OPUS_DECODED_RATE // 50)]


def make_reader(name: str, sample_rate: int) -> AudioReader:
    """The reader of a format of :data:`FORMATS` other than codes."""
    if name in _DTYPES:
        return PcmReader(sample_rate, _DTYPES[name])
    return OpusReader() if name == "opus" else OggOpusReader()


def make_writer(name: str, sample_rate: int) -> AudioWriter:
    """The writer of a format of :data:`FORMATS` other than codes."""
    if name in _DTYPES:
        return PcmWriter(_DTYPES[name])
    return OpusWriter(sample_rate) if name == "opus" else OggOpusWriter(sample_rate)


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
