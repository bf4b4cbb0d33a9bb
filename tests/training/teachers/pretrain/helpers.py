"""Configs of pretrainings that take seconds."""

from speechtok.mapping import from_mapping
from training.teachers.pretrain.config import PretrainingConfig


def config_of(values: dict) -> PretrainingConfig:
    return from_mapping(PretrainingConfig, values)
