"""A net of any kind, whoever made it: in eval mode, applied in its own precision, and tried."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vsc.errors import UsageError


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model, or any module, in eval mode without gradients; afterwards every part has its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def applied(net: nn.Module, x: Tensor) -> Tensor:
    """Apply a net in its weights' precision; what it gives is flattened and taken out of half precision."""
    weight = next(net.parameters(), None)
    return single(net(x if weight is None else x.to(weight.dtype)).flatten(1))


def single(out: Tensor) -> Tensor:
    """Take it out of half precision: sums of hundreds of nats do not fit into that."""
    return out.float() if out.dtype in (torch.bfloat16, torch.float16) else out


def fitting(net: nn.Module, shapes: list[tuple[int, ...]], width: int, what: str) -> tuple[int, ...]:
    """Return the first of the `shapes` that `net`, called `what`, takes and makes `width` numbers of, or refuse it."""
    like = next(net.parameters(), torch.zeros(()))
    if like.is_meta:  # nets without numbers are not tried: torch's imports for that take seconds
        return shapes[0]
    given, failure = None, ""
    with evaluating(net), torch.random.fork_rng(devices=[]):
        for shape in shapes:
            try:
                given = tuple(applied(net, torch.zeros(2, *shape, device=like.device)).shape)
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                failure = failure or str(error).partition("\n")[0]
                continue
            if given == (2, width):
                return shape
    taken = " or ".join(str(("B", *shape)).replace("'", "") for shape in dict.fromkeys(shapes))
    found = f"gives (B, {', '.join(map(str, given[1:]))})" if given else f"fails ({failure})"
    raise UsageError(f"the {what} must make (B, {width}) of {taken}, but {found}")
