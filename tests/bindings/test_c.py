"""libspeechtok: the C library gives the codes, the audio and the files of the package, and survives hostile files."""

import ctypes
import dataclasses
import os
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import speechtok
from bindings.conformance.__main__ import RANDOM
from bindings.conformance.golden import KNOWN_ANSWER, audio_hashes
from bindings.conformance.stress import Generator, fnv1a, stress_input
from speechtok.fingerprints import DEFAULT_TOKENIZER
from speechtok.nn.convnext import hann_window
from speechtok.resampling import resample

ROOT = Path(speechtok.__file__).parents[1]
SOURCE, SUITE = ROOT / "bindings" / "c", ROOT / "bindings" / "conformance"
SOURCES = sorted((SOURCE / "src").glob("*.c"))
INCLUDES = [f"-I{SOURCE}/include", f"-I{SOURCE}/src", f"-I{ROOT}/speechtok/nn/native"]
EXACT = ["-std=c11", "-ffp-contract=off", "-fno-fast-math"]
FOLDERS = {"random": SUITE / "random", DEFAULT_TOKENIZER: ROOT / "speechtok" / "assets" / DEFAULT_TOKENIZER}
SHORT = 16_000
"""Samples of the parts of the stress input that are compared with Python."""

CC = os.environ.get("CC") or shutil.which("cc")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CC is None or os.name == "nt", reason="there is no C compiler named cc"),
]


def run(*command: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)


def compile_program(source: Path, target: Path, *flags: str, compiler: str | None = CC) -> subprocess.CompletedProcess:
    return run(compiler, *INCLUDES, *flags, *SOURCES, source, "-lm", "-o", target)


@pytest.fixture(scope="module")
def conformance(tmp_path_factory) -> Path:
    """The program that compares the library with a golden file."""
    target = tmp_path_factory.mktemp("c") / "conformance"
    built = compile_program(SOURCE / "tests" / "conformance.c", target, *EXACT, "-O3", "-Wall", "-Wextra", "-Werror")
    assert built.returncode == 0, built.stderr
    return target


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> ctypes.CDLL:
    """The library, with its internal functions."""
    target = tmp_path_factory.mktemp("c") / "libspeechtok.so"
    built = run(CC, *INCLUDES, *EXACT, "-O2", "-fPIC", "-shared", *SOURCES, "-lm", "-o", target)
    assert built.returncode == 0, built.stderr
    loaded = ctypes.CDLL(str(target))
    loaded.speechtok_error_message.restype = ctypes.c_char_p
    loaded.speechtok_resampled_length.restype = ctypes.c_int64
    loaded.speechtok_resampler_next.restype = ctypes.c_int64
    return loaded


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return stress_input()


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)


def check(library: ctypes.CDLL, status: int) -> None:
    assert status == 0, library.speechtok_error_message()


def load(library: ctypes.CDLL, folder: Path) -> ctypes.c_void_p:
    handle = ctypes.c_void_p()
    check(library, library.speechtok_load(str(folder).encode(), ctypes.byref(handle)))
    return handle


@pytest.mark.parametrize("name", list(FOLDERS))
def test_every_kernel_and_chunk_gives_the_golden_file(conformance, name):
    chunks = 1, 320, 333, 1_280, 4_000
    result = run(conformance, FOLDERS[name], SUITE / f"{name}.txt", *chunks[name != "random" :])
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count(" 0 of ") >= 8
    assert "kernel 0, whole" in result.stdout


def test_a_stream_of_rows_gives_what_each_row_gives_alone(library, samples):
    tokenizer, handle, stream = speechtok.load(FOLDERS["random"]), load(library, FOLDERS["random"]), ctypes.c_void_p()
    rows, generator = 3, np.random.default_rng(0)
    signals = [samples[320_000 + 9_000 * row :][: 5_000 + 777 * row] for row in range(rows)]
    for sample_rate in (16_000, 44_100):
        check(
            library,
            library.speechtok_stream_open(
                handle, ctypes.c_int64(rows), ctypes.c_int64(2), ctypes.c_int64(sample_rate), ctypes.byref(stream)
            ),
        )
        codes, audio = [[] for _ in signals], [[] for _ in signals]
        places = np.zeros(rows, dtype=np.int64)

        def collect(part, frames, codes=codes, audio=audio):
            decoded, count = np.zeros((rows, 30 * 160), dtype=np.float32), np.zeros(rows, dtype=np.int64)
            check(
                library,
                library.speechtok_stream_decode(
                    stream,
                    pointer(part),
                    ctypes.c_int64(2),
                    ctypes.c_int64(30),
                    pointer(frames),
                    pointer(decoded),
                    ctypes.c_int64(30 * 160),
                    pointer(count),
                ),
            )
            for row in range(rows):
                codes[row].append(part[row, :, : frames[row]])
                audio[row].append(decoded[row, : count[row]])

        while any(places[row] < len(signal) for row, signal in enumerate(signals)):
            chunk = np.full((rows, 900), np.nan, dtype=np.float32)  # what is past a length does not count
            lengths = np.asarray(
                [min(generator.integers(0, 900), len(s) - p) for s, p in zip(signals, places, strict=True)]
            )
            for row, signal in enumerate(signals):
                chunk[row, : lengths[row]] = signal[places[row] : places[row] + lengths[row]]
            part, frames = np.zeros((rows, 2, 30), dtype=np.int64), np.zeros(rows, dtype=np.int64)
            check(
                library,
                library.speechtok_stream_encode(
                    stream,
                    pointer(chunk),
                    ctypes.c_int64(900),
                    pointer(lengths),
                    pointer(part),
                    ctypes.c_int64(30),
                    pointer(frames),
                ),
            )
            places += lengths
            collect(part, frames)
        part, frames = np.zeros((rows, 2, 30), dtype=np.int64), np.zeros(rows, dtype=np.int64)
        check(library, library.speechtok_stream_flush(stream, None, pointer(part), ctypes.c_int64(30), pointer(frames)))
        collect(part, frames)
        decoded, count = np.zeros((rows, 160), dtype=np.float32), np.zeros(rows, dtype=np.int64)
        check(
            library, library.speechtok_stream_drain(stream, None, pointer(decoded), ctypes.c_int64(160), pointer(count))
        )
        assert library.speechtok_stream_flush(stream, None, pointer(part), ctypes.c_int64(30), pointer(frames)) == 6
        assert b"reset it first" in library.speechtok_error_message()
        for row, signal in enumerate(signals):
            tokens = tokenizer.encode(signal, sample_rate, num_codebooks=2)
            assert np.array_equal(np.concatenate(codes[row], 1), tokens.codes[0].numpy())
            heard = np.concatenate([*audio[row], decoded[row, : count[row]]])[: int(tokens.num_samples)]
            assert audio_hashes(heard, 160) == audio_hashes(tokenizer.decode(tokens)[0].numpy(), 160)
        library.speechtok_stream_close(stream)
    library.speechtok_free(handle)


@pytest.mark.parametrize(
    "rates", [(44_100, 16_000), (48_000, 16_000), (8_000, 16_000), (16_000, 44_100), (16_000, 16_001)]
)
def test_the_resampler_gives_the_samples_of_the_package(library, samples, rates):
    signal = np.concatenate([samples[2_000:8_000], samples[290_000:300_000]])
    expected = resample(torch.from_numpy(signal)[None], *rates)[0].numpy()
    from_rate, to_rate = map(ctypes.c_int64, rates)
    count = library.speechtok_resampled_length(ctypes.c_int64(len(signal)), from_rate, to_rate)
    assert count == len(expected)
    whole, parts, handle = np.zeros(count, dtype=np.float32), [], ctypes.c_void_p()
    check(
        library,
        library.speechtok_resample(pointer(signal), ctypes.c_int64(len(signal)), from_rate, to_rate, pointer(whole)),
    )
    assert np.array_equal(whole, expected)
    check(library, library.speechtok_resampler_open(from_rate, to_rate, ctypes.byref(handle)))
    for chunk in [*np.split(signal, [1, 1, 700, 5_000]), None]:
        n = ctypes.c_int64(-1 if chunk is None else len(chunk))
        part = np.zeros(library.speechtok_resampler_next(handle, n), dtype=np.float32)
        if chunk is None:
            check(library, library.speechtok_resampler_flush(handle, pointer(part)))
        else:
            check(library, library.speechtok_resampler_push(handle, pointer(chunk), n, pointer(part)))
        parts.append(part)
    library.speechtok_resampler_close(handle)
    assert np.array_equal(np.concatenate(parts), expected)


@pytest.mark.parametrize("fingerprint", ["6e0f5f766c426279", "18d457da55bebdd2", 'a "quoted" \\ one', "é\t\x7f𝄞"])
def test_tokens_files_are_those_of_the_package_to_the_byte(library, tmp_path, fingerprint):
    codes = torch.randint(0, 1_024, (2, 3, 7), generator=torch.Generator().manual_seed(0))
    num_samples = torch.tensor([7 * 320, 3 * 320 + 1])
    tokens = speechtok.SpeechTokens(codes, -(-num_samples // 320), num_samples, 16_000, 320, 1_024, fingerprint)
    path, copy, handle = tmp_path / "in.tokens", tmp_path / "out.tokens", ctypes.c_void_p()
    tokens.save(path)
    check(library, library.speechtok_tokens_read(str(path).encode(), ctypes.byref(handle)))
    check(library, library.speechtok_tokens_write(handle, str(copy).encode()))
    library.speechtok_tokens_free(handle)
    assert copy.read_bytes() == path.read_bytes()
    assert torch.equal(speechtok.SpeechTokens.load(copy).codes, codes)


def test_a_changed_bit_of_a_tokens_file_is_noticed(library):
    tokens = speechtok.SpeechTokens(
        torch.ones(1, 2, 4, dtype=torch.int64), torch.tensor([4]), torch.tensor([1_280]), 16_000, 320, 8, "x"
    )
    data, handle = bytearray(tokens.to_bytes()), ctypes.c_void_p()
    data[-2] ^= 2
    status = library.speechtok_tokens_parse(bytes(data), ctypes.c_size_t(len(data)), ctypes.byref(handle))
    assert (status, handle.value) == (3, None)
    assert b"digest" in library.speechtok_error_message()


def test_the_window_is_that_of_the_package(library):
    for length in [*range(4, 700, 4), 1_024, 2_000]:
        window = np.zeros(length, dtype=np.float32)
        library.st_hann_window(ctypes.c_int64(length), pointer(window))
        assert np.array_equal(window, hann_window(length, torch.device("cpu")).numpy())


def test_the_model_of_the_self_test_gives_its_answer_in_python(samples):
    tokenizer = speechtok.ConvNeXtTokenizer(dataclasses.replace(RANDOM))
    generator, tensors = Generator(5), tokenizer.named_tensors()
    for name in sorted(tensors):
        values = np.asarray([generator.signed() for _ in range(tensors[name].numel())])
        values = values >> 12 if name == "decoder.noise.filters" else values / (4 << 23)
        tensors[name] = torch.from_numpy(values.astype(np.float32)).view(tensors[name].shape)
    tokenizer.load_named_tensors(tensors)
    start = KNOWN_ANSWER[0] + 8_000
    tokens = tokenizer.encode(samples[start : start + 4_000], 16_000)
    hashes = audio_hashes(tokenizer.decode(tokens)[0].numpy(), 160)
    codes = fnv1a(tokens.codes[0].numpy().T.astype("<u2").tobytes())
    audio = fnv1a(np.asarray(hashes, dtype="<u4").tobytes())
    assert f"0x{codes:08x}, 0x{audio:08x}" in (SOURCE / "src" / "self_test.c").read_text()


@pytest.mark.parametrize("damage", ["missing", "truncated", "weight", "config", "seanet"])
def test_a_damaged_tokenizer_is_refused_with_a_reason(library, tmp_path, damage):
    folder, handle = tmp_path / "tokenizer", ctypes.c_void_p()
    shutil.copytree(FOLDERS["random"], folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    data, text = bytearray(weights.read_bytes()), config.read_text()
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(data[:-1])
    elif damage == "weight":
        data[-100] ^= 1
        weights.write_bytes(data)
    elif damage == "config":
        config.write_text(text.replace('"codebook_size": 40', '"codebook_size": 4000000000'))
    else:
        config.write_text(text.replace("convnext", "seanet"))
    reasons = {"missing": b"cannot be read", "truncated": b"damaged", "weight": b"one of them was changed"}
    assert library.speechtok_load(str(folder).encode(), ctypes.byref(handle)) in (3, 4, 5)
    assert handle.value is None
    reasons |= {"config": b"out of range", "seanet": b"not convnext"}
    assert reasons[damage] in library.speechtok_error_message()


def test_samples_that_are_not_finite_are_refused(library):
    handle, codes = load(library, FOLDERS["random"]), np.zeros((3, 10), dtype=np.int64)
    for value in (np.nan, np.inf, 3.0):
        signal = np.full(1_600, value, dtype=np.float32)
        assert (
            library.speechtok_encode(handle, pointer(signal), ctypes.c_int64(1_600), ctypes.c_int64(0), pointer(codes))
            == 2
        )
    library.speechtok_free(handle)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the flags are those of x86")
@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["-mfpmath=387"], "excess precision"),
        (["-ffast-math"], "-ffast-math"),
        (["-U__BYTE_ORDER__", "-D__BYTE_ORDER__=__ORDER_BIG_ENDIAN__"], "little-endian"),
    ],
)
def test_arithmetic_that_would_give_other_codes_does_not_compile(flags, reason, tmp_path):
    built = run(CC, *INCLUDES, "-std=c11", *flags, "-c", SOURCE / "src" / "error.c", "-o", tmp_path / "error.o")
    assert built.returncode != 0
    assert reason in built.stderr


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the flags are those of x86")
def test_a_build_that_contracts_products_refuses_to_load(tmp_path):
    if "fma" not in Path("/proc/cpuinfo").read_text().split():
        pytest.skip("this processor has no fused multiply-add")
    program = tmp_path / "conformance"
    flags = "-std=c11", "-O2", "-mfma", "-ffp-contract=fast"
    assert compile_program(SOURCE / "tests" / "conformance.c", program, *flags).returncode == 0
    result = run(program, FOLDERS["random"], SUITE / "random.txt")
    assert result.returncode == 2
    assert "computes other" in result.stderr


def test_hostile_files_and_calls_are_harmless_under_sanitizers(tmp_path):
    program, tokens = tmp_path / "fuzz", tmp_path / "in.tokens"
    sanitizers = "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"
    built = compile_program(SOURCE / "tests" / "fuzz.c", program, *EXACT, *sanitizers)
    if "sanitize" in built.stderr or "asan" in built.stderr:
        pytest.skip("this compiler has no sanitizers")
    assert built.returncode == 0, built.stderr
    tokenizer = speechtok.load(FOLDERS["random"])
    tokenizer.encode(torch.zeros(2, 1_000), 16_000, lengths=[1_000, 400]).save(tokens)
    result = run(program, FOLDERS["random"], tokens, os.environ.get("SPEECHTOK_FUZZ_COUNT", "3000"), "1")
    assert result.returncode == 0, result.stderr[-3_000:]
    assert "no findings" in result.stdout


@pytest.mark.parametrize("target", ["aarch64-linux-gnu", "arm-linux-gnueabihf"])
def test_arm_gives_the_golden_file(target, tmp_path):
    compiler = shutil.which(f"{target}-gcc")
    emulator = shutil.which("qemu-aarch64" if target.startswith("aarch64") else "qemu-arm")
    if compiler is None or emulator is None:
        pytest.skip(f"not compared on {target}: {target}-gcc and qemu-user are not installed")
    program = tmp_path / "conformance"
    flags = *EXACT, "-O2", "-static"
    built = compile_program(SOURCE / "tests" / "conformance.c", program, *flags, compiler=compiler)
    assert built.returncode == 0, built.stderr
    # "max" has dot products, which the other processor lacks
    processors = ["max", "cortex-a53"] if target.startswith("aarch64") else ["max"]
    for processor in processors:
        result = run(emulator, "-cpu", processor, program, FOLDERS["random"], SUITE / "random.txt", 1_280)
        assert result.returncode == 0, result.stdout + result.stderr
        assert ("kernel 1, whole" in result.stdout) is (processor == "max" and len(processors) > 1)


def test_clang_gives_the_golden_file(tmp_path):
    compiler = shutil.which("clang") or shutil.which("clang-14")
    if compiler is None:
        pytest.skip("clang is not installed")
    program = tmp_path / "conformance"
    flags = *EXACT, "-O2", "-Wall", "-Wextra", "-Werror"
    built = compile_program(SOURCE / "tests" / "conformance.c", program, *flags, compiler=compiler)
    assert built.returncode == 0, built.stderr
    result = run(program, FOLDERS["random"], SUITE / "random.txt", 333)
    assert result.returncode == 0, result.stdout + result.stderr


def test_cmake_installs_what_a_program_needs(tmp_path):
    if shutil.which("cmake") is None or shutil.which("pkg-config") is None:
        pytest.skip("cmake and pkg-config are not installed")
    build, prefix = tmp_path / "build", tmp_path / "prefix"
    for step in (
        [
            "-S",
            SOURCE,
            "-B",
            build,
            "-DBUILD_SHARED_LIBS=ON",
            f"-DCMAKE_INSTALL_PREFIX={prefix}",
            "-DBUILD_TESTING=OFF",
        ],
        ["--build", build],
        ["--install", build],
    ):
        result = run("cmake", *step)
        assert result.returncode == 0, result.stdout + result.stderr
    (package,) = prefix.rglob("speechtok.pc")
    environment = os.environ | {"PKG_CONFIG_PATH": str(package.parent), "LD_LIBRARY_PATH": str(package.parents[1])}
    flags = run("pkg-config", "--cflags", "--libs", "speechtok", env=environment).stdout.split()
    example = SOURCE / "examples" / "roundtrip.c"
    assert run(CC, example, *flags, "-o", tmp_path / "roundtrip", env=environment).returncode == 0
    sample, rate = speechtok.read_audio(ROOT / "speechtok" / "assets" / "sample.flac")
    sample = sample[:SHORT]
    (tmp_path / "in.f32").write_bytes(sample.numpy().tobytes())
    files = tmp_path / "in.f32", rate, tmp_path / "out.tokens", tmp_path / "out.f32"
    result = run(tmp_path / "roundtrip", FOLDERS["random"], *files, env=environment)
    assert result.returncode == 0, result.stderr
    tokenizer = speechtok.load(FOLDERS["random"])
    tokens = tokenizer.encode(sample, rate)
    assert (tmp_path / "out.tokens").read_bytes() == tokens.to_bytes()
    heard = np.frombuffer((tmp_path / "out.f32").read_bytes(), dtype=np.float32)
    assert audio_hashes(heard, 160) == audio_hashes(tokenizer.decode(tokens)[0].numpy(), 160)
