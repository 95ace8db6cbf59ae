"""What is computed at once fits, fills the units, and makes up the batch; what is not there is refused."""

from collections.abc import Callable

import pytest

from services.finetuning.domain.training import Device, Precision, Stage, TrainingPlan
from services.finetuning.domain.training_messages import FailureCode
from services.finetuning.trainer.refusal import Refused

Plans = Callable[..., TrainingPlan]


@pytest.mark.parametrize(
    ("cuda", "batch", "typical", "longest", "least", "expected"),
    [
        (False, 8, 30, 120, 1, 8),  # everything fits
        (False, 8, 60, 300, 1, 4),  # more than four would gain nothing
        (False, 8, 60, 900, 1, 2),  # the longest two just fit
        (False, 8, 1000, 4000, 1, 1),
        (False, 6, 70, 80, 1, 3),  # passes of equal size
        (False, 7, 300, 600, 1, 1),
        (False, 8, 1000, 4000, 4, 4),  # some stages compare rows within a pass
        (False, 7, 1000, 4000, 4, 7),
        (False, 2, 1000, 4000, 4, 2),
        (True, 8, 1000, 1500, 1, 8),
        (True, 256, 100, 16_000, 1, 1),
    ],
)
def test_passes_fit_and_make_up_the_batch(
    cuda: bool, batch: int, typical: float, longest: int, least: int, expected: int
) -> None:
    from services.finetuning.trainer.hardware import Hardware

    assert Hardware(cuda=cuda, bf16=True).rows_at_once(batch, typical, longest, least=least) == expected


def test_a_device_that_is_not_there_is_refused(plans: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from services.finetuning.trainer.hardware import hardware_for

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not hardware_for(plans(Stage.DPO)).cuda
    with pytest.raises(Refused, match="use cpu or auto") as caught:
        hardware_for(plans(Stage.DPO, device=Device.CUDA))
    assert caught.value.code is FailureCode.INVALID_SETTING


@pytest.mark.parametrize("native", [True, False])
def test_bf16_is_taken_only_where_the_processor_has_it(
    native: bool, plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from services.finetuning.trainer.hardware import hardware_for

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native, "avx2": True})
    assert hardware_for(plans(Stage.DPO, device=Device.CPU)).bf16 is native
    assert hardware_for(plans(Stage.DPO, device=Device.CPU, precision=Precision.BF16)).bf16
    assert not hardware_for(plans(Stage.DPO, device=Device.CPU, precision=Precision.FP32)).bf16
