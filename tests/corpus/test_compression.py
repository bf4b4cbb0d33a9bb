"""Entropy coding is exact, and its bytes are always the same."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import speechtok
from speechtok import SpeechTokens
from speechtok.corpus import Corpus
from speechtok.corpus.entropy_training import train
from speechtok.corpus.recode import recode
from speechtok.entropy import BLOCK, ContextModel, embedded_model
from speechtok.errors import TokensError
from speechtok.parquet import pack, unpack

ASSETS = Path(speechtok.__file__).parent / "assets"
N, Q = 20, 3


def sequences(seed: int, lengths: list[int]) -> list[np.ndarray]:
    """Codes that depend on the code before, and on the codebook before."""
    rng = np.random.default_rng(seed)
    rows = []
    for length in lengths:
        first = np.cumsum(rng.integers(0, 3, length)) % N
        rows.append(np.stack([first, (first * 7 + rng.integers(0, 2, length)) % N, rng.integers(0, N, length)]))
    return rows


@pytest.fixture(scope="module")
def model() -> ContextModel:
    return train(sequences(0, [400] * 10), "0" * 16, N, classes=8)


def test_codes_come_back_and_take_less_room(model):
    rows = sequences(1, [0, 1, 7, 300, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
    data = model.encode(rows)
    lengths = [row.shape[1] for row in rows]
    for row, back in zip(rows, model.decode(data, lengths), strict=True):
        assert np.array_equal(row, back)
    assert sum(map(len, data)) < 0.8 * sum(len(pack(row, 5)) for row in rows)
    for row, one in zip(rows, data, strict=True):  # alone as beside others
        assert model.encode([row]) == [one]


@given(st.integers(0, 10_000), st.lists(st.integers(0, 90), max_size=4), st.integers(1, Q))
@settings(max_examples=30)
def test_any_codes_come_back(model, seed, lengths, num_codebooks):
    rng = np.random.default_rng(seed)
    rows = [rng.integers(0, N, (num_codebooks, length)) for length in lengths]
    back = model.decode(model.encode(rows), lengths, num_codebooks)
    assert all(np.array_equal(a, b) for a, b in zip(rows, back, strict=True))


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_damaged_bytes_raise_or_are_noticed(model, seed):
    rng = np.random.default_rng(seed)
    (row,) = sequences(seed, [50])
    data = bytearray(model.encode([row])[0])
    kind = seed % 3
    if kind == 0:
        data = data[: int(rng.integers(0, len(data)))]
    elif kind == 1:
        data += bytes(4)
    else:
        data[int(rng.integers(0, len(data)))] ^= 1 << int(rng.integers(0, 8))
    with pytest.raises(TokensError, match="damaged"):
        model.decode([bytes(data)], [50])


def test_a_model_comes_back_from_its_bytes(model):
    loaded = ContextModel.from_bytes(model.to_bytes())
    assert loaded.digest == model.digest
    rows = sequences(2, [100])
    assert loaded.encode(rows) == model.encode(rows)


def test_the_bytes_are_those_of_every_machine():
    """The digest was computed on x86-64; other machines must give it too."""
    rng = np.random.default_rng(7)
    model = embedded_model("6e0f5f766c426279")
    rows = [rng.integers(0, 1024, (8, 700)), np.tile(np.arange(8)[:, None], (1, 100))]
    data = model.encode(rows)
    assert hashlib.sha256(b"".join(data)).hexdigest()[:16] == "5fa352324d2f94b1"
    assert all(np.array_equal(a, b) for a, b in zip(rows, model.decode(data, [700, 100]), strict=True))


def default_tokens(lengths: list[int], seed: int = 0) -> SpeechTokens:
    codes = torch.randint(1024, (len(lengths), 8, max(lengths, default=0)), generator=torch.manual_seed(seed))
    frames = torch.tensor(lengths, dtype=torch.int64)
    for row, length in zip(codes, lengths, strict=True):
        row[:, length:] = 0
    return SpeechTokens(codes, frames, (frames * 320 - 5).clamp_min(0), 16_000, 320, 1024, "6e0f5f766c426279")


@pytest.mark.parametrize("lengths", [[], [0], [1], [3, 0, 600], [20, 30]])
def test_tokens_files_may_be_compressed(lengths, tmp_path):
    tokens = default_tokens(lengths)
    tokens.save(tmp_path / "a.tokens", compress=True)
    assert SpeechTokens.load(tmp_path / "a.tokens").to_bytes() == tokens.to_bytes()
    assert tokens.to_bytes(compress=True) == (tmp_path / "a.tokens").read_bytes()


@given(st.integers(0, 100_000))
@settings(max_examples=40)
def test_damaged_compressed_files_raise(seed):
    rng = np.random.default_rng(seed)
    data = bytearray(default_tokens([40, 0, 25]).to_bytes(compress=True))
    data[int(rng.integers(0, len(data)))] ^= 1 << int(rng.integers(0, 8))
    try:
        loaded = SpeechTokens.from_bytes(bytes(data))
    except TokensError:
        return
    assert loaded.to_bytes() == default_tokens([40, 0, 25]).to_bytes()  # a bit of the padding of the header


def test_speech_in_a_compressed_file_takes_less_room():
    tokens = speechtok.load().encode(*speechtok.read_audio(ASSETS / "sample.flac"))
    data = tokens.to_bytes(compress=True)
    assert SpeechTokens.from_bytes(data).to_bytes() == tokens.to_bytes()
    assert len(data) < 0.92 * tokens.codes.numel() * 10 / 8 + 700


def test_compression_needs_a_model(tiny):
    tokens = tiny.encode(torch.zeros(1_000), 16_000)
    with pytest.raises(TokensError, match="without compress"):
        tokens.to_bytes(compress=True)


@given(st.integers(1, 16), st.integers(0, 100), st.integers(0, 1000))
def test_packed_codes_come_back(bits, count, seed):
    codes = np.random.default_rng(seed).integers(0, 1 << bits, count)
    assert np.array_equal(unpack(pack(codes, bits), bits, count), codes)
    assert len(pack(codes, bits)) == -(-bits * count // 8)


def test_a_corpus_is_written_again_with_a_model_of_its_own(recordings, tmp_path, build_corpus):
    build_corpus(recordings, tmp_path / "lists")
    recode(tmp_path / "lists", tmp_path / "coded", "entropy", train_model=True)
    recode(tmp_path / "coded", tmp_path / "again", "uint16")
    one, two, three = (Corpus(tmp_path / name) for name in ("lists", "coded", "again"))
    assert two.format.encoding == "entropy"
    for a, b, c in zip(one, two, three, strict=True):
        assert a.tokens.to_bytes() == b.tokens.to_bytes() == c.tokens.to_bytes()
    file = "data/shard-00000.parquet"
    assert (
        SpeechTokens.from_parquet(tmp_path / "coded" / file, slice(2, 5)).to_bytes()
        == SpeechTokens.from_parquet(tmp_path / "lists" / file, slice(2, 5)).to_bytes()
    )
