"""Training of the turn detector: scenes of turns, pauses, noise and overlap; their codes; small heads on the codes."""
