"""Training of a voice model: codes of many voices, and a network that generates acoustic codes from semantic ones."""
