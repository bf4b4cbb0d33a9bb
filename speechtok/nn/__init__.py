"""Neural network modules: exact layers, quantizers, and the encoders and decoders of the model families."""
