"""What the room can be asked to do."""

from services.generation.usecases.admission import Admission
from services.generation.usecases.checking import CheckAdapter
from services.generation.usecases.converging import Converge
from services.generation.usecases.counting import CountTokens
from services.generation.usecases.generate import Generate
from services.generation.usecases.loading import LoadAdapters
from services.generation.usecases.models import Models
from services.generation.usecases.registering import RegisterAdapters
from services.generation.usecases.registry import Registry
from services.generation.usecases.score import ScoreContinuations
from services.generation.usecases.watch import WatchEngine
from services.generation.usecases.withholding import WithholdAdapters

__all__ = [
    "Admission",
    "CheckAdapter",
    "Converge",
    "CountTokens",
    "Generate",
    "LoadAdapters",
    "Models",
    "RegisterAdapters",
    "Registry",
    "ScoreContinuations",
    "WatchEngine",
    "WithholdAdapters",
]
