"""Design spaces: every point exactly, the front, and what moves it (docs/contracts/sweep.md)."""

from __future__ import annotations

from hwsim.explore.analysis import Analysis, Best, Ranking, Sensitivity, analyse, hypervolume_ratio, nondominated
from hwsim.explore.evaluate import Evaluator
from hwsim.explore.outlook import Outlook, estimate_seconds, quality
from hwsim.explore.run import SEARCHES, Plan, check_folder, parts_of, run_sweep
from hwsim.explore.space import Knob, Space, Workload, load_space, read_space

__all__ = [
    "SEARCHES",
    "Analysis",
    "Best",
    "Evaluator",
    "Knob",
    "Outlook",
    "Plan",
    "Ranking",
    "Sensitivity",
    "Space",
    "Workload",
    "analyse",
    "check_folder",
    "estimate_seconds",
    "hypervolume_ratio",
    "load_space",
    "nondominated",
    "parts_of",
    "quality",
    "read_space",
    "run_sweep",
]
