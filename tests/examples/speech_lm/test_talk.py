from pathlib import Path

import numpy as np
import pytest
import torch

import speechtok
from examples.speech_lm.prepare import prepare
from examples.speech_lm.talker import Talker

pytestmark = pytest.mark.slow  # the models are trained first


@pytest.mark.parametrize("with_voice", [False, True])
def test_say_transcribe_and_continue(trained, data, tmp_path, run_talk, capsys, with_voice):
    config, voice = trained
    common = ["--model", f"{config.out}/model", *(["--voice", str(voice)] * with_voice)]
    spoken, longer, source = str(tmp_path / "spoken.wav"), str(tmp_path / "longer.wav"), str(data / "train0.flac")
    reference = ["--reference", source] * with_voice
    assert run_talk("say", "Good morning", spoken, "--candidates", "2", *reference, *common) == 0
    assert len(speechtok.read_audio(spoken)[0]) > 0
    assert run_talk("continue", source, longer, "--seconds", "0.5", *common) == 0
    before, whole = speechtok.read_audio(source)[0], speechtok.read_audio(longer)[0]
    assert len(before) < len(whole) <= len(before) + 8000 + 320
    capsys.readouterr()
    known = prepare(config, speechtok.load(config.tokenizer), "train")[0]
    source = str(data / f"train{known.id[-1]}.flac")
    assert run_talk("transcribe", source, *common) == 0
    assert capsys.readouterr().out == f"{known.text}\n"


@pytest.mark.parametrize("by_phones", [False, True])
def test_say_writes_samples_to_standard_output(trained, trained_with_phones, by_phones, run_talk, capsysbinary):
    folder = Path((trained_with_phones if by_phones else trained[0]).out) / "model"
    talker, chunks = Talker(folder), []
    talker.say("über 12 boote", play=chunks.append)
    capsysbinary.readouterr()
    assert run_talk("say", "über 12 boote", "-", "--temperature", "0", "--model", str(folder)) == 0
    samples = np.frombuffer(capsysbinary.readouterr().out, np.int16)
    assert np.abs(samples / 32_767 - torch.cat(chunks).clamp(-1, 1).numpy()).max() < 1e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["say", " ", "out.wav"], "the text is empty"),
        (["say", "yes", "out.wav", "--candidates", "0"], "candidates is 0; expected at least 1"),
        (["say", "yes", "out.wav", "--temperature", "-1"], "temperature is -1.0; expected at least 0"),
        (["say", "yes", "out.wav", "--reference", "nothing.wav"], "nothing.wav does not exist"),
        (["say", "yes", "-", "--voice", "the voice"], "out is - with --voice"),
        (["transcribe", "nothing.wav"], "nothing.wav does not exist"),
        (["continue", "nothing.wav", "out.wav"], "nothing.wav does not exist"),
        (["say", "yes", "nowhere/out.wav"], "cannot write nowhere/out.wav"),
        (["transcribe", "in.wav", "--model", "nowhere"], "nowhere has no training.json"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(trained, arguments, message, run_talk, capsys):
    arguments = [str(trained[1]) if argument == "the voice" else argument for argument in arguments]
    model = [] if "--model" in arguments else ["--model", f"{trained[0].out}/model"]
    assert run_talk(*arguments, *model) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
