//! Jobs, as they come from a user: the scheduler's mind takes or refuses them, and keeps its invariants.

use std::time::Duration;

use phalanx_protocol::message::worker::Join;
use phalanx_protocol::{JobSpec, Resources, Term, codec};
use phalanx_scheduler_core::{Core, Effect, Input, Now, RequestId, SessionId};

/// Decodes a job, hands it to a scheduler with one worker, and lets that worker be lost.
///
/// # Panics
/// If the scheduler does, or breaks one of its invariants, or does not answer.
pub fn job_spec(bytes: &[u8]) {
    let Ok(spec) = codec::decode::<JobSpec>(bytes) else {
        return;
    };
    let is_well_formed = spec.check().is_ok();
    let mut core = Core::new(Term(1));
    let mut effects = Vec::new();
    let mut step = 0;
    let mut tell = |core: &mut Core, input| {
        step += 1;
        let now = Now {
            elapsed: Duration::from_secs(step),
            unix_millis: step * 1000,
        };
        core.handle(now, input, &mut effects);
        core.check();
        std::mem::take(&mut effects)
    };
    tell(&mut core, joins());
    let submitted = Input::Submitted {
        request: RequestId(1),
        user: "ada".to_owned(),
        spec: Box::new(spec),
    };
    let wanted = tell(&mut core, submitted);
    let appended = wanted.iter().filter_map(|effect| match effect {
        Effect::Append { sequence, .. } => Some(*sequence),
        Effect::Admit { .. }
        | Effect::Reject { .. }
        | Effect::Send { .. }
        | Effect::Answer { .. }
        | Effect::Publish { .. }
        | Effect::Forget(_) => None,
    });
    let Some(sequence) = appended.max() else {
        let answered = wanted
            .iter()
            .any(|effect| matches!(effect, Effect::Answer { .. }));
        assert!(answered, "a job is neither accepted nor refused");
        return;
    };
    assert!(is_well_formed, "a malformed job is accepted");
    let wanted = tell(&mut core, Input::Appended { sequence });
    let answered = wanted
        .iter()
        .any(|effect| matches!(effect, Effect::Answer { .. }));
    assert!(answered, "a durable job is not answered");
    tell(&mut core, Input::WorkerLost(phalanx_protocol::WorkerId(1)));
    tell(&mut core, joins());
    tell(&mut core, Input::Ticked);
}

fn joins() -> Input {
    Input::WorkerJoined {
        session: SessionId(1),
        address: "10.0.0.1:1".to_owned(),
        join: Box::new(Join {
            instance: 1,
            worker: None,
            name: "node".to_owned(),
            capacity: Resources {
                cpus: 4,
                memory_bytes: 4 << 30,
                ..Resources::default()
            },
            held: Vec::new(),
        }),
    }
}
