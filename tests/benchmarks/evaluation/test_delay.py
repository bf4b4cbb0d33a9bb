import pytest
import torch

from benchmarks.codecs.baselines import Identity
from benchmarks.codecs.spec import Spec
from benchmarks.evaluation import scoring
from benchmarks.evaluation.delay import find_delay, measure_delays, remove_delay
from benchmarks.evaluation.scoring import Scorer, Settings
from benchmarks.metrics.load import METRICS
from tests.conftest import make_speech


def test_delays_are_found_for_early_late_and_inverted_waveforms():
    x = torch.from_numpy(make_speech(1))
    for delay in (-40, 0, 1, 777):
        y = torch.nn.functional.pad(x, (delay, 0)) if delay >= 0 else x[-delay:]
        for sign in (1, -1):
            assert find_delay([(x, sign * y)] * 2) == delay
        before, after = remove_delay(x, y, delay)
        assert torch.equal(before, after)


def test_silence_has_no_delay():
    assert find_delay([(torch.from_numpy(make_speech(1)), torch.zeros(16_000))]) == 0
    assert find_delay([]) == 0


@pytest.mark.slow  # imports the libraries of all metrics
def test_a_delay_changes_no_score(utterances, late, monkeypatch):
    prompt = Identity(Spec("identity"))
    delays = measure_delays({"late": late, "prompt": prompt}, utterances[:2])
    assert delays == {"late": 320, "prompt": 0}
    monkeypatch.setattr(scoring, "load_codec", {"late": late, "prompt": prompt}.__getitem__)
    names = tuple({name for name in METRICS if not name.startswith("dnsmos")})
    scorer = Scorer(Settings(("late", "prompt"), names, (), delays))
    for utterance in utterances[:2]:
        one, other = scorer(utterance, ("late", "prompt"), True)
        assert one.failure is None
        assert one.scores == other.scores
