"""A model and its processor, saved here and loaded by the auto classes in another process: same ids, same audio."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import speechtok
from speechtok.lm import SpeechProcessor
from tests.lm.conftest import FAMILIES, make_language_model, tiktoken_style

# runs in both processes
PROGRAM = '''
import hashlib, json, sys
import torch
from transformers import AutoModelForCausalLM, AutoProcessor, LogitsProcessorList
import speechtok.transformers
from speechtok.lm import AudioStreamer, SpeechLogitsProcessor

def generate(model, processor):
    """Prompt, generated ids, and the hash of the audio, streamed and whole."""
    tok, v = processor.speech_tokenizer, processor.vocabulary
    heard = tok.encode(0.3 * torch.linspace(0, 300, 3200).sin(), 16_000)
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "audio", "audio": heard}, {"type": "text", "text": "Say it."}]},
         {"role": "assistant", "content": "<|speech_begin|>"}],
        continue_final_message=True,
    )
    chunks = []
    ids = model.generate(
        **prompt, max_new_tokens=41, do_sample=False, eos_token_id=v.eos_id, pad_token_id=processor.pad_id,
        logits_processor=LogitsProcessorList([SpeechLogitsProcessor(v)]),
        streamer=AudioStreamer(v, tok, chunks.append),
    )[0].tolist()
    new = ids[prompt["input_ids"].shape[1]:]
    whole = tok.decode(v.to_codes([v.bos_id, *new]))[0]
    hashes = [hashlib.sha256(audio.numpy().tobytes()).hexdigest() for audio in (torch.cat(chunks), whole)]
    return {"ids": ids, "samples": len(whole), "audio": hashes, "text": processor.decode(ids)}
'''

MAIN = """
for folder in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained(folder)
    print(json.dumps(generate(model.eval(), AutoProcessor.from_pretrained(folder))))
"""


@pytest.mark.slow
def test_a_fresh_process_generates_the_same_ids_and_audio_to_the_bit(tiny, tmp_path):
    names = {}
    exec(PROGRAM, names)  # noqa: S102, the code above
    expected = []
    for family in FAMILIES:
        processor = SpeechProcessor(tiktoken_style(), tiny, speechtok.AudioVocabulary(tiny, "flatten"))
        model = make_language_model(family, processor)
        model.save_pretrained(tmp_path / family)
        processor.save_pretrained(tmp_path / family)
        expected.append(names["generate"](model, processor))
    paths = [str(Path(speechtok.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", f"{PROGRAM}{MAIN}", *FAMILIES],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "HF_HOME": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()[-len(FAMILIES) :]]
    assert found == expected
    for one in found:
        assert one["samples"] > tiny.hop_length
        assert one["audio"][0] == one["audio"][1]  # streamed, and decoded as a whole
