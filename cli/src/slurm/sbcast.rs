//! `sbcast`: copies a file to the nodes of the job that it runs in. A job runs on one node, so that this is a copy there: whole
//! or not at all.

use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Parser};

use super::{Complaint, Name, words};

/// Copies a file to the nodes of a job
#[derive(Debug, Parser)]
#[command(
    name = "sbcast",
    version,
    args_override_self = true,
    infer_long_args = true,
    max_term_width = 100
)]
struct Arguments {
    /// The file
    #[arg(value_name = "SOURCE")]
    source: PathBuf,

    /// Where it is to be on each node, absolute; a directory keeps its name
    #[arg(value_name = "DESTINATION")]
    destination: PathBuf,

    /// Replaces what is there
    #[arg(short = 'f', long)]
    force: bool,

    /// Keeps times and permissions
    #[arg(short = 'p', long)]
    preserve: bool,

    /// The job; by default the one that this runs in
    #[arg(short = 'j', long, value_name = "ID")]
    jobid: Option<String>,

    /// Accepted: nothing crosses the network
    #[arg(short = 'C', long, value_name = "LIBRARY", num_args = 0..=1, require_equals = true)]
    compress: Option<Option<String>>,

    /// Accepted: nothing crosses the network
    #[arg(short = 'F', long, value_name = "NUMBER")]
    fanout: Option<String>,

    /// Accepted
    #[arg(short = 's', long, value_name = "SIZE")]
    size: Option<String>,

    /// Accepted
    #[arg(short = 't', long, value_name = "SECONDS")]
    timeout: Option<String>,

    /// Accepted; libraries are not copied
    #[arg(long, value_name = "YES", num_args = 0..=1, require_equals = true)]
    send_libs: Option<Option<String>>,

    /// Accepted
    #[arg(short = 'v', long, action = ArgAction::Count)]
    verbose: u8,
}

pub(super) fn run(words: &[String]) -> Result<u8, Complaint> {
    let Some(arguments) = words::read::<Arguments>(Name::Sbcast, words)? else {
        return Ok(0);
    };
    let own = std::env::var("SLURM_JOB_ID").ok();
    let is_own = match (&arguments.jobid, &own) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(asked), Some(own)) => {
            let element = std::env::var("SLURM_ARRAY_JOB_ID")
                .ok()
                .zip(std::env::var("SLURM_ARRAY_TASK_ID").ok())
                .map(|(job, task)| format!("{job}_{task}"));
            asked == own || Some(asked) == element.as_ref()
        }
    };
    if !is_own {
        return Err(Complaint::new(
            "this is not inside the job: write it into the batch script, or behind salloc",
        ));
    }
    let destination = destination(&arguments)?;
    copy(&arguments, &destination).map_err(|error| {
        let (from, to) = (arguments.source.display(), destination.display());
        Complaint::new(match error.kind() == io::ErrorKind::AlreadyExists {
            true => format!("`{to}` is there already; --force replaces it"),
            false => format!("cannot copy `{from}` to `{to}`: {error}"),
        })
    })?;
    Ok(0)
}

/// Where the copy will lie.
fn destination(arguments: &Arguments) -> Result<PathBuf, Complaint> {
    let given = &arguments.destination;
    if !given.is_absolute() {
        return Err(Complaint::new(format!(
            "`{}` is not absolute: a node has no working directory; write it as in /tmp/data",
            given.display()
        )));
    }
    match (given.is_dir(), arguments.source.file_name()) {
        (true, Some(name)) => Ok(given.join(name)),
        (true | false, _) => Ok(given.clone()),
    }
}

/// Copies under another name first, so that nobody sees half a file.
fn copy(arguments: &Arguments, destination: &Path) -> io::Result<()> {
    if !arguments.force && destination.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let name = destination.file_name().unwrap_or_default().to_string_lossy();
    let partial = destination.with_file_name(format!(".{name}.{}.sbcast", std::process::id()));
    let done = copy_as(arguments, &partial).and_then(|()| match arguments.force {
        true => fs::rename(&partial, destination),
        // somebody else may have been quicker, whose file stays
        false => fs::hard_link(&partial, destination).and_then(|()| fs::remove_file(&partial)),
    });
    if done.is_err() {
        // what matters is why it failed
        let _ = fs::remove_file(&partial);
    }
    done
}

fn copy_as(arguments: &Arguments, partial: &Path) -> io::Result<()> {
    let mut from = File::open(&arguments.source)?;
    let known = from.metadata()?;
    if !known.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut to = File::options().write(true).create_new(true).open(partial)?;
    io::copy(&mut from, &mut to)?;
    // a program stays one, whether the rest is kept or not
    let mode = match arguments.preserve {
        true => known.permissions().mode(),
        false => to.metadata()?.permissions().mode() | (known.permissions().mode() & 0o111),
    };
    to.set_permissions(fs::Permissions::from_mode(mode))?;
    if arguments.preserve {
        let times = FileTimes::new()
            .set_accessed(known.accessed()?)
            .set_modified(known.modified()?);
        to.set_times(times)?;
    }
    to.sync_all()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn arguments(words: &[&str]) -> Arguments {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        words::read::<Arguments>(Name::Sbcast, &words).unwrap().unwrap()
    }

    #[test]
    fn a_copy_is_whole_keeps_what_is_asked_for_and_replaces_nothing_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, "first").unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o740)).unwrap();
        let yesterday = SystemTime::now() - Duration::from_hours(24);
        File::options()
            .append(true)
            .open(&from)
            .unwrap()
            .set_modified(yesterday)
            .unwrap();
        let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
        let kept = arguments(&["-p", from, to]);
        copy(&kept, &destination(&kept).unwrap()).unwrap();
        let known = fs::metadata(to).unwrap();
        assert_eq!(
            (known.permissions().mode() & 0o777, known.modified().unwrap()),
            (0o740, yesterday)
        );
        fs::write(from, "second").unwrap();
        let again = arguments(&[from, to]);
        let error = copy(&again, &destination(&again).unwrap()).unwrap_err();
        assert_eq!(
            (error.kind(), fs::read_to_string(to).unwrap().as_str()),
            (io::ErrorKind::AlreadyExists, "first")
        );
        let forced = arguments(&["--force", from, to]);
        copy(&forced, &destination(&forced).unwrap()).unwrap();
        assert_eq!(fs::read_to_string(to).unwrap(), "second");
        // nothing else is left
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        assert!(destination(&arguments(&[from, "relative"])).is_err());
        let into = destination(&arguments(&[from, "/"])).unwrap();
        assert_eq!(into, Path::new("/from"));
    }
}
