//! The end of a reducing job: one merged value per range arrives, and all are merged by index.

use phalanx_protocol::codec;
use phalanx_protocol::{IndexRange, JobId};

use super::events::Events;
use super::verdict::Tally;
use crate::client::ResultEvent;
use crate::error::{ClientError, JobError, ProtocolError, TaskError};
use crate::kernel::ReduceKernel;

/// Merges all values of a job, which `events` brings by index.
///
/// # Errors
/// [`JobError`] if there are none, or any task has none.
pub(crate) fn fold<K: ReduceKernel>(
    mut events: Events,
    job: JobId,
    first: u64,
) -> Result<K::Output, JobError> {
    let mut merged = None;
    let mut tally = Tally::default();
    loop {
        match events.next().ok_or(ClientError::Stopped)?? {
            ResultEvent::Block { range, keep, bytes } => {
                if keep != [range] {
                    let error = ProtocolError::SplitReduction { range };
                    return Err(ClientError::Protocol(error).into());
                }
                merged = Some(merge::<K>(merged, job, range, &bytes)?);
                tally.values += range.len();
            }
            // the merged value of tasks that return nothing is nothing
            ResultEvent::NoResults(ranges) => {
                for range in ranges {
                    merged = Some(merge::<K>(merged, job, range, &[])?);
                    tally.values += range.len();
                }
            }
            ResultEvent::Failed(failures) => {
                for failure in failures {
                    tally.fail(TaskError::of(failure, first));
                }
            }
            ResultEvent::Ended(view) => {
                tally.verdict(&view)?;
                return merged.ok_or(JobError::NothingToReduce { job });
            }
        }
    }
}

fn merge<K: ReduceKernel>(
    left: Option<K::Output>,
    job: JobId,
    range: IndexRange,
    bytes: &[u8],
) -> Result<K::Output, JobError> {
    let right = codec::decode(bytes).map_err(|cause| JobError::Decode { job, range, cause })?;
    Ok(match left {
        Some(left) => K::merge(left, right),
        None => right,
    })
}
