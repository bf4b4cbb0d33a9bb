"""Loading text tokenizers of transformers from folders that cannot be trusted."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from speechtok.errors import CheckpointError, InputError, quoted


def load_text_tokenizer(directory: Path, options: dict[str, Any]) -> PreTrainedTokenizerBase:
    """Load the text tokenizer of a folder. Code in the folder is never run, and its files may be damaged in any way.

    Args:
        directory: folder that ``save_pretrained`` of a text tokenizer wrote.
        options: options of ``AutoTokenizer.from_pretrained``.

    Raises:
        CheckpointError: transformers cannot load it without running code of the folder.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(  # type: ignore[no-untyped-call]
            directory, local_files_only=True, trust_remote_code=False, **options
        )
    except InputError:
        raise
    # transformers does not check what it reads, and the tokenizers library panics with a BaseException of its own
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"{directory} has a text tokenizer that transformers cannot load ({quoted(reason)}); expected a folder "
            "that save_pretrained wrote"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise CheckpointError(f"{directory} has no text tokenizer; expected a folder that save_pretrained wrote")
    return tokenizer
