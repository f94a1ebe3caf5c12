//! Network namespaces, one for each process and one for the users, joined by a bridge: where processes can be cut off
//! from each other, slowed down, and lose packets. Needs root, `ip` and `tc`; for lost packets also `iptables`.
//!
//! Everything is made inside a namespace of our own, so nothing of this machine's network changes. The command first
//! starts itself again in there; the outer process removes the namespaces at the end, however the inner one ends.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use super::processes::name;
use super::schedule::Target;

/// Tells the process inside the prefix of its namespaces' names.
const INSIDE_VARIABLE: &str = "PHALANX_CHAOS_NAMESPACE";
const BRIDGE: &str = "bridge0";
/// Addresses of this private network, by their last number.
const NETWORK: &str = "10.77.0";

/// The namespaces of the processes.
#[derive(Debug, Clone)]
pub(super) struct Network {
    prefix: String,
}

/// Where this process stands.
pub(super) enum Place {
    /// Inside: the network can be made.
    Inside(Network),
    /// Outside: this is how the process inside has ended.
    Outside(ExitStatus),
    /// There can be no namespaces, for that reason.
    Nowhere(String),
}

/// Starts this command again in a namespace of its own, unless this is that process.
pub(super) fn enter(schedulers: usize, workers: usize) -> Place {
    if let Ok(prefix) = std::env::var(INSIDE_VARIABLE) {
        return Place::Inside(Network { prefix });
    }
    let prefix = format!("phx{}", std::process::id());
    let network = Network { prefix };
    let mut names = vec![network.prefix.clone()];
    names.extend((0..schedulers).map(|number| network.namespace(Target::Scheduler(number))));
    names.extend((0..workers).map(|number| network.namespace(Target::Worker(number))));
    let cleanup = Cleanup(names.clone());
    for name in &names {
        if let Err(reason) = quietly("ip", ["netns", "add", name]) {
            return Place::Nowhere(reason);
        }
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return Place::Nowhere(error.to_string()),
    };
    let mut inside = Command::new("ip");
    inside
        .args(["netns", "exec", &network.prefix])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE_VARIABLE, &network.prefix);
    let ended = inside.status();
    drop(cleanup);
    match ended {
        Ok(status) => Place::Outside(status),
        Err(error) => Place::Nowhere(error.to_string()),
    }
}

/// Removes namespaces.
struct Cleanup(Vec<String>);

impl Drop for Cleanup {
    fn drop(&mut self) {
        for name in &self.0 {
            // one that was not made is not there
            let _ = quietly("ip", ["netns", "delete", name]);
        }
    }
}

impl Network {
    /// Makes the bridge and joins every process's namespace to it.
    ///
    /// # Errors
    /// What `ip` said.
    pub(super) fn make(&self, targets: &[Target]) -> Result<(), String> {
        quietly("ip", ["link", "set", "lo", "up"])?;
        quietly("ip", ["link", "add", BRIDGE, "type", "bridge"])?;
        let own = format!("{NETWORK}.1/24");
        quietly("ip", ["address", "add", &own, "dev", BRIDGE])?;
        quietly("ip", ["link", "set", BRIDGE, "up"])?;
        for &target in targets {
            let (namespace, port) = (self.namespace(target), name(target));
            let address = format!("{}/24", self.address(target));
            quietly(
                "ip",
                [
                    "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
                ],
            )?;
            quietly("ip", ["link", "set", &port, "master", BRIDGE, "up"])?;
            let inside = ["-n", &namespace];
            let inside = |rest: &[&str]| quietly("ip", inside.iter().chain(rest));
            inside(&["link", "set", "lo", "up"])?;
            inside(&["address", "add", &address, "dev", "eth0"])?;
            inside(&["link", "set", "eth0", "up"])?;
        }
        Ok(())
    }

    /// A command in a process's namespace; the process that it starts has the id that is waited for.
    pub(super) fn command(&self, target: Target, program: &Path) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace(target)])
            .arg(program)
            .env_remove(INSIDE_VARIABLE);
        command
    }

    /// A process's address.
    pub(super) fn address(&self, target: Target) -> String {
        match target {
            Target::Scheduler(number) => format!("{NETWORK}.{}", 10 + number),
            Target::Worker(number) => format!("{NETWORK}.{}", 100 + number),
        }
    }

    /// Whether packets can be lost; else why not.
    ///
    /// # Errors
    /// What `iptables` said.
    pub(super) fn can_lose(&self) -> Result<(), String> {
        quietly("iptables", ["-L", "-n"])
    }

    /// Lets nothing through to a process nor from it; silently, as a broken switch does.
    ///
    /// # Errors
    /// What `ip` said.
    pub(super) fn cut_off(&self, target: Target) -> Result<(), String> {
        quietly("ip", ["link", "set", &name(target), "down"])
    }

    /// Whether the system can delay packets by a time of our choice; else why not, and [`Self::slow_down`] does what it can.
    ///
    /// # Errors
    /// What `tc` said.
    pub(super) fn can_delay(&self, target: Target) -> Result<(), String> {
        self.delay(target)?;
        self.heal(target)
    }

    /// Makes what a process says late: each packet by some 100 ms, or, where the system cannot do that, as much as is said beyond
    /// a rate waits in line for up to 300 ms.
    ///
    /// # Errors
    /// What `tc` said.
    pub(super) fn slow_down(&self, target: Target) -> Result<(), String> {
        let limit = ["tbf", "rate", "512kbit", "burst", "8kb", "latency", "300ms"];
        self.delay(target).or_else(|_| self.queue(target, &limit))
    }

    fn delay(&self, target: Target) -> Result<(), String> {
        self.queue(target, &["netem", "delay", "100ms", "50ms"])
    }

    fn queue(&self, target: Target, discipline: &[&str]) -> Result<(), String> {
        let namespace = self.namespace(target);
        let start = ["-n", &namespace, "qdisc", "replace", "dev", "eth0", "root"];
        quietly("tc", start.iter().chain(discipline))
    }

    /// Loses that percentage of the packets to and from a process.
    ///
    /// # Errors
    /// What `iptables` said.
    pub(super) fn lose(&self, target: Target, percent: u8) -> Result<(), String> {
        let namespace = self.namespace(target);
        let probability = format!("{:.2}", f64::from(percent) / 100.0);
        let random = ["-m", "statistic", "--mode", "random", "--probability"];
        for chain in ["INPUT", "OUTPUT"] {
            let start = ["netns", "exec", &namespace, "iptables", "-A", chain];
            let end = [&probability, "-j", "DROP"];
            quietly("ip", start.iter().chain(&random).chain(&end))?;
        }
        Ok(())
    }

    /// Lets everything through again.
    ///
    /// # Errors
    /// What `ip` said.
    pub(super) fn heal(&self, target: Target) -> Result<(), String> {
        let namespace = self.namespace(target);
        quietly("ip", ["link", "set", &name(target), "up"])?;
        // neither is there unless it was asked for
        let _ = quietly("tc", ["-n", &namespace, "qdisc", "delete", "dev", "eth0", "root"]);
        let _ = quietly("ip", ["netns", "exec", &namespace, "iptables", "-F"]);
        Ok(())
    }

    fn namespace(&self, target: Target) -> String {
        format!("{}-{}", self.prefix, name(target))
    }
}

/// Runs a program to its end; what it says on stderr is the error.
fn quietly(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("`{program}` cannot be run: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}
