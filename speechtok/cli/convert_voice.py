"""``speechtok convert-voice``: say the same in another voice."""

import argparse
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from speechtok.audio import AUDIO_SUFFIXES, as_waveform, read_audio
from speechtok.cli.arguments import Commands, add_file_arguments, non_empty
from speechtok.cli.batch import process_files
from speechtok.cli.chunks import Replacing, Work
from speechtok.cli.sources import Job
from speechtok.cli.text import duration, generated_comment, path_text
from speechtok.errors import TokensError
from speechtok.media.writer import encode_file
from speechtok.tokenizer import Tokenizer
from speechtok.tokens import SpeechTokens
from speechtok.voice.model import VoiceModel
from speechtok.voice.prosody import Prosody
from speechtok.voice.style import Style


def add_parser(commands: Commands) -> None:
    """Add the command."""
    text = "say what audio files say in another voice"
    parser = commands.add_parser(
        "convert-voice",
        help=text,
        description=f"{text.capitalize()}. Convert a voice only with the consent of the one whose it is.",
        usage="%(prog)s [options] --voice PROMPT IN [IN ...] OUT",
    )
    add_file_arguments(
        parser,
        "audio files, folders to search, or patterns such as '*.wav'; the last one is OUT unless -o is given",
        "audio file, or folder for several",
    )
    parser.add_argument(
        "--voice", required=True, metavar="PROMPT", type=non_empty, help="audio file with about 3 s of the voice"
    )
    parser.add_argument("--style", default="", metavar="TEXT", help="such as 'a high, lively, soft voice'")
    parser.add_argument(
        "--keep-intonation", action="store_true", help="let the pitch rise and fall as in the recording"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed sounds different (default: 0)")
    parser.add_argument(
        "--voice-model", metavar="FILE", type=non_empty, help="voice model (default: the one of the package)"
    )
    parser.set_defaults(run=run, parser=parser, plot=None, jobs=0)


def run(args: argparse.Namespace) -> int:
    """Convert the inputs and return the exit status."""
    if args.out is None:
        if len(args.inputs) < 2:
            args.parser.error("expected IN and OUT")
        *args.inputs, args.out = args.inputs
    Style.parse(args.style)
    work = _ConvertVoice(
        Path(args.voice), args.style, args.keep_intonation, args.seed, args.voice_model, args.num_codebooks
    )
    return process_files(args, work, AUDIO_SUFFIXES, ".wav")


@dataclass(frozen=True)
class _ConvertVoice(Work):
    prompt: Path
    style: str
    keep_intonation: bool
    seed: int
    voice_model: str | None
    num_codebooks: int | None

    def check(self, tokenizer: Tokenizer) -> None:
        model, prompt = self._voice(tokenizer)
        try:
            model.stream(prompt)
        except TokensError as error:
            raise TokensError(f"{path_text(self.prompt)}: {error}") from error

    def read(self, source: Path) -> Any:
        return read_audio(source)

    def compute(self, tokenizer: Tokenizer, group: list[Any]) -> list[Any]:
        return [self._convert(tokenizer, *contents) for contents in group]

    def _convert(self, tokenizer: Tokenizer, waveform: Tensor, sample_rate: int) -> tuple[SpeechTokens, Tensor]:
        model, prompt = self._voice(tokenizer)
        said = tokenizer.encode(waveform, sample_rate, num_codebooks=1)
        contour = Prosody.of(waveform, sample_rate, tokenizer).contour() if self.keep_intonation else None
        tokens = model.complete(said, prompt, self.style, self.seed, contour=contour)
        return tokens, as_waveform(tokenizer.decode(tokens, self.num_codebooks))[0]

    def _voice(self, tokenizer: Tokenizer) -> tuple[VoiceModel, SpeechTokens]:
        return _load(tokenizer, self.voice_model, self.prompt)

    def write(self, tokenizer: Tokenizer, job: Job, result: Any, replacing: Replacing) -> str:
        tokens, waveform = result
        source, target = path_text(job.source), path_text(job.target)
        comment = generated_comment(tokens)
        encoded = encode_file(target, job.target.suffix, waveform.cpu().numpy(), tokenizer.sample_rate, comment)
        with replacing(job.target) as file:
            file.write(encoded)
        return f"{source} -> {target}: {duration(tokens)} in the voice of {path_text(self.prompt)}"


@functools.lru_cache(1)
def _load(tokenizer: Tokenizer, path: str | None, prompt: Path) -> tuple[VoiceModel, SpeechTokens]:
    return VoiceModel(tokenizer, path), tokenizer.encode(*read_audio(prompt))
