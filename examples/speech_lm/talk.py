"""Speak, transcribe and continue speech with trained models.

python -m examples.speech_lm.talk say "good morning" out.wav
python -m examples.speech_lm.talk say "good morning" - | aplay -f S16_LE -r 16000
python -m examples.speech_lm.talk transcribe in.wav
python -m examples.speech_lm.talk continue in.wav out.wav
"""

import argparse
import sys

import torch

import speechtok
from examples.speech_lm.config import run
from examples.speech_lm.talker import GUIDANCE, MAX_SECONDS, Talker, missing_words
from speechtok.errors import InputError
from speechtok.tokens import SpeechTokens


def say(talker: Talker, arguments: argparse.Namespace) -> None:
    """Write a text as speech to an audio file, or to standard output while it is generated."""
    if arguments.out == "-":
        if talker.voice:
            raise InputError("out is - with --voice, which needs the whole utterance; expected a file, or no --voice")
        talker.say(arguments.text, 1, arguments.temperature, arguments.guidance, _play)
        return
    reference = _encode(talker, arguments.reference) if arguments.reference else None
    spoken = talker.say(arguments.text, arguments.candidates, arguments.temperature, arguments.guidance)
    if missing := missing_words(spoken):
        print(f"left out, as the utterance would be too long: {' '.join(missing)}")
    _write(talker, arguments.out, talker.audio(spoken.tokens.codes[0, 0], reference))


def transcribe(talker: Talker, arguments: argparse.Namespace) -> None:
    """Print the transcript of an audio file."""
    print(talker.transcribe(_encode(talker, arguments.input))[0])


def continue_speech(talker: Talker, arguments: argparse.Namespace) -> None:
    """Write an audio file with a continuation."""
    tokens = _encode(talker, arguments.input)
    if not 0 < arguments.seconds <= MAX_SECONDS:
        raise InputError(f"seconds is {arguments.seconds}; expected above 0 and at most {MAX_SECONDS:g}")
    codes = talker.continue_speech(tokens, arguments.seconds, arguments.temperature)
    audio = talker.audio(codes, tokens if talker.voice else None)
    _write(talker, arguments.out, torch.cat([talker.tokenizer.decode(tokens)[0], audio]))


def _encode(talker: Talker, path: str) -> SpeechTokens:
    return talker.tokenizer.encode(*speechtok.read_audio(path))


def _play(audio: torch.Tensor) -> None:
    """Write 16-bit samples to standard output."""
    sys.stdout.buffer.write((audio.clamp(-1, 1) * 32_767).round().to(torch.int16).numpy().tobytes())
    sys.stdout.buffer.flush()


def _write(talker: Talker, path: str, audio: torch.Tensor) -> None:
    rate = talker.tokenizer.sample_rate
    speechtok.write_audio(path, audio, rate)
    print(f"wrote {path}, {len(audio) / rate:.1f} s")


def make_parser() -> argparse.ArgumentParser:
    """Create the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.speech_lm.talk",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--model", default="runs/speech_lm/small/model", help="trained language model")
    common.add_argument("--voice", help="trained voice model, such as runs/speech_lm/voice/model")
    common.add_argument("--seed", type=int, default=0, help="of sampling")
    sampling = argparse.ArgumentParser(add_help=False)
    sampling.add_argument("--temperature", type=float, default=0.7, help="of sampling codes; 0 for greedy choice")
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
            command.add_argument("--reference", help="audio file with the voice to use (with --voice)")
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
    arguments.function(Talker(arguments.model, arguments.voice), arguments)


if __name__ == "__main__":
    sys.exit(run(main))
