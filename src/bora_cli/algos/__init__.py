"""Losses and targets: pure functions of tensors and modules, one readable file per method."""
