//! Bytes that a host of a gang may send, and another that takes them, without a network: for the fuzz targets.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, Waker};

use bytes::Bytes;
use phalanx_protocol::codec;
use phalanx_protocol::gang::Peers;
use tokio::sync::Notify;

use super::helm::Helm;
use super::inlet::Inlet;
use super::link::{Outgoing, QuicLink};
use super::wire::{EAGER_BYTES_MAX, FRAME_BYTES_MAX, Frame, Head, Lane, Load};
use crate::ranks::envelope::{Context, Envelope, Kind, Pattern, Wanted};
use crate::ranks::error::Ending;
use crate::ranks::gang::{Gang, Link, Member, Notice, Route};
use crate::ranks::mailbox::Mailbox;
use crate::ranks::matching::{Message, Trouble};
use crate::ranks::payload::{Encoded, Form, Payload};

/// The hosts of the ranks: two live here, two with the host that sends.
const HOSTS: [u32; 4] = [0, 0, 1, 1];
/// A rank here, and one there.
const NEAR: u32 = 0;
const FAR: u32 = 2;
const CONTEXT: Context = Context::new(0, Kind::PointToPoint);
const FORM: Form = Form {
    type_hash: 7,
    number_bytes: Some(8),
};

fn envelope(sender: u32) -> Envelope {
    Envelope {
        context: CONTEXT,
        source: sender,
        tag: 77,
        sender,
    }
}

/// The receiving host, to which the other owes two messages of its own.
fn inlet() -> Inlet {
    let link = Arc::new(QuicLink::new(Arc::new(Helm::new())));
    let members = HOSTS.map(|host| {
        let route = match host {
            0 => Route::Near(Mailbox::new(2, false)),
            _ => Route::Far(Arc::clone(&link) as Arc<dyn Link>),
        };
        Member::new(route, host)
    });
    for bytes in [8, EAGER_BYTES_MAX + 8] {
        let payload = Payload::Encoded(Box::new(Encoded {
            bytes: vec![0; bytes].into(),
            form: FORM,
            receipt: None,
        }));
        let envelope = envelope(NEAR);
        let carried = link.carry(FAR, Message { envelope, payload });
        assert!(carried.is_ok(), "there is room for two messages");
    }
    Inlet {
        host: 1,
        peers: Arc::new(Peers {
            here: 0,
            addresses: Vec::new(),
            hosts: HOSTS.to_vec(),
        }),
        gang: Arc::new(Gang::new(members.into(), vec![Arc::clone(&link) as _])),
        links: Arc::new(vec![None, Some(Arc::clone(&link))]),
        link,
        ended: Arc::new(Notify::new()),
    }
}

/// Takes in frames, each behind its length as two bytes, the low one first, up to the first one that a host must not send. If
/// the first byte is odd, ranks here receive what has come after each frame.
///
/// # Panics
/// If the host's part does, or it wants to send a frame that is too large.
pub fn take_frames(bytes: &[u8]) {
    let Some((manner, mut rest)) = bytes.split_first() else {
        return;
    };
    let inlet = inlet();
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(behind.len());
        let (frame, behind) = behind.split_at(length);
        rest = behind;
        if inlet.take(&Bytes::copy_from_slice(frame)).is_err() {
            return;
        }
        if manner % 2 == 1 {
            receive(&inlet.gang);
        }
        send(&inlet.link);
    }
    receive(&inlet.gang);
    send(&inlet.link);
    // whether more had to come is the sender's affair
    let _ = inlet.end();
}

fn receive(gang: &Gang) {
    let pattern = Pattern {
        context: CONTEXT,
        source: None,
        tag: Wanted::Any,
    };
    for mailbox in [0, 1].into_iter().filter_map(|place| gang.mailbox(place)) {
        // dropped outside of the lock
        while let Some(taken) = { mailbox.matching().take(&pattern) } {
            drop(taken);
        }
    }
}

/// Encodes what waits to be sent, as a session does.
fn send(link: &QuicLink) {
    let polled = pin!(link.outgoing()).poll(&mut Task::from_waker(Waker::noop()));
    let Poll::Ready(Some(batch)) = polled else { return };
    for outgoing in batch {
        let bytes = match outgoing {
            Outgoing::Frame(frame) => codec::encode(&frame).len(),
            Outgoing::Eager(head, bytes) => codec::encode(&Frame::Eager(head)).len() + bytes.len(),
            Outgoing::Bulk(bulk, _) => codec::encode(&bulk).len(),
        };
        assert!(bytes <= FRAME_BYTES_MAX, "a frame of {bytes} bytes");
    }
}

/// What [`take_frames`] takes: each kind of frame, as it is really sent, alone and after others.
pub fn sample_frames() -> Vec<Vec<u8>> {
    let head = Head {
        to: NEAR,
        envelope: envelope(FAR),
        form: FORM,
    };
    let lane = Lane {
        to: FAR,
        sender: NEAR,
        context: CONTEXT,
    };
    let announced = |id, bytes| (Frame::Announced { head, id, bytes }, &[][..]);
    let notice = |notice| (Frame::Notice(notice), &[][..]);
    let ended = |place, ending| notice(Notice::Ended { place, ending });
    let trouble = Trouble::Failed { place: FAR };
    let (communicator, first_tag) = (0, 3);
    let conversations = [
        vec![(Frame::Eager(head), &[1, 2, 3, 4, 5, 6, 7, 8][..])],
        vec![announced(0, 1 << 20), announced(1, 1 << 40)],
        vec![(Frame::Fetch { id: 0 }, &[])],
        vec![(Frame::Forgo { id: 0 }, &[])],
        vec![ended(FAR, Ending::Returned), ended(3, Ending::Lost)],
        vec![
            notice(Notice::Revoked { communicator }),
            notice(Notice::Broken {
                communicator,
                first_tag,
                trouble,
            }),
        ],
        vec![
            (Frame::Pressing(lane), &[]),
            (Frame::Returns(vec![(lane, Load::one(8, true))]), &[]),
        ],
        vec![
            (Frame::Eager(head), &[]),
            announced(0, 9),
            ended(FAR, Ending::Left),
            ended(3, Ending::Panicked),
        ],
    ];
    let streams = conversations.iter().flat_map(|frames| {
        [0, 1].map(|manner| {
            let mut stream = vec![manner];
            for (frame, behind) in frames {
                let bytes = [codec::encode(frame), behind.to_vec()].concat();
                stream.extend(u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes());
                stream.extend(bytes);
            }
            stream
        })
    });
    streams.collect()
}
