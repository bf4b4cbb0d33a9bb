"""What the server gives to browsers: the page, the program that makes codes there, and the tokenizer for it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from importlib import resources
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from speechtok.checkpoint import CONFIG_NAME
from speechtok.convnext import ConvNeXtTokenizer
from speechtok.fingerprints import NAMED_TOKENIZERS
from speechtok.live.packed import pack_weights
from speechtok.live.wire import CodePacking
from speechtok.tokenizer import Tokenizer

PAGE = Path(__file__).parent / "page"
"""The page. Its folder ``js`` is the npm package, as ``npm run page`` in bindings/js builds it."""
WEIGHTS = "tokenizer.bin"

_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".wasm": "application/wasm",
    ".txt": "text/plain",
}
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PIECE = 1 << 16
"""Bytes of weights that wait for a client who reads slowly."""


class BrowserFiles:
    """Answers the requests of browsers, but for the conversation itself.

    Args:
        tokenizer: of the server.
        agents: names of those who answer.
        share_weights: whether browsers may load it even if it is not one of the package.
        refusal: the answer to a request that must not get the weights, or ``None``.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        agents: Sequence[str],
        share_weights: bool,
        refusal: Callable[[Request], Response | None],
    ) -> None:
        self._tokenizer, self._agents, self._refusal = tokenizer, agents, refusal
        self._shared = isinstance(tokenizer, ConvNeXtTokenizer) and (share_weights or is_embedded(tokenizer))
        self._packing = asyncio.Lock()
        self._packed: bytes | None = None
        self._files = {f"/{path.relative_to(PAGE).as_posix()}": path for path in PAGE.rglob("*") if path.is_file()}
        self._files["/"] = self._files.pop("/index.html")

    @property
    def routes(self) -> list[Route]:
        """For the application."""
        return [
            *(Route(path, self._file, methods=["GET"]) for path in self._files),
            Route("/tokenizer.json", self._describe, methods=["GET"]),
            Route(f"/{WEIGHTS}", self._weights, methods=["GET"]),
        ]

    async def _file(self, request: Request) -> Response:
        path = self._files[request.url.path]
        return Response(path.read_bytes(), media_type=_TYPES[path.suffix], headers=_HEADERS)

    async def _describe(self, request: Request) -> Response:
        """What the page must know before a call."""
        tok = self._tokenizer
        size = CodePacking(tok.num_codebooks, tok.codebook_size).frame_bytes
        fields = {
            "sample_rate": tok.sample_rate,
            "hop_length": tok.hop_length,
            "num_codebooks": tok.num_codebooks,
            "codebook_size": tok.codebook_size,
            "agents": list(self._agents),
            "bytes_per_second": {"codes": size * tok.frame_rate, "audio": 2 * tok.sample_rate},
            "weights": f"{WEIGHTS}?{tok.fingerprint}-{tok.decoder_fingerprint}" if self._shared else None,
        }
        return JSONResponse(fields, headers=_HEADERS)

    async def _weights(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        if not self._shared or not isinstance(self._tokenizer, ConvNeXtTokenizer):
            return PlainTextResponse("this server does not give out the weights of its tokenizer\n", 404)
        async with self._packing:
            if self._packed is None:
                loop = asyncio.get_running_loop()
                self._packed = await loop.run_in_executor(None, pack_weights, self._tokenizer)
        headers = {
            **_HEADERS,
            "Cache-Control": "private, max-age=31536000, immutable",
            "Content-Length": str(len(self._packed)),
        }
        # piece by piece: what a client does not read must not wait in memory
        return StreamingResponse(_pieces(self._packed), media_type="application/octet-stream", headers=headers)


def is_embedded(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer, with its decoder, is one of the package, which everyone has."""
    assets = resources.files("speechtok") / "assets"
    for folder in NAMED_TOKENIZERS:
        config = json.loads((assets / folder / CONFIG_NAME).read_text(encoding="utf-8"))
        if (config["fingerprint"], config["decoder_fingerprint"]) == (
            tokenizer.fingerprint,
            tokenizer.decoder_fingerprint,
        ):
            return True
    return False


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), _PIECE):
        yield data[start : start + _PIECE]
