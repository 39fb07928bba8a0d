"""What all dispatch modes of ours have in common: they leave `torch.compile` as it is, see `probes/torch_mode.py`, and other modes too."""

from __future__ import annotations

from auditor.record import digest

#: What a mode does with an op that is given tensors of classes with their own dispatch: acts as on any; leaves it to the class, which wraps
#: tensors and calls the mode again for the ops that it is made of; passes it on, because the class belongs to a mode that lies below.
OURS, THEIRS, TRACED = range(3)


def whose(types: object) -> int:
    """Who is to act on an op with these classes of tensors.

    A class that belongs to a mode (fake and functional tensors) refuses while its mode is on the stack, so it cannot be left to the class.
    """
    own = [kind for kind in types if digest.has_own_dispatch(kind)]  # type: ignore[attr-defined]  # a sequence of classes, as torch gives it
    if not own:
        return OURS
    return TRACED if all(digest.is_traced(kind) for kind in own) else THEIRS


class Unnoticed:
    """To be inherited from before `TorchDispatchMode`: does not ask for Dynamo's help, and ignores what happens inside compiled code."""

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Compiled code runs compiled."""
        return True
