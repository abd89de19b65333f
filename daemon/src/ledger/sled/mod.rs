//! The ledger on one machine.
