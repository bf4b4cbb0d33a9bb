"""A small language model that listens and speaks: speech to text, text to speech, and speech continued."""
