"""The tasks of this package, where the registry looks for them."""

from studio.preferences.sampling import SampleAnswers
from studio.preferences.simulated import SimulateJudgements

__all__ = ["SampleAnswers", "SimulateJudgements"]
