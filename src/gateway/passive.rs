//! temporary
use super::data_socket;
use crate::config::Passive;
use crate::observe::metrics::Metrics;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// x
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on passive port {0}: {1}")]
pub struct BindError(SocketAddr, std::io::Error);
#[derive(Debug, Clone)]
pub(super) struct PassivePool(Arc<Inner>);
#[derive(Debug)]
struct Inner {
    listeners: Mutex<Vec<(u16, TcpListener)>>,
    table: Mutex<Table>,
    reservation: Duration,
    wait: Duration,
    metrics: Metrics,
    ports: Vec<u16>,
}
#[derive(Debug, Default)]
struct Table {
    slots: HashMap<(IpAddr, u16), oneshot::Sender<TcpStream>>,
    waiters: HashMap<IpAddr, VecDeque<oneshot::Sender<()>>>,
    next: usize,
}
#[derive(Debug)]
pub(super) struct Exhausted;
#[derive(Debug)]
pub(super) struct Expired;
#[derive(Debug)]
pub(super) struct Reservation {
    pool: Arc<Inner>,
    client: IpAddr,
    port: u16,
    until: Instant,
    stream: oneshot::Receiver<TcpStream>,
}
impl PassivePool {
    pub(super) fn bind(ip: IpAddr, config: &Passive, metrics: Metrics) -> Result<Self, BindError> {
        let mut listeners = Vec::new();
        for port in config.ports.clone() {
            listeners.push((
                port,
                data_socket::listen(ip, port, 1024)
                    .map_err(|e| BindError(SocketAddr::new(ip, port), e))?,
            ));
        }
        Ok(Self(Arc::new(Inner {
            listeners: Mutex::new(listeners),
            table: Mutex::default(),
            reservation: config.reservation,
            wait: config.wait,
            metrics,
            ports: config.ports.clone().collect(),
        })))
    }
    pub(super) fn serve(&self, tracker: &TaskTracker, closed: &CancellationToken) {
        for (port, listener) in
            std::mem::take(&mut *self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner))
        {
            let (pool, closed) = (Arc::clone(&self.0), closed.clone());
            tracker.spawn(async move { loop {
                tokio::select! {
                    () = closed.cancelled() => return,
                    accepted = listener.accept() => match accepted {
                        Ok((stream, client)) => {
                            let slot = pool.table.lock().unwrap_or_else(PoisonError::into_inner).slots.remove(&(client.ip(), port));
                            match slot { Some(slot) => { let _ = slot.send(stream); pool.freed(client.ip()); } None => pool.metrics.passive_stranger() }
                        }
                        Err(_) => sleep(Duration::from_millis(100)).await,
                    }
                }
            }});
        }
    }
    pub(super) async fn reserve(&self, client: IpAddr) -> Result<Reservation, Exhausted> {
        timeout(self.0.wait, async {
            loop {
                let rx = {
                    let mut table = self.0.table.lock().unwrap_or_else(PoisonError::into_inner);
                    table.next += 1;
                    let n = self.0.ports.len();
                    let free = (0..n)
                        .filter_map(|i| self.0.ports.get((table.next + i) % n).copied())
                        .find(|p| !table.slots.contains_key(&(client, *p)));
                    if let Some(port) = free {
                        let (tx, stream) = oneshot::channel();
                        table.slots.insert((client, port), tx);
                        self.0.metrics.passive_reserved(true);
                        return Reservation {
                            pool: Arc::clone(&self.0),
                            client,
                            port,
                            until: Instant::now() + self.0.reservation,
                            stream,
                        };
                    }
                    let (tx, rx) = oneshot::channel();
                    table.waiters.entry(client).or_default().push_back(tx);
                    rx
                };
                let _ = rx.await;
            }
        })
        .await
        .map_err(|_| Exhausted)
    }
}
impl Inner {
    fn freed(&self, client: IpAddr) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(w) = table.waiters.get_mut(&client) {
            while let Some(tx) = w.pop_front() {
                if tx.send(()).is_ok() {
                    return;
                }
            }
            table.waiters.remove(&client);
        }
    }
}
impl Reservation {
    pub(super) fn port(&self) -> u16 {
        self.port
    }
    pub(super) async fn accepted(&mut self) -> Result<TcpStream, Expired> {
        match timeout_at(self.until, &mut self.stream).await {
            Ok(Ok(s)) => Ok(s),
            _ => Err(Expired),
        }
    }
}
impl Drop for Reservation {
    fn drop(&mut self) {
        self.pool.metrics.passive_reserved(false);
        let removed = {
            let mut t = self.pool.table.lock().unwrap_or_else(PoisonError::into_inner);
            match t.slots.get(&(self.client, self.port)) {
                Some(s) if s.is_closed() => t.slots.remove(&(self.client, self.port)).is_some(),
                _ => false,
            }
        };
        let _ = removed;
        self.stream.close();
        let mine = {
            let mut t = self.pool.table.lock().unwrap_or_else(PoisonError::into_inner);
            match t.slots.get(&(self.client, self.port)) {
                Some(s) if s.is_closed() => t.slots.remove(&(self.client, self.port)).is_some(),
                _ => false,
            }
        };
        if mine {
            self.pool.freed(self.client);
        }
    }
}
