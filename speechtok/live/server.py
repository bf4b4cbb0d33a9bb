"""The server: a page, a WebSocket, metrics and health, as an application of Starlette."""

import asyncio
import contextlib
import hmac
import logging
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from speechtok.errors import InputError
from speechtok.live.agents import Agents
from speechtok.live.browser import BrowserFiles
from speechtok.live.caller import CallEndedError, Caller, CallOptions
from speechtok.live.config import ServerConfig
from speechtok.live.engine import Engine
from speechtok.live.metrics import CONTENT_TYPE_LATEST, ServerMetrics
from speechtok.tokenizer import Tokenizer
from speechtok.version import __version__
from speechtok.voice.model import VoiceModel

PATH = "/api/chat"
"""Of the WebSocket, as Moshi's."""
SUBPROTOCOL = "speechtok"
TOKEN_PREFIX = "speechtok.token."
"""A browser cannot set headers: it sends the token as a second subprotocol with this prefix."""

logger = logging.getLogger("speechtok.live")


class LiveServer:
    """Answers the requests of one server.

    Args:
        tokenizer: of all callers.
        config: limits and permissions.
        agent: of callers who ask for none; see :class:`~speechtok.live.agents.Agents`.
        voice: model for the agent ``convert-voice``.

    Raises:
        InputError: the agent cannot be used.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        config: ServerConfig | None = None,
        agent: str = "none",
        voice: VoiceModel | None = None,
    ) -> None:
        self.tokenizer, self.config = tokenizer, config or ServerConfig()
        self.metrics = ServerMetrics()
        self.agents = Agents(tokenizer, agent, voice)
        self._callers: set[Caller] = set()
        self._began = time.monotonic()
        routes = [
            *BrowserFiles(tokenizer, self.agents.names, self.config.share_weights, self._refusal).routes,
            Route("/health", self._health, methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
            WebSocketRoute(PATH, self._talk),
        ]
        self.app = Starlette(routes=routes, lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self.engine = Engine(
            self.tokenizer,
            self.config.max_callers,
            self.metrics.batch,
            lambda error: logger.error("the engine has failed", exc_info=error),
        )
        self.engine.start()
        watchdog = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watchdog.cancel()
            for caller in list(self._callers):
                caller.end(CallEndedError("shutdown", 1012, "the server shuts down"))
            await asyncio.get_running_loop().run_in_executor(None, self.engine.stop)

    async def _watch(self) -> None:
        """End connections that say nothing for long, or last too long, or whose engine is gone."""
        started: dict[Caller, float] = {}
        while True:
            await asyncio.sleep(min(1.0, self.config.idle_timeout / 4))
            now = time.monotonic()
            started = {caller: started.get(caller, now) for caller in self._callers}
            for caller, began in started.items():
                if now - caller.last_heard > self.config.idle_timeout:
                    caller.end(CallEndedError("idle", 1001, "no message came for long"))
                elif now - began > self.config.max_seconds:
                    caller.end(CallEndedError("long", 1001, "the conversation lasted too long"))
                elif not self.engine.alive:
                    caller.end(CallEndedError("failed", 1011, "the server has failed"))

    async def _health(self, request: Request) -> Response:
        body = {
            "status": "ok" if self.engine.alive else "failed",
            "version": __version__,
            "fingerprint": self.tokenizer.fingerprint,
            "callers": len(self._callers),
            "max_callers": self.config.max_callers,
            "uptime_seconds": round(time.monotonic() - self._began),
        }
        return JSONResponse(body, 200 if self.engine.alive else 503)

    async def _metrics(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        return Response(self.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    def _refusal(self, request: Request) -> Response | None:
        """The answer to a request without the token; ``None`` if it has it."""
        if self._is_authorized(request.headers, []):
            return None
        self.metrics.refused.labels("token").inc()
        return PlainTextResponse("a bearer token is needed\n", 401, {"WWW-Authenticate": "Bearer"})

    async def _talk(self, websocket: WebSocket) -> None:
        """One connection, from its request to its end."""
        refusal, options = self._check(websocket)
        if options is None:
            reason, status, text = refusal
            self.metrics.refused.labels(reason).inc()
            await websocket.send_denial_response(PlainTextResponse(text + "\n", status))
            return
        offered = websocket.scope.get("subprotocols", [])
        await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        self.metrics.accepted.inc()
        caller = None
        try:
            caller = Caller(websocket, options, self.engine, self.agents, self.config, self.metrics)
            self._callers.add(caller)
            self.metrics.callers.set(len(self._callers))
            ended = CallEndedError(await caller.run(), 1000, "")
        except CallEndedError as end:
            ended = end
        except (WebSocketDisconnect, OSError):
            ended = CallEndedError("client", 1000, "")
        except InputError as error:  # Opus without its library
            ended = CallEndedError("unavailable", 1003, str(error))
        finally:
            if caller is not None:
                self._callers.discard(caller)
            self.metrics.callers.set(len(self._callers))
        self.metrics.closed.labels(ended.reason).inc()
        if ended.reason != "client":
            await self._close(websocket, ended)

    async def _close(self, websocket: WebSocket, ended: CallEndedError) -> None:
        """Say goodbye, to those who listen."""
        with contextlib.suppress(Exception):  # the connection may be in any state
            await asyncio.wait_for(websocket.close(ended.code, ended.text[:100]), self.config.close_timeout)

    def _check(self, websocket: WebSocket) -> tuple[tuple[str, int, str], CallOptions | None]:
        """The reason, status and text of a refusal; or the options of the call."""
        if not self._is_allowed_origin(websocket.headers):
            return ("origin", 403, "this origin may not connect"), None
        if not self._is_authorized(websocket.headers, websocket.scope.get("subprotocols", [])):
            return ("token", 401, "a bearer token is needed"), None
        try:
            options = CallOptions.parse(
                websocket.query_params,
                self.agents,
                self.tokenizer.sample_rate,
                self.tokenizer.num_codebooks,
                self.config.moshi,
            )
        except InputError as error:
            return ("options", 400, str(error)), None
        if len(self._callers) >= self.config.max_callers or self.engine.num_callers >= self.config.max_callers:
            return ("full", 503, "all lines are busy; try again later"), None
        return ("", 0, ""), options

    def _is_allowed_origin(self, headers: Headers) -> bool:
        """Whether a web page may connect. Programs send no origin."""
        origin = headers.get("origin")
        if origin is None or "*" in self.config.origins or origin in self.config.origins:
            return True
        try:
            return bool(urlsplit(origin).netloc) and urlsplit(origin).netloc == headers.get("host")
        except ValueError:
            return False

    def _is_authorized(self, headers: Headers, subprotocols: list[str]) -> bool:
        token = self.config.token
        if token is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        candidates = [given] if scheme.lower() == "bearer" else []
        candidates += [name[len(TOKEN_PREFIX) :] for name in subprotocols if name.startswith(TOKEN_PREFIX)]
        return any(hmac.compare_digest(candidate.encode(), token.encode()) for candidate in candidates)
