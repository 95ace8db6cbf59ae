"""Who may call which RPC of the generation room."""

from typing import Final

from services.chassis.auth import ANYONE, Policy, Role, at_least

__all__ = ["POLICY"]

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
