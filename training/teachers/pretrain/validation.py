"""Phone accuracy of a network on held-out utterances."""

import numpy as np
import torch

from training.dataset import Corpus
from training.teachers.hubert import Hubert
from training.teachers.pretrain.frame_labels import FrameLabels


@torch.no_grad()
def phone_accuracy(network: Hubert, corpus: Corpus, phones: FrameLabels) -> dict[str, float]:
    """Share of the labelled frames whose phone is classified correctly, with and without silence.

    Args:
        network: the network; left in training mode.
        corpus: the audio.
        phones: labels on the frame grid of the network; 0 is silence.
    """
    assert phones.hop_length == network.config.hop_length
    network.eval()
    device, hop = next(network.parameters()).device, network.config.hop_length
    correct, spoken = [], []
    for index in range(len(corpus)):
        waveform = corpus[index][None].to(device)
        frames = -(-waveform.shape[1] // hop)
        labels = torch.from_numpy(phones.at(index, np.arange(frames) * hop))
        if (labels >= 0).any():
            valid = torch.ones(1, frames, dtype=torch.bool, device=device)
            predicted = network.phone_head(network(network.spectra(waveform), valid)[-1])[0].argmax(-1).cpu()
            correct.append((predicted == labels)[labels >= 0])
            spoken.append(labels[labels >= 0] > 0)
    network.train()
    hits, speech = torch.cat(correct), torch.cat(spoken)
    return {
        "phone_accuracy": float(hits.float().mean()),
        "phone_accuracy_without_silence": float(hits[speech].float().mean()),
    }
