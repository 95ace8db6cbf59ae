"""Who may call which RPC of the generation room."""

from typing import Final

from services.chassis.auth import ANYONE, Delegates, Policy, Role, at_least

__all__ = ["DELEGATES", "POLICY"]

_GENERATION = "/brain.generation.v1.GenerationService"
_MODEL = "/brain.generation.v1.ModelService"

POLICY: Final[Policy] = {
    f"{_GENERATION}/Generate": ANYONE,
    f"{_GENERATION}/Score": ANYONE,
    f"{_GENERATION}/Tokenize": ANYONE,
    f"{_GENERATION}/Detokenize": ANYONE,
    f"{_MODEL}/ListModels": ANYONE,
    f"{_MODEL}/RegisterAdapter": at_least(Role.TRAINER),
    f"{_MODEL}/UnregisterAdapter": at_least(Role.TRAINER),
    f"{_MODEL}/CheckAdapter": at_least(Role.TRAINER),
    # Whoever may delete a document may thereby make an adapter that has learned from it unaskable.
    f"{_MODEL}/WithholdAdapters": at_least(Role.CONTRIBUTOR),
}

# What a worker room may ask for, with the rights of the caller whose work it does.
DELEGATES: Final[Delegates] = {
    # Samples and judgements for rows and rewards; the check of an adapter before it is published, and its blocking.
    "finetuning": frozenset(
        {
            f"{_GENERATION}/Generate",
            f"{_GENERATION}/Score",
            f"{_GENERATION}/Tokenize",
            f"{_MODEL}/CheckAdapter",
            f"{_MODEL}/ListModels",
            f"{_MODEL}/WithholdAdapters",
        }
    ),
}
