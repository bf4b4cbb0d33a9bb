"""The page in a browser, with a file as the microphone."""

import os
from pathlib import Path

import numpy as np
import pytest

import speechtok
from speechtok.live.config import ServerConfig
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
    running = RunningServer(speechtok.load(), ServerConfig())
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
    if SCREENSHOTS:
        page.screenshot(Path(SCREENSHOTS) / f"{name}.png")


def test_codes_on_the_page_are_those_of_encode_and_events_are_shown(default_server, microphone, tmp_path):
    url = f"http://127.0.0.1:{default_server.port}/#start=1&raw=1&keep=1"
    with open_page(url, tmp_path / "profile", microphone) as page:
        page.wait_for("window.speechtok && speechtok.shown.frames.length > 250")
        page.wait_for("[...document.querySelectorAll('#events li')].some(e => e.dataset.type.endsWith('committed'))")
        picture(page, "codes")
        page.evaluate("window.last = speechtok.call; document.getElementById('stop').click()")
        page.wait_for("[...document.querySelectorAll('#events li')].some(e => e.dataset.type.endsWith('ended'))")
        samples = np.array(page.evaluate("last.keep.flatMap(part => [...part])"), np.int16)
        codes = np.array(page.evaluate("speechtok.shown.frames")).T
        types = page.evaluate("[...document.querySelectorAll('#events li')].map(e => e.dataset.type).reverse()")
        assert page.console == []
    expected = speechtok.load().encode(samples, 16_000).codes[0].numpy()
    assert np.array_equal(codes, expected)
    assert types[:3] == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
    ]


def test_the_user_interrupts_the_agent_on_the_page(default_server, microphone, tmp_path):
    url = f"http://127.0.0.1:{default_server.port}/#start=1&raw=1&mode=scripted"
    with open_page(url, tmp_path / "profile", microphone) as page:
        page.wait_for("[...document.querySelectorAll('#events li')].some(e => e.dataset.type.endsWith('truncated'))")
        picture(page, "interruption")
        text = page.evaluate("document.getElementById('events').innerText")
        assert "you interrupted the agent" in text
        assert "heard of the agent" in text
        assert page.console == []


def test_the_user_hears_himself_on_the_page(default_server, microphone, tmp_path):
    url = f"http://127.0.0.1:{default_server.port}/#start=1&raw=1&mode=loopback"
    with open_page(url, tmp_path / "profile", microphone) as page:
        page.wait_for("window.speechtok && speechtok.call && speechtok.call.session")
        page.evaluate("document.getElementById('codebooks').value = 2; document.getElementById('codebooks').oninput()")
        page.wait_for("parseFloat(document.getElementById('heard').textContent) > 2")
        picture(page, "loopback")
        assert page.console == []
