"""The organism that feature names speak of."""

import pytest

from cytolabe.genes import guess_organism, load_reference
from cytolabe.genes.organisms import organism_shares

HUMAN, MOUSE = load_reference(), load_reference("Mus musculus")
HUMAN_SYMBOLS = [HUMAN.symbol_of(gene_id) for gene_id in sorted(HUMAN.protein_coding)[:3000] if gene_id in HUMAN]
MOUSE_SYMBOLS = [MOUSE.symbol_of(gene_id) for gene_id in sorted(MOUSE.protein_coding)[:3000] if gene_id in MOUSE]


@pytest.mark.parametrize(
    ("features", "organism"),
    [
        (HUMAN_SYMBOLS, "Homo sapiens"),
        (MOUSE_SYMBOLS, "Mus musculus"),
        ([symbol.upper() for symbol in MOUSE_SYMBOLS], "Mus musculus"),
        (HUMAN.ids[:100], "Homo sapiens"),
        ([f"{gene_id}.3" for gene_id in MOUSE.ids[:100]], "Mus musculus"),
        ([f"GRCh38_{symbol}" for symbol in HUMAN_SYMBOLS], "Homo sapiens"),
        ([f"mm10___{symbol}" for symbol in MOUSE_SYMBOLS], "Mus musculus"),
        ([f"gene{i}" for i in range(100)], "unknown"),
        ([], "unknown"),
    ],
    ids=[
        "human symbols",
        "mouse symbols",
        "upper-cased mouse symbols",
        "human ids",
        "mouse ids",
        "human symbols behind their assembly",
        "mouse symbols behind their assembly",
        "no names",
        "empty",
    ],
)
def test_the_organism_is(features, organism):
    assert guess_organism(features) == organism


def test_shares_lie_in_zero_to_one_and_leave_room_for_silence():
    shares = organism_shares([*HUMAN_SYMBOLS[:50], *(f"gene{i}" for i in range(50))])
    assert 0.4 < shares["Homo sapiens"] <= 0.5
    assert shares["Mus musculus"] == 0.0
