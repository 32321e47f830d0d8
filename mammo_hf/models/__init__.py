"""The models on transformers' Swin, their configuration and checkpoints."""
