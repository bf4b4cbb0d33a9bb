import numpy as np
import pytest
import torch

from benchmarks import bulk
from speechtok import read_audio


@pytest.mark.slow
def test_the_command_is_measured_beside_the_encoder_alone_and_its_codes_are_compared(capsys):
    assert bulk.main(["--clips", "3", "--seconds", "0.2", "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines[2:5]]
    assert [name for name, *_ in rows] == ["encoder alone", "encoder and reading", "`speechtok encode`"]
    assert all(float(seconds) > 0 for _, seconds, *_ in rows)
    assert "equal codes in all rows" in lines[-1]


def test_clips_differ_and_are_the_same_each_time(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        bulk.make_clips(tmp_path / folder, 5, 0.1)
    clips = [read_audio(path)[0].numpy() for path in sorted((tmp_path / "a").iterdir())]
    assert {len(clip) for clip in clips} == {1600}
    assert not any(np.array_equal(a, b) for i, a in enumerate(clips) for b in clips[:i])
    same = [path.read_bytes() == (tmp_path / "b" / path.name).read_bytes() for path in (tmp_path / "a").iterdir()]
    assert all(same)


def test_a_clip_with_other_codes_is_counted(tmp_path, tiny, speech):
    tokens = [tiny.encode(speech(0.1, seed=seed), 16_000) for seed in range(2)]
    for index, some in enumerate(tokens):
        some.save(tmp_path / f"{index:05}.tokens")
    codes = torch.cat([some.codes for some in tokens]).to(torch.int16)
    torch.save(codes, tmp_path / "codes.pt")
    assert bulk.count_differences(tmp_path / "codes.pt", tmp_path) == 0
    codes[1, 0, 0] += 1
    torch.save(codes, tmp_path / "codes.pt")
    assert bulk.count_differences(tmp_path / "codes.pt", tmp_path) == 1
