"""Benchmark of the codebook patterns and of the audio vocabulary.

``python -m benchmarks.vocabulary`` prints three Markdown tables:

1. for each pattern, ids per second, context for a minute of speech, and ids until the first audio;
2. milliseconds to convert the codes of an hour to ids and back;
3. milliseconds from the id that completes a frame to its audio (needs transformers, the ``lm`` extra).

All run on one thread. Times are wall-clock and CPU time; CPU time does not depend on the load of the machine.
"""

import argparse
import sys
import time
from collections.abc import Callable
from importlib import resources

import numpy as np
import torch
from torch import Tensor

import speechtok
from benchmarks.arguments import integer_from, one_line_errors
from speechtok import lm

SECONDS = 10
"""Length of the utterance for the first audio, in seconds; it matters for ``coarse_first``."""


def patterns(num_codebooks: int) -> dict[str, lm.Pattern]:
    """Patterns by their names in the tables."""
    return {
        "`semantic`": lm.Semantic(),
        "`Semantic(longest_run=16)`": lm.Semantic(16),
        "`flatten`": lm.Flatten(),
        "`delay`": lm.Delay(),
        "`coarse_first`": lm.CoarseFirst(),
        "`parallel`": lm.Parallel(),
        f"`Parallel(delays=(0, …, {num_codebooks - 1}))`": lm.Parallel(tuple(range(num_codebooks))),
    }


def sample(tok: speechtok.Tokenizer, frames: int) -> Tensor:
    """Codes of the speech sample of the package, repeated to ``frames`` frames, ``(1, Q, T)``."""
    with resources.as_file(resources.files("speechtok") / "assets" / "sample.flac") as path:
        codes = tok.encode(*speechtok.read_audio(path)).codes
    return codes.repeat(1, 1, -(-frames // codes.shape[2]))[:, :, :frames]


def ids_until_audio(vocab: speechtok.AudioVocabulary, codes: Tensor, frames: int) -> int:
    """Ids, or steps of a grid, until ``frames`` frames are complete."""
    parser, done = vocab.parser(), 0
    steps = (vocab.to_ids(codes)[0, 1:-1] - vocab.first_code).reshape(-1, vocab.num_codebooks if vocab.is_grid else 1)
    for count, step in enumerate(steps.tolist(), 1):
        done += parser.feed(step).shape[1]
        if done >= frames:
            return count
    raise RuntimeError(f"{len(steps)} steps complete {done} frames; expected at least {frames}")


def measure_ms(call: Callable[[], object], repetitions: int) -> tuple[float, float]:
    """Wall-clock and CPU milliseconds of a call, each the minimum of the repetitions."""
    wall, cpu = [], []
    for _ in range(repetitions):
        start = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    return 1e3 * min(wall), 1e3 * min(cpu)


def streamer_latency(
    tok: speechtok.Tokenizer, vocab: speechtok.AudioVocabulary, codes: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Wall-clock and CPU milliseconds from the id that completes a frame to its audio, for each frame."""
    played: list[Tensor] = []
    streamer = lm.AudioStreamer(vocab, tok, played.append)
    ids = vocab.to_ids(codes)[0]
    streamer.put(ids[None, :1])
    wall, cpu = [], []
    for id_ in ids[1:-1]:
        count, start = len(played), (time.perf_counter(), time.process_time())
        streamer.put(id_[None])
        if len(played) > count:
            wall.append(time.perf_counter() - start[0])
            cpu.append(time.process_time() - start[1])
    streamer.end()
    if not torch.equal(torch.cat(played), tok.decode(vocab.to_codes(ids))[0]):
        raise RuntimeError("the streamed audio differs from the decoded utterance")
    return 1e3 * np.array(wall), 1e3 * np.array(cpu)


@one_line_errors
def main() -> int:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.vocabulary",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", help="name or folder of a tokenizer (default: the embedded one)")
    parser.add_argument(
        "--times",
        type=integer_from(1),
        default=7,
        metavar="N",
        help="repetitions of each conversion, of which the fastest counts (default: %(default)s)",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tok = speechtok.load(arguments.model)
    hour, short = sample(tok, round(3600 * tok.frame_rate)), sample(tok, round(SECONDS * tok.frame_rate))
    vocabularies = {
        name: speechtok.AudioVocabulary(tok, pattern) for name, pattern in patterns(tok.num_codebooks).items()
    }

    print(f"| pattern | ids per second | context for a minute | ids until the first audio, of {SECONDS} s |")
    print("|---|---|---|---|")
    for name, vocab in vocabularies.items():
        ids = len(vocab.to_ids(hour)[0]) - 2
        first = ids_until_audio(vocab, short, 2)  # the decoder returns a frame once it has the next one
        print(f"| {name} | {ids / 3600:.1f} | {ids / 60:.0f} | {first} |")

    print("\n| pattern | ids of an hour | to ids: wall, ms | CPU, ms | to codes: wall, ms | CPU, ms |")
    print("|---|---|---|---|---|---|")
    for name, vocab in vocabularies.items():
        ids = vocab.to_ids(hour)
        to_ids = measure_ms(lambda v=vocab: v.to_ids(hour), arguments.times)  # type: ignore[misc]
        to_codes = measure_ms(lambda v=vocab, i=ids: v.to_codes(i), arguments.times)  # type: ignore[misc]
        print(f"| {name} | {ids[0].numel()} | " + " | ".join(f"{ms:.0f}" for ms in (*to_ids, *to_codes)) + " |")

    print("\n| pattern | frames | wall: first, ms | median | p99 | CPU: first, ms | median | p99 |")
    print("|---|---|---|---|---|---|---|---|")
    for name, vocab in vocabularies.items():
        if not vocab.is_grid:
            cells = []
            for ms in streamer_latency(tok, vocab, short):
                cells += [f"{ms[0]:.1f}", f"{np.median(ms):.1f}", f"{np.percentile(ms, 99):.1f}"]
            print(f"| {name} | {short.shape[2]} | " + " | ".join(cells) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
