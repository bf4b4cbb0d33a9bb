import math

import pytest
import torch

from benchmarks.voice.cases import Case, Voice
from benchmarks.voice.speed import first_audio, measure_speed
from benchmarks.voice.studio import Studio
from speechtok.voice.generation import Sampling
from tests.voice.networks import LOOKAHEAD, make_voice_model


@pytest.fixture(scope="module")
def studio(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("voice") / "voice.safetensors"
    return Studio(tiny, make_voice_model(tiny, path), Sampling())


@pytest.fixture
def prompt(tiny, speech):
    return tiny.encode(speech(0.6, seed=2), 16_000)


def test_the_first_audio_waits_for_the_lookahead_of_the_model_and_that_of_the_decoder(studio, prompt):
    semantic = torch.zeros(1, 20, dtype=torch.int64)
    opened, frames, real_time, at_once = first_audio(studio, semantic, prompt)
    assert frames == 1 + LOOKAHEAD + 1
    assert real_time >= (frames - 1) / prompt.frame_rate  # when its last code is there
    assert opened > 0
    assert at_once > 0


def test_an_utterance_shorter_than_the_lookahead_has_no_first_audio_while_it_arrives(studio, prompt):
    _, *rest = first_audio(studio, torch.zeros(1, LOOKAHEAD, dtype=torch.int64), prompt)
    assert all(map(math.isnan, rest))


def test_work_that_is_slower_than_the_codes_piles_up(studio, prompt, monkeypatch):
    now = iter(range(10_000))
    monkeypatch.setattr("benchmarks.voice.speed.time.process_time", lambda: float(next(now)))  # 1 s for each step
    _, frames, real_time, at_once = first_audio(studio, torch.zeros(1, 20, dtype=torch.int64), prompt)
    assert real_time == frames  # of these, the first begins at once
    assert at_once == 1


def test_speed_is_measured_on_one_thread_and_leaves_the_threads_as_they_were(studio, utterances):
    voice = Voice("ann", tuple(utterances[1:2]), tuple(utterances[2:3]))
    threads = torch.get_num_threads()
    found = measure_speed(studio, [Case(utterances[0], voice, None)])
    assert torch.get_num_threads() == threads
    assert found.utterances == 1
    assert found.frames == 1 + LOOKAHEAD + 1
    assert found.complete > 0
