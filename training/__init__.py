"""Training of tokenizers: ``python -m training.train``.

| file | content |
|---|---|
| ``train.py``, ``trainer.py`` | the program; one optimizer step and its state |
| ``config.py``, ``command.py`` | fields of a training; command lines |
| ``harness.py``, ``checkpoints.py``, ``logs.py``, ``signals.py``, ``skipped.py`` | what every training needs |
| ``manifest.py``, ``dataset.py``, ``splits.py``, ``prefetch.py`` | utterances, packed audio, batches |
| ``augmentation.py`` | disturbed views of crops |
| ``autoencoder.py``, ``quantizer.py`` | the networks and codebooks that are trained |
| ``losses.py``, ``energy_distance.py``, ``distillation.py``, ``discriminators.py``, ``adversary.py`` | losses |
| ``optimizers.py``, ``muon.py``, ``autocast.py``, ``cuda_graph.py``, ``distributed.py`` | how weights are updated |
| ``validation.py``, ``curves.py``, ``ablation.py`` | results |
| ``teachers/`` | teachers of codebook 0 |
| ``configs/`` | the configs of this repository |
"""
