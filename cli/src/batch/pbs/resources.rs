//! The resources of `-l`: `nodes=1:ppn=4`, `select=1:ncpus=4:mem=8gb`, `walltime=`, `mem=`.

use super::{PbsError, PbsLine};

/// Reads the value of one `-l`: resources with commas between them.
pub(super) fn read(line: &mut PbsLine, text: &str) -> Result<(), PbsError> {
    for resource in text.split(',') {
        let (name, value) = resource.split_once('=').unwrap_or((resource, ""));
        match name.trim() {
            "nodes" => nodes(line, value)?,
            "select" => select(line, value)?,
            "walltime" => {
                let wrong = || PbsError::Walltime {
                    value: value.to_owned(),
                };
                let time = walltime(value).ok_or_else(wrong)?;
                line.give("time", &time);
            }
            "mem" => line.give("mem", &memory(name, value)?),
            "pmem" => line.give("mem-per-cpu", &memory(name, value)?),
            "ncpus" => {
                line.give("cpus-per-task", &count(name, value)?.to_string());
            }
            "procs" => line.give("ntasks", &count(name, value)?.to_string()),
            "gpus" | "ngpus" => line.give("gpus-per-node", &count(name, value)?.to_string()),
            "place" => place(line, value),
            "" => {}
            name => line.unknown.push(format!("-l {name}")),
        }
    }
    Ok(())
}

/// Torque's `2:ppn=4:gpus=1`, or names of nodes with `+` between them.
fn nodes(line: &mut PbsLine, text: &str) -> Result<(), PbsError> {
    let wrong = || PbsError::Chunks {
        value: format!("nodes={text}"),
    };
    let chunks: Vec<&str> = text.split('+').collect();
    let first: Vec<&str> = text.split('+').next().unwrap_or_default().split(':').collect();
    let starts_with_digit = |chunk: &&str| chunk.starts_with(|letter: char| letter.is_ascii_digit());
    match chunks.iter().any(starts_with_digit) {
        true if chunks.len() > 1 => return Err(wrong()),
        true => line.give("nodes", &count("nodes", first[0])?.to_string()),
        false => {
            let names: Vec<&str> = chunks
                .iter()
                .map(|chunk| chunk.split(':').next().unwrap_or_default())
                .collect();
            let properties = |chunk: &&str| chunk.split(':').skip(1).collect::<Vec<_>>() == first[1..];
            if !chunks.iter().all(properties) {
                return Err(wrong());
            }
            line.give("nodes", &names.len().to_string());
            line.give("nodelist", &names.join(","));
        }
    }
    for property in &first[1..] {
        match property.split_once('=') {
            Some((name @ "ppn", value)) => line.give("ntasks-per-node", &count(name, value)?.to_string()),
            Some((name @ "gpus", value)) => line.give("gpus-per-node", &count(name, value)?.to_string()),
            // features of a node
            _ => line.give("constraint", property),
        }
    }
    Ok(())
}

/// PBS Pro's `2:ncpus=4:mpiprocs=2:mem=8gb:ngpus=1`: each chunk is a node here.
fn select(line: &mut PbsLine, text: &str) -> Result<(), PbsError> {
    if text.contains('+') {
        return Err(PbsError::Chunks {
            value: format!("select={text}"),
        });
    }
    let mut fields = text.split(':').peekable();
    let chunks = match fields.next_if(|field| !field.contains('=')) {
        Some(number) => count("select", number)?,
        None => 1,
    };
    line.give("nodes", &chunks.to_string());
    let (mut cpus, mut ranks) = (None, None);
    for field in fields {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        match name {
            "ncpus" => cpus = Some(count(name, value)?),
            "mpiprocs" => ranks = Some(count(name, value)?),
            "ngpus" => line.give("gpus-per-node", &count(name, value)?.to_string()),
            "mem" => line.give("mem", &memory(name, value)?),
            "host" => line.give("nodelist", value),
            // the threads of a rank follow from its cpus
            "ompthreads" => {}
            _ => line.unknown.push(format!("-l select:{name}")),
        }
    }
    let ranks = ranks.unwrap_or(1);
    line.give("ntasks-per-node", &ranks.to_string());
    if let Some(cpus) = cpus {
        line.give("cpus-per-task", &cpus.div_ceil(ranks).to_string());
    }
    Ok(())
}

/// `excl` and `exclhost`; where chunks lie otherwise is not for the job to say here.
fn place(line: &mut PbsLine, text: &str) {
    if text.split(':').any(|part| part == "excl" || part == "exclhost") {
        line.flag("exclusive");
    }
}

/// `3600`, `30:00`, `1:30:00`, `2:00:00:00`, as `H:M:S`.
fn walltime(text: &str) -> Option<String> {
    // fractions of a second are of no account
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    let number = |field: &str| {
        let plain = !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| field.parse::<u32>().ok())?
    };
    let fields: Vec<u32> = whole.split(':').map(number).collect::<Option<_>>()?;
    let (days, hours, minutes, seconds) = match *fields.as_slice() {
        [seconds] => (0, 0, 0, seconds),
        [minutes, seconds] => (0, 0, minutes, seconds),
        [hours, minutes, seconds] => (0, hours, minutes, seconds),
        [days, hours, minutes, seconds] => (days, hours, minutes, seconds),
        _ => return None,
    };
    Some(format!("{days}-{hours}:{minutes}:{seconds}"))
}

/// `8gb`, `512mb`, `1000000kb`, `4096` bytes, as KiB rounded up.
fn memory(name: &str, text: &str) -> Result<String, PbsError> {
    let wrong = || PbsError::Memory {
        name: name.to_owned(),
        value: text.to_owned(),
    };
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let unit: u64 = match unit {
        "" | "b" => 1,
        // a word has 8 bytes
        "w" => 8,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        "t" | "tb" => 1 << 40,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let bytes = number.checked_mul(unit).ok_or_else(wrong)?;
    Ok(format!("{}K", bytes.div_ceil(1024)))
}

fn count(name: &str, text: &str) -> Result<u32, PbsError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|&number| plain && number > 0);
    number.ok_or_else(|| PbsError::Count {
        name: name.to_owned(),
        value: text.to_owned(),
    })
}
