//! Formats as callers give them, and the lines that come of them.

use super::*;
use proptest::prelude::*;

struct Job(&'static [(Field, &'static str)]);

impl Row for Job {
    fn text(&self, field: Field) -> Option<String> {
        let found = self.0.iter().find(|(known, _)| *known == field);
        found.map(|(_, text)| (*text).to_owned())
    }
}

const JOB: Job = Job(&[
    (Field::JobId, "42_[1-3]"),
    (Field::JobIdRaw, "42"),
    (Field::Partition, "short"),
    (Field::Name, "a-long-job-name"),
    (Field::User, "ada"),
    (Field::StateShort, "PD"),
    (Field::State, "OUT_OF_MEMORY"),
    (Field::Elapsed, "0:00"),
    (Field::NodeCount, "2"),
    (Field::ReasonOrNodes, "(Resources)"),
    (Field::Account, "lab"),
    (Field::AllocCpus, "8"),
    (Field::ExitCode, "0:125"),
]);

fn letters(format: &str) -> String {
    Format::squeue_letters(format).unwrap().render(&JOB)
}

#[test]
fn letters_have_a_width_and_a_side() {
    for (format, line) in [
        ("%i %t", "42_[1-3] PD"),
        ("%i|%T", "42_[1-3]|OUT_OF_MEMORY"),
        ("%.12i", "    42_[1-3]"),
        ("%12i|", "42_[1-3]    |"),
        ("%.8j|%8j", "a-long-j|a-long-j"),
        ("id=%A, state=%t.", "id=42, state=PD."),
        ("%0i", "42_[1-3]"),
        ("%k", "N/A"),
        ("%.5k", "  N/A"),
        ("plain", "plain"),
        ("", ""),
    ] {
        assert_eq!(letters(format), line, "{format}");
    }
}

#[test]
fn squeue_without_a_format_looks_as_people_know_it() {
    let format = Format::squeue_letters(SQUEUE_DEFAULT).unwrap();
    assert_eq!(
        format.header(),
        "             JOBID PARTITION     NAME     USER ST       TIME  NODES NODELIST(REASON)"
    );
    assert_eq!(
        format.render(&JOB),
        "          42_[1-3]     short a-long-j      ada PD       0:00      2 (Resources)"
    );
    assert!(Format::squeue_letters(SQUEUE_LONG).is_ok());
}

#[test]
fn letters_that_stand_for_nothing_are_refused() {
    for (format, letter) in [
        ("%i %é", 'é'),
        ("%", '%'),
        ("%%", '%'),
        ("%.5", '%'),
        ("%5!", '!'),
    ] {
        let found = Format::squeue_letters(format).unwrap_err();
        assert!(
            matches!(found, FormatError::Letter { letter: found, .. } if found == letter),
            "{format}"
        );
    }
    for format in ["%4097i", "%99999999999999999999999i"] {
        assert!(matches!(
            Format::squeue_letters(format),
            Err(FormatError::Width { .. })
        ));
    }
}

#[test]
fn names_are_twenty_wide_unless_they_say_otherwise() {
    for (format, line) in [
        ("JobID", "42                  "),
        ("jobarrayid:10,STATE:.5", "42_[1-3]  OUT_O"),
        ("JobID:.5,StateCompact:3|,UserName:3", "   42PD |ada"),
        ("Comment:4", "N/A "),
    ] {
        assert_eq!(
            Format::squeue_names(format).unwrap().render(&JOB),
            line,
            "{format}"
        );
    }
    let header = Format::squeue_names("JobID:6,TimeUsed:.5").unwrap().header();
    assert_eq!(header, "JOBID  TIME");
    let error = Format::squeue_names("JobID,JobNames").unwrap_err().to_string();
    assert_eq!(
        error,
        "a format has `JobNames`, which is no field; did you mean Name?"
    );
}

#[test]
fn sacct_without_a_format_looks_as_people_know_it() {
    let format = Format::sacct(SACCT_DEFAULT).unwrap();
    assert_eq!(
        format.header(),
        "JobID           JobName  Partition    Account  AllocCPUS      State ExitCode \n\
         ------------ ---------- ---------- ---------- ---------- ---------- -------- "
    );
    assert_eq!(
        format.render(&JOB),
        "42_[1-3]     a-long-jo+      short        lab          8 OUT_OF_ME+    0:125 "
    );
}

#[test]
fn accounts_have_widths_of_their_own() {
    for (format, line) in [
        ("JobID%20", "            42_[1-3] "),
        ("jobid%-10,State%15", "42_[1-3]     OUT_OF_MEMORY "),
        ("JobName%1", "+ "),
        ("Comment%3", "    "),
    ] {
        assert_eq!(Format::sacct(format).unwrap().render(&JOB), line, "{format}");
    }
    for format in ["JobID%", "JobID%x", "JobID%-", "JobID%5000", "JobID%0"] {
        assert!(
            matches!(Format::sacct(format), Err(FormatError::Width { .. })),
            "{format}"
        );
    }
    assert!(Format::sacct("all").unwrap().header().contains("JobIDRaw"));
    assert!(matches!(
        Format::sacct("NoSuchThing"),
        Err(FormatError::Name { .. })
    ));
}

#[test]
fn what_programs_read_is_neither_cut_nor_filled_up() {
    let format = Format::sacct("JobIdRaw,State,Comment").unwrap();
    let parsable = format.clone().delimited("|", true);
    assert_eq!(parsable.header(), "JobIDRaw|State|Comment|");
    assert_eq!(parsable.render(&JOB), "42|OUT_OF_MEMORY||");
    let parsable2 = format.delimited("|", false);
    assert_eq!(parsable2.header(), "JobIDRaw|State|Comment");
    assert_eq!(parsable2.render(&JOB), "42|OUT_OF_MEMORY|");
}

proptest! {
    #[test]
    fn a_column_is_as_wide_as_it_says(width in 1usize..40, right in any::<bool>(), letter in "[ijtTk]") {
        let point = if right { "." } else { "" };
        let line = letters(&format!("%{point}{width}{letter}"));
        prop_assert_eq!(line.chars().count(), width);
    }

    #[test]
    fn any_text_is_a_format_or_refused(text in "[%.0-9a-zA-Zé:,|-]{0,16}") {
        let _ = Format::squeue_letters(&text).map(|format| format.render(&JOB));
        let _ = Format::squeue_names(&text).map(|format| format.render(&JOB));
        let _ = Format::sacct(&text).map(|format| (format.header(), format.delimited("|", true).render(&JOB)));
    }
}
