import pytest

from benchmarks.exactness import __main__ as program
from benchmarks.exactness import processes
from benchmarks.exactness.__main__ import main
from speechtok.nn.native.library import load_library

CODES = 4 * (3 + 35 + 16)  # codebooks times frames of the three utterances


def rows(capsys) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]


@pytest.mark.slow
def test_the_table_has_a_row_for_every_path_without_differences(model, manifest, capsys, monkeypatch):
    monkeypatch.setattr(processes, "PROCESSORS", {"AVX2": processes.PROCESSORS["AVX2"]})
    monkeypatch.setattr(processes, "COMPILED", {"generic": "compiled"})
    assert main(["--data", str(manifest), "--model", model]) == 0
    found = rows(capsys)
    assert len(found) == 8 + (load_library() is not None)
    assert all(f"| {CODES} | 0 |" in row for row in found)


def test_differing_codes_are_counted(model, manifest, capsys, monkeypatch):
    real = program.streamed
    monkeypatch.setattr(program, "streamed", lambda tok, x: [codes ^ 1 for codes in real(tok, x)])
    assert main(["--data", str(manifest), "--model", model, "--only", "streamed in chunks"]) == 1
    assert f"| {CODES} | {CODES} |" in capsys.readouterr().out


def test_only_selects_paths(model, manifest, capsys):
    assert main(["--data", str(manifest), "--model", model, "--only", "2 threads", "--only", "padded"]) == 0
    assert [row.split(" |")[0] for row in rows(capsys)] == ["| alone, 2 threads", "| in padded batches of 1 to 64"]


def test_unknown_paths_are_named(model, manifest, capsys):
    assert main(["--data", str(manifest), "--model", model, "--only", "zzz"]) == 1
    captured = capsys.readouterr()
    assert "--only is ['zzz'], which no path contains; expected parts of alone, 2 threads, " in captured.err
    assert "|" not in captured.out


def test_missing_data_are_reported_on_one_line(model, tmp_path, capsys):
    assert main(["--data", str(tmp_path / "none.jsonl"), "--model", model]) == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'none.jsonl'} does not exist; expected a manifest of JSON lines\n"
    )
