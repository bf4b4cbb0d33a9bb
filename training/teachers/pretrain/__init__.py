"""Pretraining of a teacher: a small HuBERT, trained by masked prediction on unlabelled audio and optional phones.

| file | content |
|---|---|
| ``config.py`` | the config of a pretraining |
| ``frame_labels.py`` | a label for every frame: clusters and phones |
| ``augmentation.py`` | augmented crops, and the batches made of them |
| ``trainer.py`` | one optimizer step, and the state that a checkpoint saves |
| ``validation.py`` | phone accuracy on held-out utterances |
| ``pretraining.py`` | both iterations, from audio to an exported teacher |
"""
