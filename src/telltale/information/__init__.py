"""What a layer's state says of the right answer, in bits; what of it predicts a search's choice.

Arrays in, frozen values out: nothing here knows a model, a task or torch. scikit-learn is the
extra `explain`, and imported where a probe is fitted.
"""

from telltale.information.changes import Change, change, changes
from telltale.information.estimating import Estimate, check_installed, estimate
from telltale.information.joint import joint_score
from telltale.information.prediction import Prediction, predictions

__all__ = [
    "Change",
    "Estimate",
    "Prediction",
    "change",
    "changes",
    "check_installed",
    "estimate",
    "joint_score",
    "predictions",
]
