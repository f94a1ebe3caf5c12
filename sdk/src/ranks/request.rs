//! Operations that go on while their rank does something else.

use std::rc::Rc;
use std::sync::Arc;

use super::communicator::{Communicator, Endpoint};
use super::error::CommError;
use super::group::Group;
use super::matching::{Message, Ticket};

/// Makes what the user gets of a message.
pub(super) type Finish<T> = fn(Message) -> Result<T, CommError>;

enum State<T> {
    /// Done, and not yet asked for.
    Done(Result<T, CommError>),
    /// A receive that waits.
    Posted(Ticket, Finish<T>),
    /// A receive that has got its message, of which not all is here.
    Coming(Message, Finish<T>),
    /// Its outcome was given away.
    Spent,
}

/// A send or a receive that may still go on.
///
/// It makes progress by itself. Dropping it gives the operation up: a message that a receive has got already is lost.
#[must_use = "dropping a request gives the operation up"]
pub struct Request<T> {
    endpoint: Rc<Endpoint>,
    group: Arc<Group>,
    state: State<T>,
}

impl<T> std::fmt::Debug for Request<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self.state {
            State::Done(_) => "Request(done)",
            State::Posted(..) => "Request(posted)",
            State::Coming(..) => "Request(coming)",
            State::Spent => "Request(spent)",
        })
    }
}

impl<T> Request<T> {
    pub(super) fn done(comm: &Communicator, outcome: Result<T, CommError>) -> Self {
        Request::new(comm, State::Done(outcome))
    }

    pub(super) fn posted(comm: &Communicator, ticket: Ticket, finish: Finish<T>) -> Self {
        Request::new(comm, State::Posted(ticket, finish))
    }

    /// A receive that has got its message, of which not all need be here.
    pub(super) fn got(comm: &Communicator, message: Message, finish: Finish<T>) -> Self {
        Request::new(comm, State::Coming(message, finish))
    }

    fn new(comm: &Communicator, state: State<T>) -> Self {
        Request {
            endpoint: Rc::clone(comm.endpoint()),
            group: Arc::clone(comm.group()),
            state,
        }
    }

    /// Waits for the end of the operation.
    ///
    /// # Errors
    /// What the operation failed with.
    ///
    /// # Panics
    /// If the outcome was given away by [`Request::test`] or [`wait_any`].
    pub fn wait(mut self) -> Result<T, CommError> {
        let endpoint = Rc::clone(&self.endpoint);
        endpoint.wait_until(|| self.test())
    }

    /// The outcome, if the operation has ended: once. It gives what [`Request::wait`] would.
    ///
    /// # Panics
    /// If the outcome was given away before.
    pub fn test(&mut self) -> Option<Result<T, CommError>> {
        assert!(
            !self.is_spent(),
            "the outcome of this request was given away before"
        );
        self.poll()
    }

    /// Whether the outcome was given away.
    pub fn is_spent(&self) -> bool {
        matches!(self.state, State::Spent)
    }

    fn poll(&mut self) -> Option<Result<T, CommError>> {
        match std::mem::replace(&mut self.state, State::Spent) {
            State::Done(outcome) => Some(outcome),
            State::Posted(ticket, finish) => match self.endpoint.outcome(ticket) {
                Some(Ok(message)) => self.finish(message, finish),
                Some(Err(trouble)) => Some(Err(self.endpoint.error(trouble, &self.group))),
                None => {
                    self.state = State::Posted(ticket, finish);
                    None
                }
            },
            State::Coming(message, finish) => self.finish(message, finish),
            State::Spent => None,
        }
    }

    fn finish(&mut self, message: Message, finish: Finish<T>) -> Option<Result<T, CommError>> {
        match message.whole() {
            Ok(Ok(message)) => Some(finish(message)),
            Ok(Err(trouble)) => Some(Err(self.endpoint.error(trouble, &self.group))),
            Err(coming) => {
                self.state = State::Coming(coming, finish);
                None
            }
        }
    }
}

impl<T> Drop for Request<T> {
    fn drop(&mut self) {
        if let State::Posted(ticket, _) = self.state {
            self.endpoint.mailbox().matching().cancel(ticket);
        }
    }
}

/// Waits for all of these and returns what they gave, in order.
///
/// # Errors
/// The first failure, in the order of the requests; those behind it are given up.
///
/// # Panics
/// If the outcome of one was given away before.
pub fn wait_all<T>(requests: impl IntoIterator<Item = Request<T>>) -> Result<Vec<T>, CommError> {
    requests.into_iter().map(Request::wait).collect()
}

/// Waits until one of these ends whose outcome was not given away yet, and returns its index and outcome; nothing if all
/// were.
pub fn wait_any<T>(requests: &mut [Request<T>]) -> Option<(usize, Result<T, CommError>)> {
    let first = requests.iter().find(|request| !request.is_spent())?;
    let endpoint = Rc::clone(&first.endpoint);
    let outcome = endpoint.wait_until(|| {
        let mut open = requests.iter_mut().enumerate();
        open.find_map(|(index, request)| Some((index, request.poll()?)))
    });
    Some(outcome)
}
