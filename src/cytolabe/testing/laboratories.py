"""Who the simulated labs are: donors, kits, the words they use, and how they write their files.

Donor names collide between labs on purpose (`D1` is another person in each), two files of the lab `dahlia` share one
person, `fir` ran its patients and its controls on different kits, and `gale` calls its technologies donors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["LABORATORIES", "SHARED_DONOR", "Donor", "Laboratory"]

NORMAL = "normal"
LUPUS = "systemic lupus erythematosus"
V2, V3, FIVE_PRIME = "10x 3' v2", "10x 3' v3", "10x 5' v1"
SHARED_DONOR = "S3"


@dataclass(frozen=True, kw_only=True)
class Donor:
    """`name` is what the lab wrote, `person` who it truly is."""

    name: str
    person: str
    sex: str
    assay: str = V3
    disease: str = NORMAL


@dataclass(frozen=True, kw_only=True)
class Laboratory:
    """One file.

    `features` is ids, versioned_ids or old_symbols; `matrix` is where the raw counts lie, or the defect that stands
    in their place (`log_normalized`, `ceil_cp10k`). `columns` maps a role to the lab's column name; an
    empty `dialect` means that the lab did not label its cells. `manifest` is what the lab declares.
    """

    dataset_id: str
    dialect: str
    donors: tuple[Donor, ...]
    columns: Mapping[str, str]
    study: str = ""
    n_cells: int = 300
    median_depth: float = 1500.0
    gene_fraction: float = 0.9
    features: str = "ids"
    matrix: str = "X"
    manifest: Mapping[str, str] = field(default_factory=dict)


def _donors(laboratory: str, names: tuple[str, ...], *, assay: str = V3) -> tuple[Donor, ...]:
    """Return donors of alternating sex, all of them persons of their own."""
    sexes = ("female", "male")
    return tuple(
        Donor(name=name, person=f"{laboratory}:{name}", sex=sexes[i % 2], assay=assay) for i, name in enumerate(names)
    )


_CELLXGENE = {
    "donor": "donor_id", "assay": "assay", "tissue": "tissue", "disease": "disease", "sex": "sex",
    "suspension_type": "suspension_type",
}  # fmt: skip

LABORATORIES: tuple[Laboratory, ...] = (
    Laboratory(
        dataset_id="amber",
        dialect="cluster_names",
        donors=_donors("amber", ("D1", "D2", "D3", "D4")),
        columns=_CELLXGENE | {"label": "author_cell_type"},
        n_cells=320,
        median_depth=2000.0,
        gene_fraction=1.0,
    ),
    Laboratory(
        dataset_id="birch",
        dialect="underscores",
        donors=_donors("birch", ("D1", "D2", "D3", "D4"), assay=V2),
        columns={"donor": "patient", "label": "celltype", "sex": "sex"},
        median_depth=1100.0,
        gene_fraction=0.95,
        features="versioned_ids",
        matrix="layers/counts",
        manifest={"title": "Birch blood", "assay": V2, "tissue": "blood", "suspension_type": "cell", "disease": NORMAL}
        | {"kit": "Chromium Single Cell 3' v2", "label_origin": "manual", "licence": "CC-BY-4.0"},
    ),
    Laboratory(
        dataset_id="cedar",
        dialect="plain_words",
        donors=_donors("cedar", ("donor_1", "donor_2", "donor_3")),
        columns={"donor": "donor", "label": "labels", "assay": "assay", "tissue": "tissue"},
        median_depth=1400.0,
        features="old_symbols",
        matrix="raw/X",
    ),
    Laboratory(
        dataset_id="dahlia_north",
        study="dahlia",
        dialect="abbreviations",
        donors=(
            Donor(name="S1", person="dahlia:S1", sex="female"),
            Donor(name="S2", person="dahlia:S2", sex="male"),
            Donor(name=SHARED_DONOR, person=f"dahlia:{SHARED_DONOR}", sex="female"),
            Donor(name="S4", person="dahlia:S4", sex="male"),
        ),
        columns={"donor": "subject", "label": "annotation", "sex": "sex", "assay": "assay"},
        median_depth=1700.0,
        manifest={"study": "dahlia", "donor": "subject", "label": "annotation", "site": "north", "tissue": "blood"}
        | {"suspension_type": "cell", "disease": NORMAL, "label_origin": "manual"},
    ),
    Laboratory(
        dataset_id="dahlia_south",
        study="dahlia",
        dialect="abbreviations",
        donors=(
            Donor(name=SHARED_DONOR, person=f"dahlia:{SHARED_DONOR}", sex="female", assay=V2),
            Donor(name="S5", person="dahlia:S5", sex="male", assay=V2),
            Donor(name="S6", person="dahlia:S6", sex="female", assay=V2),
            Donor(name="S7", person="dahlia:S7", sex="male", assay=V2),
        ),
        columns={"donor": "subject", "label": "annotation", "sex": "sex", "assay": "assay"},
        median_depth=1200.0,
        manifest={"study": "dahlia", "donor": "subject", "label": "annotation", "site": "south", "tissue": "blood"}
        | {"suspension_type": "cell", "disease": NORMAL, "label_origin": "manual"},
    ),
    Laboratory(
        dataset_id="elm",
        dialect="coarse",
        donors=_donors("elm", ("E1", "E2", "E3")),
        columns={"donor": "patient", "label": "cell_type", "assay": "assay", "tissue": "tissue"},
        n_cells=260,
        gene_fraction=0.55,
    ),
    Laboratory(
        dataset_id="fir",
        dialect="ontology_names",
        donors=tuple(
            Donor(name=name, person=f"fir:{name}", sex=sex, assay=assay, disease=disease)
            for name, sex, assay, disease in (
                ("P1", "female", FIVE_PRIME, LUPUS),
                ("P2", "male", FIVE_PRIME, LUPUS),
                ("P3", "female", FIVE_PRIME, LUPUS),
                ("C1", "male", V3, NORMAL),
                ("C2", "female", V3, NORMAL),
                ("C3", "male", V3, NORMAL),
            )
        ),
        columns=_CELLXGENE | {"label": "cell_type", "claimed_term": "cell_type_ontology_term_id"},
        n_cells=420,
        median_depth=1600.0,
    ),
    Laboratory(
        dataset_id="gale",
        dialect="plain_words",
        donors=tuple(
            Donor(name=name, person="", sex="female", assay=assay)
            for name, assay in (("threep_v2", V2), ("threep_v3", V3), ("fivep", FIVE_PRIME))
        ),
        columns={"donor": "donor", "label": "cell_type", "assay": "assay", "tissue": "tissue"},
        n_cells=270,
    ),
    Laboratory(
        dataset_id="holly",
        dialect="",
        donors=_donors("holly", ("H1", "H2", "H3")),
        columns=_CELLXGENE,
        n_cells=250,
    ),
    Laboratory(
        dataset_id="iris_ceiling",
        dialect="plain_words",
        donors=_donors("iris_ceiling", ("I4", "I5")),
        columns=_CELLXGENE | {"label": "author_cell_type"},
        n_cells=250,
        matrix="ceil_cp10k",
    ),
    Laboratory(
        dataset_id="iris_log",
        dialect="plain_words",
        donors=_donors("iris_log", ("I1", "I2", "I3")),
        columns=_CELLXGENE | {"label": "author_cell_type"},
        n_cells=250,
        matrix="log_normalized",
    ),
)
"""The labs, by data set id; the file of each is `<dataset_id>.h5ad`."""
