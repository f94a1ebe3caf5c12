//! What is made, with which modes, and how each mistake is told.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}

/// A new cluster in a temporary directory, with one user besides the caller.
fn lab() -> (tempfile::TempDir, ClusterDirectory) {
    let temporary = tempfile::tempdir().unwrap();
    let mut new = NewCluster::default();
    new.users.push("grace".to_owned());
    let made = ClusterDirectory::create(&temporary.path().join("deep/lab"), &new).unwrap();
    (temporary, made)
}

#[test]
fn what_was_made_reads_back_and_its_keys_are_for_the_owner_only() {
    let (_temporary, made) = lab();
    assert_eq!(ClusterDirectory::open(&made.root).unwrap(), made);
    assert_eq!(mode(&made.root), 0o700);
    assert_eq!(mode(&made.root.join("ca.key")), 0o600);
    for entry in fs::read_dir(made.root.join("credentials")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    let certificate = fs::read_to_string(made.root.join("ca.pem")).unwrap();
    assert!(certificate.contains("CERTIFICATE") && !certificate.contains("PRIVATE"));
    for role in Role::ALL {
        let identity = made.credential(role).unwrap().identity().clone();
        assert_eq!(
            (identity.role, identity.cluster),
            (role, made.config.cluster.clone())
        );
    }
    assert!(made.root.join("credentials/user-grace.pem").exists());
    assert_eq!(made.authority().unwrap().cluster(), made.config.cluster);
}

#[test]
fn nothing_is_left_beside_the_new_directory() {
    let (_temporary, made) = lab();
    let beside = fs::read_dir(made.root.parent().unwrap()).unwrap().count();
    assert_eq!(beside, 1);
}

#[test]
fn an_existing_cluster_is_not_replaced() {
    let (_temporary, made) = lab();
    let again = ClusterDirectory::create(&made.root, &NewCluster::default()).unwrap_err();
    assert_eq!(
        again.to_string(),
        format!("`{}` exists already", made.root.display())
    );
    assert_eq!(ClusterDirectory::open(&made.root).unwrap(), made);
    let file = made.root.join("cluster.toml");
    assert!(matches!(
        ClusterDirectory::create(&file, &NewCluster::default()),
        Err(DirectoryError::Exists { .. })
    ));
}

#[test]
fn an_empty_directory_may_become_a_cluster() {
    let temporary = tempfile::tempdir().unwrap();
    ClusterDirectory::create(temporary.path(), &NewCluster::default()).unwrap();
    assert_eq!(mode(temporary.path()), 0o700);
}

#[test]
fn a_bad_login_name_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let new = NewCluster {
        users: vec!["a/b".to_owned()],
        ..NewCluster::default()
    };
    let error = ClusterDirectory::create(&temporary.path().join("lab"), &new).unwrap_err();
    assert!(chain(&error).contains("`a/b` is not a name"), "{}", chain(&error));
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn a_missing_directory_is_named_and_the_hint_makes_one() {
    let error = ClusterDirectory::open(Path::new("/nowhere/lab")).unwrap_err();
    assert_eq!(error.to_string(), "there is no cluster directory `/nowhere/lab`");
    assert!(error.hint().contains("phalanx init"));
}

#[test]
fn a_damaged_configuration_is_told() {
    let (_temporary, made) = lab();
    let path = made.root.join("cluster.toml");
    let says = |text: &str| {
        fs::write(&path, text).unwrap();
        chain(&ClusterDirectory::open(&made.root).unwrap_err())
    };
    assert!(says("cluster = 7").contains("cluster.toml` is malformed"));
    assert!(says("cluster = \"XY\"").contains("`XY`, which is not 32 hexadecimal digits"));
    assert!(says("cluster = \"00\"\nschedulrs = []").contains("schedulrs"));
}

#[test]
fn settings_that_are_left_out_have_their_defaults() {
    let (_temporary, made) = lab();
    let text = format!("cluster = \"{}\"\n", made.config.cluster);
    fs::write(made.root.join("cluster.toml"), text).unwrap();
    let read = ClusterDirectory::open(&made.root).unwrap();
    assert_eq!(read.config.schedulers, Vec::<String>::new());
    assert_eq!(read.storage_path(), made.root.join("storage"));
}

#[test]
fn an_absolute_storage_path_stands_for_itself() {
    let (_temporary, mut made) = lab();
    made.config.storage = PathBuf::from("/shared/phalanx");
    assert_eq!(made.storage_path(), Path::new("/shared/phalanx"));
}

#[test]
fn a_credential_of_another_cluster_is_refused() {
    let (_temporary, made) = lab();
    let (_other_temporary, other) = lab();
    let of = |cluster: &ClusterDirectory| cluster.root.join("credentials/worker.pem");
    fs::remove_file(of(&made)).unwrap();
    fs::copy(of(&other), of(&made)).unwrap();
    let error = made.credential(Role::Worker).unwrap_err();
    assert!(
        matches!(error, DirectoryError::OtherCluster { ref found, .. } if *found == other.config.cluster)
    );
}

#[test]
fn a_user_is_named_as_the_systems_list_says() {
    let users = "root:x:0:0:root:/root:/bin/bash\n+::::::\nada:x:1000:1000::/home/ada:/bin/sh\nbad line\n";
    assert_eq!(listed_name(users, 1000).as_deref(), Some("ada"));
    assert_eq!(listed_name(users, 0).as_deref(), Some("root"));
    assert_eq!(listed_name(users, 7), None);
}
