"""Coverage counts cells, and never says more than is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolabe.flow.hops import HOPS_BACK, coverage_of, hops_of
from cytolabe.records import DatasetRecord, HopEvidence, HopState, MatrixKind

READS = {"": "none", "SRR12345678, SRR12345679": "run", "GSE96583": "study", "ask the authors": "none"}


def record(*, states=None, reads="", evidence=()):
    return DatasetRecord(
        dataset_id="kang", title="", source_digest="", matrix="X", matrix_kind=MatrixKind.UMI, n_cells=1, n_features=1,
        n_nonzero=1, organism="Homo sapiens", study="kang", provenance={"reads": HopState.DECLARED if reads else HopState.UNKNOWN} if states is None else states,
        declared={"reads": reads} if reads else {}, evidence=evidence,
    )  # fmt: skip


@given(
    st.dictionaries(
        st.text("ab", min_size=1, max_size=3),
        st.tuples(
            st.integers(1, 50), st.sampled_from(sorted(READS)), st.dictionaries(st.sampled_from(HOPS_BACK), st.sampled_from(HopState))
        ),
        max_size=5,
    )
)  # fmt: skip
def test_coverage_is_what_a_count_of_single_cells_says(datasets):
    cells = [(reads, states) for n, reads, states in datasets.values() for _ in range(n)]
    found = coverage_of(
        {name: record(states=states, reads=reads) for name, (_, reads, states) in datasets.items()},
        {name: n for name, (n, _, _) in datasets.items()},
    )
    assert found.n_cells == len(cells)
    # What nobody stands for reaches nothing, whatever is written there.
    said = [READS[reads] for reads, states in cells if states.get("reads", HopState.UNKNOWN) is not HopState.UNKNOWN]
    assert found.run_accession == said.count("run")
    assert found.study_accession == said.count("study")
    assert found.reads_verified == sum(states.get("reads") is HopState.VERIFIED for _, states in cells)
    for hop in HOPS_BACK if cells else ():
        for state in HopState:
            expected = sum(states.get(hop, HopState.UNKNOWN) is state for _, states in cells)
            assert found.by_hop[hop][str(state)] == expected


def test_the_sentence_gives_the_share_of_cells_and_not_of_files():
    records = {"large": record(), "small": record(reads="SRR12345678")}
    assert "38 % of 100 cells reach a run accession" in coverage_of(records, {"large": 62, "small": 38}).sentence


@pytest.mark.parametrize(("n", "told"), [(1, "under 1 %"), (999, "over 99 %"), (0, "0 %"), (1000, "100 %")])
def test_a_few_cells_are_not_none_and_nearly_all_are_not_all(n, told):
    records = {"a": record(reads="ERR123456"), "b": record()}
    sentence = coverage_of(records, {"a": n, "b": 1000 - n}).sentence
    assert sentence.startswith(f"{told} of 1,000 cells")


def test_a_data_set_without_a_record_reaches_nothing():
    found = coverage_of({}, {"kang": 5})
    assert {hop: states["unknown"] for hop, states in found.by_hop.items()} == dict.fromkeys(HOPS_BACK, 5)


def test_hops_go_from_the_matrix_back_and_keep_those_that_nobody_expected():
    states = {"spike_in": HopState.DECLARED, "kit": HopState.DECLARED}
    assert [hop.name for hop in hops_of(record(states=states))] == [*HOPS_BACK, "spike_in"]


def test_a_run_that_only_a_log_names_counts_and_is_shown_with_its_file():
    claim = HopEvidence(
        hop="reads", fact="run accessions", value="SRR12345678", file="Log.out", place="line 3", sha256="0" * 64
    )
    logged = record(states={"reads": HopState.DECLARED}, evidence=(claim,))
    assert coverage_of({"a": logged}, {"a": 7}).run_accession == 7
    assert next(hop for hop in hops_of(logged) if hop.name == "reads").evidence == (claim,)
