import itertools

import pytest
import torch
from transformers import AutoModel, GPTNeoXConfig, LlamaConfig

import speechtok
from speechtok.errors import CheckpointError, InputError, MissingFileError, VocabularyError
from speechtok.lm import AudioStreamer, DepthTransformer, GridEmbedding, GridLanguageModel, Parallel, ParallelHeads

HEADS = {
    "parallel": lambda v: ParallelHeads(v, 32),
    "depth": lambda v: DepthTransformer(v, 32, depth_width=32, num_layers=1),
}


def backbone(kind=LlamaConfig):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    return AutoModel.from_config(kind(vocab_size=8, **sizes))


@pytest.fixture(params=list(HEADS))
def heads(request):
    return HEADS[request.param]


@pytest.fixture(params=[None, (0, 1, 2, 2)], ids=["together", "delayed"])
def grid(request, tiny):
    return speechtok.AudioVocabulary(tiny, Parallel(request.param))


@pytest.fixture
def model(grid, heads):
    torch.manual_seed(0)
    return GridLanguageModel(backbone(), grid, heads(grid)).eval()


def test_scores_of_a_codebook_depend_on_the_steps_and_codebooks_before_it_only(model, grid, tokens):
    ids = grid.to_ids(tokens[0])
    _, scores = model(ids)
    step, codebook = 4, 2
    changed = ids.clone()
    changed[0, step, codebook] = (changed[0, step, codebook] + 1) % grid.codebook_size
    _, after = model(changed)
    differs = (after - scores).abs().amax((0, 3)) > 1e-6
    assert not bool(differs[: step - 1].any())  # scores[i] are those of step i + 1
    assert not bool(differs[step - 1, : codebook + 1].any())
    assert bool(differs[step - 1, codebook + 1 :].any()) == isinstance(model.heads, DepthTransformer)
    assert bool(differs[step:].any())


def test_labels_leave_out_what_the_pattern_determines(grid, model, tokens):
    ids = grid.to_ids(tokens)
    labels = model.labels(ids)
    for row in range(2):
        learned = labels[row] != -100
        frames = int(tokens.lengths[row])
        assert int(learned.sum()) == frames * grid.num_codebooks + 1  # the codes and one end
        assert int((labels[row] == grid.eos_id).sum()) == 1
        assert torch.equal(labels[row][learned], ids[row, 1:][learned])


def test_the_loss_of_a_batch_is_that_of_its_rows(model, grid, tokens):
    ids = grid.to_ids(tokens)
    rows = [grid.to_ids(tokens[row]) for row in range(2)]
    losses = torch.stack([model(row)[0] for row in rows])
    counts = torch.tensor([int((model.labels(row) != -100).sum()) for row in rows])
    assert torch.allclose(model(ids)[0], (losses * counts).sum() / counts.sum(), atol=1e-5)


@pytest.mark.slow
def test_a_model_learns_an_utterance_and_says_it(model, grid, tiny, tokens):
    ids = grid.to_ids(tokens[0])
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        loss, _ = model(ids)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    chunks = []
    said = model.generate(temperature=0, max_steps=40, streamer=AudioStreamer(grid, tiny, chunks.append))
    assert torch.equal(grid.to_codes(said).codes, tokens[0].codes)
    assert torch.equal(torch.cat(chunks), tiny.decode(grid.to_codes(said))[0])
    continued = model.generate(ids[:, :6], temperature=0, max_steps=40)
    assert torch.equal(grid.to_codes(continued).codes, tokens[0].codes)


def test_generated_grids_are_valid(model, grid):
    ids = model.generate(batch_size=3, max_steps=12, top_k=5, generator=torch.Generator().manual_seed(0))
    for row in ids:
        kept = row[: int((row[:, 0] != grid.pad_id).sum())]
        assert grid.to_codes(kept).codes.shape[1] == grid.num_codebooks
    again = model.generate(batch_size=3, max_steps=12, top_k=5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again, ids)


def test_a_saved_model_gives_the_same_scores_and_ids(model, grid, tokens, tmp_path):
    model.save_pretrained(tmp_path / "model")
    loaded = GridLanguageModel.from_pretrained(tmp_path / "model")
    ids = grid.to_ids(tokens)
    assert torch.equal(loaded(ids)[1], model(ids)[1])
    assert loaded.vocabulary == grid
    draw = {"max_steps": 6, "top_k": 5}
    said = [one.generate(**draw, generator=torch.Generator().manual_seed(0)) for one in (model, loaded)]
    assert torch.equal(*said)


def test_folders_without_a_grid_model_are_refused(model, tmp_path):
    with pytest.raises(MissingFileError, match=r"has no grid_model\.json; expected a folder"):
        GridLanguageModel.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    (tmp_path / "grid_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="cannot be read"):
        GridLanguageModel.from_pretrained(tmp_path)
    (tmp_path / "grid_model.json").write_text("{}")
    with pytest.raises(CheckpointError, match="cannot be read"):
        GridLanguageModel.from_pretrained(tmp_path)


def test_any_backbone_of_transformers_serves(tiny, tokens):
    grid = speechtok.AudioVocabulary(tiny, "parallel")
    model = GridLanguageModel(backbone(GPTNeoXConfig), grid)
    loss, scores = model(grid.to_ids(tokens))
    loss.backward()
    assert isinstance(model.heads, ParallelHeads)
    assert scores.shape[2:] == (grid.num_codebooks, grid.size)
    assert all(p.grad is not None for name, p in model.named_parameters() if "embed_in" not in name)


def test_the_embedding_of_a_step_is_the_sum_over_its_codebooks(tiny, tokens):
    grid = speechtok.AudioVocabulary(tiny, "parallel")
    embedding, ids = GridEmbedding(grid, 8), grid.to_ids(tokens)
    table = embedding.table.weight.view(grid.num_codebooks, grid.size, 8)
    for row, step in itertools.product(range(2), range(3)):
        expected = sum(table[q, ids[row, step, q]] for q in range(grid.num_codebooks))
        assert torch.allclose(embedding(ids)[row, step], expected)


def test_what_cannot_be_used_is_refused(tiny, tokens, model):
    with pytest.raises(VocabularyError, match="the pattern is 'flatten', which gives lines of ids"):
        GridLanguageModel(backbone(), speechtok.AudioVocabulary(tiny, "flatten"))
    with pytest.raises(VocabularyError, match=r"ids has the shape \(1, 5\); expected \(B, L, 4\)"):
        model(torch.zeros(1, 5, dtype=torch.int64))
    for arguments in ({"max_steps": -1}, {"temperature": -1.0}, {"top_k": 0}):
        with pytest.raises(InputError, match="expected at least 0, 0 and 1"):
            model.generate(**arguments)
