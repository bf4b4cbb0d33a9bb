"""Models of transformers: created or loaded, with LoRA, and exported with their processor."""

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from examples.speech_lm.config import SpeechLmConfig
from examples.speech_lm.text_tokenizer import byte_tokenizer
from speechtok.errors import CheckpointError, ConfigError, InputError, MissingFileError
from speechtok.extras import install_hint
from speechtok.files import replacing
from speechtok.lm import (
    AudioVocabulary,
    DepthTransformer,
    GridLanguageModel,
    ParallelHeads,
    SpeechProcessor,
    extend_model,
)
from speechtok.mapping import from_mapping
from speechtok.tokenizer import Tokenizer

_CONFIG = "training.json"


@dataclasses.dataclass(frozen=True)
class SpeechOnly:
    """The processor of a model without text.

    Attributes:
        vocabulary: vocabulary of the model.
        speech_tokenizer: the speech tokenizer.
    """

    vocabulary: AudioVocabulary
    speech_tokenizer: Tokenizer

    def save_pretrained(self, directory: Path) -> None:
        """Write the speech tokenizer; the model has the vocabulary."""
        self.speech_tokenizer.save(directory / "speech_tokenizer")


def make_processor(config: SpeechLmConfig, tokenizer: Tokenizer) -> SpeechProcessor | SpeechOnly:
    """Combine the text tokenizer and the speech tokenizer of a config; a grid of ids has no text.

    Raises:
        VocabularyError: the pattern or the number of codebooks does not fit the tokenizer.
        InputError: the pretrained text tokenizer cannot be loaded.
    """
    vocabulary = AudioVocabulary(tokenizer, config.pattern, config.num_codebooks)
    if vocabulary.is_grid and config.stage == "speech":
        return SpeechOnly(vocabulary, tokenizer)
    text = _from_pretrained(AutoTokenizer, config.pretrained) if config.pretrained else byte_tokenizer()
    return SpeechProcessor(text, tokenizer, vocabulary)


def make_model(config: SpeechLmConfig, processor: SpeechProcessor | SpeechOnly) -> Any:
    """Create or load a model, and add embeddings for the speech ids, initialised from the codebook vectors.

    A pattern with a grid of ids gets a :class:`~speechtok.lm.GridLanguageModel`, whose embeddings are random.

    Raises:
        ConfigError: transformers does not have such a model, or peft is not installed.
        InputError: the pretrained model cannot be loaded.
    """
    v = processor.vocabulary
    torch.manual_seed(config.seed)
    if config.pretrained:
        model = _from_pretrained(AutoModelForCausalLM, config.pretrained, dtype=torch.float32)
    else:
        fields = {
            "vocab_size": 1 if v.is_grid else v.offset,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
        }
        try:
            model_config = AutoConfig.for_model(**fields | config.model)
            if v.is_grid:
                return _make_grid_model(config, AutoModel.from_config(model_config), v)
            model = AutoModelForCausalLM.from_config(model_config)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise ConfigError(
                f"model is {config.model!r}, which transformers cannot create ({error}); expected a model_type of a "
                "causal language model, such as llama or gpt_neox, and fields of its configuration"
            ) from error
    assert isinstance(processor, SpeechProcessor)
    extend_model(model, v, processor.speech_tokenizer)
    return _add_lora(model, config, v) if config.lora_rank else model


def _make_grid_model(config: SpeechLmConfig, backbone: Any, vocabulary: AudioVocabulary) -> GridLanguageModel:
    arguments = {name: value for name, value in config.heads.items() if name != "name"}
    kind = DepthTransformer if config.heads.get("name") == "depth" else ParallelHeads
    return GridLanguageModel(backbone, vocabulary, kind(vocabulary, int(backbone.config.hidden_size), **arguments))


def _add_lora(model: PreTrainedModel, config: SpeechLmConfig, vocabulary: AudioVocabulary) -> Any:
    """Freeze a model except for LoRA matrices and the embeddings of the new ids."""
    if importlib.util.find_spec("peft") is None:
        raise ConfigError(
            f"lora_rank is {config.lora_rank}, which needs peft: {install_hint('examples')}, or pass lora_rank=0 to "
            "train all weights"
        )
    from peft import LoraConfig, get_peft_model

    new_ids = list(range(vocabulary.offset, vocabulary.stop_id))
    embeddings = [model.get_input_embeddings()]
    if model.get_output_embeddings() is not None and not model.config.tie_word_embeddings:
        embeddings.append(model.get_output_embeddings())
    names = [name.rpartition(".")[2] for name, module in model.named_modules() if any(module is x for x in embeddings)]
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=config.lora_rank,
        lora_alpha=2 * config.lora_rank,
        target_modules="all-linear",
        trainable_token_indices=dict.fromkeys(names, new_ids),
    )
    return get_peft_model(model, lora)


def save_model(model: Any, processor: SpeechProcessor | SpeechOnly, config: SpeechLmConfig, directory: Path) -> None:
    """Export a trained model with its processor and config; LoRA matrices are merged into the weights.

    Raises:
        OutputError: the files cannot be written.
    """
    merged = model.merge_and_unload() if config.lora_rank else model
    directory.mkdir(parents=True, exist_ok=True)
    processor.save_pretrained(directory)
    merged.save_pretrained(directory)
    with replacing(directory / _CONFIG) as file:
        file.write(json.dumps(config.to_dict(), indent=2).encode())


def load_model(directory: str | Path) -> tuple[PreTrainedModel, SpeechProcessor, SpeechLmConfig]:
    """Load an exported model for inference on the CPU in float32, whatever device it was trained on.

    Args:
        directory: folder ``model`` of a training of the stage ``language``.

    Raises:
        MissingFileError: the folder does not exist, or holds no exported model.
        InputError: the model belongs to another stage.
        CheckpointError: the files cannot be read.
    """
    path = Path(directory)
    if not (path / _CONFIG).is_file():
        raise MissingFileError(
            f"{path} has no {_CONFIG}; expected the folder 'model' of a finished training: "
            "python -m examples.speech_lm.train --config …"
        )
    try:
        config = from_mapping(SpeechLmConfig, json.loads((path / _CONFIG).read_text(encoding="utf-8")))
        if config.stage == "language":
            model = AutoModelForCausalLM.from_pretrained(
                path, local_files_only=True, trust_remote_code=False, dtype=torch.float32
            ).eval()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); train it again") from error
    if config.stage != "language":
        raise InputError(f"{path} is a model of the stage {config.stage}; expected one of the stage language")
    return model, SpeechProcessor.from_pretrained(path), dataclasses.replace(config, device="cpu", bfloat16=False)


def _from_pretrained(kind: Any, name: str, **arguments: Any) -> Any:
    try:
        return kind.from_pretrained(name, trust_remote_code=False, **arguments)
    except (OSError, ValueError) as error:
        raise InputError(
            f"pretrained is {name!r}, which transformers cannot load ({str(error).splitlines()[0]}); expected a "
            "directory written by save_pretrained, or the name of a language model on the hub"
        ) from error
