//! Listening sockets that are there already: opened by systemd, or by the process before this one.
//!
//! A socket is known by its local address. What the process before hands over wins over what
//! systemd has opened, and both over binding: there a client may wait already.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};

/// The sockets that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inherited {
    handed_over: HashMap<SocketAddr, TcpListener>,
    activated: HashMap<SocketAddr, TcpListener>,
}

impl Inherited {
    /// Adds one of the process before.
    ///
    /// # Errors
    ///
    /// If it has no local address.
    pub fn hand_over(&mut self, listener: TcpListener) -> io::Result<()> {
        self.handed_over.insert(listener.local_addr()?, listener);
        Ok(())
    }

    /// Adds one of systemd's.
    ///
    /// # Errors
    ///
    /// If it has no local address.
    pub fn activate(&mut self, listener: TcpListener) -> io::Result<()> {
        self.activated.insert(listener.local_addr()?, listener);
        Ok(())
    }

    /// The socket that listens there, if there is one.
    pub fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let activated = self.activated.remove(&address);
        self.handed_over.remove(&address).or(activated)
    }

    /// Where systemd listens for nobody.
    pub fn unclaimed(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<_> = self.activated.keys().copied().collect();
        addresses.sort_unstable();
        addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_wins_and_what_nobody_takes_is_told() {
        let [one, two] = [0; 2].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap());
        let [at, elsewhere] = [&one, &two].map(|listener| listener.local_addr().unwrap());
        let mut inherited = Inherited::default();
        inherited.activate(one.try_clone().unwrap()).unwrap();
        inherited.hand_over(one).unwrap();
        inherited.activate(two).unwrap();
        assert!(inherited.take(at).is_some());
        assert!(inherited.take(at).is_none(), "nor the other one");
        assert_eq!(inherited.unclaimed(), [elsewhere]);
    }
}
