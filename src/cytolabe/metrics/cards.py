"""One card per metric: range, direction, floor, what it hides, and where it comes from.

A metric without a card is not reported. The names are the words of `Score.metric`; reports print the cards beside
the numbers, so a reader never has to know what a metric is silent about.
"""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["METRICS", "MetricCard"]


@dataclass(frozen=True, kw_only=True)
class MetricCard:
    """What a reader must know of one metric.

    `range` holds the lowest and highest possible value, `direction` is `higher` or `lower` (which is better), `floor`
    says what a trivial method gets, `hides` what the number is silent about.
    """

    name: str
    title: str
    range: tuple[float, float]
    direction: str
    floor: str
    hides: str
    source: str


_SOKOLOVA = "Sokolova & Lapalme 2009, doi:10.1016/j.ipm.2009.03.002"

_CARDS = (
    MetricCard(
        name="accuracy",
        title="Accuracy",
        range=(0.0, 1.0),
        direction="higher",
        floor="the share of the most frequent class, for a constant predictor",
        hides="everything about rare types: a class of 1 % of the cells moves it by at most 0.01",
        source=_SOKOLOVA,
    ),
    MetricCard(
        name="balanced_accuracy",
        title="Balanced accuracy",
        range=(0.0, 1.0),
        direction="higher",
        floor="1 / number of classes, for a constant predictor",
        hides="false positives: a rare class may be predicted far too often at little cost",
        source="Brodersen et al. 2010, doi:10.1109/ICPR.2010.764",
    ),
    MetricCard(
        name="f1",
        title="F1 of one class",
        range=(0.0, 1.0),
        direction="higher",
        floor="2p / (1 + p) for a predictor that always says this class, p its share; 0 for any other constant",
        hides="which class the errors went to (see the confusion matrix), and true negatives",
        source=_SOKOLOVA,
    ),
    MetricCard(
        name="macro_f1",
        title="Macro-F1",
        range=(0.0, 1.0),
        direction="higher",
        floor="2p / ((1 + p) K) for a constant predictor of a class with share p among K classes",
        hides="classes under 10 test cells and classes without training support, which are shown beside it",
        source="Opitz & Burst 2019, arXiv:1911.03347 (mean of the F1 of each class)",
    ),
    MetricCard(
        name="macro_f1_all_classes",
        title="Macro-F1 over all classes",
        range=(0.0, 1.0),
        direction="higher",
        floor="2p / ((1 + p) K) for a constant predictor of a class with share p among K classes",
        hides="that the F1 of a class of a few cells is mostly noise",
        source="Opitz & Burst 2019, arXiv:1911.03347 (mean of the F1 of each class)",
    ),
    MetricCard(
        name="open_set_auroc",
        title="Open-set AUROC",
        range=(0.0, 1.0),
        direction="higher",
        floor="0.5 for a confidence that knows nothing",
        hides="where to put the threshold, and which unseen type it is",
        source="Hendrycks & Gimpel 2017, arXiv:1610.02136 (one minus the highest class probability)",
    ),
)

METRICS: Mapping[str, MetricCard] = {card.name: card for card in _CARDS}
"""Every metric that a score may carry, by name."""
