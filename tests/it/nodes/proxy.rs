//! A network between a node and its database that a test can freeze, cut and heal.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Passing,
    /// Bytes are taken and not passed on, as on a network that loses every packet.
    Frozen,
    /// Connections are reset, and no new one comes about.
    Cut,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    open: Mutex<Vec<TcpStream>>,
}

/// A proxy in front of one port.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    pub fn before(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            state: Mutex::new(State::Passing),
            changed: Condvar::new(),
            open: Mutex::default(),
        });
        let own = Arc::clone(&shared);
        thread::spawn(move || {
            for inner in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&own);
                thread::spawn(move || shared.pass_on(&inner, target));
            }
        });
        Self { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn freeze(&self) {
        self.shared.set(State::Frozen);
    }

    pub fn cut(&self) {
        self.shared.set(State::Cut);
        for stream in self.shared.open.lock().unwrap().drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    pub fn heal(&self) {
        self.shared.set(State::Passing);
    }
}

impl Shared {
    fn set(&self, state: State) {
        *self.state.lock().unwrap() = state;
        self.changed.notify_all();
    }

    /// Waits while the network is frozen. Returns whether it passes bytes on.
    fn passes(&self) -> bool {
        let state = self.state.lock().unwrap();
        let state = self
            .changed
            .wait_while(state, |state| *state == State::Frozen)
            .unwrap();
        *state == State::Passing
    }

    fn pass_on(self: &Arc<Self>, inner: &TcpStream, target: u16) {
        if !self.passes() {
            return;
        }
        let Ok(outer) = TcpStream::connect(("127.0.0.1", target)) else {
            return;
        };
        for stream in [inner, &outer] {
            drop(stream.set_nodelay(true));
            self.open.lock().unwrap().extend(stream.try_clone());
        }
        let (Ok(from), Ok(to)) = (outer.try_clone(), inner.try_clone()) else {
            return;
        };
        let shared = Arc::clone(self);
        let back = thread::spawn(move || shared.pump(from, to));
        self.pump(inner.try_clone().unwrap(), outer);
        drop(back.join());
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 16_384];
        while let Ok(read) = from.read(&mut buffer)
            && read > 0
            && self.passes()
            && to.write_all(&buffer[..read]).is_ok()
        {}
        for stream in [from, to] {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}
