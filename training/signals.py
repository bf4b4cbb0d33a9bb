"""Stop signals: Ctrl-C and SIGTERM, handled between two steps."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event, so that the current step is completed. A second signal interrupts at once.

    Outside the main thread, signals are left alone and the event is never set.
    """
    requested = threading.Event()

    def request(number: int, frame: object) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()

    if threading.current_thread() is not threading.main_thread():
        yield requested
        return
    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requested
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
