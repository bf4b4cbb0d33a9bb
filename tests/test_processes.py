"""Every model of processes and threads: the same codes, and never a hang. Each test is a program with a time limit."""

import multiprocessing
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

LIMIT = 300
"""Seconds; a program takes about five."""

HAS_FORK = "fork" in multiprocessing.get_all_start_methods()

SETUP = """
import atexit, multiprocessing, os, signal, sys, threading
import torch
from tests.conftest import make_speech, make_tokenizer

torch.set_num_threads(2)
audio = torch.from_numpy(make_speech(3.0))


def codes_of(tokenizer):
    return tokenizer.encode(audio, 16_000).codes


class Dataset(torch.utils.data.Dataset):
    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return codes_of(self.tokenizer)[0]


def check_workers(method, count):
    with multiprocessing.get_context(method).Pool(count) as pool:
        for codes in pool.map(codes_of, [tokenizer] * count):
            assert torch.equal(codes, expected)
    loader = torch.utils.data.DataLoader(Dataset(tokenizer), num_workers=count, multiprocessing_context=method)
    for codes in loader:
        assert torch.equal(codes, expected)


if __name__ == "__main__":
    tokenizer = make_tokenizer()
    expected = codes_of(tokenizer)
    torch.ones(1000, 1000).mul_(2).sum()  # PyTorch has started threads of its own
"""


def run(program: str, tmp_path: Path) -> None:
    """Run a program after :data:`SETUP`; it must end in time, with status 0 and no message of an error."""
    path = tmp_path / "program.py"  # a file, which spawned processes import
    path.write_text(SETUP + textwrap.indent(textwrap.dedent(program), "    "))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, path], timeout=LIMIT, stderr=subprocess.PIPE, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.skipif(not HAS_FORK, reason="this system has no fork")
def test_forked_processes_give_the_codes_of_their_parent_even_if_its_threads_encode_meanwhile(tmp_path):
    program = """
        check_workers("fork", 2)
        ended = False
        tokens = tokenizer.encode(audio, 16_000)
        waveform = tokenizer.decode(tokens)

        def encode_on():
            while not ended:
                codes_of(tokenizer)

        threads = [threading.Thread(target=encode_on) for _ in range(2)]
        for thread in threads:
            thread.start()
        statuses = []
        for _ in range(8):
            child = os.fork()
            if not child:
                signal.alarm(60)  # a child that hangs dies
                same = torch.equal(codes_of(tokenizer), expected) and torch.equal(tokenizer.decode(tokens), waveform)
                os._exit(0 if same and torch.get_num_threads() == 1 else 1)
            statuses.append(os.waitpid(child, 0)[1])
        ended = True
        assert statuses == [0] * 8, statuses
    """
    run(program, tmp_path)


@pytest.mark.skipif(not HAS_FORK, reason="this system has no fork")
def test_a_process_that_was_forked_before_its_parent_computed_keeps_its_threads(tmp_path):
    code = """
        import os, torch
        from tests.conftest import make_tokenizer
        torch.set_num_threads(2)
        child = os.fork()
        if child:
            raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        make_tokenizer().encode(torch.zeros(16_000), 16_000)
        os._exit(torch.get_num_threads() != 2)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    assert subprocess.run(command, timeout=LIMIT, check=False, cwd=Path(__file__).parents[1]).returncode == 0


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_that_start_anew_give_the_codes_of_their_parent(tmp_path, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    run(f"check_workers({method!r}, 1)", tmp_path)


def test_threads_that_outlive_the_main_program_and_exit_handlers_compute(tmp_path):
    program = f"""
        def note(name):
            if torch.equal(codes_of(tokenizer), expected):
                open(os.path.join({str(tmp_path)!r}, name), "w").close()

        def late():
            threading.main_thread().join()
            note("thread")

        threading.Thread(target=late).start()
        atexit.register(note, "exit")
    """
    run(program, tmp_path)
    assert (tmp_path / "thread").exists()
    assert (tmp_path / "exit").exists()


def test_compilers_break_their_graph_around_a_tokenizer_and_exporters_refuse_it(tmp_path):
    program = """
        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.tokenizer, self.embedding = tokenizer, torch.nn.Embedding(tokenizer.codebook_size, 4)

            def forward(self, waveform):
                codes = self.tokenizer.encode(waveform * 1.0, 16_000).codes
                return codes, self.embedding(codes).sum() * 2

        def converse(chunk):
            with tokenizer.stream() as stream:
                return stream.encode(chunk * 1.0)

        model = Model()
        for compiled in (torch.compile(tokenizer.encode, backend="eager"), torch.compile(tokenizer, backend="eager")):
            assert torch.equal(compiled(audio, 16_000).codes, expected)
        codes, total = torch.compile(model, backend="aot_eager")(audio)
        assert torch.equal(codes, expected)
        assert torch.allclose(total, model(audio)[1])
        total.backward()
        assert torch.equal(torch.compile(converse, backend="eager")(audio[:32_000]), expected[:, :, :100])
        # the parts of the callers, and nothing of the tokenizer
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 4

        refusals = {
            "trace": lambda: torch.jit.trace(model, audio),
            "script": lambda: torch.jit.script(tokenizer),
            "export": lambda: torch.export.export(model, (audio,), strict=False),
            "strict export": lambda: torch.export.export(model, (audio,), strict=True),
            "full graph": lambda: torch.compile(model, backend="eager", fullgraph=True)(audio),
        }
        for name, refused in refusals.items():
            try:
                refused()
            except Exception as error:
                assert "compiled code of its own" in str(error), (name, error)
            else:
                raise AssertionError(name)
        assert torch.empty(1).shape == (1,)  # the process is still usable
        assert torch.equal(codes_of(tokenizer), expected)
    """
    run(program, tmp_path)
