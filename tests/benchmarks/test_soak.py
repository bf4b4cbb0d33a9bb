import pytest
import torch

from benchmarks.soak import RATES, Latencies, Result, main, soak


def test_every_utterance_of_callers_who_come_and_go_is_what_it_is_as_a_whole(tiny, speech):
    result = soak(tiny, torch.from_numpy(speech(4.0)), streams=4, seconds=0.01, utterances=4)
    assert result.utterances >= 4
    assert result.hung_up > 0
    assert result.different == 0
    assert result.frames > 20
    assert sum(some.count for some in result.latencies.values()) > 50
    assert "0 utterances differ" in str(result)


def test_an_utterance_that_differs_is_counted(tiny, speech, monkeypatch):
    monkeypatch.setattr(tiny, "encode", lambda x, rate: type(tiny).encode(tiny, x * 0.5, rate))
    assert soak(tiny, torch.from_numpy(speech(4.0)), streams=4, seconds=0.01, utterances=2).different > 0


def test_percentiles_are_those_of_the_durations():
    latencies = Latencies()
    for n in range(1, 1_001):
        latencies.add(n / 1_000)
    assert latencies.percentile(50) == pytest.approx(0.5, rel=0.02)
    assert latencies.percentile(99) == pytest.approx(0.99, rel=0.02)
    assert latencies.worst == 1.0
    assert latencies.count == 1_000


def test_growth_is_that_after_the_warm_up():
    result = Result()
    result.memory = [(0.0, 10.0), *((60.0 * minute, 100 + minute / 60) for minute in range(6, 61))]
    slope, spread = result.growth()
    assert slope == pytest.approx(1.0)
    assert spread == pytest.approx(0.9)


@pytest.mark.slow
def test_the_command_line_prints_a_table(capsys):
    before = torch.get_num_threads()
    assert main(["--minutes", "0.001", "--streams", "2"]) == 0
    torch.set_num_threads(before)
    printed = capsys.readouterr().out
    assert "2 streams, 0.001 minutes" in printed
    assert all(f"| {rate} |" in printed for rate in RATES)
