"""Opus (RFC 6716): libopus, as driven by FFmpeg through PyAV."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.codecs.interface import Reconstruction
from benchmarks.codecs.spec import Spec
from speechtok.errors import InputError
from speechtok.extras import install_hint
from speechtok.resampling import resample


class Opus:
    """Opus at 16 kHz. The number of the specification is the nominal bitrate in kbit/s.

    The bits are those of the packets, without a container.
    """

    sample_rate = 16_000
    codebook_size = 0
    MIN_BITRATE, MAX_BITRATE = 6, 256  # kbit/s
    DECODED_RATE = 48_000  # hertz, for any input rate

    def __init__(self, spec: Spec) -> None:
        bitrate = 6.0 if spec.number is None else spec.number
        if not self.MIN_BITRATE <= bitrate <= self.MAX_BITRATE:
            raise InputError(
                f"opus:{bitrate:g} asks for {bitrate:g} kbit/s; expected {self.MIN_BITRATE} to {self.MAX_BITRATE}"
            )
        try:
            import av
        except ImportError as error:
            raise InputError(f"codec 'opus' needs PyAV ({error}): {install_hint('bench')}") from error
        self.bitrate = bitrate
        self.identity = f"opus {bitrate:g} PyAV {av.__version__}"

    def __call__(self, waveform: Tensor) -> Reconstruction:
        """Encode and decode ``(S,)``."""
        packets, header = self._encode(waveform)
        decoded = self._decode(packets, header)[None]
        resampled = resample(decoded, self.DECODED_RATE, self.sample_rate)[0]
        return Reconstruction(resampled[: len(waveform)], 8.0 * sum(map(len, packets)))

    def _encode(self, waveform: Tensor) -> tuple[list[bytes], bytes]:
        import av

        encoder = av.CodecContext.create("libopus", "w")
        encoder.sample_rate, encoder.layout, encoder.format = self.sample_rate, "mono", "flt"
        encoder.bit_rate = round(1000 * self.bitrate)
        encoder.open()
        length = encoder.frame_size
        padded = torch.nn.functional.pad(waveform, (0, -len(waveform) % length))
        packets = []
        for number, samples in enumerate(padded.numpy().reshape(-1, 1, length)):
            frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
            frame.sample_rate, frame.pts = self.sample_rate, number * length
            packets += encoder.encode(frame)
        return [bytes(packet) for packet in packets + encoder.encode(None)], encoder.extradata

    def _decode(self, packets: Sequence[bytes], header: bytes) -> Tensor:
        """Decode packets. The header states the encoder's delay, which the decoder removes."""
        import av

        decoder = av.CodecContext.create("libopus", "r")
        decoder.extradata, decoder.options = header, {"request_sample_fmt": "flt"}
        frames = [frame for packet in packets for frame in decoder.decode(av.Packet(packet))]
        pieces = [frame.to_ndarray().reshape(-1) for frame in frames + decoder.decode(None)]
        return torch.from_numpy(np.concatenate(pieces))
