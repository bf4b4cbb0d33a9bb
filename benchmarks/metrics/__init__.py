"""Metrics of decoded speech.

A metric compares an original and a decoded waveform, both at 16 kHz, aligned and of equal length. It returns a value
and a weight; over many utterances, the metric is the weighted mean, so that a word error rate is an average over words.
NaN means that the metric is not defined for the utterance, such as the pitch of a whisper; reports state how many
utterances have a value.
"""
