//! Audits and explanations over a real ledger, with modules that can be told what to do.

mod proofs;
mod reasons;
mod support;
