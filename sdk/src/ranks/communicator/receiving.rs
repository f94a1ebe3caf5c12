//! How a rank gets a message: it posts a receive, or waits for one.

use std::sync::Arc;

use super::Communicator;
use crate::ranks::envelope::{Kind, Pattern, Status, Wanted};
use crate::ranks::error::CommError;
use crate::ranks::mailbox::{Heard, Left, Receive};
use crate::ranks::matching::{Message, Needs, Outcome, Trouble};
use crate::ranks::payload::{Plain, copy_to_front};

/// A message that was waited for.
enum Received<'a> {
    /// It lies where its sender has left it.
    Left(Left<'a>),
    /// It is here, with all its bytes.
    Whole(Message),
}

impl Communicator {
    /// Takes a message or posts a receive. No source is any.
    pub(in crate::ranks) fn receive_or_post(
        &self,
        kind: Kind,
        source: Option<usize>,
        tag: Wanted,
    ) -> Result<Receive, CommError> {
        let pattern = self.pattern(kind, source, tag);
        let needs = self.needs(source)?;
        let ended = |needs: &Needs| self.hopeless(needs);
        Ok(self.endpoint.mailbox().receive(pattern, needs, ended))
    }

    pub(in crate::ranks) fn pattern(&self, kind: Kind, source: Option<usize>, tag: Wanted) -> Pattern {
        Pattern {
            context: self.traffic(kind),
            source: source.map(|source| source as u32),
            tag,
        }
    }

    /// Whose end ends a receive from there.
    pub(in crate::ranks) fn needs(&self, source: Option<usize>) -> Result<Needs, CommError> {
        Ok(match source {
            Some(source) => Needs::One(self.place(source)?),
            None => Needs::Any {
                group: Arc::clone(&self.group),
                receiver: self.endpoint.place,
            },
        })
    }

    /// Why nobody will send what is needed, if that is so.
    pub(in crate::ranks) fn hopeless(&self, needs: &Needs) -> Option<Trouble> {
        let acknowledged = self.acknowledged.borrow();
        self.endpoint
            .gang()
            .hopeless(needs, |place| acknowledged.contains(&place))
    }

    /// Waits for a message.
    pub(in crate::ranks) fn receive_message(
        &self,
        kind: Kind,
        source: Option<usize>,
        tag: Wanted,
    ) -> Result<Message, CommError> {
        Ok(match self.wait_for_message(kind, source, tag)? {
            Received::Left(left) => left.take(),
            Received::Whole(message) => message,
        })
    }

    /// Waits for a message of numbers and copies them to the front of `buffer`: a few from where their sender has left them.
    pub(in crate::ranks) fn receive_numbers<E: Plain>(
        &self,
        kind: Kind,
        source: Option<usize>,
        tag: Wanted,
        buffer: &mut [E],
    ) -> Result<Status, CommError> {
        let message = match self.wait_for_message(kind, source, tag)? {
            Received::Whole(message) => message,
            Received::Left(left) => {
                let opened = left.open(|message, beside| match message.payload.few::<E>(beside) {
                    Some(few) => Ok((message.envelope, few.and_then(|few| copy_to_front(few, buffer)))),
                    None => Err(message),
                });
                match opened {
                    Ok((envelope, length)) => return Ok(envelope.status(Some(length?))),
                    Err(message) => message,
                }
            }
        };
        let length = message.payload.copy_into(buffer)?;
        Ok(message.envelope.status(Some(length)))
    }

    fn wait_for_message(
        &self,
        kind: Kind,
        source: Option<usize>,
        tag: Wanted,
    ) -> Result<Received<'_>, CommError> {
        let taken = |taken| self.whole(Ok(self.endpoint.admit(taken)));
        if self.endpoint.gang().listens() {
            let (pattern, needs) = (self.pattern(kind, source, tag), self.needs(source)?);
            let mailbox = self.endpoint.mailbox();
            match mailbox.receive_listening(&pattern, || self.hopeless(&needs)) {
                Some(Ok(Heard::Left(left))) => return Ok(Received::Left(left)),
                Some(Ok(Heard::Taken(message))) => return taken(message),
                Some(Err(trouble)) => return Err(self.error(trouble)),
                None => {}
            }
        }
        match self.receive_or_post(kind, source, tag)? {
            Receive::Now(message) => taken(message),
            Receive::Posted(ticket) => self.whole(self.endpoint.wait_until(|| self.endpoint.outcome(ticket))),
            Receive::Never(trouble) => Err(self.error(trouble)),
        }
    }

    /// The message with all its bytes.
    fn whole(&self, outcome: Outcome) -> Result<Received<'_>, CommError> {
        let outcome = outcome.and_then(|message| self.endpoint.whole(message));
        outcome
            .map(Received::Whole)
            .map_err(|trouble| self.error(trouble))
    }
}
