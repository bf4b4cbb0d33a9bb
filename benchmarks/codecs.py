"""Codecs behind one small interface, waveform to bits and waveform, each made from a specification by name.

A specification is ``NAME``, ``NAME:NUMBER`` or ``NAME:NUMBER@SOURCE``; ``SOURCE`` is a local directory or a name on the
Hugging Face hub.

| specification | what |
|---|---|
| ``speechtok``, ``speechtok:4``, ``speechtok:4@DIR`` | ours with all or 4 codebooks; another than the default |
| ``encodec:6@SOURCE`` | EnCodec of transformers at 6 kbit/s |
| ``mimi:8@SOURCE``, ``dac:4@SOURCE`` | Mimi and DAC of transformers with 8 and 4 codebooks |
| ``xcodec:1@SOURCE`` | X-Codec of transformers at 1 kbit/s |
| ``speechtokenizer:8@DIR`` | SpeechTokenizer; ``DIR`` has its ``config.json`` and ``SpeechTokenizer.pt`` |
| ``opus:6`` | Opus of FFmpeg, asked for 6 kbit/s (from 6 to 256) |
| ``codec2:3200`` | Codec 2 in mode 3200, if its programs ``c2enc`` and ``c2dec`` are installed |
| ``identity`` | 16-bit samples as they are: a perfect score |
| ``lowpass``, ``lowpass:3500`` | what is below 1000 Hz, or 3500 (the low anchor of ITU-R BS.1534): a poor score |
"""

import functools
import hashlib
import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

import speechtok
from speechtok.audio import resample
from speechtok.errors import InputError


@dataclass(frozen=True)
class Coded:
    """What a codec made of one waveform.

    Attributes:
        waveform: decoded, ``(S,)`` at the codec's rate.
        bits: that the decoder was given, without container or file headers.
        codes: ``(Q, T)`` of codecs that have codebooks.
    """

    waveform: Tensor
    bits: float
    codes: np.ndarray | None = None


class Codec(Protocol):
    """Takes a waveform ``(S,)`` at :attr:`sample_rate`.

    Attributes:
        sample_rate: in hertz.
        identity: changes when the codec does; results of another are not used again.
        codebook_size: entries of a codebook, or 0 if it has none.
    """

    sample_rate: int
    identity: str
    codebook_size: int

    def __call__(self, waveform: Tensor) -> Coded:
        """Encode and decode."""
        ...


@dataclass(frozen=True)
class Spec:
    """A specification taken apart: ``NAME[:NUMBER][@SOURCE]``."""

    name: str
    number: float | None
    source: str | None

    @property
    def whole(self) -> int | None:
        """The number, if it is a whole one above 0, or None if there is none.

        Raises:
            InputError: it is another number.
        """
        if self.number is None:
            return None
        if self.number != int(self.number) or self.number < 1:
            raise InputError(f"{self.name}:{self.number:g} has no whole number above 0; expected as in {self.name}:4")
        return int(self.number)


def parse(text: str) -> Spec:
    """Take a specification apart.

    Raises:
        InputError: it has another form, or names no codec.
    """
    match = re.fullmatch(r"([a-z0-9]+)(?::(\d+(?:\.\d+)?))?(?:@(.+))?", text)
    if not match:
        raise InputError(f"codec is {text!r}; expected NAME, NAME:NUMBER or NAME:NUMBER@SOURCE, such as opus:6")
    name, number, source = match.groups()
    if name not in CODECS:
        raise InputError(f"codec {text!r} is unknown; expected one of {', '.join(CODECS)}")
    return Spec(name, float(number) if number else None, source)


def load_codec(text: str) -> Codec:
    """Make the codec of a specification.

    Raises:
        InputError: it is no such specification, or what it needs is not there.
    """
    spec = parse(text)
    return CODECS[spec.name](spec)


class Speechtok:
    """Our tokenizer, with all or the first ``number`` codebooks."""

    def __init__(self, spec: Spec) -> None:
        self.shared = _shared(spec.source)
        self.tokenizer = self.shared.tokenizer
        self.sample_rate = self.tokenizer.sample_rate
        self.codebook_size = self.tokenizer.codebook_size
        count = spec.whole or self.tokenizer.num_codebooks
        if count > self.tokenizer.num_codebooks:
            raise InputError(
                f"speechtok:{count} asks for {count} codebooks; expected at most {self.tokenizer.num_codebooks}, "
                "which the tokenizer has"
            )
        self.count = count
        self.identity = f"speechtok {self.tokenizer.fingerprint} {count}"

    def __call__(self, waveform: Tensor) -> Coded:
        """Encode, and decode the first codebooks."""
        tokens = self.shared.encode(waveform)
        codes = tokens.codes[0, : self.count].numpy().astype(np.int32)
        decoded = self.tokenizer.decode(tokens, num_codebooks=self.count)[0]
        return Coded(decoded, codes.size * math.log2(self.codebook_size), codes)


class _Shared:
    """A tokenizer, and what it last made of an utterance: specifications with fewer codebooks ask for the same."""

    def __init__(self, source: str | None) -> None:
        self.tokenizer = speechtok.load(source)
        self._last: tuple[Tensor, speechtok.SpeechTokens] | None = None

    def encode(self, waveform: Tensor) -> speechtok.SpeechTokens:
        """All codes of ``(S,)``."""
        if self._last is None or not torch.equal(self._last[0], waveform):
            self._last = waveform, self.tokenizer.encode(waveform, self.tokenizer.sample_rate)
        return self._last[1]


@functools.lru_cache(maxsize=4)
def _shared(source: str | None) -> _Shared:
    return _Shared(source)


class Transformers:
    """A codec of transformers: EnCodec, Mimi, DAC or X-Codec.

    The number is kbit/s for codecs that are asked for a bandwidth (EnCodec, X-Codec), and codebooks for the others.
    """

    def __init__(self, spec: Spec) -> None:
        if spec.source is None:
            raise InputError(f"codec {spec.name!r} has no source; expected {spec.name}@DIR or {spec.name}@org/name")
        from transformers import AutoConfig, AutoModel

        try:
            config = AutoConfig.from_pretrained(spec.source)
            if config.model_type != spec.name:
                raise InputError(f"{spec.source!r} is a {config.model_type}; expected a {spec.name}")
            self.model: Any = AutoModel.from_pretrained(spec.source, use_safetensors=True).eval()
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{spec.source!r} cannot be loaded by transformers; expected a directory or a model on the hub, with "
                f"config.json and model.safetensors: {error}"
            ) from error
        self.sample_rate = int(config.sampling_rate)
        self.codebook_size = int(config.codebook_size)
        self.spec = spec
        if spec.name in ("encodec", "xcodec"):
            if spec.number is not None and spec.number not in config.target_bandwidths:
                raise InputError(
                    f"{spec.name}:{spec.number:g} asks for {spec.number:g} kbit/s; expected one of "
                    f"{config.target_bandwidths}"
                )
            self.options = {"bandwidth": spec.number} if spec.number else {}
        else:
            most = int(config.num_quantizers if spec.name == "mimi" else config.n_codebooks)
            count = spec.whole or most
            if count > most:
                raise InputError(f"{spec.name}:{count} asks for {count} codebooks; expected at most {most}")
            self.options = {"num_quantizers" if spec.name == "mimi" else "n_quantizers": count}
        self.identity = f"{spec.name} {_weights_digest(self.model)} {self.options}"

    @torch.inference_mode()
    def __call__(self, waveform: Tensor) -> Coded:
        """Encode and decode."""
        encoded = self.model.encode(waveform[None, None], **self.options)
        codes = encoded.audio_codes
        if self.spec.name == "encodec":  # (chunks, B, Q, T), and scales if it normalises loudness
            decoded = self.model.decode(codes, encoded.audio_scales).audio_values
            codes = torch.cat(list(codes), 2)
        elif self.spec.name == "dac":
            decoded = self.model.decode(audio_codes=codes).audio_values
        else:
            decoded = self.model.decode(codes).audio_values
        grid = codes[0].numpy().astype(np.int32)
        return Coded(decoded.reshape(-1), grid.size * math.log2(self.codebook_size), grid)


def _weights_digest(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode() + weight.numpy().tobytes())
    return digest.hexdigest()[:16]


class PublishedSpeechTokenizer:
    """SpeechTokenizer (Zhang et al. 2024, arXiv 2308.16692), by its authors' package ``speechtokenizer``."""

    codebook_size = 1024

    def __init__(self, spec: Spec) -> None:
        try:
            from speechtokenizer import SpeechTokenizer
        except ImportError as error:
            raise InputError(
                f"codec 'speechtokenizer' needs the package speechtokenizer, which is absent ({error}): "
                "pip install speechtokenizer"
            ) from error
        if spec.source is None:
            raise InputError("codec 'speechtokenizer' has no source; expected speechtokenizer@DIR")
        import json

        folder = Path(spec.source)
        files = folder / "config.json", folder / "SpeechTokenizer.pt"
        for file in files:
            if not file.is_file():
                raise InputError(f"{file} does not exist; expected the published config.json and SpeechTokenizer.pt")
        config = json.loads(files[0].read_text(encoding="utf-8"))
        self.model: Any = SpeechTokenizer(config).eval()
        self.model.load_state_dict(torch.load(files[1], map_location="cpu", weights_only=True))
        self.sample_rate = int(config["sample_rate"])
        self.codebook_size = int(config["codebook_size"])
        self.count = spec.whole or int(config["n_q"])
        self.identity = f"speechtokenizer {_weights_digest(self.model)} {self.count}"

    @torch.inference_mode()
    def __call__(self, waveform: Tensor) -> Coded:
        """Encode, and decode the first codebooks."""
        codes = self.model.encode(waveform[None, None])[: self.count]  # (Q, B, T)
        grid = codes[:, 0].numpy().astype(np.int32)
        return Coded(self.model.decode(codes).reshape(-1), grid.size * math.log2(self.codebook_size), grid)


class Opus:
    """Opus (RFC 6716): libopus as FFmpeg drives it, at 16 kHz; bits are those of its packets, without a container."""

    sample_rate = 16_000
    codebook_size = 0
    LEAST, MOST = 6, 256  # kbit/s
    DECODED_RATE = 48_000  # in hertz, whatever was encoded

    def __init__(self, spec: Spec) -> None:
        rate = 6.0 if spec.number is None else spec.number
        if not self.LEAST <= rate <= self.MOST:
            raise InputError(f"opus:{rate:g} asks for {rate:g} kbit/s; expected {self.LEAST} to {self.MOST}")
        try:
            import av
        except ImportError as error:
            raise InputError(f"codec 'opus' needs PyAV ({error}): pip install 'speechtok[bench]'") from error
        self.rate = rate
        self.identity = f"opus {rate:g} PyAV {av.__version__}"

    def __call__(self, waveform: Tensor) -> Coded:
        """Encode and decode."""
        packets, header = self._encode(waveform)
        decoded = self._decode(packets, header)[None]
        resampled = resample(decoded, self.DECODED_RATE, self.sample_rate)[0]
        return Coded(resampled[: len(waveform)], 8.0 * sum(map(len, packets)))

    def _encode(self, waveform: Tensor) -> tuple[list[bytes], bytes]:
        import av

        encoder = av.CodecContext.create("libopus", "w")
        encoder.sample_rate, encoder.layout, encoder.format = self.sample_rate, "mono", "flt"
        encoder.bit_rate = round(1000 * self.rate)
        encoder.open()
        size = encoder.frame_size
        padded = torch.nn.functional.pad(waveform, (0, -len(waveform) % size))
        packets = []
        for number, samples in enumerate(padded.numpy().reshape(-1, 1, size)):
            frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
            frame.sample_rate, frame.pts = self.sample_rate, number * size
            packets += encoder.encode(frame)
        return [bytes(packet) for packet in packets + encoder.encode(None)], encoder.extradata

    def _decode(self, packets: Sequence[bytes], header: bytes) -> Tensor:
        """The header says how much of the beginning is the encoder's delay, which is left off."""
        import av

        decoder = av.CodecContext.create("libopus", "r")
        decoder.extradata, decoder.options = header, {"request_sample_fmt": "flt"}
        frames = [frame for packet in packets for frame in decoder.decode(av.Packet(packet))]
        pieces = [frame.to_ndarray().reshape(-1) for frame in frames + decoder.decode(None)]
        return torch.from_numpy(np.concatenate(pieces))


class Codec2:
    """Codec 2 (Rowe), by its programs, at 8 kHz."""

    sample_rate = 8_000
    codebook_size = 0
    MODES = (3200, 2400, 1600, 1400, 1300, 1200, 700)

    def __init__(self, spec: Spec) -> None:
        mode = spec.whole or self.MODES[0]
        if mode not in self.MODES:
            raise InputError(f"codec2:{mode} is no mode of Codec 2; expected one of {self.MODES}")
        for program in ("c2enc", "c2dec"):
            if not shutil.which(program):
                raise InputError(f"codec 'codec2' needs {program}, which is absent: install Codec 2 (Debian: codec2)")
        self.mode = "700C" if mode == 700 else str(mode)
        self.identity = f"codec2 {self.mode}"

    def __call__(self, waveform: Tensor) -> Coded:
        """Encode and decode, by way of files."""
        with tempfile.TemporaryDirectory() as name:
            before, coded, after = (Path(name) / part for part in ("before.raw", "coded", "after.raw"))
            before.write_bytes((waveform.numpy() * 32_767).round().clip(-32_768, 32_767).astype("<i2").tobytes())
            for command in (["c2enc", self.mode, before, coded], ["c2dec", self.mode, coded, after]):
                subprocess.run(command, check=True, capture_output=True)
            decoded = np.frombuffer(after.read_bytes(), "<i2").astype(np.float32) / 32_768
            return Coded(torch.from_numpy(decoded), 8.0 * coded.stat().st_size)


class Identity:
    """16-bit samples as they are."""

    sample_rate = 16_000
    codebook_size = 0
    identity = "identity"

    def __init__(self, spec: Spec) -> None:
        _no_number(spec)

    def __call__(self, waveform: Tensor) -> Coded:
        """Nothing is lost."""
        return Coded(waveform, 16.0 * len(waveform))


def _no_number(spec: Spec) -> None:
    if spec.number is not None:
        raise InputError(f"codec {spec.name}:{spec.number:g} has a number; expected {spec.name} alone")


class Lowpass:
    """16-bit samples of what is below a frequency."""

    sample_rate = 16_000
    codebook_size = 0

    def __init__(self, spec: Spec) -> None:
        self.cutoff = 1000 if spec.whole is None else spec.whole
        if not 500 <= self.cutoff <= self.sample_rate // 2:
            raise InputError(f"lowpass:{self.cutoff} is in hertz; expected 500 to {self.sample_rate // 2}")
        self.identity = f"lowpass {self.cutoff}"

    def __call__(self, waveform: Tensor) -> Coded:
        """To twice the frequency, and back."""
        narrow = resample(waveform[None], self.sample_rate, 2 * self.cutoff)
        return Coded(resample(narrow, 2 * self.cutoff, self.sample_rate)[0][: len(waveform)], 16.0 * narrow.numel())


CODECS: dict[str, Callable[[Spec], Codec]] = {
    "speechtok": Speechtok,
    "speechtokenizer": PublishedSpeechTokenizer,
    "encodec": Transformers,
    "mimi": Transformers,
    "dac": Transformers,
    "xcodec": Transformers,
    "opus": Opus,
    "codec2": Codec2,
    "identity": Identity,
    "lowpass": Lowpass,
}
"""What makes a codec from its specification, by name; add yours."""
