"""What names and values of columns say about their role. Data only; `columns` and `labels` decide.

CELLxGENE names come first in every role, then names that public files use. Words of cell types are the evidence for a
label column whose name says nothing (`cluster_id`, `classified`, `active_ident`).
"""

import re
from collections.abc import Mapping, Sequence

__all__ = [
    "ROLE_NAMES",
    "is_cell_word",
    "is_code",
    "is_technology",
    "label_tier",
    "may_be_label",
    "normalized",
    "role_of_name",
]

ROLE_NAMES: Mapping[str, Sequence[str]] = {
    "donor": (
        "donor_id", "donor", "patient_id", "patient", "individual", "individual_id", "subject_id", "subject",
        "participant", "participant_id", "person", "donors", "patients", "ind", "mouse_id", "animal_id", "animal",
    ),
    "batch": (
        "batch", "batch_id", "library_id", "library", "library_uuid", "sample_id", "sample", "sample_uuid", "orig_ident",
        "sample_name", "samples", "run", "run_id", "lane", "plate", "plate_id", "channel", "gem", "dataset", "batches",
        "suspension_uuid", "experiment",
    ),
    "assay": (
        "assay", "technology", "tech", "platform", "chemistry", "protocol", "sequencing_technology", "library_prep",
        "method", "kit", "assay_ontology_term_id",
    ),
    "suspension_type": ("suspension_type",),
    "tissue": ("tissue", "organ", "tissue_general", "tissue_ontology_term_id"),
    "disease": ("disease", "disease_state", "disease_status", "diagnosis", "disease_ontology_term_id"),
    "sex": ("sex", "gender", "sex_ontology_term_id"),
    "site": ("site", "center", "centre", "institute", "institution", "lab", "laboratory", "hospital"),
    "organism": ("organism", "species", "organism_ontology_term_id"),
    "claimed_term": ("cell_type_ontology_term_id",),
}  # fmt: skip
"""Role -> names in order of trust, as `normalized` writes them."""

_LABEL_TIERS: Sequence[re.Pattern[str]] = (
    re.compile(r"author_cell_?types?|cell_?types?_author|author_annotations?|author_labels?"),
    re.compile(r"cell_?types?"),
    re.compile(
        r"(.*_)?(cell_?types?|cell_?labels?|annot|annotations?|cell_ontology_class|labels?|cell_?class|cell_?subtypes?|"
        r"cell_?identity|cell_?state|subclass|cluster_names?|cluster_labels?)(_.*|\d+)?"
    ),
)
_NO_LABEL = re.compile(
    r"(^|_)(ontology_term_id|condition|treatment|perturbation|stim|stimulus|score|confidence|prob|probability|phase|source|"
    r"origin|doublet|doublets|cls|region|stage|ethnicity|barcode|barcodes|quality|uuid|is|n|percent|pct|mixture|"
    r"preservation|reference|mapped|genome|guide|gene|target|dose|time|age|type_2|tissue_type|group_id|joinid|residual|brain_section)(_|$)"
)
_CODE = re.compile(
    r"(c|cl|clu|clust|cluster|clusters|k|x|v|g|grp|group|type|celltype|cell[ _]?type|ct|class|label)?[ _.:#-]*"
    r"\d+([._,-]\d+)*|[AC-SU-Z]|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    re.IGNORECASE,
)
_WORD = frozenset({
    "b", "t", "nk", "nkt", "ilc", "dc", "pdc", "cdc", "mdc", "mono", "monos", "mac", "macs", "mast", "neutro",
    "eosin", "baso", "platelet", "platelets", "mk", "mks", "rbc", "hsc", "hscs", "hspc", "hspcs", "mpp", "lmpp",
    "lmpps", "gmp", "cmp", "mep", "clp", "prog", "progenitor", "progenitors", "stem", "plasma", "treg", "tregs",
    "cd4", "cd8", "cd14", "cd16", "cd19", "cd34", "fcgr3a", "naive", "memory", "effector", "helper", "cytotoxic",
    "regulatory", "gdt", "mait", "alpha", "beta", "gamma", "delta", "epsilon", "acinar", "ductal", "neuron",
    "neurons", "gaba", "glut", "glutamatergic", "gabaergic", "excitatory", "inhibitory", "astro", "oligo", "opc",
    "opcs", "microglia", "endo", "endothelial", "epithelial", "epithelium", "fibro", "stromal", "stroma", "pericyte",
    "muscle", "stellate", "kupffer", "schwann", "glia", "glial", "basal", "luminal", "club", "ciliated", "goblet",
    "tuft", "paneth", "enterocyte", "podocyte", "tubule", "germ", "oocyte", "sperm", "trophoblast", "mesenchymal",
    "mesenchyme", "endothelium", "lymphoid", "myeloid", "erythroid", "granulocyte", "apc", "at1", "at2", "mural",
    "smc",
})  # fmt: skip
_PART = re.compile(
    r"(cells?$|cytes?($|_)|cytic|blasts?$|phages?$|phils?$|lymph|monocyt|neuron|glia$|^naive|^memory|^cytotoxic|"
    r"^regulatory|helper$|erythro|megakaryo|dendritic|endotheli|epitheli|^t_?cd[48]|progenitor|cyte)"
)
_TECHNOLOGY = re.compile(
    r"(10x.*|(10x)?[ _.-]*[35](p|'|prime)[ _.-]*(v\d(\.\d)?|fresh|.*chem.*)?|v[123](\.\d)?|three_?p.*|five_?p.*|"
    r"chromium.*|drop[ _.-]?seq|in[ _.-]?drops?|cel[ _.-]?seq2?|smart[ _.-]?seq\d?|sm2|smarter|mars[ _.-]?seq|"
    r"seq[ _.-]?well|sci[ _.-].*|split[ _.-]?seq|fluidigm.*|c1|merfish|visium.*|snrna[ _.-]?seq|scrna[ _.-]?seq)",
    re.IGNORECASE,
)


def normalized(name: str) -> str:
    """Return a column name in lower case with `_` between its parts: `orig.ident` and `CellType` become comparable."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")


def role_of_name(name: str) -> str:
    """Return the role that a column's name claims, or an empty string; labels are asked by `label_tier`."""
    plain = normalized(name)
    return next((role for role, names in ROLE_NAMES.items() if plain in names), "")


def label_tier(name: str) -> int | None:
    """Return how plainly a name says cell type: 0 the author's, 1 `cell_type`, 2 a common name, None not at all."""
    plain = normalized(name)
    if role_of_name(name) or _NO_LABEL.search(plain):
        return None
    return next((tier for tier, pattern in enumerate(_LABEL_TIERS) if pattern.fullmatch(plain)), None)


def may_be_label(name: str) -> bool:
    """Tell whether values alone may make a column the label: its name must claim no other meaning."""
    return not role_of_name(name) and not _NO_LABEL.search(normalized(name))


def is_code(level: str) -> bool:
    """Tell whether a level is a cluster code (`7`, `c12`, `Cluster 3`) or an identifier, not a name."""
    return _CODE.fullmatch(level) is not None


def is_cell_word(level: str) -> bool:
    """Tell whether a level reads like a type of cell."""
    tokens = [token for token in re.split(r"[^a-z0-9]+", level.lower()) if token]
    return any(token in _WORD or token.rstrip("s") in _WORD or _PART.search(token) for token in tokens)


def is_technology(level: str) -> bool:
    """Tell whether a level names a sequencing technology, such as `3pv2` or `10x 5' v1`."""
    return _TECHNOLOGY.fullmatch(level.strip()) is not None
