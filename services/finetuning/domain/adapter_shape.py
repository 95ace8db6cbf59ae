"""Whether the engine could serve what a job would make, checked before it is made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.finetuning.domain.report import Finding, Severity

# A reward model is merged and read by the trainer; the engine never sees it.
_NEVER_SERVED: Final = "reward_model"
# How the two matrices of an adapter may begin: everything else changes the base weights (PiSSA, OLoRA, CorDA, …).
_PLAIN: Final = frozenset({"", "true", "default", "kaiming", "gaussian"})


@dataclass(frozen=True, slots=True)
class AdapterShape:
    """The adapter that a job asks for.

    Attributes:
        rank: Rank.
        target_modules: Last parts of the names of the layers to adapt; empty for all linear ones.
        use_dora: Whether directions and magnitudes are parted (DoRA).
        init: How the matrices begin, as PEFT's `init_lora_weights` names it; empty for the usual way.
        modules_to_save: Layers that are trained whole.
        new_tokens: Tokens that are added to the vocabulary.
    """

    rank: int
    target_modules: tuple[str, ...] = ()
    use_dora: bool = False
    init: str = ""
    modules_to_save: tuple[str, ...] = ()
    new_tokens: int = 0


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What the engine serves beside its base model.

    Attributes:
        max_rank: Largest rank.
        modules: Last parts of the names of the layers that an adapter may change.
    """

    max_rank: int
    modules: tuple[str, ...]


def check_adapter(shape: AdapterShape, limits: EngineLimits, *, stage: str) -> tuple[Finding, ...]:
    """Return what speaks against an adapter."""
    if stage == _NEVER_SERVED:
        return ()
    found: list[Finding] = []
    if not 1 <= shape.rank <= limits.max_rank:
        found.append(
            _error(
                "rank_too_high",
                f"lora.rank: {shape.rank} is not allowed; the engine serves ranks from 1 to {limits.max_rank}",
                rank=shape.rank,
                max_rank=limits.max_rank,
            )
        )
    unknown = [name for name in shape.target_modules if name not in limits.modules]
    if unknown:
        found.append(
            _error(
                "unknown_target_modules",
                f"lora.target_modules: {_listed(unknown)} is not allowed; use {_listed(limits.modules)}",
            )
        )
    if shape.use_dora:
        found.append(_error("dora", "lora.use_dora: the engine serves no DoRA adapters; leave it out"))
    if shape.init.casefold() not in _PLAIN:
        found.append(
            _error(
                "changed_base",
                f"lora.init: {shape.init!r} changes the base weights that the engine serves; leave it out",
            )
        )
    if shape.modules_to_save:
        found.append(
            _error(
                "modules_to_save",
                f"lora.modules_to_save: {_listed(shape.modules_to_save)} would be trained whole, which the engine does not "
                "serve; leave it out",
            )
        )
    if shape.new_tokens:
        found.append(
            _error(
                "vocabulary_changed",
                f"{shape.new_tokens} new tokens: the engine serves the base's vocabulary; add none",
            )
        )
    return tuple(found)


def _error(code: str, message: str, **numbers: float) -> Finding:
    return Finding(code, Severity.ERROR, f"{message}.", (), numbers)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
