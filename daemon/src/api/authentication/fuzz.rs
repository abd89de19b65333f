//! What says who calls, as a fuzzer has it: files of users, and Keystone's answers.

pub(in crate::api) use super::basic::fuzz::htpasswd;
pub(crate) use super::keystone::fuzz::answer as keystone_answer;
