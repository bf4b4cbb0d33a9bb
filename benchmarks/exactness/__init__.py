"""Exactness: the same audio has the same codes, whatever the batch, the chunks, the threads and the processor."""
