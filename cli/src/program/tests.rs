use std::fs;
use std::path::Path;

use super::elf::this_architecture;
use super::*;
use crate::ui::style::Style;

const X86_64: u16 = 62;
const AARCH64: u16 = 183;

fn own_machine() -> u16 {
    match this_architecture() {
        "aarch64" => AARCH64,
        _ => X86_64,
    }
}

/// A little-endian ELF file: header, a section of kernels if there is one, and the names of sections.
fn elf(kind: u16, machine: u16, kernels: Option<&str>) -> Vec<u8> {
    let names = b"\0.shstrtab\0.phalanx.kernels\0";
    let kernels = kernels.map(str::as_bytes);
    let (names_offset, kernels_offset) = (64, 64 + names.len());
    let sections_offset = kernels_offset + kernels.map_or(0, <[u8]>::len);
    let section_count = if kernels.is_some() { 3_u16 } else { 2 };
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(kind.to_le_bytes());
    bytes.extend(machine.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(0x1000_u64.to_le_bytes()); // entry
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend((sections_offset as u64).to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    for field in [64, 0, 0, 64, section_count, 1] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend(names);
    bytes.extend(kernels.unwrap_or_default());
    let mut section = |name: u32, kind: u32, offset: usize, size: usize| {
        bytes.extend(name.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend([0; 16]);
        bytes.extend((offset as u64).to_le_bytes());
        bytes.extend((size as u64).to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(1_u64.to_le_bytes());
        bytes.extend([0; 8]);
    };
    section(0, 0, 0, 0);
    section(1, 3, names_offset, names.len());
    if let Some(kernels) = kernels {
        section(11, 1, kernels_offset, kernels.len());
    }
    bytes
}

const KERNELS: &str = "square\tu64\tu64\t-\treduce\n\0\0render\tu64\tVec<u8>\tScene\t-\ntext\tString\tusize\t-\t-\n\
     meet\t&Communicator\tusize\t-\t-\nidle\t&Communicator\t()\t()\t-\n";

/// Opens a file with this content, and says what a person would be told.
fn told(content: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prog");
    fs::write(&path, content).unwrap();
    let error = CliError::from(Program::open(&path).unwrap_err());
    error
        .render(Style::Plain)
        .replace(&path.display().to_string(), "prog")
}

fn program() -> Program {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prog");
    fs::write(&path, elf(3, own_machine(), Some(KERNELS))).unwrap();
    let program = Program::open(&path).unwrap();
    Program {
        path: "prog".into(),
        ..program
    }
}

const CALL: Call<'_> = Call {
    kernel: "square",
    inputs: CallInputs::Indices,
    parameters: false,
    reduce: false,
};

fn refused(call: Call<'_>) -> String {
    let program = program();
    CliError::from(program.check(call).unwrap_err()).render(Style::Plain)
}

#[test]
fn kernels_are_listed_by_name() {
    let names: Vec<String> = program().kernels.into_iter().map(|line| line.name).collect();
    assert_eq!(names, ["idle", "meet", "render", "square", "text"]);
}

#[test]
fn what_is_no_program_is_told_apart() {
    let hint = "\n\nhint: give the executable that cargo built, as in target/release/NAME\n";
    for (content, what) in [
        (&b""[..], "it is empty"),
        (b"#!/bin/sh\nexit\n", "it is a script"),
        (b"\x7fELF", "its header is cut off"),
        (b"hello", "it is not in the executable format of Linux (ELF)"),
        (
            &elf(1, own_machine(), None),
            "it is an object file that was not linked",
        ),
    ] {
        assert_eq!(
            told(content),
            format!("error: `prog` is no program: {what}{hint}")
        );
    }
}

#[test]
fn a_program_for_another_architecture_names_both() {
    let (machine, found) = match own_machine() {
        X86_64 => (AARCH64, "aarch64"),
        _ => (X86_64, "x86_64"),
    };
    let own = this_architecture();
    assert_eq!(
        told(&elf(2, machine, None)),
        format!(
            "error: `prog` is a program for {found}, this machine is {own}\n\n\
             hint: build it on, or for, the machines of the cluster\n"
        )
    );
}

#[test]
fn a_program_without_kernels_is_no_kernel_program() {
    let expected = "error: `prog` is no kernel program: it has no #[phalanx::kernel] function\n\n\
                    hint: mark a function with #[phalanx::kernel] and `main` with #[phalanx::main], and build again\n";
    assert_eq!(told(&elf(3, own_machine(), None)), expected);
    assert_eq!(told(&elf(2, own_machine(), Some(""))), expected);
    // a real program that has none
    assert!(matches!(
        Program::open(Path::new("/bin/sh")),
        Err(ProgramError::NoKernels { .. })
    ));
}

#[test]
fn damage_is_an_error_and_no_panic() {
    let whole = elf(3, own_machine(), Some(KERNELS));
    for end in 0..whole.len() {
        assert!(!told(&whole[..end]).is_empty());
    }
    let folder = tempfile::tempdir().unwrap();
    for position in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[position] ^= 0xff;
        let path = folder.path().join("prog");
        fs::write(&path, &bytes).unwrap();
        // any answer will do
        let _ = Program::open(&path);
    }
}

#[test]
fn a_folder_and_a_missing_file_are_told_with_the_systems_words() {
    let folder = tempfile::tempdir().unwrap();
    let error = CliError::from(Program::open(folder.path()).unwrap_err()).render(Style::Plain);
    assert!(error.contains("Is a directory"), "{error}");
    let error = CliError::from(Program::open(&folder.path().join("x")).unwrap_err()).render(Style::Plain);
    assert!(error.contains("No such file"), "{error}");
}

#[test]
fn an_unknown_kernel_is_answered_with_the_known_ones() {
    assert_eq!(
        refused(Call {
            kernel: "sqare",
            ..CALL
        }),
        "error: `prog` has no kernel `sqare`\n  it has `idle`, `meet`, `render`, `square`, `text`\n\n\
         hint: did you mean `square`?\n"
    );
    let error = refused(Call {
        kernel: "fibonacci",
        ..CALL
    });
    assert!(
        error.ends_with("hint: `phalanx kernels PROGRAM` lists them with their types\n"),
        "{error}"
    );
}

#[test]
fn a_kernel_is_given_what_it_takes() {
    assert!(program().check(CALL).is_ok());
    assert!(program().check(Call { reduce: true, ..CALL }).is_ok());
    assert_eq!(
        refused(Call {
            kernel: "text",
            ..CALL
        }),
        "error: kernel `text` takes `String`, a range gives `u64`\n\n\
         hint: give one JSON value per line with --inputs FILE\n"
    );
    assert_eq!(
        refused(Call {
            kernel: "render",
            ..CALL
        }),
        "error: kernel `render` takes parameters of type `Scene`, and none are given\n\n\
         hint: give them with --parameters '<JSON>' or --parameters @FILE\n"
    );
    assert_eq!(
        refused(Call {
            parameters: true,
            ..CALL
        }),
        "error: kernel `square` takes no parameters\n\nhint: leave --parameters out\n"
    );
    assert_eq!(
        refused(Call {
            kernel: "render",
            parameters: true,
            reduce: true,
            ..CALL
        }),
        "error: kernel `render` has no function that merges two results\n\n\
         hint: leave --reduce out, or name a function with #[phalanx::kernel(reduce = ..)]\n"
    );
}

#[test]
fn ranks_run_what_is_made_for_ranks_and_nothing_else_is_called_so() {
    let by_ranks = |kernel| Call {
        kernel,
        inputs: CallInputs::Ranks,
        ..CALL
    };
    assert!(program().check(by_ranks("meet")).is_ok());
    // its parameters cannot be but one thing
    assert!(program().check(by_ranks("idle")).is_ok());
    assert_eq!(
        refused(by_ranks("square")),
        "error: kernel `square` takes one `u64` at a time, and is not run by ranks\n\n\
         hint: leave --ranks out, and call it with --range A..B or --inputs FILE\n"
    );
    assert_eq!(
        refused(Call {
            kernel: "meet",
            ..CALL
        }),
        "error: `meet` is run by ranks, together, and nothing says by how many\n\n\
         hint: say how many start together with --ranks N, instead of --range and --inputs\n"
    );
}

#[test]
fn distances_count_edits() {
    assert_eq!(
        [("kitten", "sitting"), ("", "abc"), ("same", "same")]
            .map(|(left, right)| edit_distance(left, right)),
        [3, 3, 0]
    );
}
