//! Who we are, to Keystone, and where it says that the others are.
//!
//! A token is asked for when it is needed, by one thread for all, kept until shortly before it
//! expires, and asked for anew when a server does not take it any more.

mod catalogue;
mod login;
mod session;
mod token;

pub(crate) use catalogue::{Endpoint, Interface};
pub(crate) use login::{Domain, Login, Name, Project, User};
pub(crate) use session::Session;
pub(crate) use token::Token;
