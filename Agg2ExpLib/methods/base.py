"""What an attribution method is: a frozen dataclass whose fields are its options. No torch.

A method is one file. Its fields, declared with :func:`option`, are the only list of its options there is: the command line,
the panel's controls, the estimate, explanation.json and the documents derive from it.

Examples
--------
>>> from Agg2ExpLib.methods import SmoothGrad, method_of
>>> SmoothGrad(samples=5)
SmoothGrad(samples=5, sigma=0.1, seed=0)
>>> method_of("smoothgrad", samples=5) == SmoothGrad(samples=5)
True
>>> SmoothGrad(samples=0)
Traceback (most recent call last):
Agg2ExpLib.errors.InputError: samples of SmoothGrad is 0: it must be 1 to 100000
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from Agg2ExpLib.case.attribution import Attribution
from Agg2ExpLib.case.context import Context
from Agg2ExpLib.errors import InputError, nearest_names

if TYPE_CHECKING:
    from Agg2ExpLib.case.objective import Objective
    from Agg2ExpLib.case.stitched import StitchedNetwork

__all__ = ["METHODS", "Context", "Method", "Option", "method_of", "option", "register", "seed_option"]

_KEY = "agg2exp"


@dataclass(frozen=True)
class Option:
    """One option of a method, for command lines, controls and tables.

    Attributes
    ----------
    name : str
        The field.
    default : int, float, str or None
        ``None``: chosen by the method.
    kind : type
        ``int``, ``float`` or ``str``.
    label, help, unit : str
        For people; ``help`` is one sentence.
    low, high : float
        Allowed range, both included.
    choices : mapping of str to str
        Allowed values -> what they mean; empty allows any.
    """

    name: str
    default: Any
    kind: type
    label: str
    help: str
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    choices: Mapping[str, str] = field(default_factory=dict)

    def check(self, value: Any, method: str) -> Any:
        """Return a value in the option's type.

        Raises
        ------
        InputError
            It is not allowed, with what is.
        """
        if value is None and self.default is None:
            return None
        if self.kind is str:
            if not isinstance(value, str) or (self.choices and value not in self.choices):
                raise InputError(f"unknown {self.label} {value!r}: use {', '.join(self.choices) or 'text'}")
            return value
        whole = self.kind is int
        if isinstance(value, bool) or not isinstance(value, (int, float)) or (whole and value != int(value)):
            raise InputError(f"{self.name} of {method} is {value!r}: it must be a {'whole ' if whole else ''}number")
        if not self.low <= value <= self.high:
            limit = f"{self.low:.15g} to {self.high:.15g}" if self.high < math.inf else f"at least {self.low:.15g}"
            raise InputError(f"{self.name} of {method} is {value:.15g}: it must be {limit}")
        return self.kind(value)


def option(
    default: Any,
    label: str,
    help: str,
    *,
    kind: type | None = None,
    unit: str = "",
    low: float = -math.inf,
    high: float = math.inf,
    choices: Mapping[str, str] | None = None,
) -> Any:
    """Return a dataclass field that is an option; see :class:`Option`. ``kind`` is the default's type unless given."""
    made = Option("", default, kind or type(default), label, help, unit, low, high, dict(choices or {}))
    return field(default=default, metadata={_KEY: made})


def seed_option() -> Any:
    """Return the option ``seed``, which every method that draws at random has."""
    return option(0, "seed", "Seed of everything random: the same seed gives the same numbers.", low=0, high=2**63 - 1)


@dataclass(frozen=True)
class Method(ABC):
    """One attribution method with its options.

    Attributes
    ----------
    id, name : str
        For commands, and for people.
    equation, summary : str
        In plain notation with its number in the paper; and one sentence.
    unit : str
        Of one voxel's value.
    needs_gradient : bool
        Whether the network must be differentiable.
    removes_supervoxels : bool
        Whether it divides the scan and removes parts of it.

    Raises
    ------
    InputError
        An option out of its range.
    """

    id: ClassVar[str]
    name: ClassVar[str]
    equation: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    unit: ClassVar[str] = "logit per network unit"
    needs_gradient: ClassVar[bool] = True
    removes_supervoxels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for one in self.options():
            object.__setattr__(self, one.name, one.check(getattr(self, one.name), type(self).name))

    @classmethod
    def options(cls) -> tuple[Option, ...]:
        """Return its options, in the order of its fields."""
        from dataclasses import replace

        return tuple(replace(one.metadata[_KEY], name=one.name) for one in fields(cls) if _KEY in one.metadata)

    @abstractmethod
    def passes(self, players: int = 0) -> tuple[int, int]:
        """Return the passes forward and backward over one window for one class; ``players`` supervoxels where it removes."""

    def players(self, labels: int) -> int:
        """Return how many supervoxels to expect, of a model with that many classes; 0 where none are removed."""
        return 0

    @abstractmethod
    def attribute(
        self, stitched: StitchedNetwork, objectives: Sequence[Objective], context: Context
    ) -> Iterator[Attribution]:
        """Yield the attribution of each class that is present, in order.

        Raises
        ------
        InputError
            Options that do not fit this scan.
        Agg2ExpError
            An attribution with values that are not numbers.
        """

    def resolved(self) -> dict[str, Any]:
        """Return every option with the value that is used, also where the method chooses it."""
        return {one.name: getattr(self, one.name) for one in self.options()}

    def to_dict(self) -> dict[str, Any]:
        """Return the id and the options, for JSON; :func:`Agg2ExpLib.methods.method_of` reads it back."""
        return {"id": self.id, **self.resolved()}

    def describe(self) -> str:
        """Return it in a few words, such as ``SmoothGrad, 20 samples``."""
        samples = self.resolved().get("samples")
        return self.name + (f", {samples} samples" if samples else "")


Registered = TypeVar("Registered", bound=type[Method])

#: Methods by id.
METHODS: dict[str, type[Method]] = {}


def register(method: Registered) -> Registered:
    """Add a method to :data:`METHODS`: a class decorator."""
    METHODS[method.id] = method
    return method


def method_of(identifier: str, **options: Any) -> Method:
    """Make a method of its id and options; an option that is ``None`` keeps its default.

    Raises
    ------
    InputError
        An unknown method, or an option that it does not have, with its own.
    """
    if identifier not in METHODS:
        raise InputError(f"unknown method {identifier!r}: {nearest_names(str(identifier), METHODS)}")
    made = METHODS[identifier]
    given = {name: value for name, value in options.items() if value is not None}
    known = {one.name for one in made.options()}
    foreign = [name for name in given if name not in known]
    if foreign:
        raise InputError(
            f"{made.name} has no option {foreign[0].replace('_', '-')!r}; "
            + (f"its options are {', '.join(sorted(known)).replace('_', '-')}" if known else "it has none")
        )
    return made(**given)
