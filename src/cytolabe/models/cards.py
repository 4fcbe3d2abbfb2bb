"""The cards of all models: what each needs, what it fits on, and what it has seen.

Most of these models carry no published weights and have no pretraining manifest: they learn from the training cells of
the fold, and nothing else. `scgpt` and `geneformer` stand for a checkpoint, whose own card has its digest and what it
was trained on. `precomputed` is a file that does not say what made it, so its protocol, its pretraining and its licence
are unknown, and its name can never be that of a model that is known.
"""

from collections.abc import Mapping
from dataclasses import replace

from cytolabe.ontology.graph import PINNED_RELEASES
from cytolabe.records import UNKNOWN, FitOnQuery, ModelCard, Protocol

__all__ = ["CARDS", "METADATA_COLUMNS", "SCGPT_OMICS_CARD", "TOTALVI_CARD", "external_card", "precomputed_card"]

METADATA_COLUMNS = ("assay", "site", "suspension_type")
"""All that the metadata-only floor may read (rule R12): never a column that could have been made from cell types."""

_OURS = "BSD-3-Clause"

_MAJORITY = ModelCard(
    name="majority",
    title="Class shares of the training cells, the same for every cell",
    gene_ids="none",
    value_semantics="none",
    capabilities=("predict_labels",),
    protocol=Protocol.CONTROL,
    fit_on_query=FitOnQuery.NONE,
    unit_of_inference="cell",
    determinism="bit_exact",
    licence=_OURS,
    source="cytolabe",
)

_METADATA_ONLY = replace(
    _MAJORITY,
    name="metadata_only",
    title="Class shares given assay, site and suspension type: what the technique alone says",
    inputs=METADATA_COLUMNS,
)

_PCA = ModelCard(
    name="pca",
    title="Principal components of variable genes, fitted on training cells",
    gene_ids="gene_reference",
    value_semantics="log1p_cp10k",
    capabilities=("embed_cells", "fit"),
    protocol=Protocol.SELF_SUPERVISED,
    fit_on_query=FitOnQuery.NONE,
    unit_of_inference="cell",
    determinism="numerically_close",
    licence=_OURS,
    source="cytolabe",
)

_HIERARCHICAL = replace(
    _PCA,
    name="hierarchical",
    title="Logistic regression on principal components by the hierarchical cross-entropy, from labels of any depth",
    capabilities=("predict_labels", "fit", "coarse_labels"),
    protocol=Protocol.SUPERVISED,
    source=f"cytolabe, with the Cell Ontology {PINNED_RELEASES['CL']}; the loss: doi:10.1038/s43588-025-00945-z",
)

_HARMONY = replace(
    _PCA,
    name="harmony",
    title="Harmony on the principal components of training and query cells together",
    capabilities=("embed_cells", "integrate"),
    fit_on_query=FitOnQuery.JOINT,
    unit_of_inference="dataset",
    determinism="statistical",
    licence="GPL-3.0-or-later (harmonypy, an optional dependency)",
    source="harmonypy; Korsunsky et al. 2019, doi:10.1038/s41592-019-0619-0",
    inputs=("dataset_id", "batch"),
    # Its clusters start at random: over five seeds macro-F1 moved by .03 on the PBMC study, as much as scVI's.
    n_seeds=3,
)

_SYMPHONY = replace(
    _HARMONY,
    name="symphony",
    title="Symphony: the query mapped onto Harmony of the training cells alone, which it does not move",
    capabilities=("embed_cells", "fit", "map_query"),
    fit_on_query=FitOnQuery.UNLABELLED,
    unit_of_inference="cell",
    source="cytolabe, on harmonypy; Kang et al. 2021, doi:10.1038/s41467-021-25957-x",
)

_SCVI = replace(
    _PCA,
    name="scvi",
    title="scVI from scratch on training cells; unseen batches of the query are mapped by scArches surgery",
    value_semantics="counts",
    capabilities=("embed_cells", "fit", "map_query"),
    fit_on_query=FitOnQuery.UNLABELLED,
    determinism="statistical",
    licence="BSD-3-Clause (scvi-tools, an optional dependency)",
    source="scvi-tools; Lopez et al. 2018, doi:10.1038/s41592-018-0229-2; Lotfollahi et al. 2021, "
    "doi:10.1038/s41587-021-01001-7",
    inputs=("dataset_id", "batch"),
    n_seeds=3,
)

_SCANVI = replace(
    _SCVI,
    name="scanvi",
    title="scANVI from labels of the training cells, on scVI; unseen batches of the unlabelled query by scArches surgery",
    capabilities=("predict_labels", "fit"),
    protocol=Protocol.SUPERVISED,
    source="scvi-tools; Xu et al. 2021, doi:10.15252/msb.20209620",
)

TOTALVI_CARD = replace(
    _SCVI,
    name="totalvi",
    title="totalVI from scratch on counts of RNA and proteins; unseen libraries are mapped by scArches surgery",
    source="scvi-tools; Gayoso et al. 2021, doi:10.1038/s41592-020-01050-x",
    inputs=("batch",),
)
"""Of a model that no study can name: an atlas keeps no counts of proteins. It is in `omics` alone."""

_SCGPT = ModelCard(
    name="scgpt",
    title="scGPT: the state of <cls> by frozen weights of a checkpoint",
    gene_ids="hgnc_symbol, led from the gene reference",
    value_semantics="value_bins",
    capabilities=("embed_cells", "embed_genes"),
    protocol=Protocol.ZERO_SHOT,
    fit_on_query=FitOnQuery.NONE,
    unit_of_inference="cell",
    determinism="numerically_close",
    licence="MIT (the published code and weights); ours for the network here",
    source="Cui et al. 2024, doi:10.1038/s41592-024-02201-0",
    pretraining=(UNKNOWN,),
    # Most counts of a cell are ties, and which bin a tie gets is chance.
    n_seeds=3,
)

_GENEFORMER = ModelCard(
    name="geneformer",
    title="Geneformer: states of a checkpoint's frozen weights over ranked genes",
    gene_ids="ensembl",
    value_semantics="ranks",
    capabilities=("embed_cells",),
    protocol=Protocol.ZERO_SHOT,
    fit_on_query=FitOnQuery.NONE,
    unit_of_inference="cell",
    determinism="numerically_close",
    licence="Apache-2.0 (published weights; transformers, an optional dependency)",
    source="Theodoris et al. 2023, doi:10.1038/s41586-023-06139-9; network by transformers",
    # What a checkpoint was trained on is in its folder; without a word there, nobody knows.
    pretraining=(UNKNOWN,),
)

_GENEFORMER_ANNOTATOR = replace(
    _GENEFORMER,
    name="geneformer_annotator",
    title="Geneformer trained on labelled training cells, from a checkpoint (fine_tuned) or random weights (supervised)",
    capabilities=("predict_labels", "fit"),
    protocol=Protocol.FINE_TUNED,
    determinism="statistical",
    n_seeds=3,
)

_GENEFORMER_SCRATCH = replace(
    _GENEFORMER,
    name="geneformer_scratch",
    title="Geneformer trained on the training cells to say hidden genes, with their medians; then frozen",
    capabilities=("embed_cells", "fit"),
    protocol=Protocol.SELF_SUPERVISED,
    determinism="statistical",
    pretraining=(),
    n_seeds=3,
)

_GENEFORMER_RANDOM = replace(
    _GENEFORMER_SCRATCH,
    name="geneformer_random",
    title="The network of geneformer_scratch with random weights, and the same reading of cells: what the shape alone gives",
    protocol=Protocol.CONTROL,
)

_GENEFORMER_SCRATCH_TUNED = replace(
    _GENEFORMER_SCRATCH,
    name="geneformer_scratch_tuned",
    title="geneformer_scratch of all training cells, then fine-tuned as a whole on those with a label",
    capabilities=("predict_labels", "fit", "unlabelled_cells"),
    protocol=Protocol.FINE_TUNED,
)

_GENEFORMER_RANDOM_TUNED = replace(
    _GENEFORMER_SCRATCH_TUNED,
    name="geneformer_random_tuned",
    title="geneformer_random, fine-tuned as geneformer_scratch_tuned: what the training without labels was worth",
    protocol=Protocol.SUPERVISED,
)

_SCGPT_ANNOTATOR = replace(
    _SCGPT,
    name="scgpt_annotator",
    title="scGPT trained on labelled training cells, from a checkpoint (fine_tuned) or from nothing (supervised)",
    capabilities=("predict_labels", "fit"),
    protocol=Protocol.SUPERVISED,
    determinism="statistical",
    pretraining=(),
)

_SCGPT_SCRATCH = replace(
    _SCGPT,
    name="scgpt_scratch",
    title="scGPT trained on the training cells to say the counts of genes from those of others; then frozen",
    capabilities=("embed_cells", "embed_genes", "fit"),
    protocol=Protocol.SELF_SUPERVISED,
    determinism="statistical",
    pretraining=(),
)

_SCGPT_RANDOM = replace(
    _SCGPT_SCRATCH,
    name="scgpt_random",
    title="The network of scgpt_scratch with random weights, and the same reading of cells: what the shape alone gives",
    protocol=Protocol.CONTROL,
)

_SCGPT_SCRATCH_TUNED = replace(
    _SCGPT_SCRATCH,
    name="scgpt_scratch_tuned",
    title="scgpt_scratch of all training cells, then fine-tuned as a whole on those with a label",
    capabilities=("predict_labels", "fit", "unlabelled_cells"),
    protocol=Protocol.FINE_TUNED,
)

_SCGPT_RANDOM_TUNED = replace(
    _SCGPT_SCRATCH_TUNED,
    name="scgpt_random_tuned",
    title="scgpt_random, fine-tuned as scgpt_scratch_tuned: what the training without labels was worth",
    protocol=Protocol.SUPERVISED,
)

_HVG = replace(
    _PCA,
    name="hvg",
    title="Log-normalized counts of the variable genes themselves, chosen on training cells",
)

_ONE_VS_REST = replace(
    _HVG,
    name="one_vs_rest",
    title="One logistic regression per cell type on variable genes, in the manner of CellTypist",
    capabilities=("predict_labels", "fit"),
    protocol=Protocol.SUPERVISED,
    source="cytolabe; the method: Dominguez Conde et al. 2022, doi:10.1126/science.abl5197",
)

_CENTROID = replace(
    _ONE_VS_REST,
    name="centroid",
    title="The nearest class mean over variable genes",
    source="cytolabe",
)

_SCGPT_INTEGRATOR = replace(
    _SCGPT_SCRATCH,
    name="scgpt_integrator",
    title="scGPT trained on masked counts of the training cells, with what corrects batches (ECS, DAB, norm by batch)",
    capabilities=("embed_cells", "fit", "map_query"),
    fit_on_query=FitOnQuery.UNLABELLED,
    inputs=("dataset_id", "batch"),
)

SCGPT_OMICS_CARD = replace(
    _SCGPT_SCRATCH,
    name="scgpt_omics",
    title="scGPT trained on masked counts of RNA with proteins or peaks of the same cells; then frozen",
    capabilities=("embed_cells", "fit"),
    inputs=("batch",),
)
"""Of a model that no study can name, as `TOTALVI_CARD`."""

_PRECOMPUTED = ModelCard(
    name="precomputed",
    title="A file of embeddings or predictions that was made elsewhere",
    gene_ids=UNKNOWN,
    value_semantics=UNKNOWN,
    capabilities=(),
    protocol=Protocol.UNKNOWN,
    fit_on_query=FitOnQuery.NONE,
    unit_of_inference=UNKNOWN,
    determinism=UNKNOWN,
    licence=UNKNOWN,
    source=UNKNOWN,
    pretraining=(UNKNOWN,),
)

_EXTERNAL = replace(
    _PRECOMPUTED,
    name="external",
    title="A program in another process or environment, asked by files",
    gene_ids="gene_reference",
    value_semantics="raw_counts",
    inputs=("dataset_id", "batch", "assay", "suspension_type", "site"),
    unit_of_inference="data set",
)

CARDS: Mapping[str, ModelCard] = {
    card.name: card
    for card in (
        _MAJORITY, _METADATA_ONLY, _PCA, _HVG, _ONE_VS_REST, _CENTROID, _HIERARCHICAL, _HARMONY, _SYMPHONY, _SCVI, _SCANVI, _SCGPT, _SCGPT_ANNOTATOR, _SCGPT_SCRATCH, _SCGPT_RANDOM,
        _SCGPT_INTEGRATOR, _SCGPT_SCRATCH_TUNED, _SCGPT_RANDOM_TUNED,
        _GENEFORMER, _GENEFORMER_ANNOTATOR, _GENEFORMER_SCRATCH, _GENEFORMER_RANDOM, _GENEFORMER_SCRATCH_TUNED, _GENEFORMER_RANDOM_TUNED,
        _PRECOMPUTED, _EXTERNAL,
    )
}  # fmt: skip
"""The card of each model of the registry, by name."""


def precomputed_card(name: str, *, capability: str, weights_digest: str) -> ModelCard:
    """Return the card of one file: `weights_digest` is the SHA-256 of its bytes.

    The card is named `precomputed:<name>`: exposures and certificates go by the names of cards, and a file that is
    called `pca` is not the model `pca`.
    """
    full = _under(_PRECOMPUTED, name)
    return replace(_PRECOMPUTED, name=full, capabilities=(capability,), weights_digest=weights_digest)


def external_card(
    name: str, *, capability: str, protocol: Protocol, pretraining: tuple[str, ...], n_seeds: int
) -> ModelCard:
    """Return the card of one program, `external:<name>`, with what the study says of its past."""
    return replace(
        _EXTERNAL,
        name=_under(_EXTERNAL, name),
        capabilities=(capability,),
        protocol=protocol,
        pretraining=pretraining,
        n_seeds=n_seeds,
    )


def _under(card: ModelCard, name: str) -> str:
    prefix = f"{card.name}:"
    return name if name == card.name or name.startswith(prefix) else f"{prefix}{name}"
