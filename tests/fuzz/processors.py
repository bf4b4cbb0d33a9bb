"""Fuzzer of processor folders: the files of a text tokenizer with its vocabulary, beside a speech tokenizer."""

import json
import random
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from speechtok import AudioVocabulary, ConvNeXtConfig, ConvNeXtStackConfig, ConvNeXtTokenizer
from speechtok.lm import SpeechProcessor
from tests.fuzz.mutate import hostile_value, mutate_bytes, mutate_plain
from tests.fuzz.runner import Fuzzer, Report, run_here

_STACK = ConvNeXtStackConfig(patch_dim=2, patch_depth=1, frame_dim=4, frame_depth=1, kernel_size=2, expansion=1)


class Inputs(Fuzzer):
    """Name of one file of the folder, and its bytes; the other files are as they were written."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        logging.set_verbosity(logging.CRITICAL)
        torch.manual_seed(0)
        speech = ConvNeXtTokenizer(
            ConvNeXtConfig(latent_dim=4, codebook_size=4, num_codebooks=2, encoder=_STACK, decoder=_STACK)
        )
        words = {word: index for index, word in enumerate(["<unk>", "</s>", "say", "hello", "world"])}
        model = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
        model.pre_tokenizer = pre_tokenizers.Whitespace()
        text = PreTrainedTokenizerFast(tokenizer_object=model, unk_token="<unk>", eos_token="</s>")
        SpeechProcessor(text, speech, AudioVocabulary(speech, "flatten")).save_pretrained(folder / "saved")
        self._files = {
            str(path.relative_to(folder / "saved")): path.read_bytes()
            for path in sorted((folder / "saved").rglob("*"))
            if path.is_file()
        }

    def make(self, rng: random.Random) -> tuple[str, bytes | None]:
        name = rng.choice([file for file in self._files if file.endswith(".json")])
        if rng.random() < 0.1:
            name = rng.choice(list(self._files))
        data = self._files[name]
        if rng.random() < 0.03:
            return name, None
        if rng.random() < 0.15 or not name.endswith(".json"):
            return name, mutate_bytes(rng, data)
        values = json.loads(data)
        if "speechtok" in values and rng.random() < 0.4:
            values["speechtok"] = mutate_plain(rng, values["speechtok"])
        elif rng.random() < 0.1:
            values[rng.choice(["auto_map", "tokenizer_class", "chat_template", "x"])] = hostile_value(rng)
        else:
            values = mutate_plain(rng, values, rng.choice([1, 1, 2]))
        return name, json.dumps(values).encode()

    def passes(self, made: tuple[str, bytes | None]) -> bool:
        if made[1] is None or not made[0].endswith(".json"):
            return False
        try:
            return isinstance(json.loads(made[1]), dict)
        except (ValueError, RecursionError):
            return False

    def use(self, made: tuple[str, bytes | None]) -> None:
        folder = self.folder / "made"
        shutil.rmtree(folder, ignore_errors=True)
        for name, data in self._files.items():
            if name == made[0]:
                data = made[1]
            if data is not None:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
        SpeechProcessor.from_pretrained(folder)


def run(count: int, seed: int = 0) -> Report:
    """Run in this process; see :func:`tests.fuzz.runner.run_here`."""
    return run_here("processors", count, seed)
