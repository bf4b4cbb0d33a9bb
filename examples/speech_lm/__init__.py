"""A small language model of text and speech: speech to text, text to speech, and speech continuation."""
