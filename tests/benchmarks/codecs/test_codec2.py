import shutil
from pathlib import Path

import pytest
import torch

from benchmarks.codecs.load import load_codec
from speechtok.errors import InputError


def test_the_programs_encode_and_decode_through_files(audio, monkeypatch, tmp_path):
    """Stand-ins for the programs: the encoder keeps the first 800 bytes, the decoder writes them twice."""
    for name, script in (("c2enc", "head -c 800 $2 > $3"), ("c2dec", "cat $2 $2 > $3")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{Path(shutil.which('head')).parent}")
    coded = load_codec("codec2:3200")(audio[::2].contiguous())
    assert coded.bits == 6400
    assert len(coded.waveform) == 800
    assert torch.allclose(coded.waveform[:400], audio[::2][:400], atol=1e-4)


def test_missing_programs_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="needs c2enc, which is not installed"):
        load_codec("codec2")
