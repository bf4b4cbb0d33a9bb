import hashlib
import itertools
import json
import math
import os

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechtok import SpeechTokens, read_audio, write_audio
from speechtok.errors import InputError, MissingFileError, OutputError, TokensError

HOP = 320


def make(codes=None, num_samples=None, **facts) -> SpeechTokens:
    """Two utterances of 3 and 2 frames, unless told otherwise."""
    codes = torch.arange(24).reshape(2, 4, 3) % 32 if codes is None else codes
    num_samples = torch.tensor([3 * HOP, 2 * HOP - 1]) if num_samples is None else num_samples
    facts = {
        "lengths": -(-num_samples // HOP) if isinstance(num_samples, torch.Tensor) else num_samples,
        "sample_rate": 16_000,
        "hop_length": HOP,
        "codebook_size": 32,
        "fingerprint": "0123456789abcdef",
        **facts,
    }
    return SpeechTokens(codes, num_samples=num_samples, **facts)


def assert_equal(a: SpeechTokens, b: SpeechTokens) -> None:
    for name in ("codes", "lengths", "num_samples"):
        assert torch.equal(getattr(a, name), getattr(b, name))
        assert getattr(a, name).dtype == torch.int64
    for name in ("sample_rate", "hop_length", "codebook_size", "fingerprint"):
        assert getattr(a, name) == getattr(b, name)


@st.composite
def any_tokens(draw) -> SpeechTokens:
    batch, books, hop = draw(st.integers(0, 3)), draw(st.integers(1, 8)), draw(st.integers(1, 640))
    size = draw(st.integers(1, 32_768))
    samples = draw(st.lists(st.integers(0, 12 * hop), min_size=batch, max_size=batch))
    num_samples = torch.tensor(samples, dtype=torch.int64)
    lengths = -(-num_samples // hop)
    frames = int(lengths.max()) if batch else draw(st.integers(0, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    codes = torch.from_numpy(rng.integers(0, size, (batch, books, frames)))
    fingerprint = draw(st.text(st.characters(codec="utf-8"), max_size=16))
    return SpeechTokens(codes, lengths, num_samples, draw(st.integers(1, 192_000)), hop, size, fingerprint)


# --- what tokens are


def test_semantic_codes_are_the_first_codebook_and_acoustic_codes_the_others():
    tokens = make()
    assert torch.equal(tokens.semantic, tokens.codes[:, 0])
    assert torch.equal(tokens.acoustic, tokens.codes[:, 1:])
    assert make(codes=torch.zeros(2, 1, 3, dtype=torch.int64)).acoustic.shape == (2, 0, 3)


def test_rates_follow_from_the_facts():
    tokens = make()
    assert tokens.num_codebooks == 4
    assert tokens.frame_rate == 50.0
    assert tokens.bitrate == pytest.approx(50 * 4 * math.log2(32))


def test_an_utterance_of_a_batch_has_no_padding_and_all_its_facts():
    tokens = make()
    assert len(tokens) == 2
    for index in (1, -1, np.int64(1)):
        one = tokens[index]
        assert torch.equal(one.codes, tokens.codes[1:, :, :2])
        assert one.lengths.tolist() == [2]
        assert one.num_samples.tolist() == [2 * HOP - 1]
        assert one.fingerprint == tokens.fingerprint
    assert [int(one.lengths) for one in tokens] == [3, 2]


@settings(max_examples=60)
@given(any_tokens(), st.data())
def test_pieces_of_an_utterance_are_its_frames_and_joined_they_are_it_again(tokens, data):
    frames = tokens.codes.shape[2]
    inner = data.draw(st.lists(st.integers(0, frames), max_size=4))
    cuts = [0, *sorted(inner), frames]
    pieces = [tokens.crop(start, stop) for start, stop in itertools.pairwise(cuts)]
    assert torch.equal(torch.cat([piece.codes for piece in pieces], 2), tokens.codes)
    for name in ("lengths", "num_samples"):
        assert torch.equal(torch.stack([getattr(piece, name) for piece in pieces]).sum(0), getattr(tokens, name))
    for one in tokens:
        last = one.codes.shape[2]
        assert_equal(
            one, SpeechTokens.join([one.crop(min(a, last), min(b, last)) for a, b in itertools.pairwise(cuts)])
        )


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 1), (0, 4)])
def test_a_piece_that_is_not_there_is_refused(start, stop):
    with pytest.raises(TokensError, match=f"start is {start} and stop is {stop}; expected 0 <= start <= stop <= 3"):
        make().crop(start, stop)


def test_pieces_that_are_not_of_one_utterance_are_refused():
    one = make()[0]
    for pieces, message in (
        ([], "pieces is empty"),
        ([one, make()], "piece 1 has 2 utterances"),
        ([one, make(fingerprint="another")[0]], "piece 1 has fingerprint 'another', and the first has '0123"),
        ([make()[1], one], "piece 1 begins after [0-9]+ samples, within a frame of"),
    ):
        with pytest.raises(TokensError, match=message):
            SpeechTokens.join(pieces)


@pytest.mark.parametrize("index", [2, -3])
def test_an_utterance_beyond_the_batch_is_an_index_error(index):
    with pytest.raises(IndexError, match=f"utterance {index} of 2"):
        make()[index]


def test_tokens_move_between_devices_whole():
    assert_equal(make().to("cpu"), make())
    assert make().to(torch.device("cpu")).codes.device.type == "cpu"


INT = torch.int64
BAD = {
    "codes of a list": ({"codes": [[[0, 0, 0]]] * 2}, "codes is a list; expected an int64 tensor"),
    "codes of an array": ({"codes": np.zeros((2, 4, 3), np.int64)}, "codes is a ndarray; expected an int64 tensor"),
    "float codes": ({"codes": torch.zeros(2, 4, 3)}, "dtype torch.float32; expected torch.int64"),
    "int32 codes": ({"codes": torch.zeros(2, 4, 3, dtype=torch.int32)}, "dtype torch.int32; expected torch.int64"),
    "bool codes": ({"codes": torch.zeros(2, 4, 3, dtype=torch.bool)}, "dtype torch.bool; expected torch.int64"),
    "codes of two axes": ({"codes": torch.zeros(4, 3, dtype=INT)}, r"shape \(4, 3\); expected \(B, Q, T\)"),
    "no codebook": ({"codes": torch.zeros(2, 0, 3, dtype=INT)}, r"shape \(2, 0, 3\).*at least one codebook"),
    "code too large": ({"codes": torch.full((2, 4, 3), 32)}, "values from 32 to 32; expected 0 to 31"),
    "negative code": ({"codes": torch.arange(24).reshape(2, 4, 3) - 1}, "values from -1 to 22; expected 0 to 31"),
    "list of lengths": ({"lengths": [3, 2]}, r"lengths is \[3, 2\]; expected an int64 tensor of shape \(2,\)"),
    "int32 lengths": ({"lengths": torch.tensor([3, 2], dtype=torch.int32)}, r"lengths is .*expected an int64"),
    "one length": ({"lengths": torch.tensor([3])}, r"lengths is .*expected an int64 tensor of shape \(2,\)"),
    "length over": ({"lengths": torch.tensor([3, 4])}, r"lengths is \[3, 4\]; expected values from 0 to 3"),
    "negative length": ({"lengths": torch.tensor([3, -1])}, r"lengths is \[3, -1\]; expected values from 0 to 3"),
    "samples over": ({"num_samples": torch.tensor([3 * HOP + 1, 9]), "lengths": torch.tensor([3, 1])}, "961.*0 to 960"),
    "disagreement": ({"lengths": torch.tensor([3, 1])}, r"\[3, 1\] do not fit num_samples \[960, 639\]; expected"),
    "no rate": ({"sample_rate": 0}, "sample_rate is 0; expected a whole number from 1"),
    "rate as text": ({"sample_rate": "16000"}, "sample_rate is '16000'; expected a whole number"),
    "no hop": ({"hop_length": 0}, "hop_length is 0; expected a whole number from 1 to 1048576"),
    "fractional hop": ({"hop_length": 320.0}, r"hop_length is 320\.0; expected a whole number"),
    "size as text": ({"codebook_size": "32"}, "codebook_size is '32'; expected a whole number"),
    "size over int16": ({"codebook_size": 32_769}, "codebook_size is 32769; expected a whole number from 1 to 32768"),
    "fingerprint of a number": ({"fingerprint": 5}, "fingerprint is 5; expected that of a tokenizer"),
    "no fingerprint": ({"fingerprint": None}, "fingerprint is None; expected that of a tokenizer"),
}


@pytest.mark.parametrize("name", BAD)
def test_parts_that_do_not_fit_are_refused_with_their_value_and_what_was_expected(name):
    values, message = BAD[name]
    with pytest.raises(TokensError, match=f"(?s){message}"):
        make(**values)


# --- files


@settings(max_examples=60)
@given(tokens=any_tokens())
def test_saved_tokens_are_the_same_tokens(tmp_path_factory, tokens):
    path = tmp_path_factory.getbasetemp() / "round trip"
    tokens.save(path)
    assert_equal(SpeechTokens.load(path), tokens)


def test_encoded_tokens_survive_a_file_and_decode_to_the_same_audio(tmp_path, tiny, speech):
    tokens = tiny.encode(np.stack([speech(0.3), speech(0.3, seed=1)]), 16_000, lengths=[4_800, 3_000])
    tokens.save(str(tmp_path / "a.tokens"))
    loaded = SpeechTokens.load(str(tmp_path / "a.tokens"))
    assert_equal(loaded, tokens)
    assert torch.equal(tiny.decode(loaded), tiny.decode(tokens))


def test_tokens_of_strided_codes_are_saved_right(tmp_path):
    codes = (torch.arange(24) % 32).reshape(3, 4, 2).permute(2, 1, 0)
    make(codes=codes).save(tmp_path / "a")
    assert torch.equal(SpeechTokens.load(tmp_path / "a").codes, codes)


def test_a_saved_code_takes_two_bytes(tmp_path):
    for frames in (0, 1_000):
        samples = torch.tensor([frames * HOP])
        make(torch.zeros(1, 8, frames, dtype=INT), samples).save(tmp_path / str(frames))
    grown = (tmp_path / "1000").stat().st_size - (tmp_path / "0").stat().st_size
    assert 16_000 <= grown < 16_064


@pytest.mark.parametrize("name", ["missing", "no folder/a", "x" * 300])
def test_missing_tokens_file_is_a_missing_file_error(tmp_path, name):
    with pytest.raises(MissingFileError, match="does not exist"):
        SpeechTokens.load(tmp_path / name)


def test_a_folder_is_no_tokens_file(tmp_path):
    with pytest.raises(TokensError, match="cannot be read as tokens"):
        SpeechTokens.load(tmp_path)


@pytest.mark.parametrize("data", [b"", b"words", b"\0" * 100, b"RIFF\x24\0\0\0WAVEfmt ", b"\xff" * 64])
def test_what_is_no_safetensors_file_is_refused(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(TokensError, match=r"cannot be read as tokens.*make it again"):
        SpeechTokens.load(tmp_path / "a")


def test_every_truncation_of_a_tokens_file_is_refused(tmp_path):
    make().save(tmp_path / "a")
    data = (tmp_path / "a").read_bytes()
    for size in range(len(data)):
        (tmp_path / "cut").write_bytes(data[:size])
        with pytest.raises(TokensError):
            SpeechTokens.load(tmp_path / "cut")


def test_every_flipped_bit_of_a_tokens_file_is_refused(tmp_path):
    make(torch.full((1, 1, 2), 5), torch.tensor([2 * HOP])).save(tmp_path / "a")
    data = bytearray((tmp_path / "a").read_bytes())
    for position in range(len(data)):
        data[position] ^= 1 << position % 8
        (tmp_path / "flipped").write_bytes(data)
        with pytest.raises(TokensError):
            SpeechTokens.load(tmp_path / "flipped")
        data[position] ^= 1 << position % 8


def parts(path) -> tuple[dict, dict]:
    with safetensors.safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def forge(path, tensors: dict, metadata: dict | None) -> None:
    path.write_bytes(safetensors.torch.save(tensors, metadata=metadata))


def test_another_safetensors_file_is_refused_with_its_format(tmp_path, tiny):
    tiny.save(tmp_path / "model")
    with pytest.raises(TokensError, match=r"format None; expected a file of SpeechTokens.save"):
        SpeechTokens.load(tmp_path / "model" / "model.safetensors")
    forge(tmp_path / "a", {"codes": torch.zeros(3)}, {"format": "pt"})
    with pytest.raises(TokensError, match="format 'pt'; expected"):
        SpeechTokens.load(tmp_path / "a")


@pytest.mark.parametrize("lost", ["codes", "lengths", "num_samples"])
def test_a_tokens_file_without_one_of_its_tensors_is_refused(tmp_path, lost):
    make().save(tmp_path / "a")
    tensors, metadata = parts(tmp_path / "a")
    del tensors[lost]
    forge(tmp_path / "a", tensors, metadata)
    with pytest.raises(TokensError):
        SpeechTokens.load(tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("codes", torch.zeros(2, 4, 3)),
        ("codes", torch.zeros(2, 4, 3, dtype=torch.bfloat16)),
        ("codes", torch.zeros(2, 12, dtype=torch.int16)),
        ("codes", torch.full((2, 4, 3), 32, dtype=torch.int16)),
        ("codes", torch.full((2, 4, 3), -1, dtype=torch.int16)),
        ("lengths", torch.tensor([3, 3])),
        ("num_samples", torch.tensor([3.0, 2.0])),
    ],
)
def test_a_tokens_file_with_a_changed_tensor_is_refused(tmp_path, name, value):
    make().save(tmp_path / "a")
    tensors, metadata = parts(tmp_path / "a")
    forge(tmp_path / "a", {**tensors, name: value}, metadata)
    with pytest.raises(TokensError):
        SpeechTokens.load(tmp_path / "a")


@pytest.mark.parametrize(
    "facts",
    [
        "",
        "not json",
        "[]",
        "null",
        "{}",
        '{"sample_rate": 16000}',
        json.dumps({"sample_rate": 16_000, "hop_length": 320, "codebook_size": 32, "fingerprint": "other"}),
        json.dumps({"sample_rate": 8_000, "hop_length": 320, "codebook_size": 32, "fingerprint": "0123456789abcdef"}),
    ],
)
def test_a_tokens_file_with_changed_facts_is_refused(tmp_path, facts):
    make().save(tmp_path / "a")
    tensors, metadata = parts(tmp_path / "a")
    forge(tmp_path / "a", tensors, {**metadata, "tokens": facts})
    with pytest.raises(TokensError):
        SpeechTokens.load(tmp_path / "a")


def test_a_place_that_cannot_be_written_is_an_output_error_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("old")
    for name in ("missing/a", "file/a", "."):
        with pytest.raises(OutputError, match="cannot write"):
            make().save(tmp_path / name)
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


def test_a_slice_of_a_batch_is_a_batch_without_frames_that_all_its_rows_lack():
    tokens = make()
    assert_equal(tokens[1:], tokens[1])
    assert_equal(tokens[-2:], tokens)
    assert tokens[::-1].lengths.tolist() == [2, 3]
    assert torch.equal(tokens[::-1].codes, tokens.codes.flip(0))
    assert len(tokens[2:]) == 0


@pytest.mark.parametrize(
    ("index", "what"), [(slice("a", 2), "start"), (slice(0, 0.5), "stop"), (slice(0, 2, 0), "step")]
)
def test_what_is_no_slice_is_named(index, what):
    with pytest.raises(TokensError, match=f"{what} is .*; expected a whole number"):
        make()[index]


@pytest.mark.parametrize("index", ["a", 0.5, None, True])
def test_what_is_no_whole_number_is_named(index):
    with pytest.raises(TokensError, match=r"index is .*; expected a whole number"):
        make()[index]
    for frames in ((0, index), (index, 2)):
        with pytest.raises(TokensError, match=r"(start|stop) is .*; expected a whole number"):
            make().crop(*frames)


def test_pieces_may_come_one_by_one_and_have_to_be_tokens():
    tokens = make()[0]
    assert_equal(SpeechTokens.join(tokens.crop(t, t + 1) for t in range(3)), tokens)
    with pytest.raises(TokensError, match="piece 1 is a str; expected SpeechTokens"):
        SpeechTokens.join([tokens, "x"])
    with pytest.raises(TokensError, match="pieces is a NoneType; expected a list of SpeechTokens"):
        SpeechTokens.join(None)


def test_pieces_may_be_the_rows_of_a_batch():
    assert_equal(SpeechTokens.join(make()[1:]), make()[1])


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "meta", "hpu"])
def test_a_device_that_is_not_here_or_holds_no_values_is_named(device):
    with pytest.raises(TokensError, match=r"; expected (one that is here|a dense tensor)"):
        make().to(device)


def test_codes_that_are_no_dense_tensor_are_refused(tiny):
    codes = torch.zeros(1, 4, 3, dtype=torch.int64)
    for some in (codes.to_sparse(), codes.to("meta")):
        with pytest.raises(TokensError, match="expected a dense tensor"):
            tiny.decode(some)


@pytest.mark.parametrize("path", [None, 0, ["a"], b"a", ""])
def test_what_is_no_path_is_named(path, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where an empty name would lead
    uses = [SpeechTokens.load, make().save, tiny.save, lambda path: write_audio(path, [0.0], 16_000)]
    if not isinstance(path, bytes):  # which are the contents of a file to read_audio
        uses.append(read_audio)
    for use in uses:
        with pytest.raises(InputError, match=r"path is .*; expected the name of a file or folder"):
            use(path)
    assert not list(tmp_path.iterdir())


def test_loaded_tokens_do_not_lie_in_their_file(tmp_path):
    path = tmp_path / "a.tokens"
    make().save(path)
    loaded = SpeechTokens.load(path)
    path.write_bytes(b"")  # in place: reading what was there would end the process
    assert_equal(loaded, make())


# --- hostile files


def header_of(data: bytes) -> tuple[dict, bytes]:
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def write_header(path, header: dict, data: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def sign(header: dict, data: bytes) -> None:
    """Write the digest of docs/formats.md."""
    digest = hashlib.sha256(json.dumps(json.loads(header["__metadata__"]["tokens"]), sort_keys=True).encode())
    for name, kind in (("codes", torch.int16), ("lengths", torch.int64), ("num_samples", torch.int64)):
        begin, end = header[name]["data_offsets"]
        digest.update(f"{name} {kind} {tuple(header[name]['shape'])}".encode() + data[begin:end])
    header["__metadata__"]["digest"] = digest.hexdigest()[:16]


@pytest.mark.parametrize("shape", [(1, 10**8, 0), (0, 8, 2**29), (0, 2**40, 2**40), (0, 2**62, 1)])
def test_a_small_file_cannot_claim_a_large_shape(tmp_path, shape):
    make(torch.zeros(shape[0], 1, 0, dtype=torch.int64), torch.zeros(shape[0], dtype=torch.int64)).save(tmp_path / "a")
    header, data = header_of((tmp_path / "a").read_bytes())
    header["codes"]["shape"] = shape
    sign(header, data)
    write_header(tmp_path / "a", header, data)
    with pytest.raises(TokensError, match=r"cannot be read as tokens.*(shape|overflow)"):
        SpeechTokens.load(tmp_path / "a")


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ("[" * 100_000, "levels deep"),
        ('{"sample_rate": ' + "9" * 5_000 + "}", "too many digits"),
        ('{"fingerprint": "\\ud800"}', "surrogate"),
        ("[]", "expected the fields"),
    ],
    ids=["deep", "digits", "surrogate", "list"],
)
def test_facts_that_break_readers_of_json_are_refused_with_the_reason(tmp_path, facts, reason):
    make().save(tmp_path / "a")
    header, data = header_of((tmp_path / "a").read_bytes())
    header["__metadata__"]["tokens"] = facts
    write_header(tmp_path / "a", header, data)
    with pytest.raises(TokensError, match=reason):
        SpeechTokens.load(tmp_path / "a")


@pytest.mark.parametrize(("name", "value"), [("hop_length", 2**64), ("sample_rate", 10**30), ("codebook_size", 10**30)])
def test_facts_beyond_what_a_number_holds_are_refused_by_name(tmp_path, name, value):
    make().save(tmp_path / "a")
    header, data = header_of((tmp_path / "a").read_bytes())
    facts = json.loads(header["__metadata__"]["tokens"])
    header["__metadata__"]["tokens"] = json.dumps({**facts, name: value})
    sign(header, data)
    write_header(tmp_path / "a", header, data)
    with pytest.raises(TokensError, match=f"{name} is 1"):
        SpeechTokens.load(tmp_path / "a")


def test_a_tensor_that_does_not_belong_in_a_tokens_file_is_named(tmp_path):
    make().save(tmp_path / "a")
    tensors, metadata = parts(tmp_path / "a")
    forge(tmp_path / "a", {**tensors, "more": torch.zeros(1)}, metadata)
    with pytest.raises(TokensError, match="holds the tensor 'more'"):
        SpeechTokens.load(tmp_path / "a")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.tokens")
    with pytest.raises(TokensError, match="it is not a file"):
        SpeechTokens.load(tmp_path / "a.tokens")


# --- reproducible bytes


def test_the_same_tokens_are_always_the_same_bytes():
    # the library orders metadata at random, anew for each file
    assert len({make().to_bytes() for _ in range(20)}) == 1


def test_the_bytes_of_a_tokens_file_are_those_of_the_format(tmp_path):
    n = torch.tensor([2])
    SpeechTokens(torch.tensor([[[1, 2], [3, 4]]]), n, n * 320, 16_000, 320, 32, "ab").save(tmp_path / "a")
    data = (tmp_path / "a").read_bytes()
    size = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + size].decode()
    assert size % 8 == 0
    assert text.rstrip() == (
        '{"__metadata__":{"digest":"' + header_of(data)[0]["__metadata__"]["digest"] + '","format":"speechtok-tokens-1"'
        ',"tokens":"{\\"sample_rate\\": 16000, \\"hop_length\\": 320, \\"codebook_size\\": 32, '
        '\\"fingerprint\\": \\"ab\\"}"},'
        '"lengths":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},'
        '"num_samples":{"dtype":"I64","shape":[1],"data_offsets":[8,16]},'
        '"codes":{"dtype":"I16","shape":[1,2,2],"data_offsets":[16,24]}}'
    )
    assert data[8 + size :] == b"\2" + b"\0" * 7 + b"\x80\2" + b"\0" * 6 + b"\1\0\2\0\3\0\4\0"


@settings(max_examples=20)
@given(tokens=any_tokens())
def test_the_library_of_the_format_reads_tokens_files_and_writes_ones_that_load(tmp_path_factory, tokens):
    path = tmp_path_factory.mktemp("tokens") / "a"
    tokens.save(path)
    tensors, metadata = parts(path)
    assert torch.equal(tensors["codes"].long(), tokens.codes)
    forge(path, tensors, metadata)  # as versions before 0.3 wrote files
    assert_equal(SpeechTokens.load(path), tokens)


def test_the_model_that_generated_tokens_is_told_by_all_that_is_made_of_them():
    tokens = make()
    generated = tokens.marked("a voice model")
    assert generated[0].generated_by == generated.crop(0, 1).generated_by == "a voice model"
    assert SpeechTokens.from_bytes(generated.to_bytes()).generated_by == "a voice model"
    recorded, made = tokens[0].crop(0, 1), generated[0].crop(0, 1)
    assert SpeechTokens.join([recorded, made, made]).generated_by == "a voice model"
    assert SpeechTokens.join([made, made.marked("another")]).generated_by == "a voice model, another"
    assert generated.marked("").to_bytes() == tokens.to_bytes()


@pytest.mark.parametrize("name", [None, 3, "x" * 2_000])
def test_a_bad_name_of_a_model_is_an_error(name):
    with pytest.raises(TokensError, match="generated_by"):
        make().marked(name)
