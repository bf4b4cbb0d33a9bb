"""What an installation compiles gives the same bits, whatever the compiler and its flags, and harms nothing else."""

import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from speechtok.nn import native
from speechtok.nn.native import Native

setuptools = pytest.importorskip("setuptools")
ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_compiled_steps_of_any_compiler_and_flags(compiler, tiny, tmp_path, monkeypatch):
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} here")
    build = [sys.executable, "setup.py", "-q", "build_ext", f"--build-lib={tmp_path}", f"--build-temp={tmp_path}/temp"]
    subprocess.run(build, cwd=ROOT, env=os.environ | {"CC": compiler, "CFLAGS": "-Ofast -ffast-math"}, check=True)
    (path,) = (tmp_path / "speechtok" / "nn").iterdir()
    # a library that was linked with fast mathematics takes very small numbers from its process
    twice = "import ctypes, sys; ctypes.CDLL(sys.argv[1]); print(2 * float(sys.argv[2]))"
    run = subprocess.run([sys.executable, "-c", twice, path, "1e-320"], check=True, capture_output=True, text=True)
    assert run.stdout == "2e-320\n"
    monkeypatch.setattr(native, "__file__", str(path.with_name("native.py")))
    library = native.library.__wrapped__()
    assert library is not None
    monkeypatch.setattr(native, "library", lambda: library)
    assert Native()(tiny.encoder, tiny.quantizer, tiny.decoder) is not None


@pytest.mark.parametrize("free_threaded", [False, True])
def test_a_python_without_a_lock_gets_a_wheel_of_its_own(free_threaded, monkeypatch):
    arguments, variable = {}, sysconfig.get_config_var
    monkeypatch.setattr(setuptools, "setup", lambda **values: arguments.update(values))
    monkeypatch.setattr(
        sysconfig, "get_config_var", lambda name: free_threaded if name == "Py_GIL_DISABLED" else variable(name)
    )
    runpy.run_path(str(ROOT / "setup.py"))
    (extension,) = arguments["ext_modules"]
    assert extension.py_limited_api is not free_threaded
    assert arguments["options"] == ({} if free_threaded else {"bdist_wheel": {"py_limited_api": "cp310"}})
    assert "py_limited_api" not in (ROOT / "setup.cfg").read_text()  # where it would hold for every Python
