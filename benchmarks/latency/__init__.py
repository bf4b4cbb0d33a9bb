"""The server under load and over time, and the time from a question to its answer."""
