"""The vision tower of the tiny backbone: convolutions, spatial-softmax keypoints, a few tokens per image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


class KeypointVisionConfig(PreTrainedConfig):
    """Sizes of the keypoint tower; stored as `vision_config` inside a Llava configuration."""

    model_type = "bora_keypoint_vision"
    base_config_key = "vision_config"

    hidden_size: int = 64
    num_channels: int = 3
    image_size: int = 64
    image_tokens: int = 8
    conv_channels: list[int] | tuple[int, ...] = (24, 24, 48, 64)
    conv_strides: list[int] | tuple[int, ...] = (2, 2, 1, 1)


class KeypointVisionModel(PreTrainedModel):
    """Four convolutions, then per channel where it is active (spatial softmax) and how much (mean ReLU).

    In: pixel_values float [B, 3, h, w] in about [-1, 1].  Out: `image_tokens` tokens of `hidden_size`.
    Spatial softmax after Levine et al. 2016 (End-to-end training of deep visuomotor policies), section 4.2.
    """

    config_class = KeypointVisionConfig
    config: KeypointVisionConfig
    base_model_prefix = "keypoint_tower"
    main_input_name = "pixel_values"
    input_modalities = ["image"]  # noqa: RUF012 - transformers declares it as an instance-typed list

    def __init__(self, config: KeypointVisionConfig) -> None:
        super().__init__(config)
        widths = [config.num_channels, *config.conv_channels]
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, kernel_size=3, stride=s, padding=1)
            for a, b, s in zip(widths[:-1], widths[1:], config.conv_strides, strict=True)
        )
        self.log_temperature = nn.Parameter(torch.zeros(widths[-1]))
        self.project = nn.Linear(3 * widths[-1], config.image_tokens * config.hidden_size)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise with He gain: the default of 0.02 would make all keypoints start in the image centre."""
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, KeypointVisionModel):
            nn.init.zeros_(module.log_temperature)

    def forward(self, pixel_values: Tensor, **_: object) -> BaseModelOutput:
        """Return tokens [B, image_tokens, hidden_size] as the last (and only) hidden state."""
        x = pixel_values
        for conv in self.convs[:-1]:
            x = torch.relu(conv(x))
        x = self.convs[-1](x)
        features = torch.cat([_keypoints(x, self.log_temperature.exp()), torch.relu(x).mean((2, 3))], dim=-1)
        tokens = self.project(features).unflatten(-1, (self.config.image_tokens, self.config.hidden_size))
        return BaseModelOutput(last_hidden_state=tokens, hidden_states=(tokens,))


def _keypoints(maps: Tensor, inverse_temperature: Tensor) -> Tensor:
    """Return the expected (row, column) of every map [B, C, h, w] under its softmax, in [-1, 1]; [B, 2 C]."""
    b, c, h, w = maps.shape
    weights = (maps.flatten(2) * inverse_temperature[:, None]).softmax(-1).unflatten(-1, (h, w))
    rows = torch.linspace(-1.0, 1.0, h, dtype=maps.dtype, device=maps.device)
    columns = torch.linspace(-1.0, 1.0, w, dtype=maps.dtype, device=maps.device)
    return torch.cat([weights.sum(3) @ rows, weights.sum(2) @ columns], dim=-1).view(b, 2 * c)


def register_vision_tower() -> None:
    """Make `bora_keypoint_vision` known to the transformers auto classes; safe to call again.

    Needed before `from_pretrained` of a tiny backbone outside of `Backbone.load`, which calls it itself.
    """
    AutoConfig.register(KeypointVisionConfig.model_type, KeypointVisionConfig, exist_ok=True)
    AutoModel.register(KeypointVisionConfig, KeypointVisionModel, exist_ok=True)
