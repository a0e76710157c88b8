//! What is wanted of a session from outside. Given by anybody, kept until the session takes it; it looks
//! at each event, so that must cost next to nothing: no lock, and nothing that all sessions share.

use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// One thing that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Order {
    /// To end when it is idle.
    Drain = 1,
    /// To end now, as an operator says.
    Kill = 2,
    /// To end now, as the gateway ends.
    Stop = 4,
}

/// What is wanted of one session and has not been taken by it.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// The bits of those.
    wanted: AtomicU8,
    session: AtomicWaker,
}

impl Orders {
    pub(super) fn give(&self, order: Order) {
        self.wanted.fetch_or(order as u8, Ordering::Release);
        self.session.wake();
    }

    /// The next one, what ends the session first. Each is given out once, to one task.
    pub(super) fn poll_next(&self, context: &Context<'_>) -> Poll<Order> {
        self.session.register(context.waker());
        if self.wanted.load(Ordering::Relaxed) == 0 {
            return Poll::Pending;
        }
        let taken = [Order::Stop, Order::Kill, Order::Drain].into_iter().find(|order| {
            let bit = *order as u8;
            self.wanted.fetch_and(!bit, Ordering::Acquire) & bit != 0
        });
        taken.map_or(Poll::Pending, Poll::Ready)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use futures_util::FutureExt as _;

    use super::*;

    async fn next(orders: &Orders) -> Order {
        poll_fn(|context| orders.poll_next(context)).await
    }

    #[tokio::test]
    async fn orders_are_taken_once_and_the_most_urgent_first() {
        let orders = Orders::default();
        for order in [Order::Drain, Order::Kill, Order::Drain, Order::Stop] {
            orders.give(order);
        }
        for order in [Order::Stop, Order::Kill, Order::Drain] {
            assert_eq!(next(&orders).await, order);
        }
        assert_eq!(next(&orders).now_or_never(), None);
    }

    #[tokio::test]
    async fn whoever_waits_is_woken() {
        let orders = Arc::new(Orders::default());
        let session = Arc::clone(&orders);
        let session = tokio::spawn(async move { next(&session).await });
        tokio::task::yield_now().await;
        assert!(!session.is_finished());
        orders.give(Order::Kill);
        assert_eq!(session.await.unwrap(), Order::Kill);
    }
}
