import subprocess

import pytest

from speechtok.nn.native import library
from tests.fuzz._sanitizers import compile_models, find_compiler
from tests.fuzz.native import run

pytestmark = pytest.mark.skipif(library.load_library() is None, reason="installed without its compiled library")


def test_compiled_code_equals_the_modules_or_refuses_whatever_is_swapped():
    report = run(12)
    assert not report.faults, str(report)
    assert report.used > report.inputs / 2


@pytest.mark.slow
@pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler")
def test_the_library_equals_itself_in_pieces_and_refuses_sizes_that_do_not_fit(tmp_path):
    program = compile_models(find_compiler(), tmp_path, ["-O1"])
    output = subprocess.run([program, "1000", "1"], capture_output=True, text=True)
    assert output.returncode == 0, output.stdout + output.stderr
    assert output.stdout.startswith("1000 models on ")
