"""Speak, transcribe and continue speech with trained models.

python -m examples.speech_lm.talk say "good morning" out.wav
python -m examples.speech_lm.talk say "good morning" - | aplay -f S16_LE -r 16000
python -m examples.speech_lm.talk say "good morning" out.wav --voice anyone.wav
python -m examples.speech_lm.talk transcribe in.wav
python -m examples.speech_lm.talk continue in.wav out.wav
python -m examples.speech_lm.talk continue in.wav out.wav --voice in.wav

Use the voice of a person only with the consent of that person.
"""

import argparse
import dataclasses
import sys

import torch

import speechtok
from examples.speech_lm.config import run
from examples.speech_lm.talker import GUIDANCE, MAX_SECONDS, Talker, missing_words, write_speech
from examples.speech_lm.voice import add_voice_arguments, load_voice
from speechtok.errors import InputError
from speechtok.tokens import SpeechTokens


def say(talker: Talker, arguments: argparse.Namespace) -> None:
    """Write a text as speech to an audio file, or to standard output while it is generated."""
    a = arguments
    voice = load_voice(talker.tokenizer, a.voice, a.voice_model, a.style, a.seed)
    if a.out == "-":
        talker.say(a.text, 1, a.temperature, a.guidance, _play, voice)
        return
    spoken = talker.say(a.text, a.candidates, a.temperature, a.guidance)
    if missing := missing_words(spoken):
        print(f"left out, as the utterance would be too long: {' '.join(missing)}")
    tokens = spoken.tokens if voice is None else voice.complete(spoken.tokens)
    _write(a.out, talker.tokenizer.decode(tokens)[0], tokens)


def transcribe(talker: Talker, arguments: argparse.Namespace) -> None:
    """Print the transcript of an audio file."""
    print(talker.transcribe(_encode(talker, arguments.input))[0])


def continue_speech(talker: Talker, arguments: argparse.Namespace) -> None:
    """Write an audio file with a continuation; with a voice model and no prompt, in the voice of the input."""
    a = arguments
    if not 0 < a.seconds <= MAX_SECONDS:
        raise InputError(f"seconds is {a.seconds}; expected above 0 and at most {MAX_SECONDS:g}")
    tokens = _encode(talker, a.input)
    prompt = tokens if a.voice is None and a.voice_model is not None else a.voice
    voice = load_voice(talker.tokenizer, prompt, a.voice_model, a.style, a.seed)
    added = talker.to_tokens(talker.continue_speech(tokens, a.seconds, a.temperature)[None])
    decode = talker.tokenizer.decode
    if voice is None:
        _write(a.out, torch.cat([decode(tokens)[0], decode(added)[0]]), added)
        return
    # the last frame of the input is played whole, and the continuation follows without a seam
    begun = dataclasses.replace(tokens, num_samples=tokens.lengths * tokens.hop_length)
    joined = SpeechTokens.join([begun, voice.complete(added)])
    _write(a.out, decode(joined)[0], joined)


def _encode(talker: Talker, path: str) -> SpeechTokens:
    return talker.tokenizer.encode(*speechtok.read_audio(path))


def _play(audio: torch.Tensor) -> None:
    """Write 16-bit samples to standard output."""
    sys.stdout.buffer.write((audio.clamp(-1, 1) * 32_767).round().to(torch.int16).numpy().tobytes())
    sys.stdout.buffer.flush()


def _write(path: str, audio: torch.Tensor, tokens: SpeechTokens) -> None:
    write_speech(path, audio, tokens)
    print(f"wrote {path}, {len(audio) / tokens.sample_rate:.1f} s")


def make_parser() -> argparse.ArgumentParser:
    """Create the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.speech_lm.talk",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--model", default="runs/speech_lm/small/model", help="trained language model")
    common.add_argument("--seed", type=int, default=0, help="of sampling")
    sampling = argparse.ArgumentParser(add_help=False)
    sampling.add_argument("--temperature", type=float, default=0.7, help="of sampling codes; 0 for greedy choice")
    add_voice_arguments(sampling)
    sampling.add_argument("--style", default="", metavar="TEXT", help="such as 'a high, lively, soft voice'")
    commands = parser.add_subparsers(required=True)
    for name, function, parents, help_text in (
        ("say", say, [common, sampling], "text to an audio file, or to standard output if OUT is -"),
        ("transcribe", transcribe, [common], "audio file to text"),
        ("continue", continue_speech, [common, sampling], "audio file to a longer audio file"),
    ):
        command = commands.add_parser(name, parents=parents, help=help_text)
        command.set_defaults(function=function)
        command.add_argument("text" if function is say else "input")
        if function is not transcribe:
            command.add_argument("out")
        if function is say:
            command.add_argument(
                "--candidates", type=int, default=8, help="candidates, of which the model keeps the clearest (8)"
            )
            command.add_argument(
                "--guidance", type=float, default=GUIDANCE, help="guidance for models that speak through phones (2)"
            )
        if function is continue_speech:
            command.add_argument("--seconds", type=float, default=4.0, help="largest duration to add (4)")
    return parser


def main() -> None:
    """Run the command line."""
    arguments = make_parser().parse_args()
    for name, minimum in (("candidates", 1), ("temperature", 0), ("guidance", 0)):
        if getattr(arguments, name, minimum) < minimum:
            raise InputError(f"{name} is {getattr(arguments, name)}; expected at least {minimum}")
    torch.manual_seed(arguments.seed)
    arguments.function(Talker(arguments.model), arguments)


if __name__ == "__main__":
    sys.exit(run(main))
