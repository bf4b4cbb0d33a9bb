"""The matrix of the page on transformers: each class in each habit that users bring, under the installed version.

``make test`` runs it with transformers 4, ``make test-transformers-5`` with 5.
"""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    LlamaConfig,
    Trainer,
    TrainingArguments,
)

import speechtok
from speechtok.errors import SpeechtokError
from speechtok.lm import (
    GridLanguageModel,
    Parallel,
    SpeechCollator,
    SpeechLogitsProcessor,
    SpeechProcessor,
)
from speechtok.transformers import SpeechtokConfig, SpeechtokFeatureExtractor, SpeechtokModel
from tests.lm.conftest import FAMILIES, make_language_model, tiktoken_style

PAGE = Path(__file__).parents[2] / "docs" / "transformers.md"
LONG, SHORT = 4800, 3000
"""Samples of the two utterances of a batch."""


class Codec:
    """SpeechtokModel, as EnCodec, DAC and Mimi are used."""

    def __init__(self, tok, speech):
        self.made = SpeechtokModel.from_tokenizer(tok)
        self.audio = torch.zeros(2, 1, LONG)
        self.mask = torch.ones(2, LONG)
        for row, length in enumerate((LONG, SHORT)):
            self.audio[row, 0, :length] = torch.from_numpy(speech(length / 16_000, row))
            self.mask[row, length:] = 0

    def save(self, folder):
        self.made.save_pretrained(folder)

    def load(self, folder):
        assert type(AutoConfig.from_pretrained(folder)) is SpeechtokConfig
        return AutoModel.from_pretrained(folder)

    def use(self, model):
        codes = model.encode(self.audio, self.mask).audio_codes
        return [codes, model.decode(codes, self.mask).audio_values]

    def alone(self, model, row):
        length = (LONG, SHORT)[row]
        codes = model.encode(self.audio[row : row + 1, :, :length]).audio_codes
        return [codes[0], model.decode(codes, self.mask[row : row + 1, :length]).audio_values[0]]


class Extractor:
    """SpeechtokFeatureExtractor."""

    def __init__(self, tok, speech):
        self.made = SpeechtokFeatureExtractor(sampling_rate=tok.sample_rate)
        self.waveforms = [speech(length / 16_000, row) for row, length in enumerate((LONG, SHORT))]
        SpeechtokModel.from_tokenizer(tok)
        self.tok = tok

    def save(self, folder):
        self.made.save_pretrained(folder)
        SpeechtokModel.from_tokenizer(self.tok).save_pretrained(folder)

    def load(self, folder):
        return AutoFeatureExtractor.from_pretrained(folder)

    def use(self, extractor):
        batch = extractor(self.waveforms, sampling_rate=16_000, return_tensors="pt")
        return [batch["input_values"], batch["padding_mask"]]

    def alone(self, extractor, row):
        batch = extractor(self.waveforms[row], sampling_rate=16_000, return_tensors="pt")
        return [batch["input_values"][0], batch["padding_mask"][0]]


class Processor:
    """SpeechProcessor, with chats and plain texts."""

    def __init__(self, tok, speech):
        self.made = SpeechProcessor(tiktoken_style(), tok, speechtok.AudioVocabulary(tok, "flatten"))
        self.speech = [tok.encode(speech(length / 16_000, row), 16_000) for row, length in enumerate((LONG, SHORT))]
        self.chats = [[{"role": "user", "content": [{"type": "audio", "audio": one}, "hi"]}] for one in self.speech]

    def save(self, folder):
        self.made.save_pretrained(folder)

    def load(self, folder):
        return AutoProcessor.from_pretrained(folder)

    def use(self, processor):
        chat = processor.apply_chat_template(self.chats, add_generation_prompt=True)
        plain = processor(["Say<|speech|>", "<|speech|>"], self.speech)
        return [chat["input_ids"], chat["attention_mask"], plain["input_ids"]]

    def alone(self, processor, row):
        chat = processor.apply_chat_template(self.chats[row], add_generation_prompt=True)
        plain = processor(["Say<|speech|>", "<|speech|>"][row], self.speech[row])
        return [chat["input_ids"][0], chat["attention_mask"][0], plain["input_ids"][0]]


class Collator(Processor):
    """SpeechCollator."""

    def __init__(self, tok, speech):
        super().__init__(tok, speech)
        self.processor = self.made
        self.made = SpeechCollator(self.processor)
        self.examples = [{"prompt": "Say", "answer": "<|speech|> yes", "audio": [one]} for one in self.speech]

    def use(self, collator):
        return list(collator(self.examples).values())

    def alone(self, collator, row):
        return [values[0] for values in collator(self.examples[row : row + 1]).values()]


class LanguageModel(Processor):
    """A model of transformers after extend_model."""

    family = ""

    def __init__(self, tok, speech):
        super().__init__(tok, speech)
        self.processor = self.made
        self.made = make_language_model(self.family, self.processor)
        self.batch = SpeechCollator(self.processor)(
            [{"prompt": "Say", "answer": "<|speech|> yes", "audio": [one]} for one in self.speech]
        )

    def save(self, folder):
        self.made.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def load(self, folder):
        assert len(AutoTokenizer.from_pretrained(folder)) == self.processor.vocabulary.stop_id
        return AutoModelForCausalLM.from_pretrained(folder).eval()

    def use(self, model):
        logits = SpeechLogitsProcessor(self.processor.vocabulary)
        prompt = self.processor(["Say:<|speech_begin|>", "hello<|speech_begin|>"], padding_side="left")
        end = {"eos_token_id": self.processor.vocabulary.eos_id, "pad_token_id": self.processor.pad_id}
        with torch.no_grad():
            return [
                model(**self.batch).logits,
                model.generate(**prompt, **end, max_new_tokens=6, do_sample=False, logits_processor=[logits]),
            ]


class Llama(LanguageModel):
    family = "llama"


class Qwen(LanguageModel):
    family = "qwen2"


class Grid:
    """GridLanguageModel."""

    def __init__(self, tok, speech):
        grid = speechtok.AudioVocabulary(tok, Parallel((0, 1, 2, 3)))
        sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.made = GridLanguageModel(AutoModel.from_config(LlamaConfig(vocab_size=1, **sizes)), grid).eval()
        self.ids = grid.to_ids(tok.encode(speech(0.3, 0), 16_000))

    def save(self, folder):
        self.made.save_pretrained(folder)

    def load(self, folder):
        return GridLanguageModel.from_pretrained(folder)

    def use(self, model):
        with torch.no_grad():
            return [model(self.ids)[1], model.generate(temperature=0, max_steps=5)]


CLASSES = {
    "SpeechtokModel": Codec,
    "SpeechtokFeatureExtractor": Extractor,
    "SpeechProcessor": Processor,
    "SpeechCollator": Collator,
    "Llama with speech": Llama,
    "Qwen with speech": Qwen,
    "GridLanguageModel": Grid,
}
"""Classes by their names on the page."""


@pytest.fixture
def case(request, tiny, speech):
    return CLASSES[request.param](tiny, speech)


def saved_and_loaded(case, tmp_path):
    case.save(tmp_path / "saved")
    return case.load(tmp_path / "saved")


def saved_again(case, tmp_path):
    loaded = saved_and_loaded(case, tmp_path)
    if isinstance(case, LanguageModel):
        loaded.save_pretrained(tmp_path / "again")
        case.processor.save_pretrained(tmp_path / "again")
    else:
        if isinstance(case, Extractor):
            case.save(tmp_path / "again")
        loaded.save_pretrained(tmp_path / "again")
    return case.load(tmp_path / "again")


def copied(case, tmp_path):
    return copy.deepcopy(case.made)


def pickled(case, tmp_path):
    return pickle.loads(pickle.dumps(case.made))


def moved(case, tmp_path):
    return case.made.to("cpu").train(False)


def reloaded(case, tmp_path):
    state = {name: tensor.clone() for name, tensor in case.made.state_dict().items()}
    other = copy.deepcopy(case.made)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(state)
    return other


MODELS = ["SpeechtokModel", "Llama with speech", "Qwen with speech", "GridLanguageModel"]
SAVED = [name for name in CLASSES if name != "SpeechCollator"]
SAME_RESULT = {
    "save, and load with the auto class if there is one": (saved_and_loaded, SAVED),
    "save again": (saved_again, SAVED),
    "`copy.deepcopy`": (copied, list(CLASSES)),
    "`pickle`, as workers of a DataLoader": (pickled, list(CLASSES)),
    "`to(device)`, `train(False)`": (moved, MODELS),
    "`load_state_dict`": (reloaded, MODELS),
}
"""What is done, and to which classes; the result of using the class stays the same, bit for bit."""


@pytest.mark.parametrize(
    ("case", "habit"),
    [(name, habit) for habit, (_, names) in SAME_RESULT.items() for name in names],
    indirect=["case"],
)
def test_the_result_stays_the_same(case, habit, tmp_path):
    expected = case.use(case.made)
    found = case.use(SAME_RESULT[habit][0](case, tmp_path))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


BATCHED = ["SpeechtokModel", "SpeechtokFeatureExtractor", "SpeechProcessor", "SpeechCollator"]


@pytest.mark.parametrize("case", BATCHED, indirect=True)
def test_a_row_of_a_batch_is_the_row_alone(case):
    for row in range(2):
        for batch, alone in zip(case.use(case.made), case.alone(case.made, row), strict=True):
            kept = batch[row]
            assert torch.equal(kept[tuple(slice(size) for size in alone.shape)], alone)


TRAINED = ["Llama with speech", "Qwen with speech"]


@pytest.mark.slow
@pytest.mark.parametrize("case", TRAINED, indirect=True)
def test_trainer_trains_or_names_the_setting(case, tmp_path):
    pytest.importorskip("accelerate")
    examples = [{"prompt": "Say", "answer": "<|speech|> yes", "audio": [one]} for one in case.speech]
    common = {"output_dir": str(tmp_path), "max_steps": 1, "report_to": "none", "use_cpu": True, "save_steps": 1}

    def train(**settings):
        collator = SpeechCollator(case.processor)
        arguments = TrainingArguments(**common, **settings)
        Trainer(case.made, arguments, data_collator=collator, train_dataset=examples).train()

    with pytest.raises(SpeechtokError, match="set remove_unused_columns=False"):
        train()
    before = copy.deepcopy(case.made.state_dict())
    train(remove_unused_columns=False, gradient_checkpointing=True)
    assert not all(torch.equal(before[name], tensor) for name, tensor in case.made.state_dict().items())
    checkpoint = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint-1").eval()
    assert torch.equal(case.use(checkpoint)[0], case.use(case.made.eval())[0])


@pytest.mark.slow
@pytest.mark.parametrize("case", TRAINED, indirect=True)
def test_peft_trains_the_new_rows_and_merges_them(case, tmp_path):
    peft = pytest.importorskip("peft")
    v = case.processor.vocabulary
    tables = ["embed_tokens"] if case.made.config.tie_word_embeddings else ["embed_tokens", "lm_head"]
    text = case.made.get_input_embeddings().weight[: v.offset].clone()
    lora = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=2,
        target_modules="all-linear",
        trainable_token_indices={name: list(range(v.offset, v.stop_id)) for name in tables},
    )
    adapted = peft.get_peft_model(case.made, lora)
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], 0.1)
    speech = case.made.get_input_embeddings()(torch.arange(v.offset, v.stop_id)).detach().clone()
    adapted(**case.batch).loss.backward()
    optimizer.step()
    merged = adapted.merge_and_unload()
    rows = merged.get_input_embeddings().weight
    assert torch.equal(rows[: v.offset], text)
    assert not torch.equal(rows[v.offset : v.stop_id], speech)


@pytest.mark.parametrize("case", TRAINED, indirect=True)
def test_bfloat16_models_generate_valid_speech(case):
    v = case.processor.vocabulary
    ids = case.use(case.made.to(torch.bfloat16))[1]
    for row in ids.tolist():
        (span,) = v.spans(row)
        v.to_codes([id_ for id_ in row[span] if id_ != case.processor.pad_id])


MATRIX = {
    **{habit: names for habit, (_, names) in SAME_RESULT.items()},
    "batches of different lengths": BATCHED,
    "`Trainer`": TRAINED,
    "PEFT with new rows": TRAINED,
    "bfloat16": TRAINED,
    "`generate`: static cache, assisted, beams, several sequences, left padding": TRAINED,
    "sharded checkpoints, tied and untied": TRAINED,
    "a fresh process: same ids, same audio": TRAINED,
}
"""Habits and the classes that they are tested with; the last three in files of their own."""


def matrix_table() -> str:
    """The table of the page."""
    head = "| habit | " + " | ".join(f"`{name}`" if name.isalpha() else name for name in CLASSES) + " |"
    rows = [
        "| " + habit + " |" + "".join(" ✓ |" if name in names else " |" for name in CLASSES)
        for habit, names in MATRIX.items()
    ]
    return "\n".join([head, "|---" * (len(CLASSES) + 1) + "|", *rows])


def test_the_page_has_the_matrix():
    assert matrix_table() in PAGE.read_text(encoding="utf-8"), "run python -m tests.transformers.test_matrix"


if __name__ == "__main__":
    assert set(FAMILIES) == {Llama.family, Qwen.family}
    print(matrix_table())
