//! Whole transfers between a client and an upstream that are sockets of the test.

mod active;
mod ascii;
mod protected;
mod stand;
mod worked;
