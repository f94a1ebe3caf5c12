//! Files that a batch job on several nodes copies to all of them.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::command::{eventually, finish, phalanx, plain, send};
use crate::desk::{Desk, names};
use crate::up::Up;

/// Runs a script of these lines to its end on two nodes; what it printed.
fn run(desk: &Desk, lines: &str) -> String {
    desk.script("job.sh", &format!("#!/bin/bash\n{lines}"));
    let done = desk.run(&["sbatch", "--wait", "-N2", "-o", "out.txt", "job.sh"]);
    let printed = desk.read("out.txt");
    assert_eq!(done.code, Some(0), "{done:?}: {printed}");
    printed
}

#[test]
fn nodes_that_share_a_folder_get_a_file_once() {
    let up = Up::start_equipped(&["--workers", "2", "--cpus", "1"]);
    let desk = Desk::new(up.directory());
    desk.script("data", "some data\n");
    let lines = "
echo $SLURM_JOB_NODELIST
there=$PWD/there; mkdir $there
sbcast -v data $there; echo $?
cat $there/data
sbcast data $there/data; echo $?
echo more >> data; sbcast -f data $there/data && tail -n 1 $there/data
ls -A $there
srun -N1 -n1 -w $(scontrol show hostnames | tail -n 1) sbcast data $there/other; echo $?
";
    let printed = run(&desk, lines);
    let (list, printed) = printed.split_once('\n').unwrap();
    let there = desk.work().join("there");
    let expected = format!(
        "sbcast: `data` is copied to `{0}` of {list}\n0\nsome data\n\
         sbcast: error: `{0}/data` is there already; --force replaces it\n1\nmore\ndata\n\
         sbcast: error: the other nodes of {list} cannot be reached from here\n\
         sbcast: error: hint: call it in the batch script itself\n",
        there.display()
    );
    assert!(printed.starts_with(&expected), "{printed}");
    assert!(printed.ends_with("\n1\n"), "{printed}");
    assert_eq!(names(&there), ["data"]);
}

/// A worker that sees nothing of a folder that others do, and others see nothing of what it has there.
struct Secluded(Option<Child>);

impl Secluded {
    /// None where that cannot be had.
    fn start(up: &Up, folder: &Path) -> Option<Self> {
        let probe = Command::new("unshare")
            .args(["-rm", "true"])
            .stderr(Stdio::null())
            .status();
        if !probe.is_ok_and(|status| status.success()) {
            eprintln!("skipped: no file systems of one's own can be had here");
            return None;
        }
        let program = phalanx();
        let mut shell = plain(Command::new("unshare"));
        shell
            .args(["-rm", "sh", "-c", "mount -t tmpfs none \"$0\" && exec \"$@\""])
            .arg(folder)
            .arg(program.get_program())
            .args(["worker", "--name", "secluded", "--cpus", "1", "--cache"])
            .arg(up.directory().with_file_name("cache"))
            .env("PHALANX_CLUSTER", up.directory());
        let worker = Self(Some(shell.spawn().unwrap()));
        eventually("it has joined", || up.run("workers").stdout.contains("secluded"));
        Some(worker)
    }
}

impl Drop for Secluded {
    fn drop(&mut self) {
        if let Some(child) = self.0.take() {
            send(child.id(), Signal::TERM);
            finish(child);
        }
    }
}

#[test]
fn a_file_is_copied_to_each_node_of_a_job_or_to_none() {
    let up = Up::start_equipped(&["--workers", "1", "--cpus", "1"]);
    let desk = Desk::new(up.directory());
    let there = desk.work().join("there");
    std::fs::create_dir(&there).unwrap();
    let Some(_worker) = Secluded::start(&up, &there) else {
        return;
    };
    desk.script("tool", "#!/bin/sh\necho \"$0 runs\" | sed s,.*/,,\n");
    std::fs::write(desk.work().join("large"), vec![7; 3 << 20]).unwrap();
    let lines = "
second=$(scontrol show hostnames | tail -n 1)
each() { srun -N2 -n2 sh -c \"cd $PWD/there; $*\"; }
each 'ls -A'
chmod +x tool; TZ=UTC touch -d '2001-02-03 04:05:06' tool
sbcast -p tool $PWD/there && each './tool; stat -c %Y tool' | sort
sbcast -C large $PWD/there/large && each 'cksum < large' | uniq -c | awk '{print $1}'
srun -N1 -n1 -w $second sh -c 'echo theirs > there/taken'
sbcast large $PWD/there/taken 2>&1 | sed s/$second/second/; echo ${PIPESTATUS[0]}
each 'echo $(ls -A)' | sort
sbcast -f large $PWD/there/taken && each 'cmp large taken && echo same'
";
    let printed = run(&desk, lines);
    let time = "981173106";
    let expected = format!(
        "{time}\n{time}\ntool runs\ntool runs\n2\nsbcast: error: second: `{}/taken` is there already; --force replaces it\n1\n\
         large taken tool\nlarge tool\nsame\nsame\n",
        there.display()
    );
    assert_eq!(printed, expected);
}
