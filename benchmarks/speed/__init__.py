"""Speed, latency and memory of the tokenizer."""
