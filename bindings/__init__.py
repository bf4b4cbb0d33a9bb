"""speechtok outside of Python, and the conformance suite that all implementations pass."""
