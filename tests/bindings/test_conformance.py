"""The golden files of the conformance suite, from the package itself."""

from pathlib import Path

import numpy as np
import pytest
import torch

import speechtok
from bindings.conformance.__main__ import RANDOM
from bindings.conformance.golden import audio_hashes, known_answer, make_golden, read_golden, write_golden
from bindings.conformance.stress import fnv1a, sha256, stress_input
from speechtok.fingerprints import DEFAULT_TOKENIZER, NAMED_TOKENIZERS
from speechtok.nn.native.library import available_isas, use_isa

FOLDER = Path(speechtok.__file__).parents[1] / "bindings" / "conformance"
SOURCES = {"random": FOLDER / "random"} | {name: name for name in NAMED_TOKENIZERS}


@pytest.fixture(scope="module")
def samples():
    return stress_input()


@pytest.fixture(scope="module", params=list(SOURCES))
def case(request):
    return speechtok.load(SOURCES[request.param]), read_golden(FOLDER / f"{request.param}.txt")


def test_the_stress_input_is_the_documented_one(samples, case):
    _, golden = case
    assert len(samples) == int(golden.fields["samples"]) == 519_323
    assert sha256(samples) == golden.fields["input_sha256"]
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() == 1.0


def test_the_hash_is_fnv1a():
    assert fnv1a(b"") == 0x811C9DC5
    assert fnv1a(b"foobar") == 0xBF9CF968  # from the draft of the hash


@pytest.mark.slow
def test_codes_and_audio_are_those_of_the_golden_file(case, tmp_path):
    tokenizer, golden = case
    made = make_golden(tokenizer, golden.fields["tokenizer"])
    assert made.fields == golden.fields
    assert np.array_equal(made.codes, golden.codes)
    assert made.hashes == golden.hashes
    write_golden(made, tmp_path / "golden.txt")
    path = FOLDER / f"{golden.fields['tokenizer']}.txt"
    assert (tmp_path / "golden.txt").read_bytes() == path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [320, 333, 1_280])
def test_streams_give_the_golden_file(samples, case, chunk):
    tokenizer, _ = case
    part = samples[431_200:475_200]  # 2.75 s of the square wave and the voice
    codes, audio = [], []
    with tokenizer.stream() as stream:
        for start in range(0, len(part), chunk):
            codes.append(stream.encode(part[start : start + chunk]))
            audio.append(stream.decode(codes[-1]))
        codes.append(stream.flush())
        audio += [stream.decode(codes[-1]), stream.drain()]
    tokens = tokenizer.encode(part, tokenizer.sample_rate)
    assert torch.equal(torch.cat(codes, 2), tokens.codes)
    whole = torch.cat(audio, 1)[0, : len(part)].numpy()
    expected = audio_hashes(tokenizer.decode(tokens)[0].numpy(), tokenizer.hop_length)
    assert audio_hashes(whole, tokenizer.hop_length) == expected


@pytest.mark.slow
@pytest.mark.parametrize("isa", [None, *available_isas()])
def test_every_kernel_gives_the_golden_file(samples, isa):
    with use_isa(isa):
        random, golden = speechtok.load(SOURCES["random"]), read_golden(FOLDER / "random.txt")
        made = make_golden(random, "random")
        answer = known_answer(speechtok.load(DEFAULT_TOKENIZER), samples)
    assert np.array_equal(made.codes, golden.codes)
    assert made.hashes == golden.hashes
    assert answer.items() <= read_golden(FOLDER / f"{DEFAULT_TOKENIZER}.txt").fields.items()


def test_the_random_model_is_the_committed_one():
    tokenizer = speechtok.load(SOURCES["random"])
    assert tokenizer.config == RANDOM
    assert tokenizer.fingerprint == read_golden(FOLDER / "random.txt").fields["fingerprint"]
