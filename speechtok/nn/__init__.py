"""The networks: causal convolutions and the model families made of them."""
