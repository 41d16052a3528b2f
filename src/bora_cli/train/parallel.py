"""Several processes that train one policy, as `torchrun` starts them: what is shared out, and what is put together.

Only what costs time is shared out: the backbone, when it encodes a dataset, and when a part of it is trained
(`--adapt`).  There, every process encodes its rows of the batch, the tokens of all rows are put together, and every
process computes the loss of the whole batch from them, with the same noise.  So means over the batch, gates and
normalised advantages are those of one process, whatever the number of processes is.  The gradient of a process's own
rows goes on into its backbone, and those of all processes are added: by DistributedDataParallel, or, with the weights
and the optimiser's state cut into pieces, by FSDP2 (`fully_shard`).

Expert and critics are a thousandth of a real backbone; each process has all of them and takes the same steps.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bora_cli.errors import ConfigError

Kind = Literal["ddp", "fsdp"]
KINDS: tuple[Kind, ...] = ("ddp", "fsdp")


def started() -> int:
    """Return how many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def device() -> torch.device:
    """Return where a backbone computes: on this process's GPU, if the machine has some."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that torchrun started, and leave them at the end; alone, do nothing."""
    if started() < 2 or dist.is_initialized():
        yield
        return
    if device().type == "cuda":
        torch.cuda.set_device(device())
    dist.init_process_group("cpu:gloo,cuda:nccl" if device().type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Return the number of this process, 0 if it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """Return how many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def first() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def wait() -> None:
    """Wait for all processes."""
    if size() > 1:
        dist.barrier()


def agree(answer: bool) -> bool:
    """Return what the first process answers; the others may see another clock."""
    if size() == 1:
        return answer
    said = torch.tensor([float(answer)])
    dist.broadcast(said, 0)
    return bool(said.item())


def own_rows(n: int) -> slice:
    """Return the rows of a batch of n that are this process's; raises ConfigError if n cannot be shared out evenly."""
    if n % size():
        raise ConfigError(
            f"A batch of {n} windows cannot be shared out evenly among {size()} processes.",
            f"Start a number of processes that divides {n}.",
        )
    each = n // size()
    return slice(rank() * each, (rank() + 1) * each)


def together(own: Tensor) -> Tensor:
    """Return the rows of all processes, [b, ...] -> [b * processes, ...]; the gradient of its own goes back to each."""
    joint: Tensor = _Together.apply(own) if size() > 1 else own
    return joint


class _Together(torch.autograd.Function):
    """All rows forward; backward, the gradient of the own rows times the processes, over which it is averaged later."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own) for _ in range(size())]
        dist.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        return gradient[own_rows(len(gradient))] * size()


def exchanged(own: dict[int, Any]) -> dict[int, Any]:
    """Return the numbered parts of all processes."""
    if size() == 1:
        return own
    found: list[dict[int, Any]] = [{} for _ in range(size())]
    dist.all_gather_object(found, own)
    return {number: part for parts in found for number, part in parts.items()}


def shared_out(encoder: nn.Module, backbone: nn.Module, kind: Kind) -> nn.Module:
    """Return an encoder whose backward pass averages the gradients over the processes.

    encoder: a module whose forward pass runs `backbone`, a transformers model of which a part is to be trained; call
    the encoder, never the backbone.  fsdp: the backbone is cut in place, a block at a time.
    """
    if size() == 1:
        return encoder
    if kind == "ddp":
        ddp = nn.parallel.DistributedDataParallel
        return ddp(encoder, static_graph=True)
    from torch.distributed.fsdp import fully_shard

    mesh = dist.init_device_mesh(next(backbone.parameters()).device.type, (size(),))
    kept = hooked(backbone)
    base: Any = backbone.base_model
    for blocks in [m for m in base.modules() if isinstance(m, nn.ModuleList)]:
        for block in blocks:
            fully_shard(block, mesh=mesh, ignored_params=kept)
    fully_shard(base, mesh=mesh, ignored_params=kept)
    model: Any = backbone
    model.tie_weights()
    return encoder


def hooked(module: nn.Module) -> set[nn.Parameter]:
    """Return the parameters whose gradient is masked by a hook, which would be lost if they were cut into pieces."""
    return {p for p in module.parameters() if p._backward_hooks}


def average(parameters: Sequence[nn.Parameter]) -> None:
    """Average gradients over the processes."""
    if size() > 1:
        for p in parameters:
            if p.grad is not None:
                dist.all_reduce(p.grad)
                p.grad /= size()


def clip(parameters: Sequence[nn.Parameter], limit: float) -> None:
    """Scale gradients so that their norm is at most `limit`, also where some are cut into pieces and others are not."""
    if not any(_is_cut(p) for p in parameters):
        nn.utils.clip_grad_norm_(parameters, limit)
        return
    grads = [p.grad for p in parameters if p.grad is not None]
    kinds = [[g for g in grads if _is_cut(g) == cut] for cut in (False, True)]
    norm = torch.stack([whole(nn.utils.get_total_norm(kind)) for kind in kinds if kind]).norm()
    for gradient in grads:
        gradient.mul_((limit / (norm + 1e-6)).clamp(max=1.0))


def _is_cut(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """Return a copy of a tensor, put together where it is cut into pieces; all processes have to ask for it."""
    cut: Any = tensor
    return (cut.full_tensor() if _is_cut(tensor) else tensor.detach().clone()).contiguous()


def like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """Return a whole tensor, cut into pieces as `pattern` is."""
    if not _is_cut(pattern):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    cut: Any = pattern
    return distribute_tensor(tensor, cut.device_mesh, cut.placements)
