"""Measures of voice models whose quality is known, on made voices."""

import dataclasses
import math

import numpy as np
import pytest
import soundfile

from benchmarks.metrics.load import load_metrics
from benchmarks.voice import measures, summary
from benchmarks.voice.cases import choose_voices, group_speakers, make_cases
from benchmarks.voice.measures import ALONE, COMPLETED, CONTOUR, SOURCE, TRUE, TWO, WRONG, key
from benchmarks.voice.tasks import Bench, Task

pytestmark = pytest.mark.usefixtures("quick_embeddings")


@pytest.fixture(scope="module")
def metrics():
    found = load_metrics(["voicing_f1", "f0_correlation", "comb"])

    def changed_words(original, decoded):
        return float(not np.array_equal(original.waveform, decoded.waveform)), 2.0

    wer = dataclasses.replace(load_metrics(["wer"])["wer"], measure=changed_words)
    return {**found, "wer": wer}


@pytest.fixture
def cases(utterances):
    return make_cases(group_speakers(utterances), 4)


def measure(studio, metrics, cases, part="resynthesis", voices=()):
    bench = Bench(studio, metrics)
    results = [bench(Task(part, case, True, tuple(voices))) for case in cases]
    assert [result.failure for result in results] == [None] * len(results)
    return summary.Scores(results, {case.source.id: case.voice.speaker for case in cases})


def test_a_model_that_finds_the_true_codes_closes_the_whole_gap(new_studio, metrics, cases):
    scores = measure(new_studio(), metrics, cases)
    found = summary.resynthesis(scores)
    assert found["gap_closed"].mean == pytest.approx(1)
    assert found["gap_closed"].count == 4
    measured = found["measures"]
    for name, versions in measured.items():
        assert versions[COMPLETED] == versions[TRUE], name
    assert measured["voicing_f1"][COMPLETED].mean == pytest.approx(1)
    assert measured["wer"][COMPLETED].mean == measured["wer"][TWO].mean == 0
    assert measured["wer"][ALONE].mean == 1
    assert measured["speaker"][SOURCE].mean > measured["speaker"][ALONE].mean + 0.2
    assert found["differences"]["comb"].mean == 0


def test_a_model_that_does_not_hear_the_prompt_never_beats_a_wrong_prompt(new_studio, metrics, cases):
    assert summary.resynthesis(measure(new_studio(), metrics, cases[:2]))["beats_wrong_prompt"].mean == 0


def test_a_model_that_speaks_with_the_prompt_has_its_voice_and_its_pitch(new_studio, metrics, cases):
    with_pyin = {**metrics, **load_metrics(["f0_pyin"])}
    found = summary.resynthesis(measure(new_studio(hears_prompt=True), with_pyin, cases[:2]))
    assert found["beats_wrong_prompt"].mean == 1
    assert found["gap_closed"].mean > 0.8
    assert list(found["pitch_distance"]) == ["pitch", "pitch_pyin"]
    for tracker in found["pitch_distance"]:
        assert found["pitch_distance"][tracker][COMPLETED].mean < 0.3
        assert found["pitch_close"][tracker][COMPLETED].mean == 1
    assert found["measures"]["wer"][COMPLETED].mean == 1


def test_the_contour_decides_the_melody_of_a_model_that_hears_it(new_studio, metrics, cases):
    scores = measure(new_studio(hears_prompt=True, hears_contour=True), metrics, cases[:2])
    correlation = summary.resynthesis(scores)["measures"]["f0_correlation"]
    assert correlation[CONTOUR].mean == pytest.approx(1)
    assert correlation[COMPLETED].mean < 0.8


@pytest.mark.parametrize("hears_prompt", [False, True])
def test_a_conversion_is_nearer_to_the_prompt_if_the_model_hears_it(
    new_studio, metrics, cases, utterances, hears_prompt
):
    voices = choose_voices(group_speakers(utterances), 3)
    scores = measure(new_studio(hears_prompt=hears_prompt), metrics, cases[:2], "conversion", voices)
    found = summary.conversion(scores)
    assert found["nearer_to_prompt"].mean == hears_prompt
    assert found["nearer_to_speaker"].mean == hears_prompt
    assert set(found["voices"]) == {"ann", "bea", "carl"}
    assert found["voices"]["carl"]["nearer_to_prompt"].count == (2 if cases[1].voice.speaker != "carl" else 1)
    assert found["words"]["wer"][TWO].mean == 0
    assert found["words"]["wer"]["converted"].mean == hears_prompt


def test_nobody_is_converted_to_the_own_voice(new_studio, metrics, cases, utterances):
    (result,) = measure(
        new_studio(), metrics, cases[:1], "conversion", choose_voices(group_speakers(utterances), 4)
    ).results
    assert key("prompt", "dan") in result.scores
    assert key("prompt", cases[0].voice.speaker) not in result.scores


def test_a_model_that_obeys_has_a_rank_correlation_of_1(new_studio, metrics, cases):
    found = summary.style(measure(new_studio(obeys=True), metrics, cases[:1], "style"))
    for quantity in ("pitch", "energy"):
        assert found[quantity]["correlation"].mean == pytest.approx(1)
        assert found[quantity]["within"].mean == pytest.approx(1)
        measured = [value.mean for value in found[quantity]["measured"]]
        assert measured == sorted(measured)
    assert math.isnan(found["brightness"]["within"].mean) or abs(found["brightness"]["within"].mean) < 1


def test_a_model_that_ignores_the_style_has_no_rank_correlation(new_studio, metrics, cases):
    found = summary.style(measure(new_studio(), metrics, cases[:1], "style"))
    assert math.isnan(found["pitch"]["correlation"].mean)
    assert math.isnan(found["pitch"]["within"].mean)


def test_an_ablation_measures_each_setting(new_studio, metrics, cases):
    studio = new_studio(hears_prompt=True)
    settings = measures.settings(studio.sampling)
    rows = summary.ablation(measure(studio, metrics, cases[:1], "ablation"), settings)
    by_label = {row["setting"]: row for row in rows}
    assert len(by_label) == len(rows) == len(settings)
    assert by_label["steps 1"]["steps"] == 1
    assert by_label["guidance 4.0"]["guidance"] == 4.0
    assert by_label["prompt 1 s"]["prompt seconds"].mean == pytest.approx(1)
    assert by_label["prompt 6 s"]["prompt seconds"].mean > 1
    for row in rows:
        assert row["gap_closed"].mean > 0.5
        assert row["voicing_f1"].mean > 0


def test_a_recording_without_a_voice_has_no_speaker_and_no_pitch(new_studio, metrics, cases, tmp_path):
    path = tmp_path / "silent.wav"
    soundfile.write(path, np.zeros(16_000, np.float32), 16_000)
    source = dataclasses.replace(cases[0].source, audio=path, id="silent")
    scores = measure(new_studio(), metrics, [dataclasses.replace(cases[0], source=source)])
    (result,) = scores.results
    assert math.isnan(result.scores[key("speaker", SOURCE)][0])
    assert math.isnan(result.scores[key("pitch", COMPLETED)][0])


def test_without_another_speaker_of_the_gender_nothing_is_said_about_wrong_prompts(new_studio, metrics, cases):
    scores = measure(new_studio(), metrics, [dataclasses.replace(cases[0], wrong=None)])
    assert key("speaker", WRONG) not in scores.results[0].scores
    assert summary.resynthesis(scores)["beats_wrong_prompt"].count == 0


def test_a_case_that_fails_says_why_and_the_others_count(new_studio, metrics, cases, tmp_path):
    broken = dataclasses.replace(cases[0].source, audio=tmp_path / "missing.wav")
    bench = Bench(new_studio(), metrics)
    some = [dataclasses.replace(cases[0], source=broken), cases[1]]
    results = [bench(Task("resynthesis", case)) for case in some]
    assert "missing.wav" in results[0].failure
    scores = summary.Scores(results, {case.source.id: case.voice.speaker for case in cases})
    assert len(scores.results) == 1
    assert key("wer", COMPLETED) not in scores.results[0].scores  # words are recognised in slow cases only
