"""scGPT: its network, checkpoints and inputs, to the letter of the published code; no line of it is copied."""
