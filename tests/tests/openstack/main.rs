//! Real Keystone and Gnocchi: that they are what the tests take them for, and bills from them.
#![forbid(unsafe_code)]

mod bills;
mod clients;
mod cloud;
mod faults;
mod options;
mod prices;
mod projects;
mod servers;
mod spoiled;
mod tokens;
