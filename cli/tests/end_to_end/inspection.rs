//! What is found out about programs without any cluster.

use crate::command::{Done, fixture, phalanx, run};

fn phalanx_on(program: impl AsRef<std::ffi::OsStr>, before: &[&str], after: &[&str]) -> Done {
    let mut command = phalanx();
    // a cluster that is not there would be an error of another kind
    command.env("PHALANX_CLUSTER", "/does/not/exist");
    command.args(before).arg(program).args(after);
    run(command)
}

#[test]
fn the_kernels_of_a_program_are_listed() {
    let done = phalanx_on(fixture(), &["--output", "json", "kernels"], &[]);
    let kernels = done.json()["kernels"].take();
    let lines: Vec<String> = kernels
        .as_array()
        .unwrap()
        .iter()
        .map(|kernel| {
            let parameters = kernel["parameters"].as_str().unwrap_or("-");
            let [name, input, output] = ["name", "input", "output"].map(|key| kernel[key].as_str().unwrap());
            format!("{name} {input} {parameters} {output} {}", kernel["reduces"])
        })
        .map(|line| line.replace(' ', "|"))
        .collect();
    assert_eq!(lines.len(), 11, "{lines:?}");
    for line in [
        "square|u64|-|u64|true",
        "panic_at|u64|u64|u64|false",
        "text|String|-|usize|false",
    ] {
        assert!(lines.iter().any(|found| found == line), "{line}: {lines:?}");
    }
    let table = phalanx_on(fixture(), &["kernels"], &[]);
    assert!(
        table.lines()[0].starts_with("KERNEL        INPUT   PARAMETERS"),
        "{table:?}"
    );
}

#[test]
fn a_wrong_program_or_kernel_is_told_before_a_cluster_is_looked_for() {
    let square = ["--kernel", "square", "--range", "0..3"];
    let done = phalanx_on("/bin/sh", &["submit"], &square);
    assert_eq!(done.code, Some(2));
    assert!(
        done.stderr
            .contains("is no kernel program: it has no #[phalanx::kernel] function"),
        "{done:?}"
    );

    let done = phalanx_on(fixture(), &["submit"], &["--kernel", "sqare", "--range", "0..3"]);
    assert_eq!(done.code, Some(2));
    assert!(
        done.stderr.ends_with("\nhint: did you mean `square`?\n"),
        "{done:?}"
    );

    let done = phalanx_on(fixture(), &["submit"], &["--kernel", "text", "--range", "0..3"]);
    assert!(
        done.stderr
            .starts_with("error: kernel `text` takes `String`, a range gives `u64`"),
        "{done:?}"
    );

    let done = phalanx_on(fixture(), &["submit"], &["--kernel", "slow", "--range", "0..3"]);
    assert!(
        done.stderr
            .starts_with("error: kernel `slow` takes parameters of type `u64`"),
        "{done:?}"
    );
}
