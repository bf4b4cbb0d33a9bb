"""A model with speech in llama.cpp: ``python -m tests.lm.llama_cpp_engine``, with gguf and xllamacpp installed.

Writes a small Llama of random weights to a GGUF file and checks the file. Then llama.cpp must read prompts with speech
as the same ids and generate the same ids as transformers.
"""

import argparse
import json
import tempfile
import urllib.request
from pathlib import Path

import numpy as np
import torch

LENGTH = 24
TEXTS = ["Say: hello world<|speech_begin|>", "<|speech_begin|>", "What was said? <|speech_begin|>"]


def write_model(path, model, processor):
    """Write a Llama and its processor to a GGUF file, with float32 weights."""
    import gguf

    from speechtok.lm.llama_cpp import add_vocabulary

    config = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    add_vocabulary(writer, processor, "gpt-2")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(10_000.0)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = tensor.numpy().astype(np.float32)
        if name.endswith(("q_proj.weight", "k_proj.weight")):  # llama.cpp pairs neighbours in rotary embeddings
            heads = config.num_attention_heads
            values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gpt2_style():
    """A text tokenizer that llama.cpp knows as gpt-2: bytes, split as in GPT-2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def complete(address, prompt, **options):
    """The ids that llama-server generates, streamed or not."""
    body = {"prompt": prompt, "n_predict": LENGTH, "temperature": 0.0, "return_tokens": True, "ignore_eos": True}
    data, headers = json.dumps({**body, **options}).encode(), {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{address}/completion", data, headers), timeout=300) as answer:
        if not options.get("stream"):
            return json.load(answer)["tokens"]
        events = [json.loads(line[6:]) for line in answer if line.startswith(b"data: ")]
    return [id_ for event in events for id_ in event.get("tokens", [])]


def main():
    """Run the command line."""
    argparse.ArgumentParser(prog="python -m tests.lm.llama_cpp_engine", description=__doc__).parse_args()
    import xllamacpp
    from transformers import LlamaConfig, LlamaForCausalLM

    import speechtok
    from speechtok.lm import SpeechDetokenizer, SpeechProcessor, extend_model
    from speechtok.lm.llama_cpp import check_model
    from tests.conftest import make_tokenizer

    torch.set_num_threads(1)
    tok = make_tokenizer()
    processor = SpeechProcessor(gpt2_style(), tok, speechtok.AudioVocabulary(tok, "flatten"))
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=processor.vocabulary.offset, max_position_embeddings=256, initializer_range=0.3,
        eos_token_id=None, bos_token_id=None, tie_word_embeddings=False, **sizes,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    extend_model(model, processor.vocabulary, tok)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        write_model(path, model, processor)
        check_model(path, processor.vocabulary)
        print("the check passes")
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32  # as transformers; else float16
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.n_ctx, params.cpuparams.n_threads, params.warmup = 256, 1, False
        server = xllamacpp.Server(params)
        v, options = processor.vocabulary, {"max_new_tokens": LENGTH, "do_sample": False}
        text_ids = list(range(v.offset))
        for text in TEXTS:
            ids = processor(text)["input_ids"]
            mask, prompt = torch.ones_like(ids), ids[0].tolist()
            expected = model.generate(ids, attention_mask=mask, **options)[0, len(prompt) :].tolist()
            for form in (text, prompt):
                assert complete(server.listening_address, form) == expected
            # llama-server leaves ids of incomplete characters out of a stream, and random weights write such characters
            spoken = model.generate(ids, attention_mask=mask, suppress_tokens=text_ids, **options)
            spoken = spoken[0, len(prompt) :].tolist()
            bias = [[id_, False] for id_ in text_ids]
            assert complete(server.listening_address, prompt, stream=True, logit_bias=bias) == spoken
            pieces = SpeechDetokenizer(processor, prompt).feed(expected)
            kinds = f"{sum(isinstance(piece, str) for piece in pieces)} pieces of text"
            print(f"{text!r}: {len(expected)} ids equal ({kinds}), {len(spoken)} streamed ids of speech equal")


if __name__ == "__main__":
    main()
