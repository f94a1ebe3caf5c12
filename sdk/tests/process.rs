//! A whole program, started as a worker starts it. The program is the example `squares`.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use object::{Object, ObjectSection};
use phalanx_protocol::message::host::{
    FromHost, HOST_FD_VARIABLE, HostInputs, HostParameters, HostWork, KERNELS_SECTION, KernelLine, ToHost,
};
use phalanx_protocol::{Encoding, GrantId, IndexRange, JobId, Term, codec};

/// Cargo puts examples beside the folder of the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap();
    let program = folder.join("examples").join("squares");
    assert!(program.exists(), "not built: cargo build -p phalanx --examples");
    program
}

fn send(stream: &mut UnixStream, message: &ToHost) {
    let bytes = codec::encode(message);
    let mut frame = (bytes.len() as u32).to_le_bytes().to_vec();
    frame.extend(bytes);
    stream.write_all(&frame).unwrap();
}

fn receive(stream: &mut UnixStream) -> FromHost {
    let mut len = [0; 4];
    stream.read_exact(&mut len).unwrap();
    let mut bytes = vec![0; u32::from_le_bytes(len) as usize];
    stream.read_exact(&mut bytes).unwrap();
    codec::decode(&bytes).unwrap()
}

fn start_host() -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // as an event loop leaves it
    theirs.set_nonblocking(true).unwrap();
    let mut command = Command::new(program());
    command
        .env(HOST_FD_VARIABLE, "0")
        .stdin(Stdio::from(OwnedFd::from(theirs)));
    (command.spawn().unwrap(), ours)
}

#[test]
fn a_program_becomes_a_host_and_ends_with_its_worker() {
    let (mut child, mut stream) = start_host();
    assert_eq!(
        receive(&mut stream),
        FromHost::Hello {
            version: phalanx_protocol::message::host::PROTOCOL_VERSION
        }
    );
    let (kernel, parameters) = ("square".to_owned(), HostParameters::Inline(Vec::new().into()));
    let encoding = Encoding::Bincode;
    send(
        &mut stream,
        &ToHost::Open {
            job: JobId(1),
            work: HostWork::Kernel {
                kernel,
                parameters,
                encoding,
                reduce: true,
            },
            cpus: 1,
            storage: std::env::temp_dir(),
        },
    );
    send(&mut stream, &ToHost::SetSlots(1));
    let grant = GrantId {
        term: Term(1),
        number: 1,
    };
    let inputs = HostInputs::Index { first: 10 };
    send(
        &mut stream,
        &ToHost::Grant {
            grant,
            range: IndexRange::new(0, 1),
            inputs,
            restarts: 0,
        },
    );
    assert_eq!(receive(&mut stream), FromHost::Ready);
    assert_eq!(receive(&mut stream), FromHost::Slots(1));
    let FromHost::Progress(progress) = receive(&mut stream) else {
        panic!("no progress");
    };
    assert_eq!(codec::decode::<u64>(&progress.results[0].1).unwrap(), 100);
    drop(stream);
    assert!(child.wait().unwrap().success());
}

/// What the program says when it cannot go on, with the variable set.
fn failure(variable: &str, stdin: Stdio) -> String {
    let output = Command::new(program())
        .env(HOST_FD_VARIABLE, variable)
        // what a driver stumbles over
        .env("PHALANX_CLUSTER", "/nowhere")
        .env("PHALANX_SCHEDULER", "nowhere")
        .stdin(stdin)
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_descriptor_other_than_standard_input_is_refused_with_a_reason() {
    let (_ours, theirs) = UnixStream::pair().unwrap();
    assert_eq!(
        failure("3", OwnedFd::from(theirs).into()),
        "error: PHALANX_HOST_FD is `3`, but a worker passes its socket as 0, standard input\n"
    );
}

#[test]
fn what_a_kernel_starts_inherits_the_variable_and_is_a_driver_all_the_same() {
    let error = failure("0", Stdio::null());
    assert_eq!(
        error,
        "error: there is no cluster directory `/nowhere`\n\n\
         hint: `phalanx init` makes one, PHALANX_CLUSTER names one elsewhere\n"
    );
}

#[test]
fn a_program_lists_its_kernels_in_a_section() {
    let bytes = std::fs::read(program()).unwrap();
    let file = object::File::parse(bytes.as_slice()).unwrap();
    let section = file
        .section_by_name(KERNELS_SECTION)
        .expect("the section is there");
    let lines = KernelLine::parse_section(section.data().unwrap());
    assert_eq!(lines.len(), 1);
    assert_eq!(
        (lines[0].name.as_str(), lines[0].input.as_str(), lines[0].reduces),
        ("square", "u64", true)
    );
}
