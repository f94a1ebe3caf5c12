//! Colour, where there is a terminal for it. Never the only sign of anything.

/// How text is set off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Not at all.
    Plain,
    /// By the terminal's colours.
    Coloured,
}

/// What is set off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Heading,
    Good,
    Bad,
    Busy,
    Faint,
}

impl Style {
    /// The text in a tone.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Heading => "1",
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Busy => "36",
            Tone::Faint => "2",
        };
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// The tone of a job's state.
pub(crate) fn state_tone(state: &str) -> Tone {
    match state {
        "succeeded" => Tone::Good,
        "failed" | "broken" => Tone::Bad,
        "running" => Tone::Busy,
        "cancelled" => Tone::Faint,
        _ => Tone::Plain,
    }
}

/// Text from elsewhere, without anything that a terminal would obey: control characters are written as `\u{1b}`, and
/// further lines begin under the first by `indent`.
pub(crate) fn printable(text: &str, indent: usize) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.trim_end().chars() {
        match letter {
            '\n' => {
                safe.push('\n');
                safe.extend(std::iter::repeat_n(' ', indent));
            }
            '\t' => safe.push(' '),
            '\r' => {}
            _ if letter.is_control() => safe.extend(letter.escape_unicode()),
            _ => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_there_only_when_wanted() {
        assert_eq!(Style::Plain.paint(Tone::Bad, "failed"), "failed");
        assert_eq!(
            Style::Coloured.paint(Tone::Bad, "failed"),
            "\x1b[31mfailed\x1b[0m"
        );
        assert_eq!(Style::Coloured.paint(Tone::Plain, "waiting"), "waiting");
    }

    #[test]
    fn a_message_cannot_speak_to_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r\nc\td\n", 2), "a\\u{1b}[2Jb\n  c d");
    }
}
