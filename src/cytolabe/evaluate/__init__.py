"""Score models on folds: floors, ceilings, intervals and honest statuses."""

from cytolabe.evaluate.documents import scores_document, write_scores
from cytolabe.evaluate.harness import evaluate_study
from cytolabe.evaluate.plan import EvaluationPlan, ModelPlan, annotator_plans, default_models
from cytolabe.evaluate.results import Confusion, StudyResult

__all__ = [
    "Confusion",
    "EvaluationPlan",
    "ModelPlan",
    "StudyResult",
    "annotator_plans",
    "default_models",
    "evaluate_study",
    "scores_document",
    "write_scores",
]
