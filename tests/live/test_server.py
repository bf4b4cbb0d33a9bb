"""The server through its WebSocket: the codes, the agents, and what it does to clients that misbehave."""

import contextlib
import gc
import json
import socket
import threading
import time
import urllib.error
import urllib.request
import weakref

import numpy as np
import pytest
import torch
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from speechtok.errors import InputError
from speechtok.live import wire
from speechtok.live.agents import OtherVoice
from speechtok.live.conversation import Turn
from speechtok.live.wire import CodePacking, Control, MessageType
from tests.voice.networks import make_voice_model

HOP = 320


def pcm(audio):
    return (np.asarray(audio) * 32_767).round().astype("<i2")


def audio_message(samples, timestamp=None):
    stamp = b"" if timestamp is None else wire.pack_timestamp(timestamp)
    return wire.pack(MessageType.AUDIO, stamp + samples.tobytes())


def end_turn(client):
    client.send(wire.pack(MessageType.CONTROL, bytes([Control.END_TURN])))


def collect(client, until="input_audio_buffer.ended", timeout=20):
    """Messages up to a metadata message, by type: payloads of codes and audio, and fields of metadata."""
    result = {kind: [] for kind in MessageType}
    while True:
        message = client.recv(timeout=timeout)
        kind, payload = wire.unpack(message)
        result[kind].append(json.loads(bytes(payload)) if kind is MessageType.METADATA else bytes(payload))
        if kind is MessageType.METADATA and result[kind][-1]["type"] == until:
            return result


def unpack_codes(payloads, num_codebooks=4, size=32, skip=0):
    packing = CodePacking(num_codebooks, size)
    return np.concatenate([packing.unpack(memoryview(p)[skip:]) for p in payloads], 1)


# --- codes


@pytest.mark.parametrize(("rate", "size"), [(16_000, 320), (16_000, 777), (48_000, 960), (44_100, 1_000)])
def test_codes_are_those_of_encode(server, tiny, speech, rate, size):
    samples = pcm(speech(1.0, sample_rate=rate))
    with server.connect(sample_rate=rate) as client:
        for _ in range(2):  # two utterances of one connection
            for start in range(0, len(samples), size):
                client.send(audio_message(samples[start : start + size]))
            end_turn(client)
            codes = unpack_codes(collect(client)[MessageType.CODES])
            expected = tiny.encode(samples.astype(np.float32) / 32_768, rate).codes[0]
            assert np.array_equal(codes[:, : expected.shape[1]], expected)
            assert codes.shape[1] - expected.shape[1] in (0, 1)


def test_callers_of_one_batch_do_not_meet(server, tiny, speech):
    def call(seed, results):
        samples = pcm(speech(1.0 + 0.1 * seed, seed))
        with server.connect(codebooks=1 + seed % 4) as client:
            for start in range(0, len(samples), 320 + seed):
                client.send(audio_message(samples[start : start + 320 + seed]))
                time.sleep(0.001)
            end_turn(client)
            codes = unpack_codes(collect(client)[MessageType.CODES], 1 + seed % 4)
        expected = tiny.encode(samples.astype(np.float32) / 32_768, 16_000, num_codebooks=1 + seed % 4).codes[0].numpy()
        results[seed] = np.array_equal(codes, expected)

    results = {}
    threads = [threading.Thread(target=call, args=(seed, results)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(range(8), True)


def test_a_frame_of_eight_codebooks_takes_ten_bytes():
    codes = np.random.default_rng(0).integers(0, 1_024, (8, 50))
    packing = CodePacking(8, 1_024)
    payload = packing.pack(codes)
    assert len(payload) == 500
    assert np.array_equal(packing.unpack(memoryview(payload)), codes)


def test_opus_goes_in_and_out(server, tiny, speech):
    pytest.importorskip("av")
    from speechtok.live.formats import OpusReader, OpusWriter

    writer, reader = OpusWriter(16_000), OpusReader()
    packets = writer.write(speech(1.0)) + writer.finish()
    heard = np.concatenate([OpusReader.read(reader, memoryview(packet)) for packet in packets])
    assert 0.02 < np.sqrt(np.square(heard).mean()) < 0.3
    with server.connect(audio="opus", out="opus", agent="loopback") as client:
        for packet in packets:
            client.send(wire.pack(MessageType.AUDIO, packet))
        end_turn(client)
        result = collect(client)
        codes = unpack_codes(result[MessageType.CODES])
        expected = tiny.encode(heard, 48_000).codes[0]
        assert np.array_equal(codes[:, : expected.shape[1]], expected)
        assert len(result[MessageType.AUDIO]) >= 45
        assert OpusReader().read(memoryview(result[MessageType.AUDIO][0])).size == 960


def test_codes_go_in_and_audio_comes_out(server, tiny):
    codes = np.random.default_rng(0).integers(0, 32, (4, 30))
    packing = CodePacking(4, 32)
    with server.connect(audio="codes", agent="loopback", codes=0) as client:
        for frame in range(30):
            client.send(wire.pack(MessageType.CODES, packing.pack(codes[:, frame : frame + 1])))
        end_turn(client)
        audio = np.concatenate([np.frombuffer(p, "<i2") for p in collect(client)[MessageType.AUDIO]])
    expected = tiny.decode(torch.from_numpy(codes)[None])[0].numpy()[: len(audio)]
    assert len(audio) >= 28 * HOP
    assert np.abs(audio - np.rint(expected.clip(-1, 1) * 32_767)).max() <= 1


# --- agents


def test_the_user_hears_himself_through_some_codebooks(server, tiny, speech):
    samples = pcm(speech(1.0))
    with server.connect(agent="loopback", out="float", probabilities=1) as client:
        client.send(wire.pack_metadata({"type": "session.update", "codebooks": 2}))
        for start in range(0, len(samples), 320):
            client.send(audio_message(samples[start : start + 320]))
        end_turn(client)
        result = collect(client)
    audio = np.concatenate([np.frombuffer(p, "<f4") for p in result[MessageType.AUDIO]])
    codes = torch.from_numpy(unpack_codes(result[MessageType.CODES]))[None, :2]
    assert np.array_equal(audio, tiny.decode(codes)[0].numpy()[: len(audio)])
    assert len(audio) >= 48 * HOP
    found = [m for m in result[MessageType.METADATA] if m["type"] == "vad.inference_done"]
    assert [m["frame"] for m in found] == list(range(0, 50, 5))


@pytest.fixture(scope="module")
def voice(tiny, tmp_path_factory):
    return make_voice_model(tiny, tmp_path_factory.mktemp("voice") / "voice.safetensors")


def test_a_turn_is_said_in_the_voice_of_the_turn_before(voice, tiny, speech):
    first, second = (
        Turn(tiny.encode(speech(seconds, seed), 16_000), 0, None) for seconds, seed in ((1.0, 1), (1.4, 2))
    )
    answer = OtherVoice(voice)
    assert list(answer(None)) == list(answer(first)) == []
    said = torch.cat(list(answer(second)), 2)
    assert torch.equal(said, voice.complete(second.tokens, first.tokens).codes)
    third = torch.cat(list(answer(first)), 2)
    assert torch.equal(third, voice.complete(first.tokens, second.tokens).codes)


@pytest.mark.slow
def test_an_agent_converts_the_voice_of_the_second_turn(serve, voice, speech):
    server = serve(voice=voice)
    gap = np.zeros(32_000, "<i2")
    with server.connect(agent="convert-voice", echo=0) as client:
        _, audio = speak_until(client, np.concatenate([pcm(speech(1.0, 1)), gap]), "input_audio_buffer.committed")
        assert audio == 0
        _, audio = speak_until(client, np.concatenate([gap, pcm(speech(1.4, 2)), gap]), "output_audio_buffer.stopped")
        assert audio > 16_000


def test_converting_voices_needs_a_voice_model(serve):
    assert "convert-voice" not in serve().live.agents.names
    with pytest.raises(InputError, match="needs a voice model"):
        serve(agent="convert-voice")


def speak_until(client, samples, kind, seconds=20):
    """Send audio in real time until a metadata message comes; returns all fields, and the samples of audio."""
    fields, audio, deadline, place = [], 0, time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        chunk = samples[place : place + HOP]
        place += HOP
        client.send(audio_message(chunk if len(chunk) == HOP else np.zeros(HOP, "<i2")))
        until = time.monotonic() + 0.01
        while (left := until - time.monotonic()) > 0:
            try:
                message = client.recv(timeout=left)
            except TimeoutError:
                break
            if message[0] == MessageType.AUDIO:
                audio += (len(message) - 1) // 2
            elif message[0] == MessageType.METADATA:
                fields.append(json.loads(message[1:]))
                if fields[-1]["type"] == kind:
                    return fields, audio
    raise AssertionError(f"{kind} did not come: {fields}")


@pytest.mark.slow
def test_an_agent_repeats_a_turn_and_the_user_interrupts_another(server, speech):
    silence, said = np.zeros(8_000, "<i2"), pcm(speech(1.0))
    with server.connect(agent="repeat", echo=0) as client:
        fields, _ = speak_until(
            client, np.concatenate([silence, said, np.zeros(32_000, "<i2")]), "output_audio_buffer.stopped"
        )
        types = [field["type"] for field in fields if field["type"] != "vad.inference_done"]
        assert types == [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "output_audio_buffer.started",
            "output_audio_buffer.stopped",
        ]
    with server.connect(agent="scripted", echo=0) as client:
        client.send(wire.pack_metadata({"type": "response.create"}))
        _, before = speak_until(client, silence, "output_audio_buffer.started")
        fields, audio = speak_until(client, np.concatenate([silence, said]), "output_audio_buffer.cleared")
        client.send(wire.pack_metadata({"type": "output_audio_buffer.cleared", "samples": before + audio - 1_000}))
        told, after = speak_until(client, silence, "conversation.item.truncated")
        assert after == 0
        truncated = told[-1]
        assert truncated["samples"] == before + audio - 1_000
        assert truncated["frames"] == truncated["samples"] // HOP


def test_what_was_heard_is_right_at_each_interruption(server):
    """What waited in the client's buffer at one interruption must not count at the next."""
    silence, played = np.zeros(0, "<i2"), 0
    with server.connect(agent="scripted", echo=0) as client:
        client.send(wire.pack_metadata({"type": "output_audio_buffer.played", "samples": 0}))  # it tells
        for unplayed in (48_000, 700, 100, 0):  # first, nothing was heard at all
            client.send(wire.pack_metadata({"type": "response.create"}))
            _, before = speak_until(client, silence, "output_audio_buffer.started")
            client.send(wire.pack_metadata({"type": "response.cancel"}))
            _, after = speak_until(client, silence, "output_audio_buffer.cleared")
            heard = max(0, before + after - unplayed)  # a busy machine cancels after a chunk or two
            played += heard
            client.send(wire.pack_metadata({"type": "output_audio_buffer.cleared", "samples": played}))
            fields, _ = speak_until(client, silence, "conversation.item.truncated")
            assert fields[-1]["samples"] == heard


def test_codes_of_the_agent_tell_their_codebooks_and_the_end_of_an_utterance(serve):
    server = serve(agent="tests.live.agent:few")
    with server.connect(out="codes", echo=0) as client:
        client.send(wire.pack_metadata({"type": "response.create"}))
        for _ in range(10):
            client.send(audio_message(np.zeros(HOP, "<i2")))
        result = collect(client, until="output_audio_buffer.stopped")
    assert unpack_codes(result[MessageType.CODES]).shape[1] == 5
    fields = [field for field in result[MessageType.METADATA] if field["type"] != "vad.inference_done"]
    assert {"type": "output_audio_buffer.codebooks", "codebooks": 2} in fields
    assert [field["type"] for field in fields][-2:] == ["response.output_audio.done", "output_audio_buffer.stopped"]


def test_text_of_the_agent_comes_with_its_audio(serve):
    server = serve(agent="tests.live.agent:say")
    with server.connect(echo=0) as client:
        client.send(wire.pack_metadata({"type": "response.create"}))
        for _ in range(10):
            client.send(audio_message(np.zeros(HOP, "<i2")))
        result = collect(client, until="output_audio_buffer.started")
    assert result[MessageType.TEXT] in ([], [b"Hello."])  # the event may come first
    with server.connect(echo=0) as client:
        for _ in range(10):
            client.send(audio_message(np.zeros(HOP, "<i2")))
        end_turn(client)
        assert not collect(client)[MessageType.TEXT]


def test_the_agent_of_a_user_may_be_any_function(serve, speech):
    server = serve(agent="tests.live.agent:answer")
    with server.connect(echo=0) as client:
        client.send(wire.pack_metadata({"type": "response.create"}))
        _, audio = speak_until(client, np.zeros(0, "<i2"), "output_audio_buffer.stopped")
        assert audio == 7 * HOP
        client.send(wire.pack_metadata({"type": "response.create"}))
        speak_until(client, np.zeros(0, "<i2"), "output_audio_buffer.stopped")
    server = serve(agent="tests.live.agent:fail")
    with server.connect() as client:
        client.send(wire.pack_metadata({"type": "response.create"}))
        message = client.recv(timeout=20)
        assert message == wire.pack(MessageType.ERROR, b"the agent failed: ValueError")
    assert server.count("speechtok_agent_failures_total") == 1


# --- networks that lose packets


def test_lost_late_and_reordered_packets_are_concealed_and_counted(server, tiny, speech):
    samples = pcm(speech(2.0))
    packets = [(start, samples[start : start + HOP]) for start in range(0, len(samples), HOP)]
    order = list(range(100))
    order[10], order[11] = 11, 10  # reordered
    order.remove(30)
    order.remove(31)  # lost
    order.remove(50)
    order.insert(70, 50)  # too late
    order.insert(20, 12)  # twice
    base = 2**32 - 50 * HOP  # the timestamps wrap around
    with server.connect(sequenced=1) as client:
        for index in order:
            start, chunk = packets[index]
            client.send(audio_message(chunk, base + start))
        end_turn(client)
        codes = unpack_codes(collect(client)[MessageType.CODES], skip=4)
    server.wait_for(lambda: server.count("speechtok_packets_total", fate="received") >= len(order))
    counts = {fate: server.count("speechtok_packets_total", fate=fate) for fate in ("gaps", "late", "reordered")}
    assert counts == {"gaps": 2, "late": 2, "reordered": 1}
    expected = tiny.encode(samples.astype(np.float32) / 32_768, 16_000).codes[0].numpy()
    assert codes.shape == expected.shape  # the clock is right
    assert np.array_equal(codes[:, :30], expected[:, :30])
    assert not np.array_equal(codes, expected)


# --- limits


def test_a_client_without_the_token_or_from_another_page_is_refused(serve):
    server = serve(token="a secret token", origins=("https://friend.example",))
    for headers, status in (
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic a secret token"}, 401),
        ({"Authorization": "Bearer a secret token", "Origin": "https://evil.example"}, 403),
        ({"Authorization": "Bearer a secret token", "Origin": "null"}, 403),
    ):
        with pytest.raises(InvalidStatus) as error, connect(server.url(), additional_headers=headers, proxy=None):
            pass
        assert error.value.response.status_code == status
    own = f"http://127.0.0.1:{server.port}"
    for origin in ("https://friend.example", own):
        headers = {"Authorization": "Bearer a secret token", "Origin": origin}
        with connect(server.url(), additional_headers=headers, proxy=None) as client:
            assert client.recv()[0] == 0
    assert server.count("speechtok_refused_total", reason="token") == 3
    assert server.count("speechtok_refused_total", reason="origin") == 2
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{own}/metrics")
    request = urllib.request.Request(f"{own}/metrics", headers={"Authorization": "Bearer a secret token"})
    assert b"speechtok_refused_total" in urllib.request.urlopen(request).read()


def test_a_browser_sends_the_token_as_a_subprotocol(serve):
    server = serve(token="secret-token")
    subprotocols = ["speechtok", "speechtok.token.secret-token"]
    with connect(server.url(), subprotocols=subprotocols, proxy=None) as client:
        assert client.subprotocol == "speechtok"
    wrong = ["speechtok", "speechtok.token.wrong"]
    with pytest.raises(InvalidStatus), connect(server.url(), subprotocols=wrong, proxy=None):
        pass


@pytest.mark.parametrize(
    "options",
    [{"audio": "mp3"}, {"sample_rate": "x"}, {"sample_rate": 7}, {"codebooks": 9}, {"agent": "os:system"}, {"x": 1}],
)
def test_options_that_cannot_be_used_are_refused_with_a_reason(server, options):
    with pytest.raises(InvalidStatus) as error, connect(server.url(**options), proxy=None):
        pass
    assert error.value.response.status_code == 400
    assert b"expected" in error.value.response.body


def test_more_callers_than_allowed_are_refused_and_a_place_is_free_after_a_hang_up(serve):
    server = serve(max_callers=2)
    with server.connect(), server.connect():
        with pytest.raises(InvalidStatus) as error, connect(server.url(), proxy=None):
            pass
        assert error.value.response.status_code == 503
    server.wait_for(lambda: server.live.engine.num_callers == 0)
    with server.connect():
        pass


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01\x00",
        b"\x01abc",
        b"\x03",
        b"\x03\x09",
        b"\x04{",
        b"\x04[]",
        b'\x04{"type":"nothing"}',
        b'\x04{"type":"session.update","codebooks":99}',
        b"\x04" + b"[" * 30_000,
        b"\x07\x00",
        b"\x01" + b"\0" * 10_001,
        "text",
    ],
    ids=range(13),
)
def test_a_message_that_cannot_be_used_gets_an_error_and_the_connection_goes_on(server, message, speech, caplog):
    with server.connect() as client:
        client.send(message)
        answer = client.recv(timeout=20)
        assert answer[0] == MessageType.ERROR
        assert b"expected" in answer
        assert len(answer) < 600
        client.send(b"\x99 of a later version")
        client.send(wire.pack(MessageType.PING))
        assert client.recv(timeout=20) == wire.pack(MessageType.PING)
    assert "Traceback" not in caplog.text


def close_code(server, messages):
    """The code with which the server closes a connection after some messages."""
    with server.connect() as client:
        for message in messages:
            client.send(message)
        with pytest.raises(ConnectionClosed) as error:
            [client.recv(timeout=20) for _ in range(100)]
    return error.value.rcvd.code


def test_garbage_without_end_and_messages_that_are_too_long_end_the_connection(serve, caplog):
    server = serve(max_errors=3)
    assert close_code(server, [b"\x01x"] * 5) == 1008
    assert close_code(server, [b"\x01" + bytes(100_000)]) == 1009
    server.wait_for(lambda: server.live.engine.num_callers == 0)
    assert "Traceback" not in caplog.text


def test_a_request_that_does_not_come_is_cut(serve):
    server = serve(header_timeout=0.3)
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(b"GET /api/chat HTTP/1.1\r\nHost: x\r\n")
        slow.settimeout(20)
        with contextlib.suppress(ConnectionResetError):
            assert slow.recv(100) == b""
    server.wait_for(lambda: server.count("speechtok_refused_total", reason="slow") == 1)
    with socket.create_connection(("127.0.0.1", server.port)) as rude:
        rude.sendall(b"\x16\x03\x01 garbage\r\n\r\n")
        assert b"400" in rude.recv(1_000)
    assert server.count("speechtok_refused_total", reason="malformed") == 1


def test_a_message_that_never_ends_and_a_client_that_says_nothing_are_cut(serve):
    server = serve(idle_timeout=0.5)
    with server.connect() as client:
        client.socket.sendall(b"\x82\xfe\x10\x00\0\0\0\0" + b"x" * 10)  # of 4096 bytes
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=20)
    server.wait_for(lambda: server.count("speechtok_closed_total", reason="idle") == 1)


def test_a_client_that_does_not_read_is_cut_and_others_go_on(serve, tiny, speech):
    server = serve(max_outbox=20_000, close_timeout=0.3, burst=600.0, max_speed=1000.0)
    samples = pcm(speech(1.0))
    server.shrink_buffers(4_096)
    lazy = socket.create_connection(("127.0.0.1", server.port))
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
    lazy.sendall(
        b"GET /api/chat?out=float&agent=loopback HTTP/1.1\r\n"
        b"Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    frame = audio_message(samples[:8_000])
    header = b"\x82\xfe" + len(frame).to_bytes(2, "big") + b"\0\0\0\0"
    lazy.settimeout(0.2)
    deadline, rest = time.monotonic() + 60, b""
    while not server.count("speechtok_closed_total", reason="slow") and time.monotonic() < deadline:
        rest = rest or header + frame
        try:
            rest = rest[lazy.send(rest) :]  # what does not fit now follows later: a message is never cut
        except OSError:
            time.sleep(0.05)
    server.wait_for(lambda: server.count("speechtok_closed_total", reason="slow") == 1)
    with server.connect() as client:
        client.send(audio_message(samples))
        end_turn(client)
        assert unpack_codes(collect(client)[MessageType.CODES]).shape[1] == 50
    server.wait_for(lambda: server.live.engine.num_callers == 0)
    lazy.close()


def test_who_sends_faster_than_real_time_waits(serve, speech):
    server = serve(burst=0.5, max_speed=10.0, max_backlog=4)
    with server.connect() as client:
        client.send(audio_message(pcm(speech(2.0))))
        end_turn(client)
        assert unpack_codes(collect(client)[MessageType.CODES]).shape[1] == 100
    assert server.count("speechtok_throttled_seconds_total") > 0


def test_a_caller_who_left_leaves_nothing_behind(serve, speech, voice):
    server = serve(voice=voice)
    alive: list[weakref.ref[object]] = []
    make = server.live.agents.make

    def remember(name, conversation):
        alive.append(weakref.ref(conversation))
        return make(name, conversation)

    server.live.agents.make = remember
    samples = pcm(speech(1.0))
    gc.collect()
    gc.disable()
    try:
        for agent in ("loopback", "repeat", "convert-voice", "scripted"):
            with server.connect(agent=agent) as client:
                client.send(wire.pack_metadata({"type": "response.create"}))
                client.send(audio_message(samples))
                end_turn(client)
                collect(client)
        server.wait_for(lambda: server.live.engine.num_callers == 0)
        server.wait_for(lambda: all(reference() is None for reference in alive))
    finally:
        gc.enable()
    assert len(alive) == 4


def test_callers_are_told_when_the_server_shuts_down(serve):
    server = serve()
    with server.connect() as client:
        server.stop()
        with pytest.raises(ConnectionClosed) as error:
            client.recv(timeout=20)
    assert error.value.rcvd.code == 1012


def test_health_and_metrics(server):
    root = f"http://127.0.0.1:{server.port}"
    health = json.loads(urllib.request.urlopen(f"{root}/health").read())
    assert health["status"] == "ok"
    assert health["max_callers"] == 16
    text = urllib.request.urlopen(f"{root}/metrics").read().decode()
    for name in ("speechtok_callers", "speechtok_frames_total", "speechtok_latency_seconds_bucket"):
        assert name in text
