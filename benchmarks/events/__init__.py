"""Turn detection: speech, overlap and ends of turns, beside other detectors on the same frames."""
