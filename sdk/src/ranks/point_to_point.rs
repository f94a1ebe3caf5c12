//! Messages from one rank to another: the part of [`Communicator`] that is not collective.

use super::communicator::Communicator;
use super::envelope::{Kind, Source, Status, Tag, Tags, Wanted};
use super::error::CommError;
use super::mailbox::Receive;
use super::matching::Message as Arrived;
use super::payload::{Lent, Message, Payload, Plain, Pouring};
use super::request::Request;

fn source_of(source: Source) -> Option<usize> {
    match source {
        Source::Any => None,
        Source::Rank(rank) => Some(rank),
    }
}

fn wanted(tags: Tags) -> Wanted {
    match tags {
        Tags::Any => Wanted::Any,
        Tags::One(tag) => Wanted::One(u64::from(tag)),
    }
}

fn value_of<T: Message>(message: Arrived) -> Result<(T, Status), CommError> {
    let status = message.status();
    Ok((message.payload.into_value()?, status))
}

fn vec_of<E: Plain>(message: Arrived) -> Result<(Vec<E>, Status), CommError> {
    let status = message.status();
    Ok((message.payload.into_vec()?, status))
}

impl Communicator {
    /// Sends `value` to the rank `to`: it is moved if that lives in this process, else encoded. Returns once it is on its
    /// way; waits only while [`LANE_MESSAGES_MAX`](super::LANE_MESSAGES_MAX) earlier messages of this rank are not received, or,
    /// by another node, 64 MiB of them.
    ///
    /// # Errors
    /// [`CommError::NoSuchRank`], [`CommError::RankEnded`], [`CommError::Revoked`], [`CommError::Encode`]; and
    /// [`CommError::MailboxFull`] instead of waiting for this rank itself.
    pub fn send<T: Message>(&self, to: usize, tag: Tag, value: T) -> Result<(), CommError> {
        let place = self.place(to)?;
        let payload = self.payload(place, value)?;
        self.dispatch(Kind::PointToPoint, place, u64::from(tag), payload)
    }

    /// Begins to send, and never waits.
    ///
    /// # Errors
    /// Like [`Communicator::send`], except that [`CommError::MailboxFull`] concerns every receiver.
    pub fn isend<T: Message>(&self, to: usize, tag: Tag, value: T) -> Result<Request<()>, CommError> {
        let place = self.place(to)?;
        let payload = self.payload(place, value)?;
        self.isend_payload(to, tag, payload)
    }

    /// Sends numbers: within a process they are copied, many of them while the receiver copies the first already; to another node
    /// they go as they lie in memory.
    /// [`receive_into`](Communicator::receive_into), [`receive_vec`](Communicator::receive_vec) and
    /// `receive::<Vec<E>>` take them.
    ///
    /// # Errors
    /// Like [`Communicator::send`].
    pub fn send_slice<E: Plain>(&self, to: usize, tag: Tag, numbers: &[E]) -> Result<(), CommError> {
        let place = self.place(to)?;
        if self.leave_few(place, tag, numbers)? {
            return Ok(());
        }
        let (payload, pouring) = self.payload_of_slice(place, numbers);
        self.dispatch(Kind::PointToPoint, place, u64::from(tag), payload)?;
        if let Some(pouring) = pouring {
            pouring.pour();
        }
        Ok(())
    }

    /// Sends numbers that the sender needs no more: within a process they are moved, not copied.
    ///
    /// # Errors
    /// Like [`Communicator::send`].
    pub fn send_vec<E: Plain>(&self, to: usize, tag: Tag, numbers: Vec<E>) -> Result<(), CommError> {
        let place = self.place(to)?;
        let payload = self.payload_of_vec(place, numbers);
        self.dispatch(Kind::PointToPoint, place, u64::from(tag), payload)
    }

    /// Begins to send numbers, and never waits.
    ///
    /// # Errors
    /// Like [`Communicator::isend`].
    pub fn isend_slice<E: Plain>(
        &self,
        to: usize,
        tag: Tag,
        numbers: &[E],
    ) -> Result<Request<()>, CommError> {
        let place = self.place(to)?;
        if self.leave_few(place, tag, numbers)? {
            return Ok(Request::done(self, Ok(())));
        }
        let (payload, pouring) = self.payload_of_slice(place, numbers);
        let request = self.isend_payload(to, tag, payload)?;
        if let Some(pouring) = pouring {
            pouring.pour();
        }
        Ok(request)
    }

    /// Begins to send numbers that the sender needs no more, and never waits.
    ///
    /// # Errors
    /// Like [`Communicator::isend`].
    pub fn isend_vec<E: Plain>(
        &self,
        to: usize,
        tag: Tag,
        numbers: Vec<E>,
    ) -> Result<Request<()>, CommError> {
        let payload = self.payload_of_vec(self.place(to)?, numbers);
        self.isend_payload(to, tag, payload)
    }

    /// Whether these are a few numbers that could be left for the rank at that place.
    fn leave_few<E: Plain>(&self, place: u32, tag: Tag, numbers: &[E]) -> Result<bool, CommError> {
        let leave = |numbers| self.leave(Kind::PointToPoint, place, u64::from(tag), &numbers);
        Lent::of(numbers).map_or(Ok(false), leave)
    }

    fn isend_payload(&self, to: usize, tag: Tag, payload: Payload) -> Result<Request<()>, CommError> {
        match self.try_dispatch(Kind::PointToPoint, self.place(to)?, u64::from(tag), payload)? {
            None => Ok(Request::done(self, Ok(()))),
            Some(_) => Err(CommError::MailboxFull { rank: to }),
        }
    }

    /// Waits for a message and returns its value.
    ///
    /// # Errors
    /// [`CommError::NoSuchRank`], [`CommError::RankEnded`], [`CommError::Revoked`], [`CommError::WrongType`],
    /// [`CommError::Decode`].
    pub fn receive<T: Message>(
        &self,
        source: impl Into<Source>,
        tag: impl Into<Tags>,
    ) -> Result<T, CommError> {
        self.receive_with_status(source, tag).map(|(value, _)| value)
    }

    /// Waits for a message and returns its value, and where it came from.
    ///
    /// # Errors
    /// Like [`Communicator::receive`].
    pub fn receive_with_status<T: Message>(
        &self,
        source: impl Into<Source>,
        tag: impl Into<Tags>,
    ) -> Result<(T, Status), CommError> {
        value_of(self.receive_any(source.into(), tag.into())?)
    }

    /// Waits for a message of numbers and returns them.
    ///
    /// # Errors
    /// Like [`Communicator::receive`].
    pub fn receive_vec<E: Plain>(
        &self,
        source: impl Into<Source>,
        tag: impl Into<Tags>,
    ) -> Result<(Vec<E>, Status), CommError> {
        vec_of(self.receive_any(source.into(), tag.into())?)
    }

    /// Waits for a message of numbers and copies them to the front of `buffer`; the status says how many they are.
    ///
    /// # Errors
    /// Like [`Communicator::receive`], and [`CommError::Truncated`] if they do not fit; `buffer` is as it was then.
    pub fn receive_into<E: Plain>(
        &self,
        source: impl Into<Source>,
        tag: impl Into<Tags>,
        buffer: &mut [E],
    ) -> Result<Status, CommError> {
        let (source, tag) = (source_of(source.into()), wanted(tag.into()));
        self.receive_numbers(Kind::PointToPoint, source, tag, buffer)
    }

    fn receive_any(&self, source: Source, tags: Tags) -> Result<Arrived, CommError> {
        self.receive_message(Kind::PointToPoint, source_of(source), wanted(tags))
    }

    /// Begins to receive a value.
    ///
    /// # Errors
    /// [`CommError::NoSuchRank`]; other errors are the request's.
    pub fn ireceive<T: Message>(
        &self,
        source: impl Into<Source>,
        tag: impl Into<Tags>,
    ) -> Result<Request<(T, Status)>, CommError> {
        self.ireceive_with(source.into(), tag.into(), value_of)
    }

    /// Begins to receive numbers.
    ///
    /// # Errors
    /// [`CommError::NoSuchRank`]; other errors are the request's.
    pub fn ireceive_vec<E: Plain>(
        &self,
        source: impl Into<Source>,
        tag: impl Into<Tags>,
    ) -> Result<Request<(Vec<E>, Status)>, CommError> {
        self.ireceive_with(source.into(), tag.into(), vec_of)
    }

    fn ireceive_with<T>(
        &self,
        source: Source,
        tags: Tags,
        finish: fn(Arrived) -> Result<T, CommError>,
    ) -> Result<Request<T>, CommError> {
        let receive = self.receive_or_post(Kind::PointToPoint, source_of(source), wanted(tags))?;
        Ok(match receive {
            Receive::Now(taken) => Request::got(self, self.endpoint().admit(taken), finish),
            Receive::Posted(ticket) => Request::posted(self, ticket, finish),
            Receive::Never(trouble) => Request::done(self, Err(self.error(trouble))),
        })
    }

    /// Sends to one rank and receives from another, or the same, at once: where all ranks do so nobody waits in vain.
    ///
    /// # Errors
    /// Like [`Communicator::send`] and [`Communicator::receive`].
    pub fn send_receive<T: Message, U: Message>(
        &self,
        to: usize,
        value: T,
        source: impl Into<Source>,
        tag: Tag,
    ) -> Result<U, CommError> {
        let request = self.ireceive::<U>(source, tag)?;
        self.send(to, tag, value)?;
        request.wait().map(|(value, _)| value)
    }

    /// Says what the next matching message is, without taking it, if it is there.
    ///
    /// # Errors
    /// [`CommError::NoSuchRank`], [`CommError::RankEnded`] if none can come any more, [`CommError::Revoked`].
    pub fn iprobe(
        &self,
        source: impl Into<Source>,
        tag: impl Into<Tags>,
    ) -> Result<Option<Status>, CommError> {
        self.look(source_of(source.into()), wanted(tag.into()))
    }

    /// Waits for a matching message and says what it is, without taking it.
    ///
    /// # Errors
    /// Like [`Communicator::iprobe`].
    pub fn probe(&self, source: impl Into<Source>, tag: impl Into<Tags>) -> Result<Status, CommError> {
        let (source, tag) = (source_of(source.into()), wanted(tag.into()));
        let mailbox = self.endpoint().mailbox();
        mailbox.set_probing(true);
        let seen = self.endpoint().wait_until(|| self.look(source, tag).transpose());
        mailbox.set_probing(false);
        seen
    }

    fn look(&self, source: Option<usize>, tag: Wanted) -> Result<Option<Status>, CommError> {
        let pattern = self.pattern(Kind::PointToPoint, source, tag);
        let needs = self.needs(source)?;
        let mailbox = self.endpoint().mailbox();
        let seen = mailbox.peek(&pattern, &needs, |needs| {
            self.hopeless(needs)
                .or_else(|| self.endpoint().gang().alone(needs))
        });
        seen.map_err(|trouble| self.error(trouble))
    }

    /// What carries `value` to that place.
    pub(super) fn payload<T: Message>(&self, place: u32, value: T) -> Result<Payload, CommError> {
        if self.is_near(place) {
            Ok(Payload::moved(value))
        } else {
            Payload::encoded(&value)
        }
    }

    /// What carries these numbers to that place, and what is to be poured into it once it is on its way.
    fn payload_of_slice<'a, E: Plain>(
        &'a self,
        place: u32,
        numbers: &'a [E],
    ) -> (Payload, Option<Pouring<'a>>) {
        if !self.is_near(place) {
            return (Payload::encoded_numbers(numbers), None);
        }
        match self.endpoint().parts().flow(numbers) {
            Some((payload, pouring)) => (payload, Some(pouring)),
            None => (Payload::numbers(numbers), None),
        }
    }

    /// What carries these numbers to that place.
    pub(super) fn payload_of_vec<E: Plain>(&self, place: u32, numbers: Vec<E>) -> Payload {
        if self.is_near(place) {
            Payload::vec(numbers)
        } else {
            Payload::encoded_vec(numbers)
        }
    }
}
