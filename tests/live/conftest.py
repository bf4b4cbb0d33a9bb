"""A server on a free port, and clients."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra live is not installed")
pytest.importorskip("uvicorn", reason="the extra live is not installed")
pytest.importorskip("prometheus_client", reason="the extra live is not installed")

from speechtok.live.config import ServerConfig
from speechtok.live.server import LiveServer
from speechtok.live.serving import make_server


class RunningServer:
    """A server in a thread of this process."""

    def __init__(self, tokenizer: Any, config: ServerConfig, agent: str = "none", voice: Any = None) -> None:
        self.live = LiveServer(tokenizer, config, agent, voice)
        self._server = make_server(self.live, "127.0.0.1", 0)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 30
        while not self._server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    def url(self, **options: Any) -> str:
        return f"ws://127.0.0.1:{self.port}/api/chat?" + "&".join(f"{name}={value}" for name, value in options.items())

    @contextlib.contextmanager
    def connect(self, **options: Any) -> Iterator[Any]:
        """A client of the library websockets; it has read the handshake and the description."""
        from websockets.sync.client import connect

        with connect(self.url(**options), max_size=2**24, proxy=None) as client:
            assert client.recv()[0] == 0
            assert client.recv()[0] == 4
            yield client

    def count(self, name: str, **labels: str) -> float:
        """A metric's value."""
        return self.live.metrics.registry.get_sample_value(name, labels) or 0.0

    def wait_for(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true"
            time.sleep(0.02)

    def shrink_buffers(self, size: int) -> None:
        """Let the system hold less of what connections to come do not read: by default, several megabytes."""
        self._server.servers[0].sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def serve(tiny: Any) -> Iterator[Callable[..., RunningServer]]:
    """``serve(agent="none", voice=None, **fields of the config)``: a running server, stopped at the end of the test."""
    with contextlib.ExitStack() as stack:

        def start(agent: str = "none", voice: Any = None, **fields: Any) -> RunningServer:
            server = RunningServer(tiny, ServerConfig(**fields), agent, voice)
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture(scope="module")
def server(tiny: Any) -> Iterator[RunningServer]:
    """One server for the tests of a module that do not change its settings."""
    running = RunningServer(tiny, ServerConfig(max_callers=16))
    yield running
    running.stop()
