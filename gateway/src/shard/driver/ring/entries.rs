//! Orders to the kernel: one ring entry each.
//!
//! This file contains `unsafe`: see the rules of [`super`].

use std::os::fd::AsRawFd;

use io_uring::types::Fd;
use io_uring::{opcode, squeue};
use tidegate_shard_router::ConnectionId;

use super::buffers::GROUP;
use super::flights::Payload;
use super::RingDriver;
use crate::shard::connection::GENERATION_BITS;
use crate::shard::driver::{Receive, RECEIVE_BYTES};

/// What an entry does; the top byte of its user data.
pub(super) mod operation {
    pub(in super::super) const ACCEPT: u64 = 1;
    pub(in super::super) const RECEIVE: u64 = 2;
    pub(in super::super) const SEND: u64 = 3;
    pub(in super::super) const CANCEL: u64 = 4;
    pub(in super::super) const BELL: u64 = 5;
}

/// Operation in 8 bits, generation in 24, index in 32.
pub(super) fn user_data(operation: u64, id: ConnectionId) -> u64 {
    debug_assert!(id.generation < 1 << GENERATION_BITS);
    operation << 56 | u64::from(id.generation) << 32 | u64::from(id.index)
}

pub(super) fn id_of(user_data: u64) -> ConnectionId {
    let generation = (user_data >> 32) as u32 & ((1 << GENERATION_BITS) - 1);
    ConnectionId {
        index: user_data as u32,
        generation,
    }
}

impl RingDriver {
    /// Queues an entry; a full queue is handed to the kernel first.
    fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: whatever the entry names stays valid until its last completion: see the module.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            if pushed.is_ok() {
                return;
            }
            self.calls.enter += 1;
            // A failure to submit shows again, and for good, in the next wait.
            if self.ring.submit().is_err() {
                std::thread::yield_now();
            }
        }
    }

    pub(super) fn arm_bell(&mut self) {
        let data = user_data(
            operation::BELL,
            ConnectionId {
                index: 0,
                generation: 0,
            },
        );
        let entry = opcode::PollAdd::new(Fd(self.bell.as_raw_fd()), libc::POLLIN as u32)
            .multi(true)
            .build();
        self.outstanding += 1;
        self.push(entry.user_data(data));
    }

    pub(super) fn arm_accept(&mut self, index: usize) {
        let listener = &mut self.listeners[index];
        let (Some(fd), false) = (&listener.fd, listener.armed) else {
            return;
        };
        let entry = opcode::AcceptMulti::new(Fd(fd.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build();
        listener.armed = true;
        self.outstanding += 1;
        self.calls.accept += 1;
        let id = ConnectionId {
            index: index as u32,
            generation: 0,
        };
        self.push(entry.user_data(user_data(operation::ACCEPT, id)));
    }

    pub(super) fn arm_receive(&mut self, id: ConnectionId) {
        let multishot = self.features.multishot_receive;
        let socket = self.socket(id);
        let (Some(fd), Some(how), None) = (&socket.fd, socket.wanted, socket.armed) else {
            return;
        };
        let fd = Fd(fd.as_raw_fd());
        socket.armed = Some(how);
        let entry = match how {
            Receive::Continuous if multishot => opcode::RecvMulti::new(fd, GROUP).build(),
            _ => opcode::Recv::new(fd, std::ptr::null_mut(), RECEIVE_BYTES as u32)
                .buf_group(GROUP)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT),
        };
        self.outstanding += 1;
        self.calls.receive += 1;
        self.push(entry.user_data(user_data(operation::RECEIVE, id)));
    }

    pub(super) fn cancel(&mut self, target: u64) {
        self.outstanding += 1;
        self.calls.cancel += 1;
        let data = user_data(
            operation::CANCEL,
            ConnectionId {
                index: 0,
                generation: 0,
            },
        );
        self.push(opcode::AsyncCancel::new(target).build().user_data(data));
    }

    pub(super) fn cancel_receive(&mut self, id: ConnectionId) {
        let socket = self.socket(id);
        if socket.armed.is_some() && !socket.cancelling {
            socket.cancelling = true;
            self.cancel(user_data(operation::RECEIVE, id));
        }
    }

    pub(super) fn push_send(&mut self, id: ConnectionId) {
        let socket = self.socket(id);
        let (Some(fd), flight) = (&socket.fd, socket.flight) else {
            return;
        };
        let fd = Fd(fd.as_raw_fd());
        let entry = match self.flights.payload(flight) {
            Payload::Single { bytes, len } => {
                self.calls.send += 1;
                opcode::Send::new(fd, bytes, len)
                    .flags(libc::MSG_NOSIGNAL)
                    .build()
            }
            Payload::Gathered(message) => {
                self.calls.send_gathered += 1;
                opcode::SendMsg::new(fd, message)
                    .flags(libc::MSG_NOSIGNAL as u32)
                    .build()
            }
        };
        self.outstanding += 1;
        self.push(entry.user_data(user_data(operation::SEND, id)));
    }
}
