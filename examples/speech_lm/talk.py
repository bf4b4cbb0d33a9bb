"""Talk to a trained model.

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
from examples.speech_lm.speak import GUIDANCE, MOST_SECONDS, Talker, left_out
from speechtok.errors import InputError
from speechtok.tokens import SpeechTokens


def read(talker: Talker, path: str) -> SpeechTokens:
    """The tokens of an audio file, ``(1, Q, T)``."""
    return talker.tokenizer.encode(*speechtok.read_audio(path))


def say(talker: Talker, arguments: argparse.Namespace) -> None:
    """A text to an audio file; to standard output, while it is said, if that is called -."""
    if arguments.out == "-":
        if talker.voice:
            raise InputError("out is - with --voice, which reads ahead; expected a file, or no voice")
        talker.say(arguments.text, 1, arguments.temperature, arguments.guidance, play)
        return
    reference = read(talker, arguments.reference) if arguments.reference else None
    said = talker.say(arguments.text, arguments.takes, arguments.temperature, arguments.guidance)
    if missing := left_out(said):
        print(f"left out, as it takes too long: {' '.join(missing)}")
    write(talker, arguments.out, talker.audio(said.tokens.codes[0, 0], reference))


def transcribe(talker: Talker, arguments: argparse.Namespace) -> None:
    """An audio file to text."""
    print(talker.hear(read(talker, arguments.input))[0])


def play(audio: torch.Tensor) -> None:
    """Samples of 16 bits to standard output."""
    sys.stdout.buffer.write((audio.clamp(-1, 1) * 32_767).round().to(torch.int16).numpy().tobytes())
    sys.stdout.buffer.flush()


def go_on(talker: Talker, arguments: argparse.Namespace) -> None:
    """An audio file to one that begins with it and goes on."""
    heard = read(talker, arguments.input)
    if not 0 < arguments.seconds <= MOST_SECONDS:
        raise InputError(f"seconds is {arguments.seconds}; expected above 0 and at most {MOST_SECONDS:g}")
    codes = talker.go_on(heard, arguments.seconds, arguments.temperature)
    audio = talker.audio(codes, heard if talker.voice else None)
    write(talker, arguments.out, torch.cat([talker.tokenizer.decode(heard)[0], audio]))


def write(talker: Talker, path: str, audio: torch.Tensor) -> None:
    """An audio file, and how long it is."""
    rate = talker.tokenizer.sample_rate
    speechtok.write_audio(path, audio, rate)
    print(f"wrote {path}, {len(audio) / rate:.1f} s")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--model", default="runs/speech_lm/small/model", help="trained language model")
    common.add_argument("--voice", help="trained voice, such as runs/speech_lm/voice/model")
    common.add_argument("--seed", type=int, default=0, help="of what is drawn")
    drawn = argparse.ArgumentParser(add_help=False)
    drawn.add_argument("--temperature", type=float, default=0.7, help="of drawing codes; 0: always the likeliest")
    commands = whole.add_subparsers(required=True)
    for name, function, parents in (
        ("say", say, [common, drawn]),
        ("transcribe", transcribe, [common]),
        ("continue", go_on, [common, drawn]),
    ):
        command = commands.add_parser(name, parents=parents, help=function.__doc__)
        command.set_defaults(function=function)
        command.add_argument("text" if function is say else "input")
        if function is not transcribe:
            command.add_argument("out")
        if function is say:
            command.add_argument("--takes", type=int, default=8, help="tries, of which the model keeps the clearest")
            command.add_argument(
                "--guidance", type=float, default=GUIDANCE, help="how much more the phones count, if it speaks by them"
            )
            command.add_argument("--reference", help="audio whose voice it is to be (with --voice)")
        if function is go_on:
            command.add_argument("--seconds", type=float, default=4.0, help="to go on for, at most")
    return whole


def main() -> None:
    """Command line."""
    arguments = parser().parse_args()
    for name, least in (("takes", 1), ("temperature", 0), ("guidance", 0)):
        if getattr(arguments, name, least) < least:
            raise InputError(f"{name} is {getattr(arguments, name)}; expected at least {least}")
    torch.manual_seed(arguments.seed)
    arguments.function(Talker(arguments.model, arguments.voice), arguments)


if __name__ == "__main__":
    sys.exit(run(main))
