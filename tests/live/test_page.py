"""The page in a browser, with a file as the microphone."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import speechtok
from speechtok.live.config import ServerConfig
from speechtok.voice import VoiceModel
from tests.live.browser import find_chromium, open_page
from tests.live.conftest import RunningServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed"),
]

SCREENSHOTS = os.environ.get("SPEECHTOK_SCREENSHOTS")
"""A folder for screenshots."""


@pytest.fixture(scope="module")
def default_server():
    tok = speechtok.load()
    running = RunningServer(tok, ServerConfig(), voice=VoiceModel(tok))
    yield running
    running.stop()


@pytest.fixture
def microphone(tmp_path: Path) -> Path:
    """Speech with pauses, at the rate of a sound card; the browser plays it over and over."""
    waveform, rate = speechtok.read_audio(Path(speechtok.__file__).parent / "assets" / "sample.flac")
    speech = speechtok.resampling.resample(waveform[None], rate, 48_000)[0]
    silence = speech.new_zeros(48_000)
    path = tmp_path / "microphone.wav"
    speechtok.write_audio(path, np.concatenate([silence, speech[: 3 * 48_000], silence, silence]), 48_000)
    return path


def picture(page, name):
    for width in (400, 1300) if SCREENSHOTS else ():
        page.resize(width, 900)
        page.screenshot(Path(SCREENSHOTS) / f"{name}-{width}.png")


def test_codes_on_the_page_are_those_of_encode_and_events_are_shown(default_server, microphone, tmp_path):
    url = f"http://127.0.0.1:{default_server.port}/#start=1&raw=1&keep=1"
    with open_page(url, tmp_path / "profile", microphone) as page:
        page.wait_for("window.speechtok && speechtok.shown.frames.length > 250")
        page.wait_for("[...document.querySelectorAll('#events li')].some(e => e.dataset.type.endsWith('committed'))")
        picture(page, "codes")
        page.evaluate("window.last = speechtok.call; document.getElementById('stop').click()")
        page.wait_for("[...document.querySelectorAll('#events li')].some(e => e.dataset.type.endsWith('ended'))")
        samples = np.array(page.evaluate("last.keep.sent.flatMap(part => [...part])"), np.int16)
        codes = np.array(page.evaluate("speechtok.shown.frames")).T
        types = page.evaluate("[...document.querySelectorAll('#events li')].map(e => e.dataset.type).reverse()")
        assert page.console == []
    expected = speechtok.load().encode(samples, 16_000).codes[0].numpy()
    assert np.array_equal(codes, expected)
    turns = [kind.removeprefix("input_audio_buffer.") for kind in types if kind.startswith("input_audio_buffer.")]
    before = turns[: turns.index("committed")]
    assert before  # speech that stops may go on before the turn ends
    assert before == ["speech_started", "speech_stopped"] * (len(before) // 2)


@pytest.fixture
def heard_by_agent(default_server, monkeypatch):
    """Codes of the user as they reach the agents of the server."""
    frames: list[np.ndarray] = []
    make = default_server.live.agents.make

    def remember(name, conversation):
        agent = make(name, conversation)
        hear = agent.hear
        agent.hear = lambda codes: (frames.append(codes.numpy()), hear(codes))
        return agent

    monkeypatch.setattr(default_server.live.agents, "make", remember)
    return frames


def test_the_browser_makes_the_codes_of_encode_and_the_audio_of_decode(
    default_server, microphone, tmp_path, heard_by_agent
):
    before = default_server.count("speechtok_messages_total", direction="in", type="audio")
    url = f"http://127.0.0.1:{default_server.port}/#start=1&raw=1&keep=1&send=codes&mode=repeat"
    with open_page(url, tmp_path / "profile", microphone) as page:
        page.wait_for(
            "[...document.querySelectorAll('#events li')].some(e => e.dataset.type.endsWith('truncated'))", 180
        )
        page.wait_for("parseInt(document.getElementById('sent').textContent) > 0")
        picture(page, "codes-made-here")
        page.evaluate("window.last = speechtok.call; document.getElementById('stop').click()")
        page.wait_for("[...document.querySelectorAll('#events li')].some(e => e.dataset.type.endsWith('ended'))")
        samples = np.array(page.evaluate("last.keep.sent.flatMap(part => [...part])"), np.float32)
        sent = page.evaluate("last.bytesOut")
        shown = np.array(page.evaluate("speechtok.shown.frames")).T
        answer = torch.tensor(page.evaluate("last.keep.agent")).T
        audio = np.array(page.evaluate("last.keep.heard.flatMap(part => [...part])"), np.float32)
        assert page.console == []
    tok = speechtok.load()
    expected = tok.encode(samples, 16_000).codes[0].numpy()
    assert np.array_equal(shown, expected)
    assert np.array_equal(np.concatenate(heard_by_agent, 1), expected)
    assert default_server.count("speechtok_messages_total", direction="in", type="audio") == before
    assert 10 < sent / shown.shape[1] <= 11  # ten bytes a frame, and one for the type of each message
    frames = 75  # of the first answer, which the user interrupts after more
    decoded = tok.decode(answer[None, :, : frames + 1])[0].numpy()
    assert np.array_equal(audio[: frames * 320], decoded[: frames * 320])


@pytest.mark.parametrize("send", ["audio", "codes"])
def test_the_user_interrupts_the_agent_on_the_page(default_server, microphone, tmp_path, send):
    url = f"http://127.0.0.1:{default_server.port}/#start=1&raw=1&mode=scripted&send={send}"
    with open_page(url, tmp_path / "profile", microphone) as page:
        page.wait_for("[...document.querySelectorAll('#events li')].some(e => e.dataset.type.endsWith('truncated'))")
        picture(page, f"interruption-{send}")
        text = page.evaluate("document.getElementById('events').innerText")
        assert "you interrupted the agent" in text
        assert "heard of the agent" in text
        assert page.console == []


@pytest.mark.parametrize("send", ["audio", "codes"])
def test_the_user_hears_himself_on_the_page(default_server, microphone, tmp_path, send):
    url = f"http://127.0.0.1:{default_server.port}/#start=1&raw=1&mode=loopback&send={send}"
    with open_page(url, tmp_path / "profile", microphone) as page:
        page.wait_for("window.speechtok && speechtok.call && speechtok.call.session")
        page.evaluate("document.getElementById('codebooks').value = 2; document.getElementById('codebooks').oninput()")
        page.wait_for("parseFloat(document.getElementById('heard').textContent) > 2")
        picture(page, f"loopback-{send}")
        assert page.console == []


def test_the_agent_says_a_turn_in_the_voice_of_the_turn_before(default_server, microphone, tmp_path):
    url = f"http://127.0.0.1:{default_server.port}/#start=1&raw=1&mode=convert-voice"
    with open_page(url, tmp_path / "profile", microphone) as page:
        page.wait_for(
            "[...document.querySelectorAll('#events li')].some(e => e.dataset.type.endsWith('started') && "
            "e.dataset.type.startsWith('output'))",
            60,
        )
        picture(page, "convert-voice")
        types = page.evaluate("[...document.querySelectorAll('#events li')].map(e => e.dataset.type).reverse()")
        assert types[: types.index("output_audio_buffer.started")].count("input_audio_buffer.committed") == 2
        assert page.console == []


def test_the_page_offers_what_the_server_can_do(serve, tmp_path, microphone):
    with open_page(f"http://127.0.0.1:{serve().port}/", tmp_path / "profile", microphone) as page:
        page.wait_for("window.speechtok")
        modes = page.evaluate("[...document.getElementById('mode').options].map(option => option.value)")
    assert modes == ["none", "loopback", "repeat", "scripted"]
