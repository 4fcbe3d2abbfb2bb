"""The page of costs: beside the score of the same fold, with the machine, and never an order of models."""

from dataclasses import replace

import pytest

from cytolabe.evaluate.costs import Cost, StudyCosts
from cytolabe.report import render_report
from cytolabe.report.costs import cost_table, render_costs, seconds_told, work_table
from cytolabe.report.text import ABSENT

SPLIT = "component=kang18"
MACHINE = {
    "processor": "<script>Abacus", "n_cores": 2, "memory_bytes": 8 * 2**30, "system": "Linux x86_64", "python": "3.11",
    "threads": "1", "memory_is": "sampled during the step",
}  # fmt: skip


def cost(model, step, **changes):
    base = Cost(
        model=model, step=step, purpose="score", split=SPLIT, gene_policy="intersection", seed=1, n_train=900,
        n_query=100, n_genes=500, fit_seconds=2.0, answer_seconds=0.5, processor_seconds=4.0,
        start_resident_bytes=100 * 2**20, peak_resident_bytes=300 * 2**20,
    )  # fmt: skip
    return replace(base, **changes)


@pytest.fixture
def costs():
    rows = (
        cost("majority", "annotator", resolution="mid", fit_seconds=0.0001),
        cost("scvi", "embedding", n_parameters=70_000, n_trained=60_000),
        cost("scvi", "embedding", seed=2, fit_seconds=4.0, n_parameters=70_000, n_trained=60_000),
        cost("scvi+logistic", "probe", resolution="mid"),
        cost("scvi+logistic", "probe", resolution="broad", fit_seconds=99.0),
        cost("scvi", "embedding", purpose="ceiling", fit_seconds=77.0),
        cost("pca", "embedding", gene_policy="pairwise", fit_seconds=55.0),
    )
    return StudyCosts(rows=rows, machine=MACHINE, n_workers=2)


def shown(table):
    return {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}


def test_an_embedding_stands_before_its_probes_and_controls_before_both(content, costs):
    assert list(shown(cost_table(content, costs, SPLIT))) == ["majority", "scvi", "scvi+logistic"]


def test_seconds_are_the_mean_of_seeds_and_of_the_headline_alone(content, costs):
    table = cost_table(content, costs, SPLIT)
    found = shown(table)
    assert found["scvi"] == [ABSENT, "3.00", "0.50", "4.00", "300", "70,000", "60,000"]
    assert table.rows[1][2].detail == "2.00 to 4.00"
    assert table.rows[1][5].detail == "+ 200"
    assert found["scvi+logistic"][1] == "2.00"
    assert found["scvi+logistic"][5] == ABSENT
    score = next(s for s in content.scores if (s.split, s.model, s.metric) == (SPLIT, "scvi+logistic", "macro_f1")
                 and s.resolution == "mid" and s.stratum == "all" and s.gene_policy == "intersection")  # fmt: skip
    assert found["scvi+logistic"][0] == f"{score.value:.3f}"


def test_several_pairs_of_sides_are_added_and_seeds_are_not(content, costs):
    pairs = replace(costs, rows=(cost("pca", "embedding"), cost("pca", "embedding", n_train=5), cost("pca", "embedding", seed=2, fit_seconds=8.0)))  # fmt: skip
    assert shown(cost_table(content, pairs, SPLIT))["pca"][1] == "6.00"


def test_a_fit_without_an_answer_is_told(content, costs):
    failed = replace(costs, rows=(cost("pca", "embedding", is_finished=False),))
    assert "1 of 1 fit gave no answer" in cost_table(content, failed, SPLIT).rows[0][0].detail
    assert shown(work_table(failed))["scores"][-1] == "1"


def test_the_page_names_the_machine_the_run_and_what_it_does_not_order(content, costs):
    page = render_costs(content, costs)
    for told in ("one run on one machine", "order no models", "2 cores to use", "8 GiB", "2 processes", "ceilings"):
        assert told in page, told
    assert "<script" not in page
    assert "default-src 'none'" in page


def test_the_report_says_where_costs_are_and_holds_none(content, costs):
    page = render_report(content)
    assert "costs.html" in page
    assert "MiB" not in page


def test_seconds_have_as_many_digits_as_mean_something():
    assert [seconds_told(value) for value in (0.0, 0.001, 0.02, 9.994, 42.34, 1234.5)] == [
        "0.00", "< 0.01", "0.02", "9.99", "42.3", "1,234",
    ]  # fmt: skip


def test_what_bounds_the_scores_stands_above_them_on_this_page_too(content, costs):
    said = "SIMULATED: All data sets (a & b) are made up."
    page = render_costs(replace(content, claims=(said, *content.claims)), costs)
    assert page.index("SIMULATED: All data sets (a &amp; b) are made up.") < page.index(
        "Times and memory are of one run"
    )
    assert str(content.claims[0]) in page
