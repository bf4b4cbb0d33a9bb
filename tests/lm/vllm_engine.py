"""The logits processors in an engine of vLLM on the CPU: ``python -m tests.lm.vllm_engine``, with vLLM installed.

Checks with a small Llama of random weights that greedy ids equal those of transformers, that samples are valid speech,
and that the streamed audio equals that of the whole utterance. Exits with an error if one of them does not hold.
"""

import argparse
import asyncio
import os
import tempfile

import torch

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

PROMPTS = [f"Say: {words}\n<|speech_begin|>" for words in ("hello", "what was said", "12 Boote", "a")] + ["Answer: "]
LENGTH = 40


def make_talker(folder):
    """Save a small model and its processor."""
    from transformers import LlamaConfig, LlamaForCausalLM

    import speechtok
    from speechtok.lm import SpeechProcessor, extend_model
    from tests.conftest import make_tokenizer
    from tests.lm.conftest import tiktoken_style

    tok = make_tokenizer()
    processor = SpeechProcessor(tiktoken_style(), tok, speechtok.AudioVocabulary(tok, "delay"))
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=processor.vocabulary.offset,
            hidden_size=64,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=256,
            initializer_range=0.3,
            eos_token_id=processor.tokenizer.eos_token_id,
            pad_token_id=processor.pad_id,
            bos_token_id=None,
        )
    ).eval()
    extend_model(model, processor.vocabulary, tok)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor


def greedy_ids(model, processor, prompt):
    """The ids that transformers generates."""
    from transformers import LogitsProcessorList

    from speechtok.lm import SpeechLogitsProcessor

    inputs = processor(prompt)
    ids = model.generate(
        **inputs,
        max_new_tokens=LENGTH,
        do_sample=False,
        eos_token_id=processor.vocabulary.eos_id,
        logits_processor=LogitsProcessorList([SpeechLogitsProcessor(processor.vocabulary)]),
    )
    return ids[0, inputs["input_ids"].shape[1] :].tolist()


async def stream(engine, processor, prompt, sampling):
    """Text and audio of a request, and its ids."""
    from speechtok.lm import SpeechDetokenizer

    prompt_ids = processor(prompt)["input_ids"][0].tolist()
    detokenizer, ids, pieces = SpeechDetokenizer(processor, prompt_ids), [], []
    async for output in engine.generate({"prompt_token_ids": prompt_ids}, sampling, request_id=prompt):
        new = list(output.outputs[0].token_ids)
        ids += new
        pieces += detokenizer.feed(new)
    pieces += detokenizer.end()
    return ids, [piece for piece in pieces if not isinstance(piece, str)]


async def serve(folder, name, model, processor):
    """Run all checks with an engine."""
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.async_llm import AsyncLLM

    engine = AsyncLLM.from_engine_args(
        AsyncEngineArgs(folder, dtype="float32", enforce_eager=True, max_model_len=256, logits_processors=[name])
    )
    common = {
        "max_tokens": LENGTH,
        "stop_token_ids": [processor.vocabulary.eos_id],
        "ignore_eos": True,
        "detokenize": False,
        "output_kind": RequestOutputKind.DELTA,
    }
    greedy = SamplingParams(temperature=0.0, **common)
    results = await asyncio.gather(*(stream(engine, processor, prompt, greedy) for prompt in PROMPTS))
    v, tok = processor.vocabulary, processor.speech_tokenizer
    for prompt, (ids, audio) in zip(PROMPTS, results, strict=True):
        expected = greedy_ids(model, processor, prompt)
        print(f"{prompt!r}: {len(ids)} ids, equal to transformers: {ids == expected}")
        assert ids == expected, (ids, expected)
        if prompt.endswith("<|speech_begin|>"):
            spoken = v.to_codes([v.bos_id, *ids])
            assert torch.equal(torch.cat([torch.zeros(0), *audio]), tok.decode(spoken)[0])
    for seed in range(3):
        sampling = SamplingParams(temperature=1.0, seed=seed, **common)
        for ids, audio in await asyncio.gather(*(stream(engine, processor, p, sampling) for p in PROMPTS[:-1])):
            assert torch.equal(torch.cat([torch.zeros(0), *audio]), tok.decode(v.to_codes([v.bos_id, *ids]))[0])
    print("samples are valid speech, and the streamed audio equals that of the whole utterance")
    engine.shutdown()


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.lm.vllm_engine", description=__doc__)
    parser.add_argument("--processor", default="SpeechLogitsProcessor", help="class in speechtok.lm.vllm")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model, processor = make_talker(folder)
        asyncio.run(serve(folder, f"speechtok.lm.vllm:{arguments.processor}", model, processor))


if __name__ == "__main__":
    main()
