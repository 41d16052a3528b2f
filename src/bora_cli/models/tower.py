"""The vision tower of the tiny backbone: convolutions, spatial-softmax keypoints, tokens of the image and its parts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


class KeypointVisionConfig(PreTrainedConfig):
    """Sizes of the keypoint tower; stored as `vision_config` inside a Llava configuration.

    image_tokens: of the whole image.  regions: the image is cut into regions x regions parts with a token each.
    """

    model_type = "bora_keypoint_vision"
    base_config_key = "vision_config"

    hidden_size: int = 64
    num_channels: int = 3
    image_size: int = 64
    image_tokens: int = 8
    regions: int = 0
    conv_channels: list[int] | tuple[int, ...] = (24, 24, 48, 64)
    conv_strides: list[int] | tuple[int, ...] = (2, 2, 1, 1)


class KeypointVisionModel(PreTrainedModel):
    """Four convolutions, then per channel where it is active (spatial softmax) and how much (mean ReLU).

    Once over the whole image: precise, but two objects that are alike end up as one point between them.  And once
    in every part, so that the language model can tell them apart and choose.
    In: pixel_values float [B, 3, h, w] in about [-1, 1].  Out: `image_tokens` + `regions`^2 tokens of `hidden_size`.
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
        if config.regions:
            self.project_region = nn.Linear(3 * widths[-1], config.hidden_size)
            self.place = nn.Parameter(torch.zeros(config.regions**2, config.hidden_size))
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
            if module.config.regions:
                nn.init.normal_(module.place, std=0.5)

    def forward(self, pixel_values: Tensor, **_: object) -> BaseModelOutput:
        """Return tokens [B, N, hidden_size], those of the parts row by row behind the others, as last hidden state."""
        x = pixel_values
        for conv in self.convs[:-1]:
            x = torch.relu(conv(x))
        x = self.convs[-1](x)
        inverse_temperature = self.log_temperature.exp()
        tokens = self.project(_features(x, inverse_temperature))
        tokens = tokens.unflatten(-1, (self.config.image_tokens, self.config.hidden_size))
        if self.config.regions:
            parts = _cut(x, self.config.regions)
            of_parts = _features(parts.flatten(0, 1), inverse_temperature).unflatten(0, parts.shape[:2])
            tokens = torch.cat([tokens, self.project_region(of_parts) + self.place], dim=1)
        return BaseModelOutput(last_hidden_state=tokens, hidden_states=(tokens,))


def _features(maps: Tensor, inverse_temperature: Tensor) -> Tensor:
    """Return where every map [B, C, h, w] is active, and how much: [B, 3 C]."""
    return torch.cat([_keypoints(maps, inverse_temperature), torch.relu(maps).mean((2, 3))], dim=-1)


def _cut(maps: Tensor, n: int) -> Tensor:
    """Return n x n equal parts, row by row, of maps [B, C, h, w]: [B, n^2, C, h / n, w / n]."""
    b, c, h, w = maps.shape
    parts = maps.view(b, c, n, h // n, n, w // n).permute(0, 2, 4, 1, 3, 5)
    return parts.reshape(b, n * n, c, h // n, w // n)


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
