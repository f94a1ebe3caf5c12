//! All that `qstat -f` tells of a job.

use phalanx_protocol::command::facts;

use super::super::super::clock::show_long;
use super::super::super::entry::{Entry, Part, array};
use super::super::super::row::Scene;
use super::super::SERVER;
use super::letter;
use crate::batch::time::full_clock;

/// Names and values, in PBS's order.
pub(super) fn attributes(scene: &Scene, entry: &Entry<'_>) -> Vec<(&'static str, String)> {
    let view = entry.view;
    let text = str::to_owned;
    let mut all = vec![
        ("Job_Name", view.name.clone()),
        ("Job_Owner", format!("{}@{SERVER}", view.user)),
    ];
    if let Some(time) = entry.elapsed(scene.now).filter(|time| !time.is_zero()) {
        all.push(("resources_used.walltime", full_clock(time)));
    }
    all.push(("job_state", letter(entry, scene.now).to_string()));
    all.push(("queue", text(entry.partition())));
    all.push(("server", text(SERVER)));
    if let (Some(ids), Part::Whole) = (array(view), &entry.part) {
        let (first, last) = ids.bounds();
        all.push(("array", text("True")));
        all.push(("array_indices_submitted", format!("{first}-{last}")));
    }
    if let Part::Element { number, .. } = &entry.part {
        all.push(("array_id", format!("{}[].{SERVER}", view.job)));
        all.push(("array_index", number.to_string()));
    }
    all.push(("ctime", show_long(view.submitted_unix_millis)));
    if let Some(path) = scene.stderr(entry) {
        all.push(("Error_Path", path));
    }
    let node = scene.node_list(entry);
    if !node.is_empty() {
        let cpus = entry.cpus() / entry.nodes();
        let names = match scene.members(entry) {
            none if none.is_empty() => vec![node],
            names => names,
        };
        let hosts: Vec<String> = names.iter().map(|name| format!("{name}/0*{cpus}")).collect();
        all.push(("exec_host", hosts.join("+")));
    }
    all.push(("Hold_Types", text(if view.held { "u" } else { "n" })));
    if let Some(path) = scene.stdout(entry) {
        all.push(("Output_Path", path));
    }
    all.push(("Priority", view.priority.to_string()));
    all.push(("qtime", show_long(view.submitted_unix_millis)));
    let reruns = entry.fact(facts::REQUEUE) != Some("0");
    all.push(("Rerunable", text(if reruns { "True" } else { "False" })));
    resources(entry, &mut all);
    if let Some(started) = entry.started {
        all.push(("stime", show_long(started)));
    }
    if let Some(ended) = entry.ended {
        all.push(("mtime", show_long(ended)));
    }
    if entry.state.has_ended() {
        let (code, signal) = entry.exit();
        let status = match signal {
            0 => u32::from(code),
            signal => 256 + u32::from(signal),
        };
        all.push(("Exit_status", status.to_string()));
    } else {
        all.push(("comment", format!("{}: {}", entry.state, scene.reason(entry))));
    }
    if let Some(line) = entry.fact(facts::SUBMIT_LINE) {
        all.push(("Submit_arguments", text(line)));
    }
    all
}

/// What it asks for.
fn resources(entry: &Entry<'_>, all: &mut Vec<(&'static str, String)>) {
    let request = &entry.view.request;
    if request.memory_bytes > 0 {
        all.push((
            "Resource_List.mem",
            format!("{}kb", request.memory_bytes.div_ceil(1024)),
        ));
    }
    let cpus = u64::from(request.cpus).saturating_mul(entry.nodes());
    all.push(("Resource_List.ncpus", cpus.to_string()));
    if let Some(gpus) = request.named.get("gpu") {
        all.push(("Resource_List.ngpus", gpus.to_string()));
    }
    all.push(("Resource_List.nodect", entry.nodes().to_string()));
    if let Some(limit) = entry.time_limit() {
        all.push(("Resource_List.walltime", full_clock(limit)));
    }
}
