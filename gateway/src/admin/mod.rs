//! The HTTP side: metrics and health, on a thread beside the shards.

mod problem;
mod routes;
mod server;
mod state;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tidegate::node::NodeControl;

use crate::metrics::Metrics;
use state::Phase;
pub(crate) use state::State;

/// The admin port, bound but silent. Binding comes first at start, so that a taken port is told before any client
/// is let in.
#[derive(Debug)]
pub(crate) struct Admin {
    listener: TcpListener,
    state: Arc<State>,
}

impl Admin {
    pub(crate) fn bind(addr: SocketAddr) -> io::Result<Admin> {
        let listener = TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        Ok(Admin {
            listener,
            state: Arc::new(State::new()),
        })
    }

    /// The bound address: its port is never 0.
    pub(crate) fn addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What the rest of the process tells the admin side.
    pub(crate) fn state(&self) -> Arc<State> {
        self.state.clone()
    }

    /// Answers from now on, for the life of the process.
    pub(crate) fn serve(self) -> io::Result<()> {
        let router = routes::router(self.state);
        server::spawn(self.listener, router)
    }
}

impl State {
    /// The node serves; metrics can be asked for.
    pub(crate) fn serving(&self, control: NodeControl, shards: u16) {
        self.set_metrics(Metrics::new(control, shards));
        self.set_phase(Phase::Serving);
    }

    /// No new client is taken any more.
    pub(crate) fn draining(&self) {
        self.set_phase(Phase::Draining);
    }
}
