"""What a pickle would build, weighed by its opcodes before any of it is built.

The weight of an object is how many objects it has when it is written out. In a pickle a tuple can hold the same tuple
twice, which holds the same tuple twice, and so on: 40 of them have a weight of 2^40, and that is how long Python takes
to hash or print the outermost. A tuple in a tuple in a tuple, 100,000 deep, overflows the stack instead.
"""

from __future__ import annotations

import pickletools
from typing import Any

from utility.errors import UserError
from utility.files.text_files import shortened

_MOST_OPCODES = 250_000  # a tensor takes some 50, and a number of a list one
_MOST_MEMO = 1 << 20  # pickle allocates as many places as the highest index says
_MOST_WEIGHT = 1000  # of an object other than a list or a dictionary; a tensor's is about 20
_MOST_STATES = 1000  # attributes set on an object: PyTorch does it once for each module

_REMEDY = "save only the state_dict"

_MARK = -1  # on the stack, in place of a weight
_CONTAINERS = (pickletools.pylist, pickletools.pydict, pickletools.pyset)


class RefusedError(UserError):
    """A pickle that is whole, but holds what a state dict of a network does not."""


def check(file: Any) -> None:
    """Read a pickle's opcodes from a binary file.

    Raises:
      RefusedError: what it builds is too heavy.
      Exception: almost any other, if the pickle is cut off or damaged.
    """
    stack: list[int] = []
    memo: dict[int, int] = {}
    states = 0
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        states += opcode.name == "BUILD"
        if count > _MOST_OPCODES or states > _MOST_STATES:
            raise RefusedError(f"it has more objects than any network; {_REMEDY}")
        if opcode.name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif opcode.name.endswith("PUT"):
            memo[_place(argument)] = stack[-1]
        elif opcode.name.endswith("GET"):
            stack.append(memo[_place(argument)])
        else:
            weight = 1 + _popped(stack, opcode.stack_before)
            stack += [_weight(kind, weight) for kind in opcode.stack_after]


def _place(argument: Any) -> int:
    place = int(argument)
    if place > _MOST_MEMO:
        raise RefusedError(
            f"it has an object in place {shortened(place)} of its memo, more than any network; {_REMEDY}"
        )
    return place


def _popped(stack: list[int], kinds: list[Any]) -> int:
    """Take what an opcode takes from the stack, and return its weight."""
    weight = 0
    if pickletools.markobject in kinds:
        while (top := stack.pop()) != _MARK:
            weight += top
        kinds = kinds[: kinds.index(pickletools.markobject)]
    return weight + sum(stack.pop() for _ in kinds)


def _weight(kind: Any, weight: int) -> int:
    """Return what an object of a kind adds to the weight of another; lists and dictionaries are never hashed."""
    if kind is pickletools.markobject:
        return _MARK
    if kind in _CONTAINERS:
        return 1
    if weight > _MOST_WEIGHT:
        raise RefusedError(f"it has an object that is larger than any of a network, or nested in itself; {_REMEDY}")
    return weight
