"""Language models of grids: a transformer over steps, and heads or a depth transformer over the codebooks of a step."""

import json
import os
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from speechtok.errors import CheckpointError, InputError, MissingFileError, VocabularyError, quoted
from speechtok.files import make_folder, replacing
from speechtok.lm.vocabulary import AudioVocabulary

_CONFIG, _WEIGHTS = "grid_model.json", "grid_model.safetensors"

IGNORE = -100
"""Label that the losses of PyTorch and transformers ignore."""


class GridEmbedding(nn.Module):
    """Sum of the embeddings of all ids of a step, one table for each codebook, as in MusicGen.

    Args:
        vocabulary: vocabulary with a :class:`~speechtok.lm.ParallelPattern`.
        width: width of the embeddings.
    """

    offsets: Tensor

    def __init__(self, vocabulary: AudioVocabulary, width: int) -> None:
        super().__init__()
        _check_grid(vocabulary)
        self.table = nn.Embedding(vocabulary.num_codebooks * vocabulary.size, width)
        nn.init.normal_(self.table.weight, std=0.02)
        self.register_buffer("offsets", torch.arange(vocabulary.num_codebooks) * vocabulary.size, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids ``(…, Q)`` to embeddings ``(…, width)``."""
        embeddings: Tensor = self.table(ids + self.offsets).sum(-2)
        return embeddings


class ParallelHeads(nn.Module):
    """One linear head for each codebook: the ids of a step are independent given the steps before, as in MusicGen.

    Args:
        vocabulary: vocabulary with a :class:`~speechtok.lm.ParallelPattern`, best with delays.
        width: width of the hidden states.
    """

    def __init__(self, vocabulary: AudioVocabulary, width: int) -> None:
        super().__init__()
        _check_grid(vocabulary)
        self.num_codebooks, self.size = vocabulary.num_codebooks, vocabulary.size
        self.project = nn.Linear(width, self.num_codebooks * self.size)

    def forward(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor:
        """Hidden states ``(…, width)`` to scores ``(…, Q, ids of a head)``; ``ids`` is not used."""
        scores: Tensor = self.project(hidden)
        return scores.view(*scores.shape[:-1], self.num_codebooks, self.size)

    def sample(self, hidden: Tensor, choose: Any) -> Tensor:
        """Choose the ids of a step; see :meth:`DepthTransformer.sample`."""
        scores = self(hidden)
        return torch.stack([choose(scores[:, q], q) for q in range(self.num_codebooks)], 1)


class DepthTransformer(nn.Module):
    """A small transformer over the codebooks of a step, each given those before, as in RQ-Transformer and Moshi.

    Lee et al. 2022, "Autoregressive Image Generation using Residual Quantization", arXiv 2203.01941; Défossez et al.
    2024, "Moshi", arXiv 2410.00037.

    Args:
        vocabulary: vocabulary with a :class:`~speechtok.lm.ParallelPattern`.
        width: width of the hidden states of the model over steps.
        depth_width: width of this transformer.
        num_layers: its layers.
        num_heads: attention heads of each layer.
    """

    def __init__(
        self, vocabulary: AudioVocabulary, width: int, depth_width: int = 256, num_layers: int = 3, num_heads: int = 4
    ) -> None:
        super().__init__()
        _check_grid(vocabulary)
        self.num_codebooks, self.size = vocabulary.num_codebooks, vocabulary.size
        self.sizes = {"depth_width": depth_width, "num_layers": num_layers, "num_heads": num_heads}
        self.enter = nn.Linear(width, self.num_codebooks * depth_width)  # also tells the codebooks apart
        self.table = nn.Embedding(self.num_codebooks * self.size, depth_width)
        nn.init.normal_(self.table.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(
            depth_width, num_heads, 4 * depth_width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, num_layers, nn.LayerNorm(depth_width), enable_nested_tensor=False)
        self.leave = nn.Parameter(torch.empty(self.num_codebooks, self.size, depth_width))
        nn.init.normal_(self.leave, std=depth_width**-0.5)

    def forward(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """Scores of each codebook of a step, given the ids of the codebooks before it.

        Args:
            hidden: hidden states ``(…, width)``.
            ids: ids of the step, int64 ``(…, q)``; the scores are those of the codebooks 0 to ``q - 1``.

        Returns:
            ``(…, q, ids of a head)``.
        """
        q = ids.shape[-1]
        x = self.enter(hidden).view(*hidden.shape[:-1], self.num_codebooks, -1)[..., :q, :]
        offsets = torch.arange(q, device=ids.device) * self.size
        before = F.pad(self.table(ids + offsets)[..., :-1, :], (0, 0, 1, 0))
        mask = nn.Transformer.generate_square_subsequent_mask(q, device=x.device, dtype=x.dtype)
        y = self.layers((x + before).flatten(0, -3), mask=mask, is_causal=True)
        return torch.einsum("bqd,qnd->bqn", y, self.leave[:q]).reshape(*x.shape[:-1], self.size)

    def sample(self, hidden: Tensor, choose: Any) -> Tensor:
        """Choose the ids of a step one codebook after another.

        Args:
            hidden: hidden states ``(B, width)``.
            choose: function of scores ``(B, ids of a head)`` and a codebook that returns ids ``(B,)``.

        Returns:
            int64 ``(B, Q)``.
        """
        ids = torch.zeros(len(hidden), 0, dtype=torch.int64, device=hidden.device)
        for q in range(self.num_codebooks):
            scores = self(hidden, F.pad(ids, (0, 1)))[:, q]
            ids = torch.cat([ids, choose(scores, q)[:, None]], 1)
        return ids


class GridLanguageModel(nn.Module):
    """A model of transformers over the steps of a grid of ids.

    Args:
        backbone: model without a head, such as ``AutoModel.from_config(LlamaConfig(…))``.
        vocabulary: vocabulary with a :class:`~speechtok.lm.ParallelPattern`.
        heads: :class:`DepthTransformer`, or :class:`ParallelHeads`, the default.

    Raises:
        VocabularyError: the vocabulary has an interleaved pattern.
    """

    def __init__(
        self, backbone: nn.Module, vocabulary: AudioVocabulary, heads: DepthTransformer | ParallelHeads | None = None
    ) -> None:
        super().__init__()
        width = int(backbone.config.hidden_size)  # type: ignore[union-attr, arg-type]
        self.vocabulary = vocabulary
        self.embedding = GridEmbedding(vocabulary, width)
        self.backbone = backbone
        self.heads = ParallelHeads(vocabulary, width) if heads is None else heads

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and scores of grids.

        Args:
            ids: output of :meth:`AudioVocabulary.to_ids`, int64 ``(B, L, Q)``.

        Returns:
            The loss, in nats for each id that is not determined by those before; and the scores of the steps after
            the first, ``(B, L - 1, Q, ids of a head)``.

        Raises:
            VocabularyError: ``ids`` has another shape.
        """
        if ids.ndim != 3 or ids.shape[1] < 2 or ids.shape[2] != self.vocabulary.num_codebooks:
            raise VocabularyError(
                f"ids has the shape {tuple(ids.shape)}; expected (B, L, {self.vocabulary.num_codebooks}) with at least "
                "two steps: pass the output of vocabulary.to_ids"
            )
        mask = (ids[:, :-1, 0] != self.vocabulary.pad_id).long()
        hidden = self.backbone(inputs_embeds=self.embedding(ids[:, :-1]), attention_mask=mask).last_hidden_state
        scores = self.heads(hidden, ids[:, 1:])
        loss = F.cross_entropy(scores.flatten(0, 2), self.labels(ids).flatten(), ignore_index=IGNORE)
        return loss, scores

    def labels(self, ids: Tensor) -> Tensor:
        """Labels of the steps after the first, ``(B, L - 1, Q)``.

        Ids that the pattern determines are ignored: padding before delayed codebooks, and end tokens after the first.
        """
        labels = ids[:, 1:].clone()
        determined = labels >= self.vocabulary.codebook_size
        ends = labels[..., 0] == self.vocabulary.eos_id
        determined[..., 0] &= ~(ends & (ends.cumsum(1) == 1))
        return labels.masked_fill_(determined, IGNORE)

    @torch.no_grad()
    def generate(
        self,
        prompt: Tensor | None = None,
        batch_size: int = 1,
        max_steps: int = 500,
        temperature: float = 1.0,
        top_k: int | None = None,
        generator: torch.Generator | None = None,
        streamer: Any = None,
    ) -> Tensor:
        """Write utterances, of valid ids only.

        Args:
            prompt: first steps of the utterances, int64 ``(B, L, Q)``, without end tokens; the start token by default.
            batch_size: utterances to write without a prompt.
            max_steps: largest number of new steps.
            temperature: divides the scores; 0 takes the best id.
            top_k: sample from this number of best ids of each codebook; from all by default.
            generator: random generator of the samples.
            streamer: an :class:`~speechtok.lm.AudioStreamer`, for a batch of one.

        Returns:
            int64 ``(B, L, Q)``, for :meth:`AudioVocabulary.to_codes`; rows that end earlier are padded.

        Raises:
            InputError: an argument cannot be used.
        """
        if max_steps < 0 or temperature < 0 or (top_k is not None and top_k < 1):
            raise InputError(
                f"max_steps is {quoted(max_steps)}, temperature {quoted(temperature)}, top_k {quoted(top_k)}; expected "
                "at least 0, 0 and 1"
            )
        v, device = self.vocabulary, self.embedding.table.weight.device
        if prompt is None:
            prompt = torch.full((batch_size, 1, v.num_codebooks), v.bos_id)
        ids, cache = prompt.to(device), None
        if streamer is not None:
            streamer.put(ids[0].T)
        inputs, ended = ids, torch.zeros(len(ids), dtype=torch.bool, device=device)
        for _ in range(max_steps):
            output = self.backbone(inputs_embeds=self.embedding(inputs), past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            allowed = torch.stack([v.continuations(row) for row in ids.cpu()]).to(device)
            inputs = self.heads.sample(
                output.last_hidden_state[:, -1],
                lambda scores, q, allowed=allowed: _choose(scores, allowed[:, q], temperature, top_k, generator),
            )[:, None]
            inputs[ended] = v.pad_id
            ids = torch.cat([ids, inputs], 1)
            if streamer is not None:
                streamer.put(inputs[0, 0])
            ended |= (inputs == v.eos_id).all(2)[:, 0]
            if bool(ended.all()):
                break
        if streamer is not None:
            streamer.end()
        return ids

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Write the weights, the config of the backbone, and the vocabulary to a folder.

        Raises:
            OutputError: they cannot be written.
        """
        directory = make_folder(save_directory)
        heads = {"depth": self.heads.sizes} if isinstance(self.heads, DepthTransformer) else {"parallel": {}}
        values = {
            "backbone": self.backbone.config.to_dict(),  # type: ignore[union-attr, operator]
            "vocabulary": self.vocabulary.to_dict(),
            "heads": heads,
        }
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        for name, data in ((_WEIGHTS, save(weights)), (_CONFIG, (json.dumps(values, indent=2) + "\n").encode())):
            with replacing(directory / name) as file:
                file.write(data)

    @classmethod
    def from_pretrained(cls, directory: str | os.PathLike[str]) -> "GridLanguageModel":
        """Load a model that :meth:`save_pretrained` wrote, for inference on the CPU.

        Raises:
            MissingFileError: the folder has no such model.
            CheckpointError: a file is damaged.
            VocabularyError: the vocabulary has an unknown pattern.
        """
        from transformers import AutoConfig, AutoModel

        folder = Path(directory)
        for name in (_CONFIG, _WEIGHTS):
            if not (folder / name).is_file():
                raise MissingFileError(f"{folder} has no {name}; expected a folder that save_pretrained wrote")
        try:
            values = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
            vocabulary = AudioVocabulary.from_dict(values["vocabulary"])
            backbone = AutoModel.from_config(AutoConfig.for_model(**values["backbone"]))  # type: ignore[no-untyped-call]
            width, heads = int(backbone.config.hidden_size), values["heads"]
            made = (
                DepthTransformer(vocabulary, width, **heads["depth"])
                if "depth" in heads
                else ParallelHeads(vocabulary, width)
            )
            model = cls(backbone, vocabulary, made)
            model.load_state_dict(load_file(folder / _WEIGHTS))
        except VocabularyError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"{folder} cannot be read ({quoted(error)}); save the model again") from error
        return model.eval()


def _choose(
    scores: Tensor, allowed: Tensor, temperature: float, top_k: int | None, generator: torch.Generator | None
) -> Tensor:
    """One id of each row of ``scores``, ``(B, ids of a head)``."""
    scores = scores.float().masked_fill(~allowed[:, : scores.shape[1]], -torch.inf)
    if temperature == 0:
        return scores.argmax(1)
    if top_k is not None and top_k < scores.shape[1]:
        scores = scores.masked_fill(scores < scores.topk(top_k, 1).values[:, -1:], -torch.inf)
    chosen: Tensor = torch.multinomial((scores / temperature).softmax(1), 1, generator=generator)[:, 0]
    return chosen


def _check_grid(vocabulary: AudioVocabulary) -> None:
    if not vocabulary.is_grid:
        raise VocabularyError(
            f"the pattern is {vocabulary.pattern.name!r}, which gives lines of ids; expected 'parallel' or another "
            "ParallelPattern"
        )
