import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from speechtok import read_audio, write_audio
from speechtok.audio import MAX_PEAK, as_waveform, check_sample_rate
from speechtok.errors import AudioError, MissingFileError, OutputError

RATE = 16_000


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples).astype(np.float32)


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# --- what counts as a waveform


BAD_WAVEFORMS = {
    "empty": ([], r"\(0,\).*empty; expected at least one sample"),
    "no rows": (np.zeros((0, 5), np.float32), r"\(0, 5\).*empty; expected at least one sample"),
    "no samples in a row": (np.zeros((5, 0), np.float32), r"\(5, 0\).*empty; expected at least one sample"),
    "a scalar": (torch.tensor(0.5), r"shape \(\); expected \(S,\) or \(B, S\)"),
    "batch of mono": (
        torch.zeros(3, 1, 50),
        r"\(3, 1, 50\); expected .* or \(B, S\): remove the channel with .squeeze\(1\)",
    ),
    "batch of stereo": (torch.zeros(1, 2, 50), r"\(1, 2, 50\); expected .*: average the channels with .mean\(1\)"),
    "batch of mono, channels last": (torch.zeros(3, 50, 1), r"expected .*: remove the channel with .squeeze\(2\)"),
    "batch of stereo, channels last": (torch.zeros(3, 50, 2), r"expected .*: average the channels with .mean\(2\)"),
    "three long axes": (torch.zeros(9, 9, 9), r"\(9, 9, 9\); expected .*: a row for each utterance, with channels"),
    "channels last": (np.zeros((2_000, 2), np.float32), r"\(2000, 2\).*\(samples, channels\); expected .*.mean\(1\)"),
    "mono, channels last": (np.zeros((2_000, 1), np.float32), r"\(2000, 1\).*channels\); expected .*.squeeze\(1\)"),
    "floats of another scale": (np.full(50, 23.0), r"peak of 23; expected samples in \[-1, 1\]"),
    "more than 6 dB too loud": (np.full(50, -2.01), r"peak of 2.01; expected samples in \[-1, 1\]"),
    "NaN": ([[0.0, 0.0], [0.0, float("nan")]], r"nan at row 1, sample 1; expected finite"),
    "infinite": (np.array([0.0, 0.0, -np.inf]), r"-inf at row 0, sample 2; expected finite"),
    "infinite in float16": (torch.tensor([0.0, torch.inf]).half(), r"inf at row 0, sample 1; expected finite"),
    "PCM as floats": (np.full(50, 20_000.0), r"peak of 2e\+04; expected samples in \[-1, 1\]"),
    "too large for float32": (np.full(50, 1e300), r"peak of 1e\+300; expected samples in \[-1, 1\]"),
    "int64": (np.zeros(50, np.int64), r"torch.int64; expected floating point in \[-1, 1\], int16"),
    "a list of integers": ([1, 2, 3], r"torch.int64; expected floating point in \[-1, 1\], int16"),
    "int8": (torch.zeros(50, dtype=torch.int8), r"torch.int8; expected floating point"),
    "uint16": (np.zeros(50, np.uint16), r"torch.uint16; expected floating point"),
    "bool": (np.zeros(50, bool), r"torch.bool; expected floating point"),
    "complex": (torch.zeros(50, dtype=torch.complex64), r"torch.complex64; expected floating point"),
    "float8": (torch.zeros(50).to(torch.float8_e4m3fn), r"torch.float8_e4m3fn; expected floating point"),
    "sparse": (torch.eye(9).to_sparse(), r"sparse.*expected a dense"),
    "None": (None, r"NoneType.*expected a tensor or array"),
    "text": ("in.wav", r"str .*expected a tensor or array"),
    "bytes": (b"\0\0\0\0", r"bytes .*expected a tensor or array"),
    "ragged": ([[0.1, 0.2], [0.3]], r"list .*expected a tensor or array"),
    "a mapping": ({"array": [0.1]}, r"dict .*expected a tensor or array"),
    "a generator": ((x for x in (0.1, 0.2)), r"generator .*expected a tensor or array"),
    "structured": (np.zeros(5, [("left", "f4")]), r"ndarray .*expected a tensor or array"),
}


@pytest.mark.parametrize("name", BAD_WAVEFORMS)
def test_bad_waveform_is_refused_with_its_value_and_what_was_expected(name):
    waveform, message = BAD_WAVEFORMS[name]
    with pytest.raises(AudioError, match=f"(?s){message}"):
        as_waveform(waveform)


SAME = {
    "list": lambda x: x.tolist(),
    "tuple": lambda x: tuple(x.tolist()),
    "list of numpy scalars": lambda x: list(x),
    "list of tensors": lambda x: list(torch.from_numpy(x)),
    "float64": lambda x: x.astype(np.float64),
    "big-endian": lambda x: x.astype(">f4"),
    "big-endian float64": lambda x: x.astype(">f8"),
    "non-contiguous": lambda x: np.stack([x, -x], 1)[:, 0],
    "negative stride": lambda x: x[::-1].copy()[::-1],
    "Fortran order": lambda x: np.asfortranarray(x[None]),
    "read-only": lambda x: np.frombuffer(x.tobytes(), np.float32),
    "tensor": torch.from_numpy,
    "tensor of shape (1, S)": lambda x: torch.from_numpy(x)[None],
    "non-contiguous tensor": lambda x: torch.from_numpy(np.stack([x, -x], 1))[:, 0],
    "requires grad": lambda x: torch.from_numpy(x.copy()).requires_grad_(),
    "grad history": lambda x: torch.from_numpy(x.copy()).requires_grad_() * 1,
    "inference tensor": lambda x: torch.inference_mode()(lambda: torch.from_numpy(x.copy()) * 1)(),
    "memory-mapped": lambda x: np.asarray(memoryview(x)),
    "numpy subclass": lambda x: x.view(np.recarray),
}


@pytest.mark.parametrize("name", SAME)
def test_any_container_of_the_same_samples_is_the_same_waveform(name):
    x = noise(50)
    y = as_waveform(SAME[name](x))
    assert y.shape == (1, 50)
    assert y.dtype == torch.float32
    assert not y.requires_grad
    assert np.array_equal(y[0].numpy(), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_samples_keep_their_values(dtype):
    x = torch.from_numpy(noise(50)).to(dtype)
    assert torch.equal(as_waveform(x)[0], x.float())


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    ("dtype", "samples", "expected"),
    [
        ("i2", [-32_768, -16_384, 0, 1, 32_767], [-1.0, -0.5, 0.0, 2**-15, 1 - 2**-15]),
        ("i4", [-(2**31), -(2**30), 0, 2**16, 2**30], [-1.0, -0.5, 0.0, 2**-15, 0.5]),
        ("u1", [0, 64, 128, 192, 255], [-1.0, -0.5, 0.0, 0.5, 127 / 128]),
    ],
)
def test_integer_pcm_is_scaled_by_its_full_scale(dtype, samples, expected, byteorder):
    assert as_waveform(np.array(samples, byteorder + dtype))[0].tolist() == expected


@given(hnp.arrays(np.int16, st.integers(1, 40)))
def test_no_pcm_leaves_the_range(samples):
    assert as_waveform(samples).abs().max() <= 1.0


@given(hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-MAX_PEAK, MAX_PEAK, width=32)))
def test_samples_beyond_full_scale_are_clipped_and_no_others_touched(samples):
    y = as_waveform(samples)[0].numpy()
    assert np.array_equal(y, samples.clip(-1, 1))


def test_a_callers_array_is_never_written_to():
    x = np.array([0.5, 1.5, -2.0], np.float32)
    for given_ in (x, torch.from_numpy(x)):
        as_waveform(given_)
        assert x.tolist() == [0.5, 1.5, -2.0]


def test_two_rows_that_are_channels_of_one_recording_give_a_warning(speech):
    left = torch.from_numpy(speech(1.0))
    for right in (left, -left, 0.3 * left.roll(4) + 0.001 * torch.from_numpy(noise(16_000))):
        stereo = torch.stack([left, right])
        with pytest.warns(
            UserWarning, match=r"2 rows with a correlation of -?\d\.\d\d, .* Average channels with .mean\(0\)"
        ):
            assert torch.equal(as_waveform(stereo), stereo)  # two utterances all the same
        with pytest.warns(UserWarning, match="2 rows"):
            as_waveform((stereo.double() * 32_767).short())


def test_utterances_are_not_taken_for_channels(speech):
    left = torch.from_numpy(speech(1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(1, 9):
            as_waveform(torch.stack([left, torch.from_numpy(speech(1.0, seed=seed))]))
        as_waveform(torch.stack([left, torch.zeros_like(left)]))
        same = torch.stack([left, left])
        as_waveform(same, lengths=[16_000, 16_000])
        as_waveform(same, rows=2)
        as_waveform(same[:, :1_000])
        as_waveform(torch.stack([left, left, left]))


def test_stereo_in_a_stream_of_one_row_is_refused():
    with pytest.raises(
        AudioError, match=r"\(2, 320\); expected \(1, S\) or \(S,\).*; average the channels .*.mean\(0\)"
    ):
        as_waveform(torch.zeros(2, 320), rows=1)


def test_a_short_batch_is_not_taken_for_channels():
    assert as_waveform(np.zeros((8, 8), np.float32)).shape == (8, 8)
    assert as_waveform(np.zeros((2, 20_000), np.float32)).shape == (2, 20_000)


@pytest.mark.parametrize(
    "sample_rate",
    [None, 0, -1, 999, 10**9, 1e9, float("nan"), float("inf"), True, np.True_, 16_000.5, "16000", [16_000], 16_000j],
)
def test_bad_sample_rate_is_refused_with_its_value_and_what_was_expected(sample_rate):
    with pytest.raises(AudioError) as caught:
        check_sample_rate(sample_rate)
    assert str(caught.value).startswith(f"sample_rate is {sample_rate!r}; expected whole hertz from 1000 to 768000")


@pytest.mark.parametrize("sample_rate", [16_000, 16_000.0, np.int32(16_000), np.uint16(16_000), np.float64(16_000)])
def test_whole_sample_rate_of_any_type_is_taken(sample_rate):
    checked = check_sample_rate(sample_rate)
    assert checked == 16_000
    assert type(checked) is int


# --- files


@pytest.mark.parametrize("suffix", [".wav", ".WAV", ".flac", ".aiff", ".aif", ".au", ".caf", ".w64"])
def test_sixteen_bit_samples_survive_a_file_exactly(tmp_path, suffix):
    pcm = np.arange(-32_768, 32_768, dtype=np.int16)
    path = tmp_path / f"a{suffix}"
    write_audio(path, pcm, 44_100)
    waveform, sample_rate = read_audio(path)
    assert sample_rate == 44_100
    assert waveform.dtype == torch.float32
    assert np.array_equal(waveform.numpy(), pcm / np.float32(32_768))


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_written_file_is_within_half_a_step_without_bias(tmp_path, suffix):
    x = np.linspace(-1, 1 - 2**-15, 10_001).astype(np.float32)
    write_audio(tmp_path / f"a{suffix}", x, RATE)
    error = (read_audio(tmp_path / f"a{suffix}")[0].numpy() - x) * 32_768
    assert np.abs(error).max() <= 0.51
    assert abs(error.mean()) < 0.01


@pytest.mark.parametrize("suffix", [".ogg", ".opus", ".mp3"])
def test_lossy_files_keep_length_rate_and_most_of_the_sound(tmp_path, suffix, speech):
    x = speech(1.0)
    write_audio(tmp_path / f"a{suffix}", x, RATE)
    waveform, sample_rate = read_audio(tmp_path / f"a{suffix}")
    assert sample_rate == RATE
    assert waveform.shape == (RATE,)
    assert np.corrcoef(waveform.numpy(), x)[0, 1] > 0.9


@pytest.mark.slow
def test_long_ogg_is_written_and_does_not_crash_the_process(tmp_path):
    write_audio(tmp_path / "a.ogg", np.zeros(8_000_000, np.int16), 192_000)
    assert soundfile.info(tmp_path / "a.ogg").frames == 8_000_000


def test_channels_are_averaged(tmp_path):
    left, right = noise(500, 0), noise(500, 1)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), RATE, subtype="FLOAT")
    waveform, _ = read_audio(tmp_path / "a.wav")
    assert np.allclose(waveform.numpy(), (left + right) / 2, atol=1e-7)


def test_a_path_may_be_text_or_a_path(tmp_path):
    write_audio(str(tmp_path / "a.wav"), noise(100), RATE)
    assert torch.equal(read_audio(str(tmp_path / "a.wav"))[0], read_audio(tmp_path / "a.wav")[0])


@pytest.mark.parametrize("name", ["missing.wav", "no folder/a.wav", "file/below.wav", "x" * 300 + ".wav", "a\0b.wav"])
def test_missing_file_is_a_value_error_and_a_file_not_found_error(tmp_path, name):
    put(tmp_path / "file", b"")
    with pytest.raises(MissingFileError, match="does not exist") as caught:
        read_audio(tmp_path / name)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, FileNotFoundError)


def test_a_folder_is_not_audio(tmp_path):
    with pytest.raises(AudioError, match="is a folder; expected an audio file"):
        read_audio(tmp_path)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("text.wav", b"these are words, not samples " * 20),
        ("empty.wav", b""),
        ("empty.flac", b""),
        ("headerless.raw", b"\0" * 1_000),
        ("zeros.mp3", b"\0" * 1_000),
        ("archive.wav", b"PK\x03\x04" + b"\0" * 500),
    ],
)
def test_what_is_no_audio_is_refused_by_name(tmp_path, name, data):
    with pytest.raises(AudioError, match=f"{name} .*expected"):
        read_audio(put(tmp_path / name, data))


def test_a_file_without_samples_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), RATE)
    with pytest.raises(AudioError, match=r"a\.wav holds no samples; expected at least one"):
        read_audio(tmp_path / "a.wav")


def encoded(suffix: str, tmp_path: Path) -> bytes:
    path = tmp_path / f"whole{suffix}"
    write_audio(path, noise(24_000), RATE)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("suffix", "kept"),
    [
        (suffix, kept)
        for suffix in (".wav", ".flac", ".mp3", ".aiff", ".au", ".caf", ".w64")
        for kept in (0.2, 0.6, 0.97)
    ]
    + [(suffix, kept) for suffix in (".ogg", ".opus") for kept in (0.2, 0.6, 0.95, 0.999)],
)
def test_a_truncated_file_is_refused(tmp_path, suffix, kept):
    data = encoded(suffix, tmp_path)
    with pytest.raises(AudioError, match=r"truncated|expected an undamaged audio file"):
        read_audio(put(tmp_path / f"cut{suffix}", data[: int(len(data) * kept)]))


@pytest.mark.parametrize("announced", [0xFFFF_FFFF, 0x7FFF_FFFF, 0x7FFF_F000])
def test_a_wav_from_a_pipe_is_whole_although_its_header_names_no_length(tmp_path, announced):
    data = bytearray(encoded(".wav", tmp_path))
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", announced)
    assert read_audio(put(tmp_path / "piped.wav", data))[0].shape == (24_000,)


def test_chunks_after_the_samples_are_no_truncation(tmp_path):
    data = encoded(".wav", tmp_path) + b"LIST" + struct.pack("<I", 10) + b"INFOabcdef"
    assert read_audio(put(tmp_path / "a.wav", data))[0].shape == (24_000,)


@pytest.mark.parametrize(
    ("sample", "message"), [(np.nan, "not finite"), (np.inf, "not finite"), (2e4, r"peak of 2e\+04")]
)
def test_a_float_file_with_unusable_samples_is_refused(tmp_path, sample, message):
    samples = noise(100)
    samples[50] = sample
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=message):
        read_audio(tmp_path / "a.wav")


def test_a_float_file_slightly_over_full_scale_is_clipped(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([0.5, 1.5, -1.2], np.float32), RATE, subtype="FLOAT")
    assert read_audio(tmp_path / "a.wav")[0].tolist() == [0.5, 1.0, -1.0]


# --- writing


@pytest.mark.parametrize("name", ["a", "a.txt", "a.raw", "a.sd2", ".wav", "a.wav.gz"])
def test_a_suffix_that_names_no_format_is_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(AudioError, match=r"expected one of \.wav, \.flac"):
        write_audio(tmp_path / name, noise(100), RATE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "rate"), [("a.opus", 44_100), ("a.mp3", 192_000), ("a.mp3", 1_000)])
def test_a_rate_that_the_format_cannot_hold_is_refused(tmp_path, name, rate):
    with pytest.raises(AudioError, match=f"{name} cannot hold {rate} Hz.*choose another"):
        write_audio(tmp_path / name, noise(100), rate)
    assert list(tmp_path.iterdir()) == []


def test_several_rows_are_not_one_file(tmp_path):
    with pytest.raises(AudioError, match=r"\(2, 100\); expected one row"):
        write_audio(tmp_path / "a.wav", torch.zeros(2, 100), RATE)


@pytest.mark.parametrize(("waveform", "rate"), [([], RATE), ([float("nan")], RATE), (noise(10), 0), (noise(10), None)])
def test_bad_audio_is_refused_before_anything_is_written(tmp_path, waveform, rate):
    put(tmp_path / "a.wav", b"old")
    with pytest.raises(AudioError):
        write_audio(tmp_path / "a.wav", waveform, rate)
    assert (tmp_path / "a.wav").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["missing/a.wav", "file/a.wav", "folder.wav"])
def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path, name):
    put(tmp_path / "file", b"old")
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*choose a writable place"):
        write_audio(tmp_path / name, noise(100), RATE)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder.wav"]


def test_a_written_wav_is_readable_by_others(tmp_path):
    write_audio(tmp_path / "a.wav", noise(100), RATE)
    data = io.BytesIO((tmp_path / "a.wav").read_bytes())
    assert soundfile.info(data).subtype == "PCM_16"
    assert soundfile.info(tmp_path / "a.wav").format == "WAV"
