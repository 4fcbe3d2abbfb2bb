from cytolabe.records import Protocol, ScoreStatus
from cytolabe.report.remarks import Said, ceiling_sentences, first_clause, interval_note, remarks_of

UNKNOWN_PERSONS = "persons unknown in gale"


def test_what_qualifies_every_number_is_said_once(score):
    told = {"status": ScoreStatus.QUALIFIED, "reason": f"{UNKNOWN_PERSONS}; panel: 85 genes"}
    remarks = remarks_of({"a": score(**told), "b": score(**told)})
    assert remarks.sentences == (f"Every number here is QUALIFIED: {UNKNOWN_PERSONS}; panel: 85 genes.",)
    assert set(remarks.short.values()) == {""}


def test_what_qualifies_one_number_stays_beside_it(score):
    remarks = remarks_of(
        {
            "a": score(status=ScoreStatus.QUALIFIED, reason=UNKNOWN_PERSONS),
            "b": score(status=ScoreStatus.QUALIFIED, reason=f"{UNKNOWN_PERSONS}; single seed"),
        }
    )
    assert remarks.short == {"a": "", "b": "single seed"}


def test_a_row_without_a_number_does_not_hide_what_the_others_share(score):
    reason = "not_applicable: test levels unseen. None of 588 cells has a combination; and no other"
    remarks = remarks_of(
        {
            "a": score(status=ScoreStatus.QUALIFIED, reason=UNKNOWN_PERSONS),
            "b": score(status=ScoreStatus.QUALIFIED, reason=UNKNOWN_PERSONS),
            "c": score(value=None, status=ScoreStatus.NOT_RUN, reason=reason),
        }
    )
    assert UNKNOWN_PERSONS in remarks.sentences[0]
    assert remarks.short["c"] == "not applicable: test levels unseen; note 1"
    assert remarks.notes == ((1, reason),)


def test_no_reason_and_no_note_is_lost(score):
    scores = {
        "a": score(status=ScoreStatus.QUALIFIED, reason="x; y", notes=("n1", "n2")),
        "b": score(status=ScoreStatus.QUALIFIED, reason="x; z", notes=("n2", "n3")),
        "c": score(value=None, status=ScoreStatus.FAILED, reason="it stopped", notes=("n4",)),
    }
    remarks = remarks_of(scores)
    everything = " ".join([*remarks.sentences, *remarks.short.values(), *(text for _, text in remarks.notes)])
    assert all(text in everything for text in ("x", "y", "z", "n1", "n2", "n3", "n4", "it stopped"))


def test_tables_can_share_one_list_of_notes(score):
    first = remarks_of({"a": score(notes=("one", "two"))})
    assert first.short == {"a": "notes 1, 2"}
    second = remarks_of({"a": score(notes=("two", "three"))}, said=first.said)
    assert second.notes == ((2, "two"), (3, "three"))


def test_a_reason_that_is_said_already_is_not_said_again(score):
    told = {"status": ScoreStatus.QUALIFIED, "reason": UNKNOWN_PERSONS}
    assert remarks_of({"a": score(**told), "b": score(**told)}, said=Said(reasons=(UNKNOWN_PERSONS,))).sentences == ()


def test_runs_of_notes_are_told_by_their_ends(score):
    notes = tuple(f"note of {name}" for name in "abcde")
    remarks = remarks_of({"a": score(notes=notes), "b": score(notes=notes[:1] + notes[2:])})
    assert remarks.short == {"a": "note 1", "b": ""}
    assert remarks_of({"a": score(notes=notes)}).short == {"a": "notes 1 to 5"}


def test_a_short_reason_is_whole_and_a_long_one_its_first_clause():
    assert first_clause("panel: 85 genes") == "panel: 85 genes"
    assert (
        first_clause("the test side has no labelled cell; no clean labelled test cell")
        == "the test side has no labelled cell"
    )
    assert len(first_clause("word " * 40)) <= 48


def test_a_ceiling_below_the_number_is_explained(score):
    told = ceiling_sentences({"a": score(value=0.9, ceiling=0.7), "b": score(model="b", value=0.6, ceiling=0.7)})
    assert told[0].startswith("1 of 2 models above the ceiling")
    assert "no upper bound" in told[0]
    assert ceiling_sentences({"a": score(value=0.5, ceiling=0.7)}) == ()


def test_controls_have_no_ceiling_to_explain(score):
    assert ceiling_sentences({"a": score(protocol=Protocol.CONTROL, value=0.9, ceiling=None)}) == ()


def test_a_run_without_ceilings_says_so_once(score):
    assert ceiling_sentences({"a": score(ceiling=None)}) == ("No ceiling was computed.",)
    assert ceiling_sentences({"a": score(ceiling=None, notes=("no ceiling: one batch",))}) == ()


def test_brackets_are_explained_once_per_table(score):
    note = interval_note(
        [
            score(low=0.6, high=0.8, interval="donors of this study, not labs"),
            score(low=0.5, high=0.7, interval="donors of this study, not labs"),
            score(points={"d1": 0.5, "d2": 0.6}),
            score(n_donors=1, points={"d1": 0.5}),
        ]
    )
    assert note.count("donors of this study, not labs") == 1
    assert "Round brackets" in note
    assert "1 number without brackets (at most 1 donor known)" in note


def test_a_table_of_refusals_needs_no_word_on_intervals(score):
    assert "No row has a number" in interval_note([score(value=None, status=ScoreStatus.FAILED)])
