"""What the room can be asked to do."""

from services.generation.usecases.adapters import Adapters
from services.generation.usecases.admission import Admission
from services.generation.usecases.counting import CountTokens
from services.generation.usecases.generate import Generate
from services.generation.usecases.score import ScoreContinuations
from services.generation.usecases.watch import WatchEngine

__all__ = ["Adapters", "Admission", "CountTokens", "Generate", "ScoreContinuations", "WatchEngine"]
