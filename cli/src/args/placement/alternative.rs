//! `--or`: what a task may need instead.

use std::str::FromStr;

use phalanx_protocol::Request;

use super::{GpuCount, GpuCountError};
use crate::args::values::{NamedResource, ValueError, parse_size};

/// What a task may need instead of what it needs first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Alternative {
    cpus: Option<u32>,
    memory_bytes: Option<u64>,
    gpus: Option<GpuCount>,
    resources: Vec<NamedResource>,
}

/// Why a text says nothing that a task could need; clap puts the text and the option before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AlternativeError {
    #[error("it is written NAME=VALUE, with commas between: cpus=16,memory=64G or gpus=1")]
    Form,
    #[error("`{0}` is no number of cpus, from 1")]
    Cpus(String),
    #[error(transparent)]
    Gpus(#[from] GpuCountError),
    #[error(transparent)]
    Value(#[from] ValueError),
    #[error("`{0}` is said twice")]
    Twice(String),
}

impl Alternative {
    /// The request, given the first one.
    pub(crate) fn of(&self, first: &Request) -> Request {
        let mut request = Request {
            cpus: self.cpus.unwrap_or(first.cpus),
            memory_bytes: self.memory_bytes.unwrap_or(first.memory_bytes),
            pin: first.pin,
            sharing: first.sharing,
            ..Request::default()
        };
        if let Some(gpus) = &self.gpus {
            request.add(&gpus.name(), gpus.amount);
        }
        for resource in &self.resources {
            request.add(&resource.name, resource.amount);
        }
        request
    }
}

impl FromStr for Alternative {
    type Err = AlternativeError;

    fn from_str(text: &str) -> Result<Self, AlternativeError> {
        let mut alternative = Self::default();
        let mut said = Vec::new();
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or(AlternativeError::Form)?;
            let (name, value) = (name.trim(), value.trim());
            // one of them is as good as several
            let name = match name {
                "cpu" => "cpus",
                "mem" => "memory",
                "gpu" => "gpus",
                other => other,
            };
            if said.contains(&name) {
                return Err(AlternativeError::Twice(name.to_owned()));
            }
            said.push(name);
            match name {
                "cpus" => {
                    let cpus = value.parse().ok().filter(|&cpus| cpus > 0);
                    let cpus = cpus.ok_or_else(|| AlternativeError::Cpus(value.to_owned()))?;
                    alternative.cpus = Some(cpus);
                }
                "memory" => alternative.memory_bytes = Some(parse_size(value)?),
                "gpus" => alternative.gpus = Some(value.parse()?),
                _ => alternative.resources.push(part.parse()?),
            }
        }
        Ok(alternative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Alternative, AlternativeError> {
        text.parse()
    }

    #[test]
    fn what_is_not_said_is_as_before_but_for_resources() {
        let mut first = Request {
            cpus: 2,
            memory_bytes: 8 << 30,
            ..Request::default()
        };
        first.add("gpu", "1".parse().unwrap());
        let wide = read("cpus=16").unwrap().of(&first);
        assert_eq!((wide.cpus, wide.memory_bytes), (16, 8 << 30));
        assert!(wide.named.is_empty());
        let other = read("gpus=a100:2, memory=1G,disk=0.5").unwrap().of(&first);
        assert_eq!((other.cpus, other.memory_bytes), (2, 1 << 30));
        let named: Vec<String> = other
            .named
            .iter()
            .map(|(name, amount)| format!("{name}={amount}"))
            .collect();
        assert_eq!(named, ["disk=0.5", "gpu=2", "gpu:a100=2"]);
    }

    #[test]
    fn one_of_several_is_called_as_several_are() {
        for (one, several) in [
            ("cpu=16", "cpus=16"),
            ("mem=8G,gpu=a100:2", "memory=8G,gpus=a100:2"),
        ] {
            assert_eq!(read(one), read(several), "{one}");
            assert!(read(one).is_ok());
        }
    }

    #[test]
    fn what_says_nothing_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "it is written NAME=VALUE"),
            ("16", "it is written NAME=VALUE"),
            ("cpus=0", "`0` is no number of cpus"),
            ("cpus=4,cpu=5", "`cpus` is said twice"),
            ("gpus=x y", "gpus are written"),
            ("memory=lots", "size"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
