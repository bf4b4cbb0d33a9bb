import pytest

from benchmarks import exactness, reconstruction, seanet_speed, speed, training_speed, vocabulary

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
def test_a_number_that_cannot_be_is_wrong_usage(main, arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "; expected a" in capsys.readouterr().err


@pytest.mark.parametrize("main", [speed.main, exactness.main])
def test_a_tokenizer_that_is_not_there_is_told_in_a_line(main, capsys):
    assert main(["--model", NOWHERE, *(["--data", "x"] if main is exactness.main else [])]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert NOWHERE in error
    assert "Traceback" not in error


def test_so_it_is_by_the_vocabularies(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["vocabulary", "--model", NOWHERE])
    assert vocabulary.main() == 1
    assert capsys.readouterr().err.startswith("error: ")
