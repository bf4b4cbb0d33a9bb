"""What the server gives to browsers: the page, its program, and the tokenizer."""

import gzip
import hashlib
import json
import os
import socket
import struct
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import speechtok
from speechtok.live.browser import PAGE, is_embedded
from speechtok.live.packed import MAGIC, pack_weights
from speechtok.nn.exact import weight_levels

BUILT = Path(__file__).parents[2] / "bindings" / "js" / "dist" / "speechtok-v2.bin"


def get(server, path, **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.read(), response.headers


def status(server, path, **headers):
    try:
        get(server, path, **headers)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


def parse(packed):
    """The config, and the rest."""
    data = gzip.decompress(packed)
    assert data.startswith(MAGIC)
    assert hashlib.sha256(data[:-32]).digest() == data[-32:]
    (length,) = struct.unpack_from("<I", data, len(MAGIC))
    start = len(MAGIC) + 4
    return json.loads(data[start : start + length]), data[start + length : -32]


def test_packed_weights_are_levels_scales_and_halves_in_the_order_of_names(tiny):
    config, rest = parse(pack_weights(tiny))
    assert config["fingerprint"] == tiny.fingerprint
    for name, weight in sorted(tiny.named_tensors().items()):
        kind, rest = rest[0], rest[1:]
        if weight.ndim == 2 and name.endswith(".weight") and ".conv." not in name:
            levels, scales = weight_levels(weight)
            rows, columns = weight.shape
            assert np.array_equal(np.frombuffer(rest, "<f4", rows), scales)
            assert np.array_equal(np.frombuffer(rest, "i1", rows * columns, 4 * rows).reshape(rows, columns), levels)
            rest = rest[rows * (4 + columns) :]
        else:
            values = np.frombuffer(rest, ("<f2", "<f4")[kind], weight.numel())
            assert np.array_equal(values, weight.flatten())
            rest = rest[values.nbytes :]
    assert not rest


@pytest.mark.skipif(not BUILT.exists(), reason="the npm package is not built: npm run build in bindings/js")
def test_packed_weights_are_those_of_the_npm_package():
    assert parse(pack_weights(speechtok.load()))[1] == parse(BUILT.read_bytes())[1]


def test_the_page_has_all_files_that_its_program_asks_for(server):
    assert b"page.js" in get(server, "")[0]
    for path in PAGE.rglob("*.js"):
        name = path.relative_to(PAGE).as_posix()
        body, headers = get(server, name)
        assert body == path.read_bytes()
        assert headers["Content-Type"].startswith("text/javascript")
        assert "wasm-unsafe-eval" in headers["Content-Security-Policy"]
    assert get(server, "js/speechtok.simd.wasm")[1]["Content-Type"] == "application/wasm"


def test_weights_of_a_tokenizer_of_ones_own_are_given_out_only_if_one_says_so(serve, tiny):
    closed, open_ = serve(), serve(share_weights=True)
    assert not is_embedded(tiny)
    assert json.loads(get(closed, "tokenizer.json")[0])["weights"] is None
    assert status(closed, "tokenizer.bin") == 404
    name = json.loads(get(open_, "tokenizer.json")[0])["weights"]
    body, headers = get(open_, name)
    assert body == pack_weights(tiny)
    assert "immutable" in headers["Cache-Control"]


def test_the_embedded_tokenizer_is_everyones(new_tokenizer):
    assert is_embedded(speechtok.load())


def test_weights_need_the_token(serve):
    server = serve(share_weights=True, token="a secret token")
    assert status(server, "tokenizer.json") == 200
    assert status(server, "tokenizer.bin") == 401
    assert status(server, "tokenizer.bin", Authorization="Bearer wrong") == 401
    assert status(server, "tokenizer.bin", Authorization="Bearer a secret token") == 200
    assert server.count("speechtok_refused_total", reason="token") == 2


def test_who_does_not_read_the_weights_is_cut(serve, monkeypatch):
    server = serve(share_weights=True, header_timeout=0.3)
    monkeypatch.setattr("speechtok.live.browser.pack_weights", lambda tokenizer: os.urandom(1 << 22))
    server.shrink_buffers(4_096)
    with socket.create_connection(("127.0.0.1", server.port)) as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        lazy.sendall(b"GET /tokenizer.bin HTTP/1.1\r\nHost: x\r\n\r\n")
        lazy.settimeout(0.1)
        server.wait_for(lambda: server.count("speechtok_refused_total", reason="unread") == 1)
