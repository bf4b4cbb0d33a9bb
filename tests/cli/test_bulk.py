"""Several inputs: processes that share them, and files that do anything they can to end the run."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from speechtok import SpeechTokens, read_audio
from speechtok.cli import chunks, encode
from speechtok.cli.batch import _run, count_cores
from speechtok.cli.chunks import ChunkProcessor, make_chunks
from speechtok.cli.sources import Job
from speechtok.workers import WorkerDied, run_in_processes
from tests.cli.helpers import RATE, assert_error, chirp, tree, write

fork_only = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes do not inherit what a test changes")


@pytest.fixture
def clips(tmp_path) -> list[Path]:
    """Clips of other lengths and rates, in folders."""
    lengths = (0.3, 0.07, 0.5, 0.02, 0.3, 0.11, 0.4, 0.21, 0.3)
    rates = (RATE, RATE, 8000, RATE, 8000, RATE, RATE, 24_000, RATE)
    return [
        write(tmp_path / "in" / f"{i % 2}" / f"{i}.wav", chirp(seconds, i, rate), rate)
        for i, (seconds, rate) in enumerate(zip(lengths, rates, strict=True))
    ]


@pytest.mark.parametrize("jobs", [1, 3])
def test_codes_and_order_do_not_depend_on_the_number_of_processes(run, tokenizer, clips, tmp_path, capsys, jobs):
    assert run("encode", tmp_path / "in", "-o", tmp_path / "out", "--jobs", jobs) == 0
    for clip in clips:
        tokens = SpeechTokens.load((tmp_path / "out" / clip.relative_to(tmp_path / "in")).with_suffix(".tokens"))
        expected = tokenizer.encode(*read_audio(clip))
        assert torch.equal(tokens.codes, expected.codes)
        assert torch.equal(tokens.num_samples, expected.num_samples)
    inputs = [line.split(" -> ")[0] for line in capsys.readouterr().out.splitlines()]
    assert inputs == sorted(map(str, clips))
    assert run("decode", tmp_path / "out", "-o", tmp_path / "wav", "-j", jobs) == 0
    audio, rate = read_audio(tmp_path / "wav" / "0" / "0.wav")
    decoded = tokenizer.decode(tokenizer.encode(*read_audio(clips[0])))[0]
    assert rate == RATE
    assert (audio - decoded).abs().max() <= 2**-16


def test_one_process_computes_clips_in_batches_of_one_rate_as_on_a_gpu(tokenizer, clips, tmp_path, monkeypatch):
    batches = []
    before = encode._Encode.compute

    def compute(self, tokenizer, group):
        batches.append(len(group))
        assert len({rate for _, rate in group}) == 1
        return before(self, tokenizer, group)

    monkeypatch.setattr(encode._Encode, "compute", compute)
    jobs = [Job(clip, tmp_path / f"{clip.stem}.tokens") for clip in clips for _ in range(4)]
    done = dict(_run(ChunkProcessor(tokenizer, encode._Encode(None), jobs), 0, in_chunks=True))
    assert sum(map(len, done)) == len(jobs)
    assert not [outcome.failure for outcomes in done.values() for outcome in outcomes if outcome.failure]
    assert max(batches) >= 4
    for clip in clips:
        tokens = SpeechTokens.load(tmp_path / f"{clip.stem}.tokens")
        assert torch.equal(tokens.codes, tokenizer.encode(*read_audio(clip)).codes)


def test_an_interrupted_run_continues(run, clips, tmp_path, capsys):
    assert run("encode", *clips[:4], "-o", tmp_path / "out") == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    capsys.readouterr()
    assert run("encode", *clips, "-o", tmp_path / "out") == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 5
    assert "5 written, 4 skipped, 0 failed" in err


def test_the_next_run_removes_what_a_killed_one_left_also_if_nothing_is_left_to_do(run, clips, tmp_path):
    orphan = f".speechtok-{'0' * 16}-0.tmp"
    for index, target in enumerate(("out", "out2")):
        (tmp_path / target).mkdir()
        (tmp_path / target / orphan).write_text("half")
        if index:
            assert run("encode", clips[0], "-o", f"{tmp_path / target}/") == 0
            (tmp_path / target / orphan).write_text("half")
        assert run("encode", clips[0], "-o", f"{tmp_path / target}/") == 0
        assert tree(tmp_path / target) == {"0.tokens"}


def test_no_file_ends_the_run_of_the_others(run, tmp_path, capsys):
    for name in ("a.wav", "z.wav"):
        write(tmp_path / "in" / name)
    (tmp_path / "in" / "escape\x1b[2Jb.wav").write_text("this is no audio")
    (tmp_path / "in" / ("n" * 251 + ".wav")).write_bytes((tmp_path / "in" / "a.wav").read_bytes())
    (tmp_path / "in" / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "in" / "notes.txt").write_text("left out")
    os.mkfifo(tmp_path / "in" / "pipe.wav")
    inputs = tmp_path / "in", tmp_path / "in" / "loop.wav", tmp_path / ("q" * 300 + ".wav"), tmp_path / "\0.wav"
    assert run("encode", *inputs, "-o", tmp_path / "out") == 1
    assert tree(tmp_path / "out") == {"a.tokens", "z.tokens"}
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    for words in (("escape\\x1b[2Jb.wav",), ("nnn.wav", "too long"), ("loop.wav",), ("qqq.wav",), ("\\x00.wav",)):
        assert_error(err, *words)
    assert "1 .txt" in next(line for line in err.splitlines() if line.startswith("left out"))
    assert "2 written, 0 skipped, 5 failed" in err


def test_no_tokens_file_ends_the_run_of_the_others(run, tokenizer, tmp_path, capsys):
    tokens = tokenizer.encode(chirp(), RATE)
    (tmp_path / "in").mkdir()
    for name in ("a", "z"):
        tokens.save(tmp_path / "in" / f"{name}.tokens")
    deep, digits = "[" * 100_000, "9" * 5000
    facts = '{"sample_rate": 16000, "hop_length": %s, "codebook_size": 32, "fingerprint": ""}'
    for name, text in {"deep": deep, "digits": facts % digits, "huge": facts % str(2**64)}.items():
        tensors = {"codes": torch.zeros(1, 4, 2, dtype=torch.int16), "lengths": torch.tensor([2])}
        metadata = {"format": "speechtok-tokens-1", "tokens": text, "digest": "0" * 16}
        safetensors.torch.save_file({**tensors, "num_samples": torch.tensor([640])}, tmp_path / "x", metadata)
        os.rename(tmp_path / "x", tmp_path / "in" / f"{name}.tokens")
    (tmp_path / "in" / "text.tokens").write_text(json.dumps({}))
    assert run("decode", tmp_path / "in", "-o", tmp_path / "out") == 1
    assert tree(tmp_path / "out") == {"a.wav", "z.wav"}
    err = capsys.readouterr().err
    for name in ("deep", "digits", "huge", "text"):
        assert_error(err, f"{name}.tokens")


@fork_only
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RecursionError("too deep"), "RecursionError: too deep"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("two\nlines"), r"RuntimeError: two\nlines"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("step", ["read", "compute"])
def test_an_unexpected_error_costs_its_file_alone(run, clips, tmp_path, monkeypatch, capsys, step, error, words):
    before = getattr(encode._Encode, step)

    def fail(self, *args):
        is_it = (
            len(read_audio(clips[4])[0]) in [len(waveform) for waveform, _ in args[-1]] if step == "compute" else False
        )
        if is_it or args[-1] == clips[4]:
            raise error
        return before(self, *args)

    write(clips[4], chirp(0.33, rate=8000), 8000)  # 2640 samples, as no other
    monkeypatch.setattr(encode._Encode, step, fail)
    assert run("encode", *clips, "-o", tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert_error(err, clips[4], words)
    assert "8 written, 0 skipped, 1 failed" in err


@fork_only
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_dies_costs_the_file_that_killed_it_alone(run, clips, tmp_path, monkeypatch, capsys, number):
    before = encode._Encode.read

    def read(self, source):
        if source == clips[4]:
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # without pytest's report of the stack
            os.kill(os.getpid(), number)
        return before(self, source)

    monkeypatch.setattr(encode._Encode, "read", read)
    assert run("encode", *clips, "-o", tmp_path / "out", "--jobs", 2) == 1
    err = capsys.readouterr().err
    assert_error(err, clips[4], number.name)
    assert "8 written, 0 skipped, 1 failed" in err
    assert len(tree(tmp_path / "out")) == 8


@fork_only
def test_ctrl_c_ends_all_processes_and_leaves_whole_files_only(run, clips, tmp_path, monkeypatch, capsys):
    before = encode._Encode.read
    parent = os.getpid()

    def read(self, source):
        if source == clips[-1]:
            (tmp_path / "pid").write_text(str(os.getpid()))
            # left by a process that was killed
            (tmp_path / "out" / f".speechtok-{'0' * 16}-0.tmp").write_text("half")
            os.kill(parent, signal.SIGINT)
            time.sleep(100)
        return before(self, source)

    monkeypatch.setattr(encode._Encode, "read", read)
    assert run("encode", *clips, "-o", tmp_path / "out", "--jobs", 2) == 130
    assert "Traceback" not in capsys.readouterr().err
    for path in (tmp_path / "out").iterdir():
        assert path.suffix == ".tokens"
        SpeechTokens.load(path)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@fork_only
def test_results_come_as_they_are_done_and_a_dead_worker_is_replaced():
    def work(number: int) -> int:
        if number == 3:
            os._exit(7)
        return number * number

    results = dict(run_in_processes(work, range(10), 2))
    assert isinstance(results.pop(3), WorkerDied)
    assert results == {number: number * number for number in range(10) if number != 3}


def test_an_output_that_cannot_be_written_is_a_failure_of_its_file(run, clips, tmp_path, monkeypatch, capsys):
    (tmp_path / "out" / "4.tokens").mkdir(parents=True)
    monkeypatch.setattr(chunks, "_MAX_FILES", 3)
    assert run("encode", *clips, "-o", tmp_path / "out", "--force") == 1
    assert_error(capsys.readouterr().err, clips[4], "4.tokens")
    assert len(tree(tmp_path / "out")) == 8


def test_chunks_hold_every_job_once_and_are_small_at_the_end(tmp_path):
    jobs = [Job(tmp_path / f"{i}", tmp_path / "x") for i in range(1000)]
    cut = make_chunks(jobs, 4)
    assert [index for chunk in cut for index in chunk] == list(range(1000))
    assert max(map(len, cut)) == 64
    assert len(cut[-1]) == 1
    assert make_chunks([], 4) == []


@pytest.mark.parametrize("jobs", ["0", "-1", "x", "9" * 5000])
def test_a_number_of_processes_that_makes_no_sense_is_wrong_usage(run, clips, capsys, jobs):
    with pytest.raises(SystemExit) as ended:
        run("encode", *clips, f"--jobs={jobs}")
    assert ended.value.code == 2
    assert "expected a number of processes from 1 to 1024" in capsys.readouterr().err


def test_the_cores_are_those_that_this_process_may_use():
    assert 1 <= count_cores() <= os.cpu_count()
