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
    "is_condition",
    "is_condition_name",
    "is_technology",
    "is_truth_word",
    "label_tier",
    "may_be_label",
    "normalized",
    "rank_of_name",
    "role_of_name",
]

ROLE_NAMES: Mapping[str, Sequence[str]] = {
    "donor": (
        "donor_id", "donor", "patient_id", "patient", "individual", "individual_id", "subject_id", "subject",
        "participant", "participant_id", "person", "donors", "patients", "ind", "ind_cov", "donor_cov", "mouse_id",
        "animal_id", "animal", "mouse", "pid", "source_donor", "genotype_donor", "donor_assignment", "external_donor_name",
    ),
    "batch": (
        "batch", "batch_id", "library_id", "library", "library_uuid", "sample_id", "sample", "sample_uuid", "orig_ident",
        "sample_name", "samples", "run", "run_id", "lane", "plate", "plate_id", "channel", "gem", "dataset", "batches",
        "suspension_uuid", "experiment", "dataset_id", "experiment_id", "batch_cov", "batch_info", "library_batch",
        "processing_batch", "library_prep_batch", "sequencing_batch", "seq_batch", "sequencing_run", "seq_run", "lane_id",
        "10x_channel", "10x_run", "channel_id", "gem_id", "gem_group", "gem_well", "capture", "capture_id", "sublibrary",
        "chip", "chip_id", "pool_id", "pool", "pool_number", "exp", "section", "section_id", "brain_section_label", "slide",
        "slide_id", "puck", "puck_id",
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
"""Role -> names in order of trust, as `normalized` writes them; `rank_of_name` ignores the `_`."""

_NAMED_BY_NUMBER: Mapping[str, re.Pattern[str]] = {
    "donor": re.compile(
        r"(donor|patient|subject|individual|participant|person|volunteer|animal|mouse|case|human)s?"
        r"(ids?|names?|no|nr|num|number|code|uuid|key|label)"
    ),
    "batch": re.compile(
        r"(batch|library|sample|run|plate|lane|channel)(ids?|names?|no|nr|num|number|code|label|index)"
    ),
}
"""Role -> names made of a word for it and a word for number or name, without `_`: `DonorID`, `patient.no`."""

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
    r"preservation|reference|mapped|genome|guide|gene|target|dose|time|age|type_2|tissue_type|group_id|joinid|residual|"
    r"brain_section|colou?rs?|hex|order|status|flag|ok|passed|entropy|uncertainty|date|version|keep|kept)(_|$)"
)
_OTHER_MEANING = re.compile(
    r"(^|_)(sex|gender|donor|patient|subject|sample|batch|library|tissue|organ|disease|diagnosis|genotype|layer|race|"
    r"location|site|anatomical|tumou?r|cancer|clinical|response|responder|outcome|grade|severity|infection|virus|smoking|"
    r"medication|drug|species|strain|chemistry|assay|platform|clonotype|clone|cdr3|tcr|bcr|isotype|neighbou?rhood)(_|$)"
)
"""Words that give a name another meaning, unless it also says cell type (`tumor_cell_type`)."""
_CELL_TYPE_NAME = re.compile(r"cell_?(sub)?types?|annot")
_CONDITION_NAME = re.compile(
    r"(^|_)(condition|treatment|treated|stim|stimulus|stimulation|perturbation|group|group_id|time|timepoint|day|status|"
    r"genotype|age|stage|response|dose|visit)(_|$)"
)
_CODE = re.compile(
    r"(c|cl|clu|clust|cluster|clusters|k|x|v|g|grp|group|type|celltype|cell[ _]?type|ct|class|label)?[ _.:#-]*"
    r"\d+([._,-]\d+)*|[AC-SU-Z]|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    re.IGNORECASE,
)
_TRUTH = frozenset({
    "true", "false", "yes", "no", "y", "n", "pass", "fail", "passed", "failed", "keep", "kept", "remove", "removed",
    "singlet", "doublet", "multiplet", "negative", "positive", "ok", "on", "off", "high", "low", "0", "1",
})  # fmt: skip
_CONDITION = re.compile(
    r"(male|female|m|f|control|ctrl|ctl|stim|stimulated|unstimulated|un-?treated|treated|vehicle|dmso|mock|pbs|healthy|"
    r"health|normal|disease|diseased|case|patient|donor|recipient|host|graft|tumou?r|adjacent|affected|unaffected|wt|ko|"
    r"wild[ _-]?type|het|hom|knock[ _-]?out|infected|uninfected|covid(-?19)?|severe|mild|moderate|convalescent|acute|"
    r"chronic|pre|post|baseline|rest|resting|responder|non-?responder|(healthy|normal)[ _-](control|donor|patient)s?|"
    r"(day|d|week|w|month|year|e|p)?[ _-]?\d{1,3}([.,]\d+)?[ _-]*(min|h|hr|hrs|hours?|d|days?|w|weeks?|months?|y|yrs?|"
    r"years?)?([ _-]?old)?)",
    re.IGNORECASE,
)
_NO_CELL = re.compile(
    r"lymph[ _-]?nodes?|\bnodes?\b|\btissue|biops|(carcin|aden|lymph|melan|gli|sarc|myel|blast|thym|teratocarcin)\w*omas?\b|"
    r"leuk(a?)emia|\bcord blood|\bmarrow",
    re.IGNORECASE,
)
"""Tissues and tumors whose names hold a word of cell types (`lymph node`, `neuroblastoma`)."""
_CL_ID = re.compile(r"\s*CL[:_]\d{7}\s*", re.IGNORECASE)
_COLOR = re.compile(r"#[0-9a-f]{3,8}", re.IGNORECASE)
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
    """Return a column name in lower case with `_` between its parts: `orig.ident` and `DonorID` become comparable."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[0-9])(?=[A-Z][a-z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")


def rank_of_name(role: str, name: str) -> int | None:
    """Return how well a column's name says a role, 0 best, or None where it does not say it."""
    plain = normalized(name).replace("_", "")
    names = _SQUASHED[role]
    if plain in names:
        return names.index(plain)
    pattern = _NAMED_BY_NUMBER.get(role)
    return len(names) if pattern is not None and pattern.fullmatch(plain) else None


def role_of_name(name: str) -> str:
    """Return the role that a column's name claims, or an empty string; labels are asked by `label_tier`."""
    return next((role for role in ROLE_NAMES if rank_of_name(role, name) is not None), "")


def label_tier(name: str) -> int | None:
    """Return how plainly a name says cell type: 0 the author's, 1 `cell_type`, 2 a common name, None not at all."""
    plain = normalized(name)
    if not may_be_label(name):
        return None
    return next((tier for tier, pattern in enumerate(_LABEL_TIERS) if pattern.fullmatch(plain)), None)


def may_be_label(name: str) -> bool:
    """Tell whether values alone may make a column the label: its name must claim no other meaning."""
    plain = normalized(name)
    other = _OTHER_MEANING.search(plain) and not _CELL_TYPE_NAME.search(plain)
    return not (role_of_name(name) or _NO_LABEL.search(plain) or other)


def is_condition_name(name: str) -> bool:
    """Tell whether a name says what was done to a sample, or when it was taken."""
    return _CONDITION_NAME.search(normalized(name)) is not None


def is_code(level: str) -> bool:
    """Tell whether a level is a cluster code (`7`, `c12`, `Cluster 3`), a color or an identifier, not a name.

    An id of the Cell Ontology is no code: it says what is meant.
    """
    if _CL_ID.fullmatch(level):
        return False
    return _CODE.fullmatch(level) is not None or _COLOR.fullmatch(level) is not None


def is_truth_word(level: str) -> bool:
    """Tell whether a level is an answer (`True`, `no`, `Singlet`), not a name."""
    return level.strip().lower() in _TRUTH


def is_condition(level: str) -> bool:
    """Tell whether a level is a sex, an age, a state of health or a treatment, not a type of cell."""
    return _CONDITION.fullmatch(level.strip()) is not None


def is_cell_word(level: str) -> bool:
    """Tell whether a level reads like a type of cell, or is an id of the Cell Ontology."""
    if _CL_ID.fullmatch(level):
        return True
    if _NO_CELL.search(level):
        return False
    tokens = [token for token in re.split(r"[^a-z0-9]+", level.lower()) if token]
    return any(token in _WORD or token.rstrip("s") in _WORD or _PART.search(token) for token in tokens)


def is_technology(level: str) -> bool:
    """Tell whether a level names a sequencing technology, such as `3pv2` or `10x 5' v1`."""
    return _TECHNOLOGY.fullmatch(level.strip()) is not None


_SQUASHED: Mapping[str, Sequence[str]] = {
    role: tuple(name.replace("_", "") for name in names) for role, names in ROLE_NAMES.items()
}
