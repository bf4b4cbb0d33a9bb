"""Conformance suite: an input that every language can make, and the codes and audio that every implementation gives."""
