"""The server on uvicorn, with time limits for clients that are slow on purpose."""

import asyncio
import logging
import ssl
import sys
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from speechtok.live.config import ServerConfig
from speechtok.live.server import LiveServer

SWITCH_SECONDS = 5e-4
"""How long the thread of the network and that of the batches wait for each other, at most. Python's own 5 ms are a
quarter of a frame."""

MAX_REQUEST_BYTES = 16_384
"""Longest request, without a body: no request has one."""


def make_server(
    live: LiveServer, host: str, port: int, certificate: str | None = None, key: str | None = None
) -> uvicorn.Server:
    """A server that was not started; ``run()`` runs it until a signal comes.

    Args:
        live: the application.
        host: to listen at.
        port: to listen at; 0 for any that is free.
        certificate: file of the certificate, for HTTPS.
        key: file of its key.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    config = uvicorn.Config(
        live.app,
        host=host,
        port=port,
        http=_http_protocol(live),
        ws=_websocket_protocol(live.config),
        ws_max_size=live.config.max_message_bytes,
        ws_ping_interval=None,  # callers send audio all the time; and no pong is read while a caller is slowed down
        ws_per_message_deflate=False,  # audio does not get smaller, and small messages can unpack to large ones
        h11_max_incomplete_event_size=MAX_REQUEST_BYTES,
        timeout_graceful_shutdown=5,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    return uvicorn.Server(config)


def _http_protocol(live: LiveServer) -> type[H11Protocol]:
    class Protocol(H11Protocol):
        """Cuts connections whose request does not come, and those whose answer is not read."""

        _stalled: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._deadline = self.loop.call_later(live.config.header_timeout, self._cut)

        def connection_lost(self, exc: Exception | None) -> None:
            self._deadline.cancel()
            self._cancel_stalled()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stalled = self.loop.call_later(live.config.header_timeout, self._cut_unread)

        def resume_writing(self) -> None:
            self._cancel_stalled()
            super().resume_writing()

        def _cancel_stalled(self) -> None:
            if self._stalled is not None:
                self._stalled.cancel()

        def _cut_unread(self) -> None:
            live.metrics.refused.labels("unread").inc()
            self.transport.abort()

        def _cut(self) -> None:
            if self.cycle is None and self.transport.get_protocol() is self:
                live.metrics.refused.labels("slow").inc()
                self.transport.abort()

        def send_400_response(self, msg: str) -> None:
            live.metrics.refused.labels("malformed").inc()
            super().send_400_response(msg)

    return Protocol


def _websocket_protocol(config: ServerConfig) -> type[WebSocketsSansIOProtocol]:
    class Protocol(WebSocketsSansIOProtocol):
        """Cuts connections that were closed and whose client does not read what is left."""

        async def run_asgi(self) -> None:
            try:
                await super().run_asgi()
            finally:
                self.loop.call_later(config.close_timeout, self._cut)

        async def send(self, message: Any) -> None:
            if message["type"] == "websocket.send" and self.transport.is_closing():
                raise ClientDisconnected  # asyncio would complain of each write
            await super().send(message)

        def _cut(self) -> None:
            if not self.disconnected:
                self.transport.abort()

    return Protocol


def tls_problem(certificate: str, key: str | None) -> str | None:
    """Why a certificate cannot be used; ``None`` if it can."""
    context: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        return str(error)
    return None
