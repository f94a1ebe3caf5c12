//! Runs each program as a user would, on the cluster that it brings along, and reads what it prints.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const MANDELBROT: &str = env!("CARGO_BIN_EXE_mandelbrot");
const PRIMES: &str = env!("CARGO_BIN_EXE_primes");
const KMERS: &str = env!("CARGO_BIN_EXE_kmers");
const EP: &str = env!("CARGO_BIN_EXE_ep");
const HEAT: &str = env!("CARGO_BIN_EXE_heat");
const SORT: &str = env!("CARGO_BIN_EXE_samplesort");
const LAMBDA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/phage_lambda.fa.gz");

/// Runs a program in `directory`, away from any cluster that the surroundings name.
fn run(program: &str, arguments: &[&str], directory: &Path) -> Output {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PHALANX_")) {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("the program can be started")
}

/// Runs a program that must succeed and returns what it printed.
fn stdout(program: &str, arguments: &[&str], directory: &Path) -> String {
    let output = run(program, arguments, directory);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{stderr}",
        output.status
    );
    String::from_utf8(output.stdout).expect("programs print text")
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

#[test]
fn mandelbrot_writes_the_picture_that_its_kernel_draws() {
    let directory = directory();
    let arguments =
        "--width 64 --height 36 --zoom 1 --centre=-0.5,0 --iterations 200 --output small.png".split(' ');
    let printed = stdout(MANDELBROT, &arguments.collect::<Vec<_>>(), directory.path());
    assert!(printed.starts_with("small.png: 64 x 36 pixels"), "{printed}");

    let file = BufReader::new(File::open(directory.path().join("small.png")).expect("the picture exists"));
    let mut reader = png::Decoder::new(file).read_info().expect("it is a PNG file");
    let mut pixels = vec![0; reader.output_buffer_size().expect("it fits into memory")];
    let frame = reader.next_frame(&mut pixels).expect("it is whole");
    assert_eq!(
        (frame.width, frame.height, frame.color_type),
        (64, 36, png::ColorType::Rgb)
    );
    let mut crc = flate2::Crc::new();
    crc.update(&pixels);
    // the same number as in the program's test of its kernel
    assert_eq!(crc.sum(), 0xb4f5_b323, "{:#010x}", crc.sum());
}

#[test]
fn primes_are_counted_and_verified() {
    let directory = directory();
    let many_blocks = stdout(PRIMES, &["--to", "1e6", "--block", "4096"], directory.path());
    assert!(
        many_blocks.starts_with("pi(1000000) = 78498, verified"),
        "{many_blocks}"
    );
    let one_block = stdout(PRIMES, &["--to", "1000003"], directory.path());
    assert!(one_block.starts_with("pi(1000003) = 78499 ("), "{one_block}");
}

#[test]
fn kmers_of_phage_lambda_are_counted() {
    let printed = stdout(KMERS, &["-k", "8", "--top", "2", LAMBDA], directory().path());
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), 4, "{printed}");
    assert!(
        lines[0].ends_with("phage_lambda.fa.gz: 48502 bases, 1 record"),
        "{printed}"
    );
    // from a count that shares nothing with ours
    assert_eq!(lines[1], "8-mers of both strands: 48495 in all, 22093 distinct");
    assert_eq!(lines[2..], ["        18 CAGCCAGC", "        16 CTGGCTGA"]);
}

#[test]
fn kmers_of_several_plain_files_are_counted_together() {
    let directory = directory();
    fs::write(
        directory.path().join("a.fa"),
        ">one\nACGT\nACGT\n>two\nacgtnacgt\n",
    )
    .expect("a file can be written");
    fs::write(directory.path().join("b.fa"), ">three\r\nTTTT\r\n").expect("a file can be written");
    let printed = stdout(
        KMERS,
        &["-k", "4", "--forward-only", "a.fa", "b.fa"],
        directory.path(),
    );
    let expected = "a.fa: 16 bases, 2 records\nb.fa: 4 bases, 1 record\n\
        4-mers of the forward strand: 8 in all, 5 distinct\n\
        \x20        4 ACGT\n         1 CGTA\n         1 GTAC\n         1 TACG\n         1 TTTT\n";
    assert_eq!(printed, expected);
}

#[test]
fn ep_class_s_verifies() {
    let printed = stdout(EP, &["--class", "S"], directory().path());
    assert!(printed.contains(" Gaussian pairs     = 13176389\n"), "{printed}");
    assert!(printed.ends_with(" VERIFICATION SUCCESSFUL\n"), "{printed}");
}

#[test]
fn bad_arguments_are_refused_by_name_and_reason() {
    let directory = directory();
    fs::write(directory.path().join("reads.fq"), "@read\nACGT\n+\n!!!!\n").expect("a file can be written");
    fs::write(directory.path().join("protein.fa"), ">p\nACGT\nMELK\n").expect("a file can be written");
    fs::write(directory.path().join("empty.fa"), "").expect("a file can be written");
    for (program, arguments, complaints) in [
        (PRIMES, &["--to", "abc"][..], &["--to", "abc", "1e9"][..]),
        (PRIMES, &["--to", "1e15"], &["--to", "1e15", "1e14"]),
        (PRIMES, &["--block", "1000001"], &["--block", "multiple of 16"]),
        (KMERS, &["-k", "40", LAMBDA], &["-k", "40", "1..=32"]),
        (KMERS, &[], &["<FILES>"]),
        (KMERS, &["missing.fa"], &["missing.fa", "No such file", "hint"]),
        (KMERS, &["reads.fq"], &["reads.fq", "line 1", "`@`", "hint"]),
        (KMERS, &["protein.fa"], &["protein.fa", "line 3", "`E`", "hint"]),
        (KMERS, &["empty.fa"], &["empty.fa", "`>`", "hint"]),
        (EP, &["--class", "Z"], &["--class", "Z", "S, W, A, B"]),
        (MANDELBROT, &["--centre", "1;2"], &["--centre", "1;2", "comma"]),
        (MANDELBROT, &["--width", "0"], &["--width", "0", "1..=65535"]),
        (
            MANDELBROT,
            &["--zoom", "1e15"],
            &["1e15", "hint", "--zoom 2.3e12"],
        ),
        (
            MANDELBROT,
            &["--output", "no/such/folder.png"],
            &["no/such/folder.png", "hint", "--output"],
        ),
    ] {
        let output = run(program, arguments, directory.path());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?} must fail");
        assert!(
            output.stdout.is_empty(),
            "{arguments:?} must print nothing on stdout"
        );
        assert!(stderr.starts_with("error: "), "{arguments:?}: {stderr}");
        for complaint in complaints {
            assert!(
                stderr.contains(complaint),
                "{arguments:?} must say `{complaint}`: {stderr}"
            );
        }
    }
}

#[test]
fn help_begins_with_a_short_line_and_gives_defaults() {
    for program in [MANDELBROT, PRIMES, KMERS, EP] {
        let printed = stdout(program, &["--help"], directory().path());
        let first = printed.lines().next().unwrap_or_default();
        assert!(!first.is_empty() && first.len() < 70, "{first}");
        assert!(
            printed.contains("[default: ") && printed.contains("Example"),
            "{printed}"
        );
    }
}

#[test]
fn heat_goes_on_from_its_checkpoint_and_draws_the_same_picture() {
    let directory = directory();
    let whole = [
        "--side",
        "64",
        "--steps",
        "60",
        "--every",
        "50",
        "--pictures",
        "whole",
    ];
    let printed = stdout(HEAT, &whole, directory.path());
    assert!(
        printed.starts_with("64 x 64 points, steps 0 to 60, 4 ranks") && printed.ends_with(": verified\n"),
        "{printed}"
    );
    let parts = "--side 64 --every 50 --pictures parts --checkpoint plate --ranks";
    let parts: Vec<&str> = parts.split(' ').collect();
    stdout(
        HEAT,
        &[&parts[..], &["2", "--steps", "20"]].concat(),
        directory.path(),
    );
    let printed = stdout(
        HEAT,
        &[&parts[..], &["3", "--steps", "60"]].concat(),
        directory.path(),
    );
    assert!(
        printed.starts_with("64 x 64 points, steps 20 to 60, 3 ranks"),
        "{printed}"
    );

    let picture = |name: &str| fs::read(directory.path().join(name)).expect("the picture exists");
    assert_eq!(picture("parts-000060.png"), picture("whole-000060.png"));
    assert_ne!(picture("whole-000060.png"), picture("whole-000000.png"));
    let back = run(
        HEAT,
        &[&parts[..], &["1", "--steps", "20"]].concat(),
        directory.path(),
    );
    assert!(!back.status.success(), "a run cannot go back");
}

#[test]
fn sort_verifies_its_keys() {
    let directory = directory();
    let printed = stdout(
        SORT,
        &["--keys", "10000", "--ranks", "3", "--distinct", "50"],
        directory.path(),
    );
    assert!(
        printed.starts_with("10000 keys in order, verified; "),
        "{printed}"
    );
}
