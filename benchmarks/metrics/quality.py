"""Metrics that judge the decoded waveform alone: DNSMOS of the speech, of the background, and overall."""

from benchmarks.metrics.metric import Value
from benchmarks.metrics.speech import Speech


def dnsmos_overall(original: Speech, decoded: Speech) -> Value:
    """See :attr:`speechtok.dnsmos.Dnsmos.overall`."""
    return decoded.dnsmos.overall, 1.0


def dnsmos_signal(original: Speech, decoded: Speech) -> Value:
    """See :attr:`speechtok.dnsmos.Dnsmos.signal`."""
    return decoded.dnsmos.signal, 1.0


def dnsmos_background(original: Speech, decoded: Speech) -> Value:
    """See :attr:`speechtok.dnsmos.Dnsmos.background`."""
    return decoded.dnsmos.background, 1.0
