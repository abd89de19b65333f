//! Who calls the built daemon: certificates, passwords, tokens, a real Keystone, and that no secret
//! comes out again.
#![forbid(unsafe_code)]

mod keystone;
mod local;
mod secrets;
mod site;
mod tls;
