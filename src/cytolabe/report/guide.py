"""How to read each number: one paragraph, and what the number hides.

The report and `docs/reading-a-report.md` speak of the same numbers under the same names.
"""

from dataclasses import dataclass

__all__ = ["GUIDE", "NOT_SHOWN", "STATUS_WORDS", "TRAINING_GUIDE", "GuideEntry"]


@dataclass(frozen=True)
class GuideEntry:
    """One number of the report."""

    name: str
    says: str
    hides: str


GUIDE = (
    GuideEntry(
        "Model names",
        "“pca+knn” is a representation and a way to name cells from it: “pca”, “harmony” or “scvi” describe each cell by "
        "a few numbers, “knn” lets the nearest labeled cells vote, “logistic” draws borders between types. “majority” "
        "always says the commonest type; “metadata_only” guesses from technical columns. “query: joint” or “query: "
        "unlabeled” means that the model also looked at the held-out cells, without their labels.",
        "settings and seeds, which are in run.json, and how long a model was trained, which is in the notes.",
    ),
    GuideEntry(
        "Macro-F1",
        "For each cell type, F1 is the harmonic mean of precision (of the cells called this type, how many are) and "
        "recall (of the cells that are, how many were called). Macro-F1 is the plain mean over types: a type with 20 "
        "cells weighs as much as one with 20,000. 1 is perfect, 0 is the worst.",
        "which types fail, and how: two models with one value can fail on different types. It only counts types that "
        "were present on both sides with at least 10 test cells; the table of cell types shows the rest.",
    ),
    GuideEntry(
        "Macro-F1, rare types",
        "The same mean over the types that are few in the test side (under 5 % of its labelled cells) or were few in training "
        "(under 50 cells). Here models differ most. The list of rare types says what each was called instead.",
        "how few cells it stands on: ten cells more or less can move it by tenths. Look at the cell counts.",
    ),
    GuideEntry(
        "Accuracy",
        "The share of test cells with the right type.",
        "everything about small types: where 70 % of the cells are T cells, calling everything “T cell” scores 0.70.",
    ),
    GuideEntry(
        "Floor and ceiling",
        "The floor is the best that a trivial method reaches on the same cells: always the commonest type, or a "
        "guess from technical columns alone. The ceiling is the same model trained inside the held-out study. A score "
        "means something by where it stands between the two. A score above its ceiling is no mistake: the ceiling has "
        "only the cells of one study to learn from, and the other studies can teach more.",
        "that the ceiling is itself measured: where persons cannot be kept apart it divides cells, is too high, and "
        "says “leaky”. A score under its floor is shown as it is.",
    ),
    GuideEntry(
        "Intervals and points",
        "Square brackets hold a 95 % interval over donors: repeat the study with other donors of the same kind, and "
        "the value should fall there. With 6 to 19 donors it is a jackknife, from 20 a bootstrap of whole donors. "
        "Under 6 there is no honest interval, so each donor's own value is printed instead.",
        "everything that did not vary: other labs, other kits, other tissues. An interval over donors of one study "
        "says nothing about the next lab.",
    ),
    GuideEntry(
        "Status",
        "SCORED, QUALIFIED, REFUSED, FAILED or NOT_RUN, with the reason beside it.",
        "how serious a qualification is: read the reason.",
    ),
    GuideEntry(
        "Confusion matrix",
        "Rows are true types, columns are answers; each row adds up to 1, and the figures are cells. Blue is right, "
        "orange is mistaken. Columns carry the numbers of the rows. Neighbors in the hierarchy are the forgivable mistakes; look for orange far from them.",
        "how sure the model was, how other models err, and cells whose label was too coarse for this level: those are "
        "left out.",
    ),
    GuideEntry(
        "Levels",
        "The same answers scored at coarse and fine cell types. A model can be perfect at “T cell” and lost among "
        "its kinds.",
        "cells labeled more coarsely than the level; they are excluded and counted in the support table.",
    ),
    GuideEntry(
        "Gene space",
        "The genes on which training and test were compared. A gene that a file never measured is not zero, so only "
        "shared genes can be used, or one model per pair of files.",
        "biology that the missing genes carried. Under 500 genes every score is QUALIFIED(panel).",
    ),
    GuideEntry(
        "Batches and types",
        "How the embeddings behind the answers place the labelled cells of both sides. AvgBIO, the mean of NMI, "
        "ARI and the silhouette of types, says whether types lie apart; BRAS and CiLISI, from 0 to 1, say whether"
        " batches are mixed inside types, and iLISI whether they are whatever the types; batch variance is what batches explain of the "
        "embedding, less is better, and beside it how much of that of “none” is gone (under 0: added). Three controls stand above the models: “none” is the components without correction, “shuffled” "
        "exchanges the cells, “cell types” are the labels themselves.",
        "what mixing cost: a shuffle mixes batches perfectly. Clusters are those of k-means, one for each label; "
        "at most 5,000 cells are measured, and nothing says how far a value would vary with other donors.",
    ),
    GuideEntry(
        "Few labels",
        "Where a study asks for it: macro-F1 when the classifier on an embedding learns from only so many cells of each "
        "type, or from all labeled cells of only so many donors. The embedding read no label and stays as it is. Cells and "
        "donors are drawn by the seed several times, larger draws contain smaller ones, and the value is their mean. A type "
        "with fewer cells gives all it has, and the table says so; one that no drawn donor has counts as 0.",
        "the cells without labels that the embedding learned from, of which there are as many as ever. Intervals are over "
        "donors of the test side and not over draws. Curves whose intervals overlap are in no order.",
    ),
    GuideEntry(
        "Confounding",
        "Cramér's V between a technical and a biological column, over donors (or libraries, where donors are unknown): 0 is independent, 1 means that one "
        "tells the other. Where V is 1, no method can tell biology from batch.",
        "which of the two causes a difference. A dash means too few donors to say; that is not zero. “8 lost” means that "
        "eight contrasts between types exist in no library, not even through others, and V is undefined there. It never "
        "refuses a score by itself.",
    ),
    GuideEntry(
        "Identical cells",
        "Cells of two files that have the same counts on all genes that both measure: the same library, "
        "published twice. Their labels count once, and never on both sides of a fold.",
        "copies that were processed differently, and cells with too few counts to tell. Those are counted as not testable.",
    ),
    GuideEntry(
        "Claims",
        "What one could want to conclude from these files, judged by their design alone: REFUSED where no model could tell "
        "the answer from a technical trace, QUALIFIED where few donors stand between, “possible” where nothing forbids it.",
        "whether a model would succeed. Nothing was scored for these rows.",
    ),
    GuideEntry(
        "Confidence of a label",
        "The probability that the mapping from a lab's label to a Cell Ontology term is right, as the mapper judges.",
        "whether the lab's label is right. Labels made from clusters or by another tool carry their own mistakes.",
    ),
)

TRAINING_GUIDE = (
    GuideEntry(
        "Gain over a control",
        "Macro-F1 of the network minus that of a control on the same cells or genes, paired: what both find hard takes nothing away. An "
        "interval above 0 says that the network knows more than the control, one that spans 0 that nothing tells them apart. The control "
        "that matters is a network of the same shape with random weights that was fine-tuned alike: what does not stand above it has "
        "learned nothing usable from what came before.",
        "that another seed gives other networks: they are held fixed, and the interval is over donors or groups of genes alone.",
    ),
    GuideEntry(
        "Held-out genes",
        "Each gene is answered once, by a network that was fitted to the labels of other genes; genes of one group stay together. "
        "“abundance” tells classes by how often and how high a gene stands alone, which is often much.",
        "what genes share beyond their groups (pathways, ancestors), so intervals are too narrow; and who labelled the genes, and by what.",
    ),
)
"""What the pages of trainings say beside."""

STATUS_WORDS = (
    ("SCORED", "Measured under the stated split. Every test that applies was run and found nothing."),
    ("QUALIFIED", "Measured, but weaker than it looks: the reason says in which way. Do not quote it without."),
    ("REFUSED", "The data cannot carry this number. It was kept apart and enters no mean."),
    ("FAILED", "The model stopped. There is no number; a failure is not a zero."),
    ("NOT_RUN", "Planned and not run: a part is not installed, or the question does not apply here."),
)

NOT_SHOWN = (
    "Whether the labs' labels are true. Every score compares with labels that people or tools gave.",
    "Anything about labs, kits, tissues or diseases that are not among these files.",
    "That two donors with different names are different persons: where nothing tells, it is assumed and counted.",
    "That no cell of the test side was ever seen by a model whose training data nobody published.",
    "Which model is best in general. A few held-out groups show how models behave here.",
)
