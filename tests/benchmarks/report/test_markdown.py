import json

import pytest

from benchmarks.report.data import estimates, extremes, means
from benchmarks.report.markdown import anchor_notes, markdown, recognition_table, speakers, table


def test_a_report_is_json_with_the_estimates_of_its_scores(report):
    json.dumps(report, allow_nan=False)
    found = estimates(report, "identity")
    assert found["kbit/s"].mean == 256
    assert found["mel"].count == 11
    assert report["codecs"]["identity"]["perplexity"] == [pytest.approx(2), pytest.approx(1)]


def test_the_table_has_a_row_for_each_codec(report):
    assert table(report).splitlines()[0] == "| codec | kbit/s | PESQ-WB ↑ | mel distance, dB ↓ |"
    assert table(report).splitlines()[2].startswith("| identity | 256.00 | 2.1")


@pytest.mark.parametrize(
    "expected",
    [
        "codec **nosuch** is absent: unknown",
        "metric **wer** is absent: absent",
        "**lowpass** failed on 1 of 12 utterances",
        "u0: <b>|broken|</b>",
        "identity 11",
        "## Language de",
        "Best, median and worst utterances",
        "rates these above the original",
        "`python -m x`",
        "PyTorch",
        "2.00 |",  # delay of lowpass, ms
        "![plot](plot.png)",
    ],
)
def test_scores_and_missing_results_are_reported(report, expected):
    assert expected in markdown(report, ["plot.png"])


def test_speakers_have_tables_of_their_own(report):
    assert [heading for heading, _ in speakers(report)] == ["Speaker s0", "Speaker s1", "Speaker s2"]
    assert "Speaker s2" not in markdown(report, [])


def test_the_best_median_and_worst_utterances_are_named(report):
    assert extremes(report, "identity", "pesq") == {"best": ("u4", 2.4), "median": ("u1", 2.1), "worst": ("u5", 2.0)}


def test_metrics_by_which_a_codec_beats_the_original_are_named(report):
    report["codecs"]["lowpass"]["scores"]["pesq"] = [4.0] * 12
    assert anchor_notes(report["metrics"], means(report)) == [
        "- PESQ-WB rates these above the original (2.175): lowpass (4.000)."
    ]
    report["codecs"]["lowpass"]["scores"]["pesq"] = [0.5] * 12
    report["codecs"]["lowpass"]["scores"]["mel"] = [9.0] * 12
    assert anchor_notes(report["metrics"], means(report)) == ["- Every metric rates the original best."]
    del report["codecs"]["identity"]
    assert anchor_notes(report["metrics"], means(report)) == []


def test_error_rates_are_given_by_language_with_the_gap_to_the_original(new_report):
    report = new_report(recognition=True)
    lines = recognition_table(report).splitlines()
    assert lines[0].startswith("| recogniser | language | utterances | codec | WER | WER gap (95 %) |")
    assert lines[2].startswith("| base | de | 3 | identity | 0.400 | 0.000 (0.000–0.000) | 0.200 | 0.000")
    assert lines[4].startswith("| base | en | 9 | identity | 0.400 |")
    assert "**wer" not in recognition_table(report)
    assert recognition_table(new_report()) == ""
