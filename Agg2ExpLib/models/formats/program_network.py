"""The network of a program as a module, and its last softmax or sigmoid left out."""

from __future__ import annotations

from typing import Any

import torch

from Agg2ExpLib.models.architectures import first_output
from Agg2ExpLib.models.programs import Answer, as_logits

_ENDINGS = {
    "softmax": ("aten::softmax", "aten::_softmax", "aten.softmax.int", "aten._softmax.default", "softmax"),
    "sigmoid": ("aten::sigmoid", "aten.sigmoid.default", "sigmoid"),
}
_CLOSE = 1e-5


class Program(torch.nn.Module):
    """A program, one window at a time: many take no other number."""

    def __init__(self, program: Any, scale: Answer) -> None:
        super().__init__()
        self.program, self.scale = program, scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what stands for logits."""
        answers = [first_output(self.program(window[None])) for window in x]
        return as_logits(torch.cat(answers), self.scale)


def without_end(program: Any, kind: str, scale: Answer, x: torch.Tensor, before: torch.Tensor) -> Any:
    """Return a program that has not run yet without its last softmax or sigmoid; ``None`` where it has none.

    That nothing else was changed is seen from its answers.
    """
    try:
        if not (_skip_in_script(program, scale) if kind == "script" else _skip_in_graph(program, scale)):
            return None
    except (AttributeError, RuntimeError, IndexError, ValueError, StopIteration):
        return None
    with torch.no_grad():
        after = first_output(program(x))
    again = after.softmax(dim=1) if scale == "softmax" else after.sigmoid()
    same = after.shape == before.shape and float((again - before).abs().max()) < _CLOSE
    return program if same else None


def _skip_in_script(module: Any, scale: Answer, method: str = "forward") -> bool:
    graph = getattr(module, method).graph
    node = next(iter(graph.outputs())).node()
    inputs = list(node.inputs())
    if node.kind() == "prim::CallMethod":
        path: list[str] = []
        owner = inputs[0].node()
        while owner.kind() == "prim::GetAttr":
            path.insert(0, owner.s("name"))
            owner = next(iter(owner.inputs())).node()
        for name in path:
            module = getattr(module, name)
        return _skip_in_script(module, scale, node.s("name"))
    called = inputs[0].node() if node.kind() == "prim::CallFunction" else None
    name = called.s("name") if called is not None and called.hasAttribute("name") else node.kind()
    if name not in _ENDINGS[scale]:
        return False
    node.output().replaceAllUsesWith(inputs[0] if called is None else inputs[1])
    return True


def _skip_in_graph(program: Any, scale: Answer) -> bool:
    output = next(node for node in program.graph.nodes if node.op == "output")
    last = next(iter(output.all_input_nodes))
    if str(last.target) not in _ENDINGS[scale]:
        return False
    output.replace_input_with(last, last.all_input_nodes[0])
    program.recompile()
    return True


def no_gradient(network: Any, x: torch.Tensor) -> str:
    """Return why there is no gradient through a program; empty when there is one."""
    start = x.clone().requires_grad_(True)
    try:
        with torch.enable_grad():
            (found,) = torch.autograd.grad(network(start).sum(), start)
    except RuntimeError as error:
        return (str(error).strip().splitlines() or ["no gradient"])[0][:200]
    return "" if bool(found.any()) else "its answer does not depend on the scan in a way that torch can follow"
