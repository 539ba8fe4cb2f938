"""Gradients in less memory: what lies between the blocks of a network is kept, what lies within them is computed again.

Only for networks of torch modules. The gradient is the same; a backward pass takes about a third longer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from Agg2ExpLib.errors import InputError

# Torch's own; the other way needs inputs that ask for gradients and keeps its graph less well.
_again = partial(checkpoint, use_reentrant=False)


class Recomputing:
    """A network whose blocks are computed again in the backward pass.

    Parameters
    ----------
    network : callable
        A torch module, or what holds one as ``network``.
    surroundings : callable
        Makes the context that the network runs in: blocks that are computed again need it again.

    Attributes
    ----------
    network : torch.nn.Module
        The module itself.

    Raises
    ------
    InputError
        It is not made of several torch modules.
    """

    def __init__(
        self,
        network: Callable[[torch.Tensor], torch.Tensor],
        surroundings: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._whole, self._surroundings = network, surroundings
        root: Any = getattr(network, "network", network)
        self.network = root
        self._blocks = blocks_of(root) if isinstance(root, torch.nn.Module) else []
        if not self._blocks:
            raise InputError(
                "--recompute needs a network of several torch modules, which this one is not; leave it out"
            )
        for module in root.modules():
            # A block that changes its input in place could not be computed again from it.
            if getattr(module, "inplace", False) is True:
                module.inplace = False

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits; in a backward pass, the blocks are computed again."""
        if not torch.is_grad_enabled():
            return self._whole(x)
        with _patched(self._blocks, self._within):
            return self._whole(x)

    def _within(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def within(*args: Any, **kwargs: Any) -> Any:
            with self._surroundings():
                return run(*args, **kwargs)

        return within


def blocks_of(root: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the modules that are computed again, none within another: a few large ones, not every layer."""
    children = list(root.children())
    if len(children) == 1:
        return blocks_of(children[0])
    found: list[torch.nn.Module] = []
    for child in [root] if isinstance(root, torch.nn.Sequential) else children:
        if isinstance(child, torch.nn.ModuleList):
            found += [one for part in child for one in (blocks_of(part) or [part])]
        elif isinstance(child, torch.nn.Module) and not isinstance(child, torch.jit.ScriptModule):
            found.append(child)
    return found


@contextmanager
def _patched(
    blocks: list[torch.nn.Module], within: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    try:
        for block in blocks:
            changed: Any = block
            if isinstance(block, torch.nn.Sequential) and len(block) > 3:
                layers, segments = [within(layer) for layer in block], round(math.sqrt(len(block)))
                changed.forward = _one_input(partial(checkpoint_sequential, layers, segments, use_reentrant=False))
            else:
                changed.forward = partial(_again, within(block.forward))
        yield
    finally:
        for block in blocks:
            del block.forward


def _one_input(run: Callable[..., Any]) -> Callable[[torch.Tensor], Any]:
    return lambda x: run(input=x)
