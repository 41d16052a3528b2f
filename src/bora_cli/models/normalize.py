"""Affine normalisation of states, actions and tokens: where physical and normalised units meet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bora_cli.errors import DataError


class Normalizer(nn.Module):
    """The map x -> (x - mean) / scale and back.

    mean, scale: float32 of the shape of one sample ([S] states, [A] actions, [N, W] tokens).  They are
    buffers, so a state dictionary carries them beside the weights that were trained on their output.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        if mean.shape != scale.shape or not bool((scale > 0).all()):
            raise DataError(
                f"Normaliser has mean {list(mean.shape)} and scale {list(scale.shape)};"
                " expected equal shapes and positive scales.",
                "Fit it with Normalizer.fit.",
            )
        self.register_buffer("mean", mean.detach().float().clone())
        self.register_buffer("scale", scale.detach().float().clone())

    @classmethod
    def fit(cls, values: Tensor, *, std: float = 1.0, floor: Tensor | float = 1e-3) -> Normalizer:
        """Fit to data so that normalised values have mean 0 and standard deviation `std`.

        values: float [n, ...], n samples.  floor: the smallest standard deviation believed in, per dimension
        and in data units; a dimension that never moved would otherwise turn its first change into a huge
        number. Raises DataError without samples or with values that are not finite.
        """
        if values.shape[0] == 0 or not bool(torch.isfinite(values).all()):
            raise DataError(
                f"Cannot normalise {values.shape[0]} samples; expected at least one, all finite.",
                'Check the dataset with "bora data check".',
            )
        values = values.float()
        spread = torch.maximum(values.std(0, correction=0), torch.as_tensor(floor, dtype=torch.float32))
        return cls(values.mean(0), spread / std)

    @classmethod
    def identity(cls, *shape: int) -> Normalizer:
        """Return the normaliser that changes nothing."""
        return cls(torch.zeros(shape), torch.ones(shape))

    def normalize(self, x: Tensor) -> Tensor:
        """Return normalised values; x float [..., *sample]."""
        return (x - self.mean) / self.scale

    def denormalize(self, x: Tensor) -> Tensor:
        """Return values in data units; x float [..., *sample]."""
        return x * self.scale + self.mean
