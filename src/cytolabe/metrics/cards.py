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
        name="aurc",
        title="Area under the risk-coverage curve",
        range=(0.0, 1.0),
        direction="lower",
        floor="the error rate, for a confidence that knows nothing",
        hides="whether the confidence is calibrated, and which classes are left unanswered",
        source="Geifman & El-Yaniv 2017, arXiv:1705.08500",
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
        name="class_wise_ece",
        title="Class-wise calibration error",
        range=(0.0, 1.0),
        direction="lower",
        floor="the share of the class, for a column of zeros",
        hides="which class took what is missing; of a rare class it is small whatever was said",
        source="Kull et al. 2019, arXiv:1910.12656 (15 bins of equal width)",
    ),
    MetricCard(
        name="ece",
        title="Expected calibration error",
        range=(0.0, 1.0),
        direction="lower",
        floor="0 for whoever always claims the overall accuracy",
        hides="whether right cells are told from wrong ones, rare classes, and its upward bias where cells are few",
        source="Guo et al. 2017, arXiv:1706.04599 (15 bins of equal width)",
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
    MetricCard(
        name="selective_macro_f1",
        title="Macro-F1 of the most confident cells",
        range=(0.0, 1.0),
        direction="higher",
        floor="macro-F1 at full coverage, for a confidence that knows nothing",
        hides="rare classes, all of whose cells may be among those left out",
        source="El-Yaniv & Wiener 2010 (JMLR 11), with macro-F1",
    ),
)

METRICS: Mapping[str, MetricCard] = {card.name: card for card in _CARDS}
"""Every metric that a score may carry, by name."""
