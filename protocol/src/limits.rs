//! Every bound that a peer can run into, by name. Reaching one is an answer to the caller, never silent growth.

/// Bytes of one frame on a control stream, after its length field.
pub const CONTROL_FRAME_BYTES_MAX: usize = 1 << 20;
/// Bytes of one frame on a report, result or blob stream.
pub const DATA_FRAME_BYTES_MAX: usize = 16 << 20;
/// Bytes that one decoded value may claim for its collections.
pub const VALUE_BYTES_MAX: usize = 64 << 20;
/// Bytes of results that ride inside one report; more goes to a result file on shared storage.
pub const REPORT_INLINE_BYTES_MAX: usize = 64 << 10;
/// Bytes of one result file that a worker writes.
pub const RESULT_FILE_BYTES_MAX: usize = 4 << 20;
/// Bytes of one task's encoded result.
pub const TASK_RESULT_BYTES_MAX: usize = 8 << 20;
/// Bytes of parameters that ride inside a job spec; more goes to a blob.
pub const PARAMETERS_INLINE_BYTES_MAX: usize = 64 << 10;
/// Bytes of one blob (program, parameters, input chunk).
pub const BLOB_BYTES_MAX: u64 = 4 << 30;
/// Bytes of items in one input chunk, unless a single item is larger.
pub const INPUT_CHUNK_BYTES: usize = 1 << 20;
/// Tasks in one job: ranges are packed into two 32-bit halves of a cursor per grant, jobs into 62 bits.
pub const TASKS_MAX: u64 = 1 << 62;
/// Tasks in one grant, so that a grant's cursor fits one 64-bit atomic.
pub const GRANT_TASKS_MAX: u64 = u32::MAX as u64;
/// Failures of one job that are kept with index and message; further ones are counted.
pub const FAILURES_KEPT_MAX: usize = 1000;
/// Tasks of the largest job of which is kept what each task used; of larger ones it is kept what all used together.
pub const USAGE_TASKS_MAX: u64 = 1024;
/// Bytes of one failure message; longer ones are cut.
pub const MESSAGE_BYTES_MAX: usize = 4096;
/// Bytes of a job, user, kernel, resource or worker name.
pub const NAME_BYTES_MAX: usize = 256;
/// Bytes of reports that one worker may have sent without an acknowledgement.
pub const UNDURABLE_BYTES_MAX: usize = 64 << 20;
/// Kinds of named resources that one task may ask for.
pub const RESOURCES_NAMED_MAX: usize = 64;
/// Other requests that a job's tasks may be run with instead of their first.
pub const ALTERNATIVES_MAX: usize = 7;
/// Active jobs on one scheduler.
pub const ACTIVE_JOBS_MAX: usize = 100_000;
/// Workers on one scheduler.
pub const WORKERS_MAX: usize = 100_000;
/// How long a scheduler may be told to bear silence of a worker, in milliseconds: at least twice the time between signs of it.
pub const WORKER_TIMEOUT_MILLIS_MIN: u32 = 1000;
/// The same, at most.
pub const WORKER_TIMEOUT_MILLIS_MAX: u32 = 3_600_000;
/// Streams that one peer may have open at a time.
pub const STREAMS_PER_PEER_MAX: u32 = 256;
/// Longest rest before a task is run again, in milliseconds.
pub const BACKOFF_MILLIS_MAX: u64 = 60_000;
/// Tasks of one job that are remembered for having been run in vain; further ones are failed at once.
pub const RETRIED_TASKS_MAX: usize = 1 << 20;
/// Scheduler addresses that a peer remembers.
pub const SCHEDULER_ADDRESSES_MAX: usize = 64;
/// Bytes of one checkpoint.
pub const CHECKPOINT_BYTES_MAX: usize = 1 << 30;
/// Bytes that the collections of a decoded checkpoint may claim: numbers take up to 16 times what they were encoded in.
pub const CHECKPOINT_VALUE_BYTES_MAX: usize = 16 * CHECKPOINT_BYTES_MAX;
/// Bytes of output in one answer about what tasks have written.
pub const OUTPUT_PAGE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of one piece of input that is sent to a job.
pub const INPUT_PIECE_BYTES_MAX: usize = 256 << 10;
/// Bytes of all input that is sent to a job.
pub const STREAMED_INPUT_BYTES_MAX: u64 = 4 << 30;
/// The longest grace of a command between SIGTERM and SIGKILL, in milliseconds.
pub const COMMAND_GRACE_MILLIS_MAX: u64 = 30_000;
/// Bytes of one encoded command plan: environment, arguments, script.
pub const COMMAND_PLAN_BYTES_MAX: usize = 8 << 20;
/// Hosts of one gang; each keeps a connection to each other.
pub const GANG_HOSTS_MAX: usize = 4096;
