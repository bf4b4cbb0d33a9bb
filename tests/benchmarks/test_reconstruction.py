import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import speechtok
from benchmarks.evaluation import pool
from benchmarks.evaluation.delay import remove_delay
from benchmarks.reconstruction import main
from speechtok.metrics import pesq_wb, stoi
from tests.benchmarks.evaluation.conftest import InProcess


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.conftest import make_tokenizer

    directory = tmp_path_factory.mktemp("model")
    make_tokenizer().save(directory)
    return str(directory)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    envelope = np.sin(np.arange(32_000) / 2000) ** 2
    for index in range(2):
        soundfile.write(folder / f"{index}.wav", envelope * rng.standard_normal(32_000) * 0.1, 16_000)
    soundfile.write(folder / "2.wav", np.zeros(16_000), 16_000)
    (folder / "3.wav").write_text("no audio")
    (folder / "test.jsonl").write_text("\n".join(json.dumps({"audio": f"{i}.wav"}) for i in range(4)))
    return folder


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes are tested in evaluation/; here they would only take time."""

    def start(*arguments: object) -> InProcess:
        pool._start_worker(*arguments[3])  # type: ignore[index]
        return InProcess()

    monkeypatch.setattr(pool, "ProcessPoolExecutor", start)


def test_without_codecs_the_model_is_scored_with_each_number_of_codebooks(model, data, capsys):
    arguments = ["--data", str(data), "--model", model, "--num-codebooks", "4", "1", "--workers", "1"]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert "3.wav is text" in captured.err
    assert "3 utterances" in captured.out
    assert "nan" not in captured.out
    lines = [line.split("|")[1:-1] for line in captured.out.splitlines() if line.startswith("| ")]
    assert [cell.strip() for cell in lines[0]] == ["codec", "kbit/s", "PESQ-WB ↑", "STOI ↑"]
    assert [line[0].strip() for line in lines[1:]] == [f"speechtok:{count}@{Path(model).name}" for count in (4, 1)]
    assert [float(line[1]) for line in lines[1:]] == [1.0, 0.25]
    assert "perplexity of the codebooks (of 32)" in captured.out


@pytest.mark.slow
def test_scores_equal_those_of_the_metric_functions(model, data, tmp_path, capsys):
    arguments = ["--data", str(data), "--model", model, "--num-codebooks", "4", "--limit", "2", "--metric", "pesq"]
    assert main([*arguments, "--metric", "stoi", "--out", str(tmp_path), "--examples", "1"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    row = report["codecs"][f"speechtok:4@{model}"]
    tokenizer = speechtok.load(model)
    waveform, _ = speechtok.read_audio(data / "0.wav")
    decoded = tokenizer.decode(tokenizer.encode(waveform, 16_000))[0]
    delay = round(row["delay_ms"] * 16)
    before, after = remove_delay(waveform, decoded, delay)
    assert row["scores"]["pesq"][0] == pytest.approx(pesq_wb(before, after, 16_000), abs=1e-6)
    assert row["scores"]["stoi"][0] == pytest.approx(stoi(before, after, 16_000), abs=1e-6)
    assert (tmp_path / "report.html").read_text().count("<audio") == 2
    assert report["command"].endswith("--examples 1")


def test_unknown_codecs_and_metrics_are_named_and_the_rest_is_measured(data, tmp_path, capsys):
    arguments = ["--data", str(data), "--limit", "2", "--codec", "identity", "--codec", "nosuch", "--metric", "stoi"]
    assert main([*arguments, "--metric", "nope", "--out", str(tmp_path), "--examples", "0"]) == 1
    captured = capsys.readouterr()
    assert "left out: nosuch: codec 'nosuch' is unknown" in captured.err
    assert "left out: nope: metric 'nope' is unknown" in captured.err
    assert "| identity | 256.00 | 1.0000 |" in captured.out
    text = (tmp_path / "report.md").read_text()
    assert "codec **nosuch** is absent" in text
    assert "metric **nope** is absent" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--codec", "nosuch"], "none of 1 codecs can be used"),
        (["--codec", "identity", "--model", "x"], "got both --codec and --model 'x'"),
    ],
)
def test_contradictory_options_are_refused(data, arguments, says, capsys):
    assert main(["--data", str(data), *arguments]) == 1
    assert says in capsys.readouterr().err


def test_a_missing_manifest_is_named(tmp_path, capsys):
    assert main(["--data", str(tmp_path / "none")]) == 1
    assert "none" in capsys.readouterr().err


def test_any_folder_of_audio_is_data(data, tmp_path, capsys):
    for name in ("0.wav", "1.wav"):
        (tmp_path / name).symlink_to(data / name)
    assert main(["--data", str(tmp_path), "--codec", "identity", "--metric", "stoi"]) == 0
    assert "2 utterances, 0.1 minutes" in capsys.readouterr().out
