//! Making, finding and sharing clusters.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::command::{login, phalanx, run};
use crate::up::Up;

#[test]
fn a_cluster_directory_is_private_and_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("lab");
    let init = || {
        let mut command = phalanx();
        command.args(["--output", "json", "init"]).arg(&root);
        command.args(["--schedulers", "127.0.0.1:7878"]);
        run(command)
    };
    let made = init().json()["cluster"].take();
    assert_eq!(made["schedulers"], json!(["127.0.0.1:7878"]));
    assert_eq!(made["id"].as_str().map(str::len), Some(32));
    let user = format!("credentials/user-{}.pem", login());
    for file in [
        "ca.key",
        "credentials/scheduler.pem",
        "credentials/worker.pem",
        user.as_str(),
    ] {
        let mode = std::fs::metadata(root.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let again = init();
    assert_eq!(again.code, Some(2));
    assert!(again.stderr.contains("exists already\n\nhint: "), "{again:?}");
}

#[test]
fn workers_are_listed_with_what_they_have() {
    let up = Up::start();
    let workers = up.run("--output json workers").json()["workers"].take();
    let workers = workers.as_array().unwrap();
    assert_eq!(workers.len(), 2, "{workers:?}");
    assert!(workers.iter().all(|worker| worker["capacity"]["cpus"] == 1));
    let table = up.run("workers");
    assert_eq!(table.lines().len(), 3, "{table:?}");
    assert!(table.lines()[0].starts_with("ID  NAME"), "{table:?}");
}

#[test]
fn a_cluster_is_found_by_its_address_too() {
    let up = Up::start();
    let address = up.document["address"].as_str().unwrap();
    assert_eq!(up.run(&format!("--scheduler {address} workers")).lines().len(), 3);
    let done = up.run("--scheduler nonsense workers");
    assert_eq!(done.code, Some(2));
    assert!(
        done.stderr
            .starts_with("error: `nonsense` is not the address of a scheduler"),
        "{done:?}"
    );
}

#[test]
fn a_second_scheduler_needs_a_name_of_its_own() {
    let up = Up::start();
    let name = up.document["scheduler"]["name"].as_str().unwrap();
    let done = up.run(&format!("scheduler --listen 127.0.0.1:0 --name {name}"));
    assert_eq!(done.code, Some(70), "{done:?}");
    assert!(done.stderr.contains("hint: "), "{done:?}");
    // the first one goes on
    assert_eq!(up.run("run PROGRAM -k square -r 0..3").lines(), ["0", "1", "4"]);
}

#[test]
fn a_credential_of_another_cluster_is_refused() {
    let (up, other) = (Up::start(), Up::start());
    let address = up.document["address"].as_str().unwrap();
    let done = other.run(&format!("--scheduler {address} jobs"));
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.stderr.contains("belongs to another cluster"), "{done:?}");
    assert!(
        done.stderr.contains("\nhint: use this cluster's address"),
        "{done:?}"
    );
}

#[test]
fn without_a_cluster_the_way_to_one_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("lab");
    let jobs = || {
        let mut command = phalanx();
        command.arg("jobs").env("PHALANX_CLUSTER", &root);
        run(command)
    };
    let hint = "\n\nhint: `phalanx up` starts a cluster on this machine; --cluster DIR or PHALANX_CLUSTER names \
                another one\n";
    let shown = root.display();
    let done = jobs();
    assert_eq!(done.code, Some(3));
    assert_eq!(
        done.stderr,
        format!("error: there is no cluster directory `{shown}`{hint}")
    );

    let mut command = phalanx();
    command.arg("init").arg(&root);
    assert_eq!(run(command).code, Some(0));
    let done = jobs();
    assert_eq!(done.code, Some(3));
    assert!(
        done.stderr
            .starts_with(&format!("error: the cluster `{shown}` is not running")),
        "{done:?}"
    );
    assert!(done.stderr.ends_with(hint), "{done:?}");

    // where nobody listens
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let mut command = phalanx();
    command
        .args(["jobs", "--scheduler", &address])
        .env("PHALANX_CLUSTER", &root);
    let done = run(command);
    assert_eq!(done.code, Some(3));
    let expected =
        format!("error: no scheduler of the cluster `{shown}` can be reached\n  tried {address}, as --");
    assert!(done.stderr.starts_with(&expected), "{done:?}");
    assert!(done.stderr.ends_with(hint), "{done:?}");
}
