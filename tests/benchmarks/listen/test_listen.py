"""A listening test is blind and complete, and its results are screened and analysed."""

import base64
import io
import json
import re

import numpy as np
import pytest
import soundfile

from benchmarks.listen.__main__ import main
from benchmarks.listen.results import Ratings, estimate_ratings, ratings_table, read_ratings
from speechtok.errors import InputError
from tests.conftest import make_speech


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("test")
    (folder / "data").mkdir()
    for index in range(3):
        soundfile.write(folder / "data" / f"{index}.wav", make_speech(1.0, seed=index), 16_000)
    arguments = ["--data", str(folder / "data"), "--codec", "lowpass:1000", "--codec", "identity"]
    assert main(["make", *arguments, "--utterances", "2", "--out", str(folder / "out")]) == 0
    return folder / "out"


def embedded(made) -> dict:
    page = (made / "index.html").read_text()
    return json.loads(re.search(r'id="test">(.*?)</script>', page, re.S)[1])


def test_the_page_is_self_contained_and_blind(made):
    page = (made / "index.html").read_text()
    key = json.loads((made / "key.json").read_text())
    assert not re.search(r"https?://|src=", page)
    for word in ("lowpass", "identity", "3500", *key["trials"].values()):
        assert word not in page
    test = embedded(made)
    assert test["id"] == key["test"]
    assert len(test["trials"]) == 2
    for trial in test["trials"]:
        names = [key["stimuli"][stimulus["id"]] for stimulus in trial["stimuli"]]
        assert sorted(names) == ["identity", "lowpass:1000", "lowpass:3500", "reference"]
    ids = [stimulus["id"] for trial in test["trials"] for stimulus in trial["stimuli"]]
    assert len(set(ids)) == len(ids) == len(key["stimuli"])


def test_reference_and_hidden_reference_are_the_original(made):
    key = json.loads((made / "key.json").read_text())["stimuli"]
    for trial in embedded(made)["trials"]:
        by_codec = {key[stimulus["id"]]: stimulus["audio"] for stimulus in trial["stimuli"]}
        assert by_codec["reference"] == trial["reference"] == by_codec["identity"] != by_codec["lowpass:3500"]
        audio, rate = soundfile.read(io.BytesIO(base64.b64decode(trial["reference"].split(",")[1])))
        assert (len(audio), rate) == (16_000, 16_000)


def answers(made, path, listener: str, reference: int = 100, **ratings: int) -> str:
    """Results of a listener who rates the codecs so; names as in the key, with ``_`` for ``:``."""
    key = json.loads((made / "key.json").read_text())
    given = {"reference": reference, "lowpass_3500": 30, "lowpass_1000": 20, "identity": 95} | ratings
    trials = [
        {
            "id": trial["id"],
            "ratings": {s["id"]: given[key["stimuli"][s["id"]].replace(":", "_")] for s in trial["stimuli"]},
        }
        for trial in embedded(made)["trials"]
    ]
    path.write_text(json.dumps({"format": 1, "test": key["test"], "listener": listener, "trials": trials}))
    return str(path)


def test_results_are_means_with_intervals_and_inattentive_listeners_are_left_out(made, tmp_path, capsys):
    files = [
        answers(made, tmp_path / "a.json", "a"),
        answers(made, tmp_path / "b.json", "b", lowpass_1000=40),
        answers(made, tmp_path / "c.json", "c", reference=50),
    ]
    assert main(["analyse", str(made / "key.json"), *files]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[2] == "| reference | 100.0 (100.0–100.0) |"
    assert lines[3] == "| identity | 95.0 (95.0–95.0) |"
    assert "| lowpass:1000 | 30.0 (20.0–40.0) |" in lines
    assert "2 listeners, 2 trials each." in lines
    assert "c is left out: rated the hidden reference below 90 in 100% of the trials." in lines
    with pytest.raises(InputError, match="no listener is left"):
        ratings_table(read_ratings(made / "key.json", [tmp_path / "c.json"]))


def test_intervals_cover_listeners_and_trials():
    rng = np.random.default_rng(0)
    listeners, trials = rng.normal(0, 5, (12, 1, 1)), rng.normal(0, 5, (1, 10, 1))
    values = np.array([60.0, 80.0]) + listeners + trials + rng.normal(0, 3, (12, 10, 2))
    found = estimate_ratings(Ratings(["a", "b"], [str(i) for i in range(12)], {}, values))
    assert list(found) == ["b", "a"]
    assert found["a"].low < 60 < found["a"].high
    assert 4 < found["a"].high - found["a"].low < 14  # far wider than one of 120 independent ratings


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda found: found | {"test": "x"}, "belongs to another test"),
        (lambda found: found | {"trials": found["trials"][:1]}, "lacks 4 ratings"),
        (lambda found: found | {"trials": [{"id": "trial-1", "ratings": {"x": 5}}]}, "does not fit"),
        (lambda found: found | {"format": 9}, "another kind or version"),
        (lambda found: [found], "other fields"),
    ],
)
def test_results_that_do_not_fit_are_refused(made, tmp_path, change, says, capsys):
    path = tmp_path / "a.json"
    answers(made, path, "a")
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    assert main(["analyse", str(made / "key.json"), str(path)]) == 1
    assert says in capsys.readouterr().err


def test_bad_arguments_are_named(made, tmp_path, capsys):
    arguments = ["make", "--data", str(made.parent / "data"), "--out", str(tmp_path)]
    assert main([*arguments, "--codec", "nosuch"]) == 1
    assert "unknown" in capsys.readouterr().err
    many = [f"--codec=lowpass:{500 + i}" for i in range(11)]
    assert main([*arguments, *many]) == 1
    assert "expected 1 to 10" in capsys.readouterr().err
    twice = answers(made, tmp_path / "a.json", "a")
    assert main(["analyse", str(made / "key.json"), twice, twice]) == 1
    assert "second file of the listener 'a'" in capsys.readouterr().err
    assert main(["analyse", str(tmp_path / "none.json"), twice]) == 1
    assert "none.json cannot be read" in capsys.readouterr().err
