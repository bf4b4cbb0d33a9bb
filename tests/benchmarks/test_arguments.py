import pytest

from benchmarks import reconstruction, seanet_speed, training_speed, vocabulary
from benchmarks.exactness import __main__ as exactness
from benchmarks.speed import __main__ as speed

NOWHERE = "a/tokenizer/that/is/nowhere"


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (reconstruction.main, ["--data", "x", "--slow-utterances", "-5"]),
        (reconstruction.main, ["--data", "x", "--examples", "-1"]),
        (reconstruction.main, ["--data", "x", "--limit", "0"]),
        (reconstruction.main, ["--data", "x", "--workers", "many"]),
        (exactness.main, ["--data", "x", "--limit", "-1"]),
        (speed.main, ["--chunks", "0"]),
        (seanet_speed.main, ["--rounds", "0"]),
        (seanet_speed.main, ["--seconds", "0"]),
        (seanet_speed.main, ["--seconds", "nan"]),
        (seanet_speed.main, ["--threads", "1", "0"]),
        (training_speed.main, ["--config", "x", "--steps", "0", "data=x"]),
    ],
)
def test_a_number_out_of_range_is_a_usage_error(main, arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "; expected a" in capsys.readouterr().err


@pytest.mark.parametrize("main", [speed.main, exactness.main])
def test_a_missing_tokenizer_is_reported_on_one_line(main, capsys):
    assert main(["--model", NOWHERE, *(["--data", "x"] if main is exactness.main else [])]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert NOWHERE in error
    assert "Traceback" not in error


def test_the_vocabulary_benchmark_reports_a_missing_tokenizer_on_one_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["vocabulary", "--model", NOWHERE])
    assert vocabulary.main() == 1
    assert capsys.readouterr().err.startswith("error: ")
