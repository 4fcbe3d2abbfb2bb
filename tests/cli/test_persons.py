"""persons: who is who, on a sheet that is reviewed."""

import csv

from cytolabe.snapshot.atlas import open_atlas


def rewritten(path, change):
    """Change the rows of a sheet as somebody does in an editor."""
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    for row in rows:
        change(row)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0], delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def test_the_sheet_has_every_donor_and_a_review_is_in_force_in_the_next_snapshot(call, own_atlas, tmp_path):
    sheet = tmp_path / "persons.tsv"
    called = call("persons", own_atlas, "--export", sheet, "--json")
    assert called.code == 0
    told = called.document
    donors = {(row["dataset_id"], row["donor_id"]) for row in told["persons"]}
    cells = open_atlas(own_atlas).cells()
    assert donors == set(zip(cells["dataset_id"], cells["donor_id"], strict=True))
    first = told["persons"][0]["donor_id"], told["persons"][0]["dataset_id"]

    def reviewed(row):
        if (row["donor_id"], row["dataset_id"]) == first:
            row.update(person_id="biobank-7", person_state="resolved", reviewer="Ann", comment="same biobank id")

    before = open_atlas(own_atlas).snapshot("v1").snapshot_id
    assert call("persons", own_atlas, "--apply", sheet).code == 0
    rewritten(sheet, reviewed)
    assert call("persons", own_atlas, "--apply", sheet, "--json").code == 0
    assert call("snapshot", own_atlas, "--tag", "v2").code == 0
    after = open_atlas(own_atlas).snapshot("v2")
    assert "biobank-7" in set(after.persons["person_id"])
    assert open_atlas(own_atlas).snapshot("v1").snapshot_id == before != after.snapshot_id


def test_what_is_no_sheet_is_named_and_nothing_changes(call, own_atlas, tmp_path):
    (tmp_path / "x.tsv").write_text("a\tb\n")
    before = open_atlas(own_atlas).revision
    called = call("persons", own_atlas, "--apply", tmp_path / "x.tsv", "--json")
    assert called.code == 3
    assert "x.tsv" in called.document["error"]["message"]
    assert open_atlas(own_atlas).revision == before
