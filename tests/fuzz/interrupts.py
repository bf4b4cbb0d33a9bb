"""Signals that interrupt the calls of a stream: afterwards it is closed, or exactly right.

An input is a stream that encodes and decodes some utterances, and the moment of a signal whose handler raises. Inputs
whose signal came inside a call pass the first check. The stream then goes on, and its codes and audio are compared with
those of the whole utterances; or it is closed, which counts as refused.
"""

import contextlib
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from speechtok import NO_CODE
from speechtok.errors import StreamError
from tests.conftest import make_speech, make_tokenizer
from tests.fuzz.runner import Fuzzer, Report, run_here

RATES = 16_000, 48_000, 44_100, 8_000
CALLS = 8
"""Calls of a stream, about; the signal comes in one of them."""


class Interrupt(BaseException):
    """Raised by the signal handler."""


class Utterance(NamedTuple):
    """Audio, and what a tokenizer makes of it."""

    samples: Tensor
    codes: Tensor
    audio: Tensor


class Script(NamedTuple):
    """An input of the fuzzer."""

    seed: int
    rate: int
    rows: int
    call: int
    moment: float
    again: bool


class Inputs(Fuzzer):
    """Streams of one tokenizer, one after the other."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.tok = make_tokenizer()
        self.pool = {rate: [self._prepare(rate, index) for index in range(8)] for rate in RATES}
        self.durations: dict[str, float] = {}
        self.outcome: Exception | None = None

    def _prepare(self, rate: int, index: int) -> Utterance:
        samples = torch.from_numpy(make_speech(0.02 + 0.013 * index, seed=index, sample_rate=rate))
        tokens = self.tok.encode(samples, rate)
        return Utterance(samples, tokens.codes[0], self.tok.decode(tokens.codes)[0])

    def make(self, rng: random.Random) -> Script:
        return Script(
            seed=rng.getrandbits(32),
            rate=rng.choice(RATES),
            rows=rng.randint(1, 2),
            call=rng.randrange(CALLS),
            moment=rng.random(),
            again=rng.random() < 0.2,
        )

    def passes(self, made: Script) -> bool:
        caller = Caller(made, self.durations)
        self.outcome = None
        with caller.handling():
            try:
                self._play(made, caller)
            except Exception as error:
                self.outcome = error
        if not torch.is_grad_enabled():
            torch.set_grad_enabled(True)
            self.outcome = AssertionError("gradients stayed off")
        return caller.hits > 0

    def use(self, made: Script) -> None:
        if self.outcome is not None:
            expected = "a call was interrupted, and its result is lost"
            if isinstance(self.outcome, StreamError) and expected not in str(self.outcome):
                raise AssertionError(f"another error: {self.outcome}")
            raise self.outcome

    def _play(self, made: Script, caller: "Caller") -> None:
        rng = random.Random(made.seed)
        stream = self.tok.stream(made.rows, sample_rate=made.rate)
        while caller.calls < CALLS:
            utterances = [rng.choice(self.pool[made.rate]) for _ in range(made.rows)]
            codes: list[list[Tensor]] = [[] for _ in utterances]
            sounds: list[list[Tensor]] = [[] for _ in utterances]

            def hear(audio: Tensor, into: list[list[Tensor]] = sounds) -> None:
                for row, n in enumerate(stream.audio_lengths.tolist()):
                    into[row].append(audio[row, :n])

            def keep(new: Tensor, into: list[list[Tensor]] = codes, hear: Callable[[Tensor], None] = hear) -> None:
                for row in range(made.rows):
                    into[row].append(new[row][:, new[row][0] != NO_CODE])
                hear(caller(stream.decode, new))

            taken = [0] * made.rows
            while any(t < len(u.samples) for t, u in zip(taken, utterances, strict=True)):
                size = rng.choice([100, made.rate // 50, made.rate // 20])
                new = [
                    min(rng.choice([0, size, size]), len(u.samples) - t) for t, u in zip(taken, utterances, strict=True)
                ]
                chunk = torch.zeros(made.rows, size)
                for row, (n, t, u) in enumerate(zip(new, taken, utterances, strict=True)):
                    chunk[row, :n] = u.samples[t : t + n]
                    taken[row] += n
                keep(caller(stream.encode, chunk, new, made.rate))
            keep(caller(stream.flush))
            hear(caller(stream.drain))
            for row, expected in enumerate(utterances):
                assert torch.equal(torch.cat(codes[row], 1), expected.codes), "codes differ"
                assert torch.equal(torch.cat(sounds[row]), expected.audio), "audio differs"
            caller(stream.reset)


class Caller:
    """Calls methods of a stream, one of them with a timer, and repeats the call that was interrupted."""

    def __init__(self, script: Script, durations: dict[str, float]) -> None:
        self.script, self.durations = script, durations
        self.calls = self.hits = 0
        self.armed = False

    @contextlib.contextmanager
    def handling(self) -> Any:
        """Set the signal handler."""
        before = signal.signal(signal.SIGALRM, self.handle)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def handle(self, _: int, frame: Any) -> None:
        """Raise, if the signal came inside the stream."""
        if self.armed and frame is not None and frame.f_code not in (Caller.__call__.__code__, Caller.handle.__code__):
            self.hits += 1
            self.armed = self.script.again and self.hits == 1
            raise Interrupt

    def __call__(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method of a stream."""
        name, self.calls = method.__name__, self.calls + 1
        if self.calls - 1 != self.script.call:
            began = time.perf_counter()
            result = method(*arguments)
            duration = time.perf_counter() - began
            median = self.durations.get(name, duration)
            self.durations[name] = median * (1.05 if duration > median else 1 / 1.05)
            return result
        delay = max(1e-6, self.script.moment * self.durations.get(name, 1e-4))
        try:
            signal.setitimer(signal.ITIMER_REAL, delay, 1e-5 if self.script.again else 0)
            self.armed = True
            result = method(*arguments)
            self.armed = False
            return result
        except Interrupt:
            self.armed = False
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return method(*arguments)


def run(count: int, seed: int = 0) -> Report:
    """Run some inputs in this process."""
    return run_here("interrupts", count, seed)
