"""Fuzzer of audio files: those of the table of kinds, with flipped bits, cut and joined pieces, and other headers."""

import random
import struct
from pathlib import Path

from speechtok import read_audio
from speechtok.errors import AudioError
from speechtok.media.signature import find_planner
from speechtok.media.source import open_source
from tests.fuzz.runner import Fuzzer, Report, run_here
from tests.media.encode import av
from tests.media.kinds import KINDS

_CHECKED = 200_000
"""Longer mutants are cut: what matters is the structure."""

_INTERESTING = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF]

_MARKS = [
    b"RIFF", b"WAVE", b"fmt ", b"data", b"fact", b"LIST", b"ds64", b"FORM", b"COMM", b"SSND", b"desc", b"pakt", b"kuki",
    b"fLaC", b"OggS", b"OpusHead", b"vorbis", b"Xing", b"Info", b"LAME", b"ID3", b"TAG", b"APETAGEX", b"ftyp", b"moov",
    b"trak", b"mdia", b"stbl", b"stsd", b"stsz", b"stts", b"stsc", b"stco", b"esds", b"mdat", b"moof", b"trun", b"tfhd",
    b"wvpk", b"TTA1", b"ajkg", b"NIST_1A", b"\x1f\x43\xb6\x75", b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xff\xf1",
]  # fmt: skip


class Inputs(Fuzzer):
    """Bytes of files."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._seeds: list[bytes] = []

    def _seed(self, rng: random.Random) -> bytes:
        if not self._seeds:
            usable = (kind for kind in KINDS if av is not None or not kind.made_with_ffmpeg)
            self._seeds = [seed for seed in (kind.make() for kind in usable) if len(seed) > 200]
        return rng.choice(self._seeds)

    def make(self, rng: random.Random) -> bytes:
        data = bytearray(self._seed(rng))
        if rng.random() < 0.5 and len(data) > 6_000:  # short files mutate faster, and their headers more often
            data = data[: rng.randrange(2_000, 6_000)]
        for _ in range(rng.choice([1, 1, 2, 3, 8])):
            self._mutate(rng, data)
            if not data:
                break
        return bytes(data[:_CHECKED])

    def _mutate(self, rng: random.Random, data: bytearray) -> None:
        # half of the places lie in the first kilobyte, where the headers are; some behind a mark
        at = rng.randrange(min(len(data), 1_024) if rng.random() < 0.5 else len(data))
        if rng.random() < 0.4 and (found := [m for m in _MARKS if m in data]):
            at = min(data.index(rng.choice(found)) + rng.randrange(4, 40), len(data) - 1)
        action = rng.randrange(9)
        if action == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif action == 1:
            data[at] = rng.randrange(256)
        elif action in (2, 3):
            value, order = rng.choice(_INTERESTING), rng.choice("<>")
            width = rng.choice("BHIQ")
            field = struct.pack(order + width, value & (1 << 8 * struct.calcsize(width)) - 1)
            data[at : at + len(field)] = field
        elif action == 4:
            field_size = rng.choice([2, 4])
            order = rng.choice(["little", "big"])
            value = int.from_bytes(data[at : at + field_size], order) + rng.choice([-16, -1, 1, 16, 256])
            data[at : at + field_size] = (value % 256**field_size).to_bytes(field_size, order)
        elif action == 5:
            del data[at : at + rng.choice([1, 2, 4, 100, len(data)])]
        elif action == 6:
            data[at:at] = data[at : at + rng.choice([1, 4, 64, 2_000])]
        elif action == 7:
            noise = rng.randbytes(rng.randrange(1, 50))
            data[at:at] = rng.choice([bytes(rng.randrange(200)), noise, rng.choice(_MARKS)])
        else:
            other = self._seed(rng)
            start = rng.randrange(len(other))
            data[at : at + rng.choice([0, 4_000])] = other[start : start + rng.choice([64, 4_000])]

    def passes(self, made: bytes) -> bool:
        if not made:
            return False
        try:
            with open_source(made) as source:
                find_planner(source)
        except AudioError:
            return False
        return True

    def use(self, made: bytes) -> None:
        path = self.folder / "a"
        path.write_bytes(made)
        waveform, rate = read_audio(path)
        assert waveform.isfinite().all()
        assert waveform.abs().max() <= 1
        assert 1_000 <= rate <= 768_000


def run(count: int, seed: int = 0) -> Report:
    """Run here; for long runs see :mod:`tests.fuzz`."""
    return run_here("media", count, seed)
