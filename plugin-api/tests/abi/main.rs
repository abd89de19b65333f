//! The C side of the interface: its layout, its header, and a module written in C.

#[cfg(target_pointer_width = "64")]
mod c_module;
#[cfg(target_pointer_width = "64")]
mod header;
#[cfg(target_pointer_width = "64")]
mod layout;
mod support;
