"""Made-up report content: three folds, one refused; hostile names are added by the tests that need them."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

from cytolabe.records import (
    Certificate,
    DatasetRecord,
    Exposure,
    Finding,
    FitOnQuery,
    Fold,
    HopState,
    LabelMapping,
    MatrixKind,
    Predicate,
    Protocol,
    Score,
    ScoreStatus,
    Severity,
)
from cytolabe.report.content import PlantedFault, ReportContent, RunFacts, SourceRow

LEVELS = {
    "broad": [
        ("CL:0000084", "T cell"),
        ("CL:0000236", "B cell"),
        ("CL:0000576", "monocyte"),
        ("CL:0000623", "NK cell"),
    ],
    "mid": [
        ("CL:0000624", "CD4-positive, alpha-beta T cell"),
        ("CL:0000625", "CD8-positive, alpha-beta T cell"),
        ("CL:0000236", "B cell"),
        ("CL:0000860", "classical monocyte"),
        ("CL:0000875", "non-classical monocyte"),
        ("CL:0000623", "natural killer cell"),
        ("CL:0000451", "dendritic cell"),
    ],
}
MODELS = {
    "majority": (0.09, 0.44, Protocol.CONTROL, FitOnQuery.NONE),
    "metadata_only": (0.12, 0.40, Protocol.CONTROL, FitOnQuery.NONE),
    "pca+knn": (0.61, 0.81, Protocol.SUPERVISED, FitOnQuery.NONE),
    "pca+logistic": (0.71, 0.86, Protocol.SUPERVISED, FitOnQuery.NONE),
    "harmony+logistic": (0.74, 0.87, Protocol.SUPERVISED, FitOnQuery.JOINT),
    "scvi+logistic": (0.69, 0.85, Protocol.SELF_SUPERVISED, FitOnQuery.UNLABELLED),
}


@dataclass(frozen=True, kw_only=True)
class Matrix:
    split: str
    model: str
    resolution: str
    gene_policy: str
    classes: tuple[str, ...]
    names: tuple[str, ...]
    matrix: np.ndarray


def score(**changes) -> Score:
    base = Score(
        task="annotation",
        study="pbmc",
        split="component=kang18",
        model="pca+logistic",
        protocol=Protocol.SUPERVISED,
        metric="macro_f1",
        resolution="mid",
        stratum="all",
        value=0.71,
        status=ScoreStatus.SCORED,
        n_cells=13_548,
        n_donors=8,
        floor=0.12,
        ceiling=0.88,
        n_genes=512,
    )
    return replace(base, **changes)


def scores_of(split: str, shift: float) -> list[Score]:
    scores = []
    for model, (macro, accuracy, protocol, fit_on_query) in MODELS.items():
        for level, terms in LEVELS.items():
            bonus = 0.1 if level == "broad" else 0.0
            common = {
                "split": split,
                "model": model,
                "protocol": protocol,
                "fit_on_query": fit_on_query,
                "resolution": level,
            }
            value = round(macro + shift + bonus, 3)
            if split == "component=symphony":
                told = {"status": ScoreStatus.QUALIFIED, "reason": "panel: 85 genes", "n_donors": 2, "n_genes": 85}
                told["points"] = {"d1": value - 0.04, "d2": value + 0.03}
            else:
                told = {"low": value - 0.05, "high": value + 0.04, "interval": "donors of this study, not labs"}
            if model == "scvi+logistic" and split == "component=zheng17":
                told = {"value": None, "status": ScoreStatus.NOT_RUN, "reason": "the [models] extra is not installed"}
                scores.append(score(**common, **told))
                continue
            scores.append(score(**common, value=value, **told))
            scores.append(
                score(
                    **common,
                    metric="accuracy",
                    value=round(accuracy + shift, 3),
                    status=told.get("status", ScoreStatus.SCORED),
                )
            )
            scores.append(score(**common, stratum="rare", value=round(value - 0.2, 3), n_cells=322))
            for position, (term, _) in enumerate(terms):
                scores.append(
                    score(
                        **common,
                        metric="f1",
                        stratum=f"class:{term}",
                        value=max(0.0, round(value - 0.05 * position, 3)),
                        n_cells=6000 // (4**position),
                    )
                )
            scores.append(score(**common, value=round(value - 0.1, 3), gene_policy="pairwise", n_genes=1176))
    return scores


def fold(split: str, test: str, *, status: str = "SCORED", reason: str = "") -> Fold:
    return Fold(
        split_id=split,
        held_out="component",
        groups_train=("pbmc3k", "zheng17_sorted"),
        groups_test=(test,),
        train_rows=np.arange(9000),
        test_rows=np.arange(9000, 22_000),
        status=status,
        reason=reason,
    )


def mapping(label: str, term: str, name: str, **changes) -> LabelMapping:
    base = LabelMapping(
        dataset_id="kang18_muscat",
        contributor_label=label,
        predicate=Predicate.EXACT,
        term=term,
        term_name=name,
        justification="semapv:LexicalMatching",
        confidence=962,
        decision="auto",
        ontology_release="2025-07-30",
        n_cells=2_400,
        evidence="exact synonym",
    )
    return replace(base, **changes)


def refused_finding() -> Finding:
    return Finding(
        code="E-COUNTS-01",
        severity=Severity.ERROR,
        where="X",
        n_affected=1_204_331,
        n_total=1_310_000,
        examples=("AAACCTG-1 CD3E = 1.386",),
        message="no matrix is raw counts: 91.9 % of the values of X are not whole numbers",
        remedy="ask the contributor for the counts, or name them in manifest.toml: matrix = 'layers/counts'",
        rule="cytolabe/counts",
    )


def make_content() -> ReportContent:
    rng = np.random.default_rng(7)
    splits = ("component=kang18", "component=zheng17", "component=symphony")
    matrices = []
    for split in splits:
        for level, terms in LEVELS.items():
            size = len(terms)
            matrix = rng.integers(0, 40, (size, size)) + np.diag(rng.integers(200, 4000, size))
            matrices.append(
                Matrix(
                    split=split,
                    model="harmony+logistic",
                    resolution=level,
                    gene_policy="intersection",
                    classes=tuple(term for term, _ in terms),
                    names=tuple(name for _, name in terms),
                    matrix=matrix,
                )
            )
    warning = replace(
        refused_finding(),
        code="W-GENES-02",
        severity=Severity.WARNING,
        where="var",
        message="78 % of the counts were removed upstream",
        remedy="ask for the unfiltered matrix",
        examples=(),
    )
    return ReportContent(
        title="PBMC: one atlas from six contributions",
        claims=["This run demonstrates the pipeline and ranks no model: three held-out components are too few."],
        snapshot_id="sha256:" + "4f" * 32,
        facts=RunFacts(
            cytolabe_version="0.1.0",
            ontology_release="2025-07-30",
            gene_reference="GENCODE v48",
            seed=20250,
            split_rule="leave one connected component of study, person and shared cells out",
        ),
        decision_level="mid",
        sources=[
            SourceRow(
                source="kang18_muscat.h5ad",
                dataset_id="kang18_muscat",
                status="accepted",
                n_cells=26_820,
                n_genes=17_771,
                genes_mapped_fraction_of_counts=0.973,
                findings=(warning,),
            ),
            SourceRow(
                source="pbmc3k.h5ad",
                dataset_id="pbmc3k",
                status="unchanged",
                n_cells=2_638,
                n_genes=13_714,
                genes_mapped_fraction_of_counts=0.991,
            ),
            SourceRow(
                source="liver_bcells_cxg.h5ad",
                dataset_id="liver_bcells_cxg",
                status="refused",
                findings=(refused_finding(),),
            ),
        ],
        datasets=[
            DatasetRecord(
                dataset_id="kang18_muscat",
                title="Kang 2018, lupus PBMC",
                source_digest="sha256:" + "ab" * 32,
                matrix="X",
                matrix_kind=MatrixKind.UMI,
                n_cells=26_820,
                n_features=17_771,
                n_nonzero=14_000_000,
                organism="Homo sapiens",
                study="kang18",
                columns={"label": "cell", "donor": "ind"},
                inferred=("donor",),
                label_origin="manual",
                upstream_fraction_of_counts=0.27,
                provenance={"matrix": HopState.VERIFIED, "kit": HopState.DECLARED, "reads": HopState.UNKNOWN},
            )
        ],
        mappings=[
            mapping("CD4 T cells", "CL:0000624", "CD4-positive, alpha-beta T cell"),
            mapping(
                "Mono CD14",
                "CL:0000860",
                "classical monocyte",
                confidence=871,
                decision="review",
                dataset_id="symphony",
            ),
            mapping(
                "T_CD4",
                "CL:0000624",
                "CD4-positive, alpha-beta T cell",
                decision="reviewed",
                reviewer="A. Curator",
                dataset_id="symphony",
            ),
            mapping("cluster 12", "", "", confidence=0, decision="abstained", n_cells=211),
        ],
        levels=LEVELS,
        support=pd.DataFrame(
            {
                "level": ["mid", "mid"],
                "dataset_id": ["kang18_muscat", "pbmc3k"],
                "name": ["B cell", "B cell"],
                "n_cells": [2_573, 342],
            }
        ),
        gene_spaces=pd.DataFrame(
            {"split": ["component=kang18"], "policy": ["intersection"], "n_genes": [512], "fraction_of_counts": [0.61]}
        ),
        folds=[
            fold(splits[0], "kang18"),
            fold(splits[1], "zheng17_sorted"),
            fold(splits[2], "symphony", status="QUALIFIED", reason="persons unknown"),
            fold(
                "dataset=kang18_harmony",
                "kang18_harmony",
                status="REFUSED",
                reason="no clean test cell: its 114 labeled cells are copies",
            ),
        ],
        persons=pd.DataFrame(
            {"person_id": ["kang18:101"], "dataset_id": ["kang18_muscat"], "state": ["resolved"], "n_cells": [3_211]}
        ),
        duplicates=pd.DataFrame(
            {
                "cell_a": ["kang18_muscat:A"],
                "cell_b": ["kang18_harmony:A"],
                "kind": ["identical"],
                "n_shared_genes": [1_176],
            }
        ),
        duplicates_not_testable={"pbmc3k|symphony": 12},
        confounding=pd.DataFrame(
            {
                "dataset_id": [None, None, "zheng17_sorted"],
                "technical": ["assay", "assay", "batch"],
                "biological": ["cell_type", "disease", "cell_type"],
                "unit": ["donor", "donor", "batch"],
                "cramers_v": [0.21, 1.0, np.nan],
                "estimable": [True, True, False],
                "status": ["SCORED", "QUALIFIED", "REFUSED"],
            }
        ),
        claims_refused=pd.DataFrame(
            {
                "claim": ["cell types within zheng17_sorted"],
                "status": ["REFUSED"],
                "reason": ["every batch has one label"],
            }
        ),
        exposure=[
            Exposure(
                model="scvi",
                dataset_id="kang18_muscat",
                status="out",
                evidence="trained here, without the test component",
            )
        ],
        scores=[item for position, split in enumerate(splits) for item in scores_of(split, -0.03 * position)],
        confusions=matrices,
        certificates=[
            Certificate(
                snapshot_id="sha256:" + "4f" * 32,
                split_id=splits[0],
                tests=({"test": "shared persons", "n_shared": 0, "n_known_train": 3, "n_known_test": 8},),
                not_testable={"near-identical cells under 300 shared counts": 12},
                assumptions=("16 person pairs are assumed to be different",),
                thresholds={},
                digest="sha256:" + "cd" * 32,
            )
        ],
        planted_faults=[
            PlantedFault(title="normalized values posing as counts", caught=True, how="E-COUNTS-01 refused the file")
        ],
        artifacts=[("scores.json", "sha256:" + "12" * 32)],
    )


@pytest.fixture(scope="session")
def content() -> ReportContent:
    return make_content()


@pytest.fixture(scope="session", name="score")
def _score():
    return score


@pytest.fixture(scope="session", name="mapping")
def _mapping():
    return mapping


@pytest.fixture(scope="session", name="fold")
def _fold():
    return fold


@pytest.fixture(scope="session", name="matrix_of")
def _matrix_of():
    return Matrix


@pytest.fixture(scope="session", name="make_content")
def _make_content():
    return make_content
