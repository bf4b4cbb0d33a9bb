"""A model with speech in llama.cpp: ``python -m tests.lm.llama_cpp_engine``, with gguf and xllamacpp installed.

Writes a small Llama of random weights to a GGUF file, checks the file, and checks that llama.cpp reads prompts with speech as
the same ids and generates the same ids as transformers, and that their streamed audio equals that of the whole utterance.
"""

import tempfile
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
    add_vocabulary(writer, processor, "llama-bpe")
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


def main():
    """Run the command line."""
    import xllamacpp
    from transformers import LlamaConfig, LlamaForCausalLM

    import speechtok
    from speechtok.lm import SpeechDetokenizer, SpeechProcessor, extend_model
    from speechtok.lm.llama_cpp import check_model
    from tests.conftest import make_tokenizer
    from tests.lm.conftest import tiktoken_style

    torch.set_num_threads(1)
    tok = make_tokenizer()
    processor = SpeechProcessor(tiktoken_style(), tok, speechtok.AudioVocabulary(tok, "flatten"))
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
        params.n_ctx, params.cpuparams.n_threads, params.warmup = 256, 1, False
        server = xllamacpp.Server(params)
        for text in TEXTS:
            ids = processor(text)["input_ids"]
            expected = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=LENGTH, do_sample=False)
            expected = expected[0, ids.shape[1] :].tolist()
            options = {"n_predict": LENGTH, "temperature": 0.0, "return_tokens": True, "ignore_eos": True}
            for prompt in (text, ids[0].tolist()):
                answer = server.handle_completions({"prompt": prompt, "stream": False, **options})
                print(str(answer)[:300])
                assert answer["tokens"] == expected, (answer["tokens"], expected)
            detokenizer = SpeechDetokenizer(processor, ids[0].tolist())
            audio = [piece for piece in detokenizer.feed(expected) + detokenizer.end() if not isinstance(piece, str)]
            print(f"{text!r}: {len(expected)} ids equal, {sum(map(len, audio))} samples")


if __name__ == "__main__":
    main()
