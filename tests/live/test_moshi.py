"""Clients of Moshi: Opus in Ogg, text, and nothing that they do not know."""

import io

import numpy as np
import pytest
import soundfile
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from speechtok.live import wire
from speechtok.live.wire import MessageType

pytest.importorskip("av")
from speechtok.live.formats import OggOpusReader, OggOpusWriter

QUERY = "text_temperature=0.7&text_topk=25&audio_temperature=0.8&audio_topk=250&pad_mult=0&text_seed=1&audio_seed=2"
"""As the page of Moshi asks."""


def pages(samples, rate=24_000):
    writer = OggOpusWriter(rate)
    return writer.write(samples) + writer.finish()


def test_ogg_goes_in_and_out(server, tiny, speech):
    sent = pages(speech(1.0, sample_rate=24_000))
    heard = OggOpusReader().read(memoryview(b"".join(sent)))
    codes, received = [], []
    with server.connect(audio="ogg", out="ogg", agent="loopback") as client:
        stream = b"".join(sent)
        for start in range(0, len(stream), 333):  # messages need not be pages
            client.send(wire.pack(MessageType.AUDIO, stream[start : start + 333]))
        client.send(wire.pack(MessageType.CONTROL, b"\1"))
        while b"input_audio_buffer.ended" not in (message := client.recv(timeout=20)):
            kind, payload = wire.unpack(message)
            if kind is MessageType.CODES:
                codes.append(wire.CodePacking(4, 32).unpack(payload))
            elif kind is MessageType.AUDIO:
                received.append(bytes(payload))
    expected = tiny.encode(heard, 48_000).codes[0]
    assert np.array_equal(np.concatenate(codes, 1)[:, : expected.shape[1]], expected)
    audio, rate = soundfile.read(io.BytesIO(b"".join(received)), dtype="float32")
    assert rate == 16_000
    assert len(audio) >= 45 * 320


def test_a_client_of_moshi_gets_handshake_audio_and_text_alone(serve, speech):
    server = serve(agent="tests.live.agent:say", moshi=True)
    uri = server.url().split("?")[0]
    for address in (uri, f"{uri}?{QUERY}"):
        got = {kind: [] for kind in MessageType}
        with connect(address, proxy=None) as client:
            client.send(wire.pack_metadata({"type": "response.create"}))
            for part in pages(speech(2.0, sample_rate=24_000)):
                client.send(wire.pack(MessageType.AUDIO, part))
            while len(got[MessageType.AUDIO]) < 90:  # of 20 ms: the agent's 30 frames, and its silence
                message = client.recv(timeout=20)
                got[message[0]].append(message[1:])
        assert {kind for kind in got if got[kind]} == {MessageType.HANDSHAKE, MessageType.AUDIO, MessageType.TEXT}
        assert got[MessageType.TEXT] == [b"Hello."]
        audio, _ = soundfile.read(io.BytesIO(b"".join(got[MessageType.AUDIO])), dtype="float32")
        assert len(audio) == 88 * 320 - 312 // 3


def test_others_must_not_ask_for_what_only_moshi_knows(server):
    for query in (QUERY, "audio=ogg&sequenced=1"):
        with pytest.raises(InvalidStatus) as error, connect(server.url() + query, proxy=None):
            pass
        assert error.value.response.status_code == 400
        assert b"expected" in error.value.response.body


def test_ogg_that_is_damaged_gets_an_error_and_the_connection_goes_on(server, speech):
    sent = pages(speech(0.2, sample_rate=24_000))
    with server.connect(audio="ogg") as client:
        for part in (b"OggS but no page" + bytes(20), b"\0", *sent[:4], sent[4][:-1] + b"?", *sent[5:]):
            client.send(wire.pack(MessageType.AUDIO, part))
        client.send(wire.pack(MessageType.CONTROL, b"\1"))
        messages = []
        while b"input_audio_buffer.ended" not in (message := client.recv(timeout=20)):
            messages.append(message)
    errors = [message for message in messages if message[0] == MessageType.ERROR]
    assert len(errors) == 3
    assert all(b"expected" in message for message in errors)
    assert sum(message[0] == MessageType.CODES for message in messages)
