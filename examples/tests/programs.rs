//! Runs each program as a user would, on the cluster that it brings along, and reads what it prints.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

const MANDELBROT: &str = env!("CARGO_BIN_EXE_mandelbrot");
const PRIMES: &str = env!("CARGO_BIN_EXE_primes");
const KMERS: &str = env!("CARGO_BIN_EXE_kmers");
const EP: &str = env!("CARGO_BIN_EXE_ep");
const HEAT: &str = env!("CARGO_BIN_EXE_heat");
const CG: &str = env!("CARGO_BIN_EXE_cg");
const NBODY: &str = env!("CARGO_BIN_EXE_nbody");
const SORT: &str = env!("CARGO_BIN_EXE_samplesort");
const LAMBDA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/phage_lambda.fa.gz");

/// Runs a program in `directory`, away from any cluster that the surroundings name or the user has.
fn run(program: &str, arguments: &[&str], directory: &Path) -> Output {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PHALANX_")) {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .env("HOME", directory)
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

/// Gangs on one node and on several, besides a rank alone, and how many ranks each has.
const GANGS: [(&str, u32); 3] = [
    ("--ranks 8", 8),
    ("--ranks 8 --nodes 3", 8),
    ("--ranks 3 --nodes 2", 3),
];

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

/// Returns the colours of a picture of this size.
fn pixels(path: &Path, width: u32, height: u32) -> Vec<u8> {
    let file = BufReader::new(File::open(path).expect("the picture exists"));
    let mut reader = png::Decoder::new(file).read_info().expect("it is a PNG file");
    let mut pixels = vec![0; reader.output_buffer_size().expect("it fits into memory")];
    let frame = reader.next_frame(&mut pixels).expect("it is whole");
    assert_eq!(
        (frame.width, frame.height, frame.color_type),
        (width, height, png::ColorType::Rgb)
    );
    pixels
}

/// Runs a program with these words, which must succeed, and returns what it printed.
fn words(program: &str, arguments: &str, directory: &Path) -> String {
    stdout(program, &arguments.split(' ').collect::<Vec<_>>(), directory)
}

#[test]
fn mandelbrot_writes_the_picture_that_its_kernel_draws() {
    let directory = directory();
    let arguments =
        "--width 64 --height 36 --zoom 1 --centre=-0.5,0 --iterations 200 --output small.png".split(' ');
    let printed = stdout(MANDELBROT, &arguments.collect::<Vec<_>>(), directory.path());
    assert!(printed.starts_with("small.png: 64 x 36 pixels"), "{printed}");

    let pixels = pixels(&directory.path().join("small.png"), 64, 36);
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
        (CG, &["--nz", "3"], &["4 ranks", "3 planes", "hint", "--nz"]),
        (CG, &["--ranks", "2", "--nodes", "3"], &["2 ranks", "3 nodes"]),
        (NBODY, &["--dt", "0"], &["--dt", "above 0"]),
        (
            HEAT,
            &["--checkpoint", "protein.fa"],
            &["protein.fa", "no checkpoint", "hint"],
        ),
        (SORT, &["--keys", "0"], &["--keys", "1.."]),
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
    for program in [MANDELBROT, PRIMES, KMERS, EP, HEAT, CG, NBODY, SORT] {
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
fn heat_goes_on_from_its_checkpoint_on_other_ranks_and_nodes_and_draws_the_same_picture() {
    let directory = directory();
    let printed = words(
        HEAT,
        "--side 64 --steps 60 --every 50 --pictures whole",
        directory.path(),
    );
    assert!(
        printed.starts_with("64 x 64 points, steps 0 to 60, 4 ranks") && printed.ends_with(": verified\n"),
        "{printed}"
    );
    let parts = "--side 64 --every 50 --pictures parts --checkpoint plate";
    words(HEAT, &format!("{parts} --ranks 2 --steps 20"), directory.path());
    let rest = format!("{parts} --ranks 3 --nodes 2 --steps 60");
    let printed = words(HEAT, &rest, directory.path());
    assert!(
        printed.starts_with("64 x 64 points, steps 20 to 60, 3 ranks"),
        "{printed}"
    );

    let picture = |name: &str| pixels(&directory.path().join(name), 64, 64);
    assert!(picture("parts-000060.png") == picture("whole-000060.png"));
    assert!(picture("whole-000060.png") != picture("whole-000000.png"));
    // cold and mild at the edge, and somewhere warm and somewhere cold inside
    let pixels = picture("whole-000060.png");
    assert!(
        pixels[..3].iter().all(|&channel| channel > 200),
        "{:?}",
        &pixels[..3]
    );
    for (more, less) in [(0, 2), (2, 0)] {
        let strongest = pixels
            .chunks_exact(3)
            .map(|pixel| i32::from(pixel[more]) - i32::from(pixel[less]));
        assert!(strongest.max() > Some(60), "no colour {more}");
    }

    let gangs = [("--ranks 1", 1)].into_iter().chain(GANGS);
    for (number, (gang, _)) in gangs.enumerate() {
        let again = format!("--side 64 --every 60 --steps 60 --pictures again-{number} {gang}");
        let printed = words(HEAT, &again, directory.path());
        assert!(printed.ends_with(": verified\n"), "{gang}: {printed}");
        let again = picture(&format!("again-{number}-000060.png"));
        assert!(again == picture("whole-000060.png"), "{gang}");
    }

    let back = format!("{parts} --ranks 1 --steps 20");
    let back = run(HEAT, &back.split(' ').collect::<Vec<_>>(), directory.path());
    let stderr = String::from_utf8_lossy(&back.stderr);
    assert!(
        !back.status.success() && stderr.contains("the checkpoint is of step 60"),
        "{stderr}"
    );
}

/// The processes that this one has started and that live; there are none but hosts.
#[cfg(target_os = "linux")]
fn hosts(parent: u32) -> Vec<String> {
    let processes = fs::read_dir("/proc")
        .expect("the system lists processes")
        .flatten();
    let names = processes.filter_map(|entry| entry.file_name().into_string().ok());
    let is_host = |process: &String| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        status.lines().any(|line| line == format!("PPid:\t{parent}"))
    };
    names.filter(is_host).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn heat_that_loses_a_node_goes_on_from_its_checkpoint_and_draws_the_same_picture() {
    let directory = directory();
    words(
        HEAT,
        "--side 64 --steps 4000 --every 4000 --pictures whole",
        directory.path(),
    );
    // it waits there until somebody reads that picture
    let gate = directory.path().join("parts-000150.png");
    let made = Command::new("mkfifo").arg(&gate).status();
    assert!(made.expect("there is mkfifo").success(), "no gate");
    let arguments =
        "--side 64 --steps 4000 --every 50 --pictures parts --checkpoint plate --ranks 4 --nodes 2";
    let heat = Command::new(HEAT)
        .args(arguments.split(' '))
        .current_dir(directory.path())
        .env("HOME", directory.path())
        .env_remove("PHALANX_CLUSTER")
        .env_remove("PHALANX_SCHEDULER")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    // by then it has the checkpoint of step 50
    let deadline = Instant::now() + Duration::from_secs(60);
    while !directory.path().join("parts-000100.png").exists() {
        assert!(Instant::now() < deadline, "no picture");
        // another process has to write it, and there is nothing to wait on
        thread::park_timeout(Duration::from_millis(5));
    }
    let hosts = hosts(heat.id());
    assert_eq!(hosts.len(), 2, "one host on each node");
    let killed = Command::new("kill").args(["-9", &hosts[0]]).status();
    assert!(
        killed.expect("there is kill").success(),
        "the run was over before"
    );
    // opened for both, it waits for nobody, and has room for the picture
    let opened = File::options().read(true).write(true).open(&gate);
    let _opened = opened.expect("the gate can be opened");
    fs::remove_file(&gate).expect("the gate can be removed");

    let output = heat.wait_with_output().expect("the program ends");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && printed.ends_with(": verified\n"),
        "{printed}"
    );
    let from = printed
        .split(' ')
        .nth(5)
        .and_then(|from| from.parse::<u64>().ok());
    assert!(from.is_some_and(|from| (50..4000).contains(&from)), "{printed}");
    let picture = |name: &str| pixels(&directory.path().join(name), 64, 64);
    assert!(picture("parts-004000.png") == picture("whole-004000.png"));
}

#[test]
fn cg_finds_the_exact_solution_on_1_to_8_ranks_of_one_node_and_of_several() {
    let directory = directory();
    let grid = "--nx 10 --ny 9 --nz 12 --every 4";
    let one = words(CG, &format!("{grid} --ranks 1"), directory.path());
    // as far as they are printed, residuals are the same
    let residuals = |printed: &str| -> Vec<String> {
        let lines = printed.lines().take_while(|line| !line.contains("verified"));
        lines.map(str::to_owned).collect()
    };
    assert!(residuals(&one).len() > 5, "{one}");
    assert!(one.contains(": verified\n"), "{one}");
    for (gang, n_ranks) in GANGS {
        let printed = words(CG, &format!("{grid} {gang}"), directory.path());
        let speed = format!(" GFLOP/s on {n_ranks} ranks");
        assert!(
            printed.contains(": verified\n") && printed.contains(&speed),
            "{printed}"
        );
        assert_eq!(residuals(&one), residuals(&printed), "{gang}");
    }
}

#[test]
fn nbody_keeps_its_energy_on_1_to_8_ranks_of_one_node_and_of_several() {
    let directory = directory();
    let stars = "--bodies 100 --steps 20 --every 10";
    let one = words(NBODY, &format!("{stars} --ranks 1"), directory.path());
    assert!(one.contains("100 stars, 1 ranks: verified; "), "{one}");
    let energies = |printed: &str| -> Vec<String> {
        let lines = printed.lines().skip(1).take(3);
        lines
            .map(|line| line.split_whitespace().take(3).collect())
            .collect()
    };
    for (gang, n_ranks) in GANGS {
        let printed = words(NBODY, &format!("{stars} {gang}"), directory.path());
        let verified = format!("100 stars, {n_ranks} ranks: verified; ");
        assert!(printed.contains(&verified), "{printed}");
        assert_eq!(energies(&one), energies(&printed), "{one}{printed}");
    }
}

#[test]
fn cg_that_does_not_converge_and_stars_that_gain_energy_fail_with_a_hint() {
    let directory = directory();
    for (program, arguments, complaints) in [
        (
            CG,
            "--iterations 2 --nz 5",
            ["after 2 iterations the residual is", "hint: more --iterations"],
        ),
        (
            NBODY,
            "--bodies 64 --dt 1",
            ["the energy drifts by more than", "hint: a smaller --dt"],
        ),
    ] {
        let output = run(
            program,
            &arguments.split(' ').collect::<Vec<_>>(),
            directory.path(),
        );
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && stderr.starts_with("error: "),
            "{stderr}"
        );
        assert!(
            complaints.iter().all(|complaint| stderr.contains(complaint)),
            "{stderr}"
        );
    }
}

#[test]
fn sort_verifies_its_keys_on_1_to_8_ranks_of_one_node_and_of_several() {
    let directory = directory();
    for (gang, n_ranks) in [("--ranks 1", 1)].into_iter().chain(GANGS) {
        let printed = words(
            SORT,
            &format!("--keys 10000 --distinct 50 {gang}"),
            directory.path(),
        );
        assert!(
            printed.starts_with("10000 keys in order, verified; ")
                && printed.contains(&format!(" times the mean at one of {n_ranks} ranks")),
            "{printed}"
        );
    }
}
