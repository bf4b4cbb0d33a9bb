"""What each pattern costs a language model, and what the vocabulary costs beside it.

``python -m benchmarks.vocabulary`` prints Markdown tables: ids a second, context for a minute of speech, and ids until
the first audio; milliseconds to turn an hour of codes into ids and back; and milliseconds from the id that completes a
frame to its audio. On one thread; times of the clock and of the processor, which a machine that does other things tells
apart. The last table needs transformers (the ``lm`` extra).
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
from benchmarks.arguments import number_from, told_in_a_line
from speechtok import lm

SECONDS = 10
"""Of the utterance whose first audio is waited for; ``coarse_first`` depends on it."""


def patterns(num_codebooks: int) -> dict[str, lm.Pattern]:
    """Those of the field, by the name that the tables give them."""
    return {
        "`semantic`": lm.Semantic(),
        "`semantic`, runs": lm.Semantic(16),
        "`flatten`": lm.Flatten(),
        "`delay`": lm.Delay(),
        "`coarse_first`": lm.CoarseFirst(),
        "`parallel`": lm.Parallel(),
        "`parallel`, late": lm.Parallel(tuple(range(num_codebooks))),
    }


def sample(tok: speechtok.ConvNeXtTokenizer, frames: int) -> Tensor:
    """Codes of the speech that comes with the package, again and again, ``(1, Q, T)``."""
    with resources.as_file(resources.files("speechtok") / "assets" / "sample.flac") as path:
        codes = tok.encode(*speechtok.read_audio(path)).codes
    return codes.repeat(1, 1, -(-frames // codes.shape[2]))[:, :, :frames]


def ids_until_audio(vocab: speechtok.AudioVocabulary, codes: Tensor, frames: int) -> int:
    """Ids (steps of a grid) until ``frames`` are complete: the decoder gives a frame with the next one."""
    reader, done = vocab.reader(), 0
    steps = (vocab.to_ids(codes)[0, 1:-1] - vocab.first_code).reshape(-1, vocab.num_codebooks if vocab.is_grid else 1)
    for count, step in enumerate(steps.tolist(), 1):
        done += reader.take(step).shape[1]
        if done >= frames:
            return count
    raise RuntimeError(f"{frames} frames do not come of {len(steps)} steps")


def clocked(call: Callable[[], object], times: int) -> tuple[float, float]:
    """Milliseconds of the clock and of the processor, each the least of several."""
    wall, cpu = [], []
    for _ in range(times):
        began = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - began[0])
        cpu.append(time.process_time() - began[1])
    return 1e3 * min(wall), 1e3 * min(cpu)


def streamer_latency(
    tok: speechtok.ConvNeXtTokenizer, vocab: speechtok.AudioVocabulary, codes: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Milliseconds of the clock and of the processor, from the id that completes a frame to audio, for each frame."""
    played: list[Tensor] = []
    streamer = lm.AudioStreamer(vocab, tok, played.append)
    ids = vocab.to_ids(codes)[0]
    streamer.put(ids[None, :1])
    wall, cpu = [], []
    for id_ in ids[1:-1]:
        count, began = len(played), (time.perf_counter(), time.process_time())
        streamer.put(id_[None])
        if len(played) > count:
            wall.append(time.perf_counter() - began[0])
            cpu.append(time.process_time() - began[1])
    streamer.end()
    if not torch.equal(torch.cat(played), tok.decode(vocab.to_codes(ids))[0]):
        raise RuntimeError("what was streamed is not what decoding the whole gives")
    return 1e3 * np.array(wall), 1e3 * np.array(cpu)


@told_in_a_line
def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a tokenizer's directory; the default by default")
    parser.add_argument(
        "--times", type=number_from(1), default=7, help="repetitions of each conversion, of which the least counts"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tok = speechtok.load(arguments.model)
    frame_rate = tok.frame_rate
    hour, short = sample(tok, round(3600 * frame_rate)), sample(tok, round(SECONDS * frame_rate))
    all_patterns = patterns(tok.num_codebooks)
    vocabularies = {name: speechtok.AudioVocabulary(tok, pattern) for name, pattern in all_patterns.items()}

    print(f"| pattern | ids a second | context for a minute | ids until the first audio, of {SECONDS} s |")
    print("|---|---|---|---|")
    for name, vocab in vocabularies.items():
        ids = len(vocab.to_ids(hour)[0]) - 2
        first = ids_until_audio(vocab, short, 2)
        print(f"| {name} | {ids / 3600:.1f} | {ids / 60:.0f} | {first} |")

    print("\n| pattern | ids of an hour | to ids: clock, ms | processor, ms | to codes: clock, ms | processor, ms |")
    print("|---|---|---|---|---|---|")
    for name, vocab in vocabularies.items():
        ids = vocab.to_ids(hour)
        there = clocked(lambda v=vocab: v.to_ids(hour), arguments.times)  # type: ignore[misc]
        back = clocked(lambda v=vocab, i=ids: v.to_codes(i), arguments.times)  # type: ignore[misc]
        print(f"| {name} | {ids[0].numel()} | " + " | ".join(f"{ms:.0f}" for ms in (*there, *back)) + " |")

    print("\n| pattern | frames | clock: first, ms | median | p99 | processor: first, ms | median | p99 |")
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
