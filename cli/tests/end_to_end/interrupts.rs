//! What Ctrl-C does to a program that `phalanx run` runs, and to its job.

use rustix::process::Signal;

use crate::command::{Watched, eventually, is_alive, send};
use crate::up::Up;

fn run_script(up: &Up, script: &str) -> Watched {
    let mut command = up.command("run -- sh -c");
    command.arg(script);
    Watched::start(command)
}

/// The next line on stderr that begins so; on a slow machine it may also say why a job has not begun.
fn told(running: &Watched, beginning: &str) -> String {
    loop {
        let line = running.error_line();
        if line.starts_with(beginning) {
            return line;
        }
        assert!(line.contains("wait"), "{line}");
    }
}

#[test]
fn an_interrupted_run_ends_its_program_and_all_that_it_started() {
    let up = Up::start();
    let pids = up.file("pids", "");
    let script = format!(
        "trap '' INT; trap 'echo told; exit 0' TERM; sleep 1000 & echo $! >> {0}; setsid sleep 1000 & echo $! >> {0}; \
         (sleep 1000 & echo $! >> {0}); echo ready; wait",
        pids.display()
    );
    let running = run_script(&up, &script);
    let started = || -> Vec<u32> {
        let text = std::fs::read_to_string(&pids).unwrap();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    // until it is known to be there, an interrupt is the job's
    assert_eq!(running.line(), "ready");
    assert_eq!(started().len(), 3);
    // the first is the program's, which does not care
    send(running.pid(), Signal::INT);
    let first = "sent to the program; Ctrl-C again within 5 s cancels job 1";
    assert_eq!(told(&running, "sent"), first);
    // one that comes too late is the program's, too
    let second = "cancelling job 1; Ctrl-C again leaves at once";
    loop {
        send(running.pid(), Signal::INT);
        let line = running.error_line();
        if line == second {
            break;
        }
        assert_eq!(line, first);
    }
    let done = running.finish();
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(done.stdout.ends_with("told\n"), "{done:?}");
    eventually("nothing is left", || !started().into_iter().any(is_alive));
}

#[test]
fn an_interrupt_is_the_programs_own_affair() {
    let up = Up::start();
    for (trap, code, printed) in [
        ("trap 'echo caught; exit 7' INT", 7, "caught\n"),
        ("trap 'echo caught; exit 0' INT", 0, "caught\n"),
        ("trap - INT", 130, ""),
    ] {
        let running = run_script(&up, &format!("{trap}; echo ready; while :; do sleep 0.05; done"));
        assert_eq!(running.line(), "ready");
        send(running.pid(), Signal::INT);
        told(&running, "sent to the program; ");
        let done = running.finish();
        assert_eq!(
            (done.code, done.stdout.as_str()),
            (Some(code), printed),
            "{done:?}"
        );
        // its end is no surprise
        assert_eq!(done.stderr, "");
    }
    // it would begin again
    let mut command = up.command("run --retries 2 -- sh -c");
    command.arg("echo ready; while :; do sleep 0.05; done");
    let running = Watched::start(command);
    assert_eq!(running.line(), "ready");
    send(running.pid(), Signal::INT);
    told(&running, "cancelling job 4; ");
    assert_eq!(running.finish().code, Some(4));
    // nothing is there yet that could have it
    let running = Watched::start(up.command("run --hold -- true"));
    eventually("it is there", || up.run("jobs").stdout.contains("waiting"));
    send(running.pid(), Signal::INT);
    let done = running.finish();
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(done.stderr.contains("cancelling job 5; "), "{done:?}");
}
