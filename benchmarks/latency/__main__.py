"""From the last sample of a question to the first sample of the answer, through a running server, in parts.

``python -m benchmarks.latency`` starts a server whose agent is a stub of a given speed, asks questions in real time,
and prints a table of parts; ``--plot FILE`` draws it as a waterfall. A cascade of recogniser, model and synthesiser
stands beside it: the parts that are measured here are the recogniser (``--recogniser``) and the synthesiser
(``--synthesiser``, a command that reads text and writes audio); its model is the same stub, and its end of a turn is a
silence timer. Run it on an otherwise idle machine.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.arguments import integer_from, one_line_errors, positive
from benchmarks.latency.answer import FORMATS, Stub, measure
from benchmarks.latency.cascade import cascade
from benchmarks.latency.plot import plot
from benchmarks.latency.waterfall import Waterfall

TIMER_MS = 800.0
"""Silence after which a cascade takes a turn for ended."""


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.latency", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", type=integer_from(1), default=10, help="questions of each kind (10)")
    parser.add_argument("--prefill-ms", type=positive, default=80.0, help="of the model, to its first frame (80)")
    parser.add_argument("--frame-ms", type=positive, default=10.0, help="of the model, for each further frame (10)")
    parser.add_argument(
        "--completion-ms", type=float, default=5.0, help="to complete the acoustic codes of a frame (5)"
    )
    parser.add_argument("--format", action="append", choices=FORMATS, help="of the audio; repeatable (pcm and codes)")
    parser.add_argument("--recogniser", default="pocketsphinx", help="of the cascade: pocketsphinx or whisper:SOURCE")
    parser.add_argument("--synthesiser", help="of the cascade: command that reads a text and writes audio")
    parser.add_argument("--plot", type=Path, help="PNG to draw")
    arguments = parser.parse_args(argv)
    stub = Stub(arguments.prefill_ms / 1e3, arguments.frame_ms / 1e3, max(0.0, arguments.completion_ms) / 1e3)
    rows: list[Waterfall] = [
        measure(format_, arguments.questions, stub) for format_ in arguments.format or ("pcm", "codes")
    ]
    rows.append(cascade(arguments.recogniser, arguments.synthesiser, TIMER_MS / 1e3, stub.prefill))
    print("| | part | median, ms | from to, ms |\n|---|---|---|---|")
    for row in rows:
        print(row)
    if arguments.plot:
        plot(rows, arguments.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
