"""The two stages: masked pre-training and classification with few labels, on transformers' Trainer."""
