"""Utterances to listen to: recordings, prompts, and what the voice model makes of them."""

import re
from collections.abc import Sequence
from pathlib import Path

import soundfile

from benchmarks.metrics.speech import SAMPLE_RATE
from benchmarks.report.examples import Example
from benchmarks.voice.cases import Case, Voice
from benchmarks.voice.measures import ALONE, COMPLETED, CONTOUR, SOURCE, TRUE, WRONG, settings
from benchmarks.voice.studio import Studio
from speechtok.files import make_folder, replacing


def make_example(studio: Studio, case: Case, voices: Sequence[Voice] = ()) -> Example:
    """All versions of an utterance, in its own voice, that of the wrong prompt, and further ones."""
    source, tokens = studio.recording(case.source), studio.tokens(case.source)
    prompt, heard = studio.prompt(case.voice)
    found = [
        (SOURCE, source),
        (TRUE, studio.decode(tokens, source)),
        (ALONE, studio.decode(tokens, source, 1)),
        ("prompt", heard),
        (COMPLETED, studio.complete(tokens, prompt, source)),
        (CONTOUR, studio.complete(tokens, prompt, source, studio.contour(case.source))),
    ]
    others = {} if case.wrong is None else {WRONG: case.wrong}
    others |= {f"voice of {voice.speaker}": voice for voice in voices if voice.speaker != case.source.speaker}
    found += [(name, studio.complete(tokens, studio.prompt(voice)[0], source)) for name, voice in others.items()]
    return Example(_caption(case), [(name, speech.waveform) for name, speech in found])


def make_ablation_example(studio: Studio, case: Case) -> Example:
    """An utterance in all settings of the ablation."""
    source, tokens = studio.recording(case.source), studio.tokens(case.source)
    found = [(SOURCE, source)]
    for setting in settings(studio.sampling):
        prompt, _ = studio.prompt(case.voice, setting.prompt_seconds)
        found.append((setting.label, studio.complete(tokens, prompt, source, sampling=setting.sampling)))
    return Example(f"Ablation: {_caption(case)}", [(name, speech.waveform) for name, speech in found])


def _caption(case: Case) -> str:
    text = f": {case.source.text}" if case.source.text else ""
    return f"{case.source.id} ({case.source.speaker}){text}"


def write_audio(folder: Path, examples: Sequence[Example]) -> None:
    """Write a FLAC file for each waveform: ``1-recording.flac``.

    Raises:
        OutputError: a file cannot be written.
    """
    make_folder(folder)
    for number, example in enumerate(examples, 1):
        for name, waveform in example.waveforms:
            with replacing(folder / f"{number}-{re.sub(r'[^a-z0-9.]+', '-', name.lower())}.flac") as file:
                soundfile.write(file, waveform.numpy(), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
