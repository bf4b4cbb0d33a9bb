"""Models that are saved in shards, loaded in parts, or partitioned."""

import sys
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from speechtok.errors import InputError
from speechtok.lm import extend_model
from tests.lm.conftest import FAMILIES, make_language_model


def tables(model):
    return [model.get_input_embeddings().weight, model.get_output_embeddings().weight]


@pytest.fixture(params=list(FAMILIES))
def model(request, one):
    return make_language_model(request.param, one)


@pytest.mark.parametrize("options", [{}, {"low_cpu_mem_usage": True}, {"device_map": "cpu"}], ids=str)
def test_a_model_in_shards_has_the_same_rows_and_ties(model, options, tmp_path):
    if options.get("device_map"):
        pytest.importorskip("accelerate")
    model.save_pretrained(tmp_path, max_shard_size="8KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, **options)
    for one, other in zip(tables(loaded), tables(model), strict=True):
        assert torch.equal(one, other)
    is_tied = model.config.tie_word_embeddings
    assert (tables(loaded)[0].data_ptr() == tables(loaded)[1].data_ptr()) == is_tied


def test_extending_a_model_that_came_in_shards_gives_the_same_rows(model, one, tmp_path):
    v = one.vocabulary
    model.resize_token_embeddings(v.offset)
    model.save_pretrained(tmp_path, max_shard_size="8KB")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, low_cpu_mem_usage=True)
    for extended in (model, loaded):
        extend_model(extended, v, one.speech_tokenizer)
    for rows, others in zip(tables(loaded), tables(model), strict=True):
        assert len(rows) == v.stop_id
        assert torch.equal(rows, others)


def test_a_partitioned_model_is_gathered_and_gets_the_same_rows(model, one, monkeypatch):
    """ZeRO-3 of DeepSpeed: parameters are empty, and whole within a context."""
    expected = [table.detach().clone() for table in tables(model)]
    whole = {}
    for index, table in enumerate({id(table): table for table in tables(model)}.values()):
        table.ds_id, table.ds_shape = index, table.shape
        whole[index] = torch.cat([table.data[: one.vocabulary.offset], torch.zeros(one.vocabulary.size, 32)])
        table.data = torch.empty(0)

    @contextmanager
    def gathered(parameters, modifier_rank):
        assert modifier_rank == 0
        for parameter in parameters:
            parameter.data = whole[parameter.ds_id]
        yield
        for parameter in parameters:
            parameter.data = torch.empty(0)

    deepspeed = ModuleType("deepspeed")
    deepspeed.zero = SimpleNamespace(GatheredParameters=gathered)
    monkeypatch.setitem(sys.modules, "deepspeed", deepspeed)
    extend_model(model, one.vocabulary, one.speech_tokenizer)
    for table, rows in zip(tables(model), expected, strict=True):
        assert torch.equal(whole[table.ds_id], rows)


def test_a_model_without_values_and_one_in_pieces_are_refused(model, one):
    model.get_output_embeddings().weight = nn.Parameter(tables(model)[1].detach().clone())
    tables(model)[1].full_tensor = None  # as DTensor of FSDP has
    with pytest.raises(InputError, match=r"sharded .* extend it before fully_shard"):
        extend_model(model, one.vocabulary, one.speech_tokenizer)
    with pytest.raises(InputError, match="have no values"):
        extend_model(model.to("meta"), one.vocabulary, one.speech_tokenizer)
