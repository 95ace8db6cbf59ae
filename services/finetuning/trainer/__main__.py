"""`python -m services.finetuning.trainer PLAN.json`: trains, and says what happens on standard output."""

import argparse
import os
import sys
import traceback
from pathlib import Path
from typing import Final

from services.chassis.errors import InvalidInput
from services.finetuning.domain.training import TrainingPlan
from services.finetuning.domain.training_messages import Failed, FailureCode, Paused
from services.finetuning.trainer.process import EXIT_PAUSED, PauseWish, end_with_parent, own_stdout, sender
from services.finetuning.trainer.refusal import Refused

_DRY_RUN_S: Final = 20.0


def main() -> int:
    """Carry out the plan and return the exit code: 0 done, 75 paused, 1 failed."""
    parser = argparse.ArgumentParser(prog="python -m services.finetuning.trainer", description=__doc__)
    parser.add_argument("plan", type=Path, help="the plan, JSON")
    parser.add_argument("--resume", type=Path, help="checkpoint to go on from")
    parser.add_argument(
        "--dry-run", type=float, nargs="?", const=_DRY_RUN_S, metavar="SECONDS", help="measure a few steps instead"
    )
    parser.add_argument("--nice", type=int, default=0, help="how much to stand back for other processes")
    parser.add_argument("--parent", type=int, default=0, help="process whose end ends this one")
    arguments = parser.parse_args()
    end_with_parent(arguments.parent)
    os.nice(arguments.nice)
    send = sender(own_stdout())
    pause = PauseWish()
    pause.listen()
    try:
        plan = TrainingPlan.from_json(arguments.plan.read_text(encoding="utf-8"))
        # Torch and its company take seconds to import: after the signal is listened for.
        from services.finetuning.trainer.dry_run import measure  # noqa: PLC0415
        from services.finetuning.trainer.run import out_of_memory, train  # noqa: PLC0415
    except (InvalidInput, OSError) as error:
        send(Failed(FailureCode.INVALID_SETTING, str(error)))
        return 1
    try:
        if arguments.dry_run:
            send(measure(plan, budget_s=arguments.dry_run))
            return 0
        last = train(plan, send=send, resume=arguments.resume, pause=pause)
    except Refused as refused:
        send(Failed(refused.code, refused.message))
        return 1
    except Exception as error:  # noqa: BLE001  the child's outermost loop: whatever it was, the parent is told
        traceback.print_exc()
        code = FailureCode.OUT_OF_MEMORY if out_of_memory(error) else FailureCode.TRAINING_FAILED
        why = "Memory did not suffice; a smaller batch_size or max_length may help."
        send(Failed(code, why if code is FailureCode.OUT_OF_MEMORY else "Training failed."))
        return 1
    return EXIT_PAUSED if isinstance(last, Paused) else 0


if __name__ == "__main__":
    sys.exit(main())
