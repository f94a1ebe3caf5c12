//! Each option and resource of a `#PBS` line.

use super::*;
use crate::batch::directives::split_words;
use proptest::prelude::*;

/// The options of a line as `name=value name`.
fn told(line: &str) -> String {
    let line = parse(&split_words(line).unwrap()).unwrap();
    let given = line.given.iter().map(|given| match &given.value {
        Some(value) => format!("{}={value}", given.spec.long),
        None => given.spec.long.to_owned(),
    });
    given.collect::<Vec<_>>().join(" ")
}

fn error(line: &str) -> String {
    parse(&split_words(line).unwrap()).unwrap_err().to_string()
}

#[test]
fn each_option_has_its_counterpart() {
    for (line, options) in [
        ("-N water", "job-name=water"),
        ("-Nwater", "job-name=water"),
        ("-A lab -q long", "account=lab partition=long"),
        ("-P project", "account=project"),
        ("-M a@b.example -m abe", "mail-user=a@b.example mail-type=abe"),
        ("-o out.log -e err.log", "output=out.log error=err.log"),
        ("-o host:/logs/x", "output=/logs/x"),
        ("-o /logs/a:b", "output=/logs/a:b"),
        ("-o $PBS_JOBNAME.${PBS_JOBID}.50%", "output=%x.%j.50%%"),
        ("-o x.^array_index^", "output=x.%a"),
        ("-t 0-15%4", "array=0-15%4"),
        ("-J 0-15:4", "array=0-15:4"),
        ("-V", "export=ALL"),
        ("-v SEED=7,MODE", "export=ALL,SEED=7,MODE"),
        ("-r y", "requeue"),
        ("-rn", "no-requeue"),
        ("-h", "hold"),
        ("-hV", "hold export=ALL"),
        ("-p -5", "nice=5"),
        ("-d /data", "chdir=/data"),
        ("-S /bin/bash -k oe", ""),
        ("-W block=true,umask=022", "wait"),
    ] {
        assert_eq!(told(line), options, "{line}");
    }
}

#[test]
fn resources_become_nodes_tasks_and_cpus() {
    for (resources, options) in [
        ("nodes=1:ppn=4", "nodes=1 ntasks-per-node=4"),
        (
            "nodes=2:ppn=8:gpus=1:bigmem",
            "nodes=2 ntasks-per-node=8 gpus-per-node=1 constraint=bigmem",
        ),
        ("nodes=n01+n02", "nodes=2 nodelist=n01,n02"),
        (
            "nodes=n01:ppn=2+n02:ppn=2",
            "nodes=2 nodelist=n01,n02 ntasks-per-node=2",
        ),
        (
            "select=1:ncpus=4:mem=8gb",
            "nodes=1 mem=8388608K ntasks-per-node=1 cpus-per-task=4",
        ),
        (
            "select=2:ncpus=8:mpiprocs=4:ngpus=1",
            "nodes=2 gpus-per-node=1 ntasks-per-node=4 cpus-per-task=2",
        ),
        ("select=ncpus=4", "nodes=1 ntasks-per-node=1 cpus-per-task=4"),
        ("ncpus=4", "cpus-per-task=4"),
        ("procs=16", "ntasks=16"),
        ("mem=512mb,pmem=1gb", "mem=524288K mem-per-cpu=1048576K"),
        ("mem=1000", "mem=1K"),
        ("walltime=1:30:00", "time=0-1:30:0"),
        ("walltime=3600", "time=0-0:0:3600"),
        ("walltime=30:00", "time=0-0:30:0"),
        ("walltime=2:00:00:00", "time=2-0:0:0"),
        ("walltime=00:10:00.5", "time=0-0:10:0"),
        (
            "nodes=1:ppn=2,walltime=10:00",
            "nodes=1 ntasks-per-node=2 time=0-0:10:0",
        ),
        ("place=scatter:excl", "exclusive"),
        ("place=free", ""),
    ] {
        assert_eq!(told(&format!("-l {resources}")), options, "{resources}");
    }
}

#[test]
fn output_may_be_joined() {
    let joined = |line: &str| parse(&split_words(line).unwrap()).unwrap().joined;
    assert_eq!(
        ["-j oe", "-j n", "-N x"].map(joined),
        [Some(true), Some(false), None]
    );
    assert_eq!(error("-j x"), "-j x: this is oe, eo or n");
}

#[test]
fn dependencies_lose_their_servers() {
    for (depend, options) in [
        ("afterok:12.server.example:13", "dependency=afterok:12:13"),
        ("afterok:12[].server", "dependency=afterok:12"),
        ("afterany:12[3].server", "dependency=afterany:12_3"),
        ("afterokarray:12[]", "dependency=afterok:12"),
        ("afterok:1,afternotok:2", "dependency=afterok:1,afternotok:2"),
    ] {
        assert_eq!(told(&format!("-W depend={depend}")), options, "{depend}");
    }
    assert!(error("-W depend=beforeok:12").contains("`beforeok`"));
    assert!(error("-W depend=on:2").contains("`on`"));
}

#[test]
fn a_time_to_begin_at_has_digits_only() {
    for (value, begin) in [
        ("1630", "16:30"),
        ("1630.15", "16:30:15"),
        ("01311630", "01/31T16:30"),
        ("2701311630", "2027-01-31T16:30"),
        ("202701311630", "2027-01-31T16:30"),
    ] {
        assert_eq!(told(&format!("-a {value}")), format!("begin={begin}"));
    }
    for value in ["16", "311630", "16:30", "1630.x"] {
        assert!(error(&format!("-a {value}")).starts_with("-a "), "{value}");
    }
}

#[test]
fn what_is_not_known_is_collected() {
    let line = parse(&split_words("-Y 5").unwrap()).unwrap();
    assert_eq!(
        (line.unknown, line.rest),
        (vec!["-Y".to_owned()], vec!["5".to_owned()])
    );
    let line = parse(&split_words("-l nodes=1,software=x -W foo=1 word").unwrap()).unwrap();
    assert_eq!(line.unknown, ["-l software", "-W foo=1"]);
    assert_eq!(line.rest, ["word"]);
}

#[test]
fn what_means_nothing_is_refused() {
    for line in [
        "-N",
        "-l walltime=soon",
        "-l walltime=1:2:3:4:5",
        "-l mem=8x",
        "-l mem=gb",
        "-l nodes=0",
        "-l nodes=1:ppn=x",
        "-l nodes=1:ppn=2+2:ppn=4",
        "-l nodes=a:ppn=2+b:ppn=4",
        "-l select=1:ncpus=2+1:ncpus=4",
        "-l select=0",
        "-r maybe",
        "-p 5000",
    ] {
        assert!(!error(line).is_empty(), "{line}");
    }
}

proptest! {
    #[test]
    fn any_words_are_read_or_refused(words in prop::collection::vec("-?[a-zA-Zé]?[a-z0-9=:+,.\\[\\]]{0,12}", 0..5)) {
        let _ = parse(&words);
    }

    #[test]
    fn any_resources_are_read_or_refused(text in "(nodes|select|walltime|mem)=[0-9a-z:=+.é]{0,14}") {
        let _ = parse(&["-l".to_owned(), text]);
    }
}
