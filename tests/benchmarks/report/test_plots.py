from benchmarks.report.data import short_sources, short_specs
from benchmarks.report.plots import rate_distortion


def test_codecs_of_equal_bitrate_are_drawn_and_distinguished_by_their_source(report):
    names = ["speechtok:8@runs/a/tokenizer", "speechtok:8@runs/b/tokenizer", "speechtok:8", "speechtok:7"]
    report["codecs"] = dict.fromkeys(names, report["codecs"]["identity"])
    labels = rate_distortion(report).axes[0].get_legend_handles_labels()[1]
    assert labels == ["speechtok@a/tokenizer", "speechtok@b/tokenizer", "speechtok"]


def test_sources_are_shortened_as_far_as_they_stay_distinct():
    assert short_sources(["x/a", "y/b"]) == {"x/a": "a", "y/b": "b"}
    assert short_sources(["x/a", "y/a"]) == {"x/a": "x/a", "y/a": "y/a"}
    assert short_sources(["a", "/y/a"]) == {"a": "a", "/y/a": "y/a"}
    assert short_sources(["a", "a"]) == {"a": "a"}


def test_the_original_does_not_squash_the_axes(report):
    report["codecs"]["opus:6"] = report["codecs"]["lowpass"]
    report["codecs"]["identity"]["scores"]["pesq"] = [100.0] * 12
    axis = rate_distortion(report).axes[0]
    assert axis.get_ylim()[1] < 5
    assert axis.get_legend_handles_labels()[1] == ["opus"]
    assert [text.get_text() for text in axis.texts] == ["original: 100.000 ↑"]
    report["codecs"]["identity"]["scores"]["pesq"] = [2.2] * 12
    assert "original" in rate_distortion(report).axes[0].get_legend_handles_labels()[1]


def test_names_of_codecs_hold_no_more_of_their_paths_than_tells_them_apart():
    assert short_specs(["opus:6", "lyra:3200@/a/b/lyra", "mimi:8@/c/mimi"]) == {
        "opus:6": "opus:6", "lyra:3200@/a/b/lyra": "lyra:3200@lyra", "mimi:8@/c/mimi": "mimi:8@mimi",
    }  # fmt: skip
