//! The lines: `cmd=get kvsname=job key=P0-businesscard`, words in any order, blanks between them.

use std::collections::BTreeMap;

/// Bytes of a line without its end, as the protocol has it.
pub(crate) const LINE_BYTES_MAX: usize = 1024;
/// Lengths that ranks are told. A value of that length fits into the line that puts it, with the longest key and name.
pub(crate) const NAME_BYTES_MAX: usize = 256;
pub(crate) const KEY_BYTES_MAX: usize = 64;
pub(crate) const VALUE_BYTES_MAX: usize =
    LINE_BYTES_MAX - "cmd=put kvsname= key= value=".len() - NAME_BYTES_MAX - KEY_BYTES_MAX;

/// What stands before a value in the answer to a get.
pub(crate) const FOUND: &str = "cmd=get_result rc=0 msg=success value=";
/// Bytes of a value for which that answer has room: whoever does not ask for the lengths may put so many.
pub(crate) const VALUE_BYTES_KEPT_MAX: usize = LINE_BYTES_MAX - FOUND.len();

/// What a rank asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The first line; the version that it speaks.
    Init { version: u32, subversion: u32 },
    /// The three lengths above.
    GetMaxes,
    /// Which of the programs started together it is.
    GetAppnum,
    /// How many ranks there could be.
    GetUniverseSize,
    /// The name of the space in which keys are put.
    GetMyKvsname,
    /// Publishes a value.
    Put { key: String, value: String },
    /// Asks for a value.
    Get { key: String },
    /// Waits for all others.
    Barrier,
    /// The farewell.
    Finalize,
    /// Ends the whole program.
    Abort { code: i32 },
    /// One that is answered with "no": the command, and what its answer is called.
    NotOffered { command: String },
}

/// Why a line is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("a line of more than {LINE_BYTES_MAX} bytes")]
    TooLong,
    #[error("no command in `{line}`")]
    NoCommand { line: String },
    #[error("`{command}` without `{word}`")]
    Missing { command: String, word: &'static str },
    #[error("`{command}` with `{word}={value}`")]
    Bad {
        command: String,
        word: &'static str,
        value: String,
    },
    #[error("the unknown command `{command}`")]
    Unknown { command: String },
}

/// The words of a line.
struct Words<'a> {
    command: &'a str,
    values: BTreeMap<&'a str, &'a str>,
}

impl Words<'_> {
    fn text(&self, word: &'static str) -> Result<&str, WireError> {
        let missing = || WireError::Missing {
            command: self.command.to_owned(),
            word,
        };
        self.values.get(word).copied().ok_or_else(missing)
    }

    fn number<T: std::str::FromStr>(&self, word: &'static str) -> Result<T, WireError> {
        let value = self.text(word)?;
        value.parse().map_err(|_| WireError::Bad {
            command: self.command.to_owned(),
            word,
            value: value.to_owned(),
        })
    }

    /// A text of at most so many bytes.
    fn bounded(&self, word: &'static str, bytes_max: usize) -> Result<String, WireError> {
        let value = self.text(word)?;
        match value.len() <= bytes_max {
            true => Ok(value.to_owned()),
            false => Err(WireError::Bad {
                command: self.command.to_owned(),
                word,
                value: format!("{}..", &value[..value.floor_char_boundary(20)]),
            }),
        }
    }
}

/// Reads a line.
pub(crate) fn parse(line: &str) -> Result<Ask, WireError> {
    if line.len() > LINE_BYTES_MAX {
        return Err(WireError::TooLong);
    }
    let values: BTreeMap<&str, &str> = line
        .split_ascii_whitespace()
        .filter_map(|word| word.split_once('='))
        .collect();
    let command = values.get("cmd").or_else(|| values.get("mcmd")).copied();
    let Some(command) = command else {
        return Err(WireError::NoCommand {
            line: line.to_owned(),
        });
    };
    let mut words = Words { command, values };
    Ok(match command {
        "init" => Ask::Init {
            version: words.number("pmi_version")?,
            subversion: words.number("pmi_subversion")?,
        },
        "get_maxes" => Ask::GetMaxes,
        "get_appnum" => Ask::GetAppnum,
        "get_universe_size" => Ask::GetUniverseSize,
        "get_my_kvsname" => Ask::GetMyKvsname,
        "put" => {
            words
                .values
                .extend(whole_value(line).map(|value| ("value", value)));
            Ask::Put {
                key: words.bounded("key", KEY_BYTES_MAX)?,
                value: words.text("value")?.to_owned(),
            }
        }
        "get" => Ask::Get {
            key: words.bounded("key", KEY_BYTES_MAX)?,
        },
        "barrier_in" => Ask::Barrier,
        "finalize" => Ask::Finalize,
        "abort" => Ask::Abort {
            code: words.number("exitcode").unwrap_or(1),
        },
        "publish_name" => not_offered("publish_result"),
        "unpublish_name" => not_offered("unpublish_result"),
        "lookup_name" => not_offered("lookup_result"),
        "spawn" => not_offered("spawn_result"),
        _ => {
            return Err(WireError::Unknown {
                command: command.to_owned(),
            });
        }
    })
}

/// What stands behind `value=`, up to the next word of a put or the end of the line: Open MPI's has blanks in it.
fn whole_value(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("value=")?;
    let next = [" cmd=", " kvsname=", " key="]
        .into_iter()
        .filter_map(|word| rest.find(word))
        .min();
    Some(rest[..next.unwrap_or(rest.len())].trim_end())
}

fn not_offered(answer: &str) -> Ask {
    Ask::NotOffered {
        command: answer.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_may_come_in_any_order_with_blanks_between() {
        let put = Ask::Put {
            key: "P0-businesscard".into(),
            value: "description#n1$port#4711$".into(),
        };
        for line in [
            "cmd=put kvsname=job key=P0-businesscard value=description#n1$port#4711$",
            "  value=description#n1$port#4711$   cmd=put key=P0-businesscard kvsname=job ",
        ] {
            assert_eq!(parse(line), Ok(put.clone()));
        }
        let get = Ask::Get { key: "a=b".into() };
        assert_eq!(parse("cmd=get kvsname=x key=a=b"), Ok(get));
    }

    #[test]
    fn a_value_may_have_blanks_in_it() {
        let put = |value: &str| Ask::Put {
            key: "k".into(),
            value: value.into(),
        };
        assert_eq!(parse("cmd=put kvsname=x key=k value=AA== -"), Ok(put("AA== -")));
        assert_eq!(parse("cmd=put value=a b key=k kvsname=x"), Ok(put("a b")));
    }

    #[test]
    fn what_is_no_line_of_the_protocol_is_named() {
        let said = |line: &str| parse(line).unwrap_err().to_string();
        assert_eq!(said("hello"), "no command in `hello`");
        assert_eq!(said("cmd=dance"), "the unknown command `dance`");
        assert_eq!(said("cmd=get kvsname=x"), "`get` without `key`");
        assert_eq!(
            said("cmd=init pmi_version=one pmi_subversion=1"),
            "`init` with `pmi_version=one`"
        );
        assert_eq!(said(&"x".repeat(1025)), "a line of more than 1024 bytes");
        let key = "k".repeat(65);
        assert_eq!(
            said(&format!("cmd=get key={key}")),
            format!("`get` with `key={}..`", &key[..20])
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(line in ".*") {
            let _ = parse(&line);
        }
    }
}
