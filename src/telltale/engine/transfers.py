"""Numbers between the host and a device, without one of them waiting for the other.

A GPU works through a queue that the host fills. Where the host asks for a number, it waits until
the queue is empty, and then the GPU waits until it is filled again. So what is sent is copied from
pinned memory, in its turn in the queue; and what is fetched is asked for when it is computed and
waited for when the next piece of work has been queued.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host, on a device by the time that what is queued after it is run."""
    if device.type != "cuda" or not tensor.numel():
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class Fetched:
    """A device's numbers, on their way to the host as soon as they are computed."""

    def __init__(self, numbers: Tensor) -> None:
        self._host = numbers
        self._arrived: torch.cuda.Event | None = None
        if numbers.device.type == "cuda":
            self._host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._host.copy_(numbers, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record(torch.cuda.current_stream(numbers.device))

    def numbers(self) -> list[float]:
        """The numbers; waits for them, and for nothing that was queued after them."""
        if self._arrived is not None:
            self._arrived.synchronize()
        found: list[float] = self._host.tolist()
        return found
