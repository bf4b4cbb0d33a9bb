import json

import pytest

from benchmarks.report.data import estimates
from benchmarks.report.markdown import markdown, table


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
        "## Speaker s2",
        "`python -m x`",
        "PyTorch",
        "2.00 |",  # delay of lowpass, ms
        "![plot](plot.png)",
    ],
)
def test_scores_and_missing_results_are_reported(report, expected):
    assert expected in markdown(report, ["plot.png"])
