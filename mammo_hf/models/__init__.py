"""The models on transformers' Swin, their configuration, losses and checkpoints."""
