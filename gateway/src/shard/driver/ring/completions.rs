//! Answers of the kernel: from completions to events.
//!
//! This file contains `unsafe` in one place: a descriptor the kernel has just made.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use io_uring::cqueue;
use tidegate_shard_router::ConnectionId;

use super::entries::{id_of, operation};
use super::flights::{Flight, NONE};
use super::RingDriver;
use crate::shard::driver::{Driver, Event, Receive, Received};

impl RingDriver {
    pub(super) fn completed(&mut self, entry: &cqueue::Entry) -> Option<Event> {
        let id = id_of(entry.user_data());
        if !cqueue::more(entry.flags()) {
            self.outstanding -= 1;
        }
        match entry.user_data() >> 56 {
            operation::ACCEPT => self.accept_completed(id.index as usize, entry),
            operation::RECEIVE => self.receive_completed(id, entry),
            operation::SEND => self.send_completed(id, entry),
            operation::BELL => {
                if !cqueue::more(entry.flags()) {
                    self.arm_bell();
                }
                None
            }
            // A cancel says nothing that the cancelled entry does not say itself.
            _ => None,
        }
    }

    fn accept_completed(&mut self, index: usize, entry: &cqueue::Entry) -> Option<Event> {
        let more = cqueue::more(entry.flags());
        let listener = &mut self.listeners[index];
        if !more {
            listener.armed = false;
            listener.cancelling = false;
        }
        let result = entry.result();
        let mut event = None;
        if result >= 0 {
            // SAFETY: the kernel just made this descriptor for us; nobody else knows it.
            let socket = unsafe { OwnedFd::from_raw_fd(result) };
            event = Some(Event::Accepted {
                listener: index,
                socket,
            });
        } else if matches!(
            -result,
            libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM
        ) {
            return Some(Event::AcceptStalled {
                error: io::Error::from_raw_os_error(-result),
            });
        }
        // Other errors are of connections that died in the backlog.
        if !more && self.accepting {
            self.arm_accept(index);
        }
        event
    }

    fn receive_completed(&mut self, id: ConnectionId, entry: &cqueue::Entry) -> Option<Event> {
        let (result, flags) = (entry.result(), entry.flags());
        let received = cqueue::buffer_select(flags).map(|buffer| Received {
            buffer,
            len: result.max(0) as u32,
        });
        let socket = &mut self.sockets[id.index as usize];
        let known = socket.fd.is_some() && socket.generation == id.generation;
        debug_assert!(known, "a slot is freed after its last completion");
        if !known {
            received
                .into_iter()
                .for_each(|received| self.recycle(received));
            return None;
        }
        let more = cqueue::more(flags);
        if !more {
            socket.armed = None;
            socket.cancelling = false;
        }
        let event = match (result, received) {
            (1.., Some(received)) if !socket.closing => {
                if socket.wanted == Some(Receive::Once) {
                    socket.wanted = None;
                }
                Some(Event::Received { id, received })
            }
            (result, received) => {
                // Taken by the kernel but of no use: closing, or an end that came with a buffer.
                received
                    .into_iter()
                    .for_each(|received| self.recycle(received));
                self.receive_ended(id, result)
            }
        };
        if !more {
            self.arm_receive(id);
            self.close_if_idle(id);
        }
        event
    }

    /// The peer's end of file, an error, or merely an end of this entry.
    fn receive_ended(&mut self, id: ConnectionId, result: i32) -> Option<Event> {
        let error = match -result {
            libc::ENOBUFS => {
                self.calls.buffers_short += 1;
                return None;
            }
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => return None,
            0 => None,
            code if code > 0 => Some(io::Error::from_raw_os_error(code)),
            _ => return None,
        };
        let socket = self.socket(id);
        socket.wanted = None;
        (!socket.closing).then_some(Event::Ended { id, error })
    }

    fn send_completed(&mut self, id: ConnectionId, entry: &cqueue::Entry) -> Option<Event> {
        let result = entry.result();
        let closing = self.socket(id).closing;
        if matches!(-result, libc::EINTR | libc::EAGAIN) && !closing {
            self.push_send(id);
            return None;
        }
        let slot = std::mem::replace(&mut self.socket(id).flight, NONE);
        let Flight {
            mut queue,
            sent_before,
            ..
        } = self.flights.land(slot);
        self.close_if_idle(id);
        if result < 0 {
            let error = io::Error::from_raw_os_error(-result);
            return Some(Event::SendFailed { id, error, queue });
        }
        queue.advance(result as usize);
        Some(Event::Sent {
            id,
            bytes: sent_before + result as usize,
            queue,
        })
    }
}
