"""What moves a test's tensors to the device that its kernels run on."""

from __future__ import annotations

import torch
from on_device import OnDevice


def test_what_names_no_device_is_moved() -> None:
    drawn = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    with OnDevice(torch.device("cpu")):
        same = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(drawn, same)
    with OnDevice(torch.device("meta")):
        made = (
            torch.randn(3, generator=torch.Generator().manual_seed(1)),
            torch.tensor([1, 2]),
            torch.full((2, 2), 1.0),
            torch.arange(5),
        )
        kept = torch.ones(2, device="cpu")
        summed = made[0] + made[0]
    assert {each.device.type for each in made} == {"meta"}
    assert kept.device.type == "cpu"
    assert summed.device.type == "meta"
    assert torch.ones(1).device.type == "cpu"
