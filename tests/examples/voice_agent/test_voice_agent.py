"""The voice agent, with a small server in the place of a text model."""

import http.server
import json
import shlex
import sys
import threading

import numpy as np
import pytest
import torch

import speechtok
from examples.voice_agent.agents import SpeechAgent, TextAgent, from_environment, sentences
from examples.voice_agent.talk import talk_in_file
from speechtok.errors import InputError

SYNTHESISER = (
    "import sys, numpy, soundfile; n = len(sys.stdin.read()); "
    "soundfile.write(sys.stdout.buffer, 0.1 * numpy.sin(numpy.arange(800 * n) / 5), 16000, format='WAV')"
)


@pytest.fixture
def text_model():
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            for piece in ("Good", " morning. How", " are", " you?"):
                fields = {"choices": [{"delta": {"content": piece}}]}
                self.wfile.write(f"data: {json.dumps(fields)}\n\n".encode())
            self.wfile.write(b"data: [DONE]\n\n")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", requests
        server.shutdown()


def test_sentences_come_as_soon_as_they_are_complete():
    assert list(sentences(["It is 3.5 now", ". Go", "od! ", "Bye"])) == ["It is 3.5 now. ", "Good! ", "Bye"]


@pytest.mark.slow
def test_a_question_in_a_file_is_answered(tiny, speech, text_model, tmp_path):
    url, requests = text_model
    heard = []

    def recognise(samples):
        heard.append(samples)
        return "good morning"

    agent = TextAgent(tiny, url, "small", recognise, shlex.join([sys.executable, "-c", SYNTHESISER]))
    speechtok.write_audio(
        tmp_path / "question.wav", np.concatenate([np.zeros(8_000), speech(1.0)]).astype("f4"), 16_000
    )
    answers = []

    def answer(turn):
        answers.append([*agent(turn)])  # at once, so that the test does not wait
        return answers[-1]

    talk_in_file(tiny, answer, str(tmp_path / "question.wav"), str(tmp_path / "out.wav"), real_time=False)
    assert [part for part in answers[0] if isinstance(part, str)] == ["Good morning. ", "How are you?"]
    assert requests[0]["messages"][-1] == {"role": "user", "content": "good morning"}
    assert agent.history[-1] == {"role": "assistant", "content": "Good morning. How are you?"}
    assert 8_000 < len(heard[0]) < 50_000
    import soundfile

    both, _ = soundfile.read(tmp_path / "out.wav")
    begin = np.flatnonzero(both[:, 1])[0]
    assert begin > 24_000  # after the question
    assert np.count_nonzero(both[:, 1]) > 12_000


def test_the_speech_agent_answers_with_codes(tiny, speech):
    class Model:
        def transcribe(self, tokens):
            return "hello", ""

        def say(self, text):
            return type("Utterance", (), {"tokens": tiny.encode(speech(0.2), 16_000, num_codebooks=1)})

        def continue_speech(self, tokens, seconds):
            return torch.zeros(30, dtype=torch.int64)

    turn = type("Turn", (), {"tokens": tiny.encode(speech(0.2), 16_000)})
    for continues, frames in ((False, 10), (True, 30)):
        agent = SpeechAgent("nowhere", continues)
        agent.__dict__["talker"] = Model()
        assert [*agent(turn)][-1].shape == (1, frames)
    assert [*agent(None)] == []


def test_settings_that_are_missing_are_named(tiny, monkeypatch):
    for name in ("URL", "MODEL", "SPEECH_LM"):
        monkeypatch.delenv(f"VOICE_AGENT_{name}", raising=False)
    with pytest.raises(InputError, match="VOICE_AGENT_URL"):
        from_environment(tiny)
