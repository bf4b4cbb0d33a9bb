"""``native.c`` under sanitizers, which notice every access outside of memory and whatever C leaves undefined.

``python -m tests.fuzz._sanitizers --count N`` runs N random models in C (``native_models.c``), the tests of compiled
code, and the fuzzer of compiled code under tokenizers. ``make test-native`` calls it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from speechtok.nn.native import library

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "speechtok" / "nn" / "native" / "native.c"
MODELS = Path(__file__).with_name("native_models.c")
LIBRARY = "SPEECHTOK_TEST_LIBRARY"
"""Environment variable: the library to test instead of the installed one."""
FLAGS = ["-std=c11", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
SANITIZERS = ["-O1", "-g", "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"]
TESTS = "tests/nn/test_native.py", "tests/voice/test_model.py"
"""Tests of compiled code."""
TOKENIZERS_PER_MODEL = 0.02
"""A tokenizer in Python takes some fifty times as long as a model in C."""


def find_compiler() -> str | None:
    """The C compiler: ``$CC``, or ``gcc`` or ``clang``."""
    found = (shutil.which(name) for name in (os.environ.get("CC"), "gcc", "clang") if name)
    return next((path for path in found if path), None)


def compile_models(compiler: str, folder: Path, flags: list[str]) -> Path:
    """Compile the fuzzer in C."""
    program = folder / "native_models"
    subprocess.run([compiler, *FLAGS, *flags, MODELS, "-o", program, "-lm"], check=True)
    return program


def compile_library(compiler: str, folder: Path) -> Path:
    """Compile the library under sanitizers."""
    path = folder / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    flags = [*FLAGS, *SANITIZERS, "-DSPEECHTOK_VOICE", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, SOURCE, "-o", path, "-lm"], check=True)
    return path


def environment(compiler: str, path: Path) -> dict[str, str]:
    """Environment of a Python that tests the library.

    The sanitizers must be loaded before anything else, and the library of C++ exceptions with them: they wrap it.
    """
    kind = "libasan.so" if "clang" not in Path(compiler).name else "libclang_rt.asan-x86_64.so"
    runtimes = [
        subprocess.run([compiler, f"-print-file-name={name}"], check=True, capture_output=True, text=True).stdout
        for name in (kind, "libstdc++.so.6")
    ]
    return os.environ | {
        LIBRARY: str(path),
        "LD_PRELOAD": " ".join("".join(runtimes).split()),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",  # Python does not free everything at its end
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "OMP_NUM_THREADS": "1",
    }


def use_library() -> None:
    """Load the library that the environment names, if it names one. Also a plugin of pytest, as it does this."""
    path = os.environ.get(LIBRARY)
    if path is not None:
        library.__file__ = str(Path(path).with_name("library.py"))
        library.load_library.cache_clear()
        assert library.load_library() is not None, f"{path} cannot be loaded"


def main() -> int:
    """Run everything; the exit status is not 0 if a sanitizer reported something, or a test failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz._sanitizers", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="random models")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes of the fuzzer in Python")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "sanitized", help="where to compile")
    arguments = parser.parse_args()
    compiler = find_compiler()
    if compiler is None:
        print("no C compiler: expected gcc or clang, with their sanitizers")
        return 1
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    program = compile_models(compiler, folder, SANITIZERS)
    tokenizers = max(20, round(arguments.count * TOKENIZERS_PER_MODEL))
    python = environment(compiler, compile_library(compiler, folder))
    module = [sys.executable, "-m"]
    fuzz = ["tests.fuzz", "native", "--count", tokenizers, "--seed", arguments.seed, "--jobs", arguments.jobs]
    for command, variables in (
        ([program, arguments.count, arguments.seed], os.environ),
        ([*module, "pytest", "-p", "tests.fuzz._sanitizers", *TESTS], python),
        ([*module, *fuzz], python),
    ):
        print("$", *command, flush=True)
        subprocess.run([str(word) for word in command], check=True, cwd=ROOT, env=variables)
    return 0


use_library()

if __name__ == "__main__":
    sys.exit(main())
