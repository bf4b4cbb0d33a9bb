"""Compiling, wheels, and installed copies of the package."""

import configparser
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from speechtok.nn.native import NativeCache, NativeDecoder, NativeEncoder, library

setuptools = pytest.importorskip("setuptools")
ROOT = Path(__file__).parents[1]
SOURCES = ["LICENSE", "README.md", "pyproject.toml", "setup.cfg", "setup.py", "speechtok"]


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_every_compiler_gives_the_same_bits_whatever_its_flags(compiler, tiny, tmp_path, monkeypatch):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    build = [sys.executable, "setup.py", "-q", "build_ext", f"--build-lib={tmp_path}", f"--build-temp={tmp_path}/temp"]
    subprocess.run(build, cwd=ROOT, env=os.environ | {"CC": compiler, "CFLAGS": "-Ofast -ffast-math"}, check=True)
    (path,) = (tmp_path / "speechtok" / "nn" / "native").iterdir()
    # a library linked with -ffast-math disables subnormal numbers in its process
    twice = "import ctypes, sys; ctypes.CDLL(sys.argv[1]); print(2 * float(sys.argv[2]))"
    run = subprocess.run([sys.executable, "-c", twice, path, "1e-320"], check=True, capture_output=True, text=True)
    assert run.stdout == "2e-320\n"
    monkeypatch.setattr(library, "__file__", str(path.with_name("library.py")))
    compiled = library.load_library.__wrapped__()
    assert compiled is not None
    monkeypatch.setattr(library, "load_library", lambda: compiled)
    assert NativeCache(NativeEncoder)(tiny.encoder, tiny.quantizer) is not None
    assert NativeCache(NativeDecoder)(tiny.quantizer, tiny.decoder) is not None


@pytest.mark.parametrize("free_threaded", [False, True])
def test_only_a_free_threaded_python_needs_a_wheel_of_its_own(free_threaded, monkeypatch):
    arguments, variable = {}, sysconfig.get_config_var
    monkeypatch.setattr(setuptools, "setup", lambda **values: arguments.update(values))
    monkeypatch.setattr(
        sysconfig, "get_config_var", lambda name: free_threaded if name == "Py_GIL_DISABLED" else variable(name)
    )
    runpy.run_path(str(ROOT / "setup.py"))
    (extension,) = arguments["ext_modules"]
    assert extension.py_limited_api is not free_threaded
    assert arguments["options"] == ({} if free_threaded else {"bdist_wheel": {"py_limited_api": "cp310"}})
    assert "py_limited_api" not in (ROOT / "setup.cfg").read_text()  # it would apply to every Python


def test_fairseq2_which_needs_one_version_of_pytorch_has_an_extra_of_its_own():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = dict(setup["options.extras_require"])
    assert [name for name, libraries in extras.items() if "fairseq2" in libraries] == ["fairseq2"]
    assert "==" not in extras["train"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """The sources as a fresh clone has them: nothing compiled."""
    folder = tmp_path_factory.mktemp("clone")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


@pytest.fixture(scope="module")
def installed(clone, tmp_path_factory) -> Path:
    """The Python of a new virtual environment that has a wheel of speechtok, and the libraries of this one."""
    pytest.importorskip("setuptools", minversion="77")
    wheels, folder = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("venv")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    build = ["wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, clone]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = wheels.iterdir()
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    subprocess.run([*pip, "--python", python, "install", "--no-index", "--no-deps", wheel], check=True)
    Path(site, "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return python


def run_python(python: Path, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run([python, *words], cwd=cwd, env=environment, capture_output=True, text=True, check=True)


WHERE = "from speechtok.nn.native import library as x; print(x.load_library() is not None, x.__file__)"


@pytest.mark.slow
def test_a_wheel_brings_compiled_code_assets_and_a_command_that_makes_a_round_trip(installed, tmp_path):
    compiled, path = run_python(installed, "-W", "error", "-c", WHERE, cwd=tmp_path).stdout.split()
    assert compiled == "True"
    assert Path(path).is_relative_to(installed.parents[1])
    recording = ROOT / "speechtok" / "assets" / "sample.flac"
    run_python(installed, installed.with_name("speechtok"), "roundtrip", recording, "out.wav", cwd=tmp_path)
    assert (tmp_path / "out.wav").stat().st_size > 10_000


@pytest.mark.slow
def test_a_source_tree_that_hides_an_installed_copy_warns_once_and_says_what_to_do(installed, clone):
    run = run_python(installed, "-c", WHERE, cwd=clone)
    compiled, path = run.stdout.split()
    assert compiled == "False"
    assert Path(path).is_relative_to(clone)
    assert run.stderr.count("RuntimeWarning: ") == 1
    assert str(clone / "speechtok") in run.stderr
    assert str(installed.parents[1]) in run.stderr
    assert "pip install -e ." in run.stderr


@pytest.mark.slow
def test_a_source_tree_without_an_installed_copy_does_not_warn(clone):
    # the libraries of this environment, without its editable installation: -S runs no .pth file
    libraries = [path for path in sys.path if path and not Path(path, "speechtok").exists()]
    run = run_python(Path(sys.executable), "-S", "-c", f"import sys; sys.path += {libraries}; {WHERE}", cwd=clone)
    assert run.stdout.split()[0] == "False"
    assert run.stderr == ""
