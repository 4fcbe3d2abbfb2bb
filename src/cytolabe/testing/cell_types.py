"""The cell types of the simulated labs: a corner of the Cell Ontology, marker genes, and how labs write the names.

`PROGRAMS` is a tree of expression programs (immune cell -> lymphoid -> T cell -> ...): a cell runs every program on
its path, so related types share genes and fine types differ little. Markers are the textbook genes of blood, which
lets mapping by expression be tried too. `DIALECTS` is how each simulated lab writes its labels, with the CL term that
each string truly stands for; a coarse string stands for several types.
"""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CELL_TYPES", "DIALECTS", "HOUSEKEEPING", "PROGRAMS", "SEX_GENES", "CellType", "Program", "all_markers"]


@dataclass(frozen=True, kw_only=True)
class Program:
    """One node of the program tree. `effect` is the spread of the log fold changes of its random genes."""

    parent: str
    markers: tuple[str, ...]
    effect: float


@dataclass(frozen=True, kw_only=True)
class CellType:
    """A simulated type: its CL id, its leaf program, and its share of a blood sample."""

    term: str
    program: str
    share: float


PROGRAMS: Mapping[str, Program] = {
    "lymphoid": Program(parent="", markers=("IL32", "LTB", "CD69", "ETS1", "RPS27"), effect=0.6),
    "myeloid": Program(parent="", markers=("LYZ", "CST3", "FCER1G", "TYROBP", "AIF1", "LST1"), effect=0.9),
    "t_cell": Program(parent="lymphoid", markers=("CD3D", "CD3E", "CD3G", "TRAC", "IL7R", "CD2"), effect=0.7),
    "cd4_t": Program(parent="t_cell", markers=("CD4", "CD40LG", "MAL", "TNFRSF4"), effect=0.3),
    "cd8_t": Program(parent="t_cell", markers=("CD8A", "CD8B", "CTSW", "LINC02446"), effect=0.35),
    "cd4_naive": Program(parent="cd4_t", markers=("CCR7", "SELL", "TCF7", "LEF1"), effect=0.25),
    "cd4_memory": Program(parent="cd4_t", markers=("S100A4", "AQP3", "ITGB1", "GPR183"), effect=0.25),
    "cd8_naive": Program(parent="cd8_t", markers=("CCR7", "LEF1", "PECAM1", "NELL2"), effect=0.25),
    "cd8_memory": Program(parent="cd8_t", markers=("GZMK", "CCL5", "GZMA", "KLRG1"), effect=0.35),
    "nk": Program(parent="lymphoid", markers=("GNLY", "NKG7", "KLRD1", "PRF1", "KLRF1", "FCGR3A"), effect=0.8),
    "b_cell": Program(parent="lymphoid", markers=("MS4A1", "CD79A", "CD79B", "CD19", "BANK1", "CD74"), effect=0.8),
    "b_naive": Program(parent="b_cell", markers=("IGHD", "TCL1A", "FCER2", "IL4R"), effect=0.3),
    "b_memory": Program(parent="b_cell", markers=("CD27", "AIM2", "TNFRSF13B", "COCH"), effect=0.3),
    "plasma": Program(parent="lymphoid", markers=("MZB1", "SDC1", "JCHAIN", "XBP1", "TNFRSF17"), effect=1.0),
    "monocyte": Program(parent="myeloid", markers=("S100A8", "S100A9", "FCN1", "CTSS"), effect=0.5),
    "mono_classical": Program(parent="monocyte", markers=("CD14", "VCAN", "S100A12", "CSF3R"), effect=0.35),
    "mono_nonclassical": Program(parent="monocyte", markers=("FCGR3A", "MS4A7", "CDKN1C", "RHOC"), effect=0.45),
    "dendritic": Program(parent="myeloid", markers=("HLA-DQA1", "HLA-DPB1", "CD74"), effect=0.5),
    "cdc": Program(parent="dendritic", markers=("FCER1A", "CD1C", "CLEC10A", "CLEC9A"), effect=0.5),
    "pdc": Program(parent="dendritic", markers=("LILRA4", "IRF7", "TCF4", "GZMB", "CLEC4C"), effect=0.9),
    "platelet": Program(parent="", markers=("PPBP", "PF4", "GP9", "ITGA2B", "TUBB1", "GNG11"), effect=1.3),
}

CELL_TYPES: Mapping[str, CellType] = {
    "naive CD4 T": CellType(term="CL:0000895", program="cd4_naive", share=0.17),
    "memory CD4 T": CellType(term="CL:0000897", program="cd4_memory", share=0.15),
    "naive CD8 T": CellType(term="CL:0000900", program="cd8_naive", share=0.08),
    "memory CD8 T": CellType(term="CL:0000909", program="cd8_memory", share=0.10),
    "NK": CellType(term="CL:0000623", program="nk", share=0.10),
    "naive B": CellType(term="CL:0000788", program="b_naive", share=0.08),
    "memory B": CellType(term="CL:0000787", program="b_memory", share=0.05),
    "plasma": CellType(term="CL:0000786", program="plasma", share=0.02),
    "classical monocyte": CellType(term="CL:0000860", program="mono_classical", share=0.14),
    "non-classical monocyte": CellType(term="CL:0000875", program="mono_nonclassical", share=0.045),
    "conventional DC": CellType(term="CL:0000990", program="cdc", share=0.035),
    "plasmacytoid DC": CellType(term="CL:0000784", program="pdc", share=0.015),
    "platelet": CellType(term="CL:0000233", program="platelet", share=0.015),
}

SEX_GENES: Mapping[str, tuple[str, ...]] = {
    "female": ("XIST", "TSIX"),
    "male": ("RPS4Y1", "DDX3Y", "UTY", "KDM5D", "EIF1AY", "ZFY"),
}
"""Genes that only one sex expresses."""

HOUSEKEEPING = (
    "ACTB", "ACTG1", "GAPDH", "B2M", "MALAT1", "TMSB4X", "TMSB10", "EEF1A1", "FTL", "FTH1", "PTMA", "UBB", "HSP90AA1",
    "TPT1", "FAU", "UBA52", "HNRNPA1", "NACA", "PFN1", "CFL1", "MYL6", "OAZ1", "SRSF5", "YWHAZ", "PGK1", "TUBA1B",
    "RPL3", "RPL5", "RPL7", "RPL10", "RPL11", "RPL13", "RPL13A", "RPL19", "RPL32", "RPL34", "RPLP0", "RPLP1", "RPLP2",
    "RPS2", "RPS3", "RPS4X", "RPS6", "RPS12", "RPS14", "RPS18", "RPS19", "RPS23", "RPS27A", "RPSA",
    "MT-CO1", "MT-CO2", "MT-CO3", "MT-ND1", "MT-ND2", "MT-ND3", "MT-ND4", "MT-ND5", "MT-CYB", "MT-ATP6", "MT-ATP8",
    "HLA-A", "HLA-B", "HLA-C", "HLA-E", "HLA-DRA", "HLA-DRB1", "HLA-DPA1", "CD37", "CD52", "PTPRC", "CORO1A", "ARHGDIB",
)  # fmt: skip
"""Genes that every cell expresses."""

# label -> (true term, the simulated types that this lab writes so)
_Dialect = Mapping[str, tuple[str, tuple[str, ...]]]

DIALECTS: Mapping[str, _Dialect] = {
    "cluster_names": {
        "Naive CD4 T": ("CL:0000895", ("naive CD4 T",)),
        "Memory CD4 T": ("CL:0000897", ("memory CD4 T",)),
        "Naive CD8 T": ("CL:0000900", ("naive CD8 T",)),
        "CD8+ Tem": ("CL:0000913", ("memory CD8 T",)),
        "NK": ("CL:0000623", ("NK",)),
        "Naive B": ("CL:0000788", ("naive B",)),
        "Memory B": ("CL:0000787", ("memory B",)),
        "Plasma": ("CL:0000786", ("plasma",)),
        "CD14+ Mono": ("CL:0000860", ("classical monocyte",)),
        "FCGR3A+ Mono": ("CL:0000875", ("non-classical monocyte",)),
        "cDC": ("CL:0000990", ("conventional DC",)),
        "pDC": ("CL:0000784", ("plasmacytoid DC",)),
        "Platelet": ("CL:0000233", ("platelet",)),
    },
    "underscores": {
        "T_CD4_naive": ("CL:0000895", ("naive CD4 T",)),
        "T_CD4_memory": ("CL:0000897", ("memory CD4 T",)),
        "T_CD8_naive": ("CL:0000900", ("naive CD8 T",)),
        "T_CD8_memory": ("CL:0000909", ("memory CD8 T",)),
        "nk": ("CL:0000623", ("NK",)),
        "bcells": ("CL:0000236", ("naive B", "memory B")),
        "plasma_cells": ("CL:0000786", ("plasma",)),
        "Mono CD14": ("CL:0000860", ("classical monocyte",)),
        "Mono CD16": ("CL:0000875", ("non-classical monocyte",)),
        "DC": ("CL:0000451", ("conventional DC", "plasmacytoid DC")),
        "platelets": ("CL:0000233", ("platelet",)),
    },
    "plain_words": {
        "CD4 T cells": ("CL:0000624", ("naive CD4 T", "memory CD4 T")),
        "CD8 T cells": ("CL:0000625", ("naive CD8 T", "memory CD8 T")),
        "Natural killer cells": ("CL:0000623", ("NK",)),
        "B cells": ("CL:0000236", ("naive B", "memory B")),
        "Plasma cells": ("CL:0000786", ("plasma",)),
        "Classical monocytes": ("CL:0000860", ("classical monocyte",)),
        "Non-classical monocytes": ("CL:0000875", ("non-classical monocyte",)),
        "Dendritic cells": ("CL:0000451", ("conventional DC", "plasmacytoid DC")),
        "Platelets": ("CL:0000233", ("platelet",)),
    },
    "abbreviations": {
        "CD4+ naive T": ("CL:0000895", ("naive CD4 T",)),
        "CD4+ memory T": ("CL:0000897", ("memory CD4 T",)),
        "CD8+ naive T": ("CL:0000900", ("naive CD8 T",)),
        "CD8+ memory T": ("CL:0000909", ("memory CD8 T",)),
        "NK cell": ("CL:0000623", ("NK",)),
        "B naive": ("CL:0000788", ("naive B",)),
        "B memory": ("CL:0000787", ("memory B",)),
        "plasma cell": ("CL:0000786", ("plasma",)),
        "cMono": ("CL:0000860", ("classical monocyte",)),
        "ncMono": ("CL:0000875", ("non-classical monocyte",)),
        "cDC": ("CL:0000990", ("conventional DC",)),
        "pDC": ("CL:0000784", ("plasmacytoid DC",)),
        "platelet": ("CL:0000233", ("platelet",)),
    },
    "coarse": {
        "T_CD4": ("CL:0000624", ("naive CD4 T", "memory CD4 T")),
        "T_CD8": ("CL:0000625", ("naive CD8 T", "memory CD8 T")),
        "NK": ("CL:0000623", ("NK",)),
        "B": ("CL:0000236", ("naive B", "memory B")),
        "Plasma": ("CL:0000786", ("plasma",)),
        "Mono": ("CL:0000576", ("classical monocyte", "non-classical monocyte")),
        "DC": ("CL:0000451", ("conventional DC", "plasmacytoid DC")),
        "Platelet": ("CL:0000233", ("platelet",)),
    },
    "ontology_names": {
        "naive thymus-derived CD4-positive, alpha-beta T cell": ("CL:0000895", ("naive CD4 T",)),
        "CD4-positive, alpha-beta memory T cell": ("CL:0000897", ("memory CD4 T",)),
        "naive thymus-derived CD8-positive, alpha-beta T cell": ("CL:0000900", ("naive CD8 T",)),
        "CD8-positive, alpha-beta memory T cell": ("CL:0000909", ("memory CD8 T",)),
        "natural killer cell": ("CL:0000623", ("NK",)),
        "naive B cell": ("CL:0000788", ("naive B",)),
        "memory B cell": ("CL:0000787", ("memory B",)),
        "plasma cell": ("CL:0000786", ("plasma",)),
        "classical monocyte": ("CL:0000860", ("classical monocyte",)),
        "non-classical monocyte": ("CL:0000875", ("non-classical monocyte",)),
        "conventional dendritic cell": ("CL:0000990", ("conventional DC",)),
        "plasmacytoid dendritic cell": ("CL:0000784", ("plasmacytoid DC",)),
        "platelet": ("CL:0000233", ("platelet",)),
    },
}
"""How labs write: dialect -> contributor label -> (true term, simulated types)."""


def all_markers() -> tuple[str, ...]:
    """Return every gene that is named above, sorted."""
    named = {marker for program in PROGRAMS.values() for marker in program.markers}
    return tuple(sorted(named.union(HOUSEKEEPING, *SEX_GENES.values())))
