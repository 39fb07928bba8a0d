"""What all dispatch modes of ours answer to torch, so that they leave `torch.compile` as it is: see `probes/torch_mode.py`."""

from __future__ import annotations


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
