use super::support::*;
use crate::ledger::{Ledger, NewScope, Scope, ScopeChange};

fn the_scope(ledger: &dyn Ledger, name: &str) -> Scope {
    ledger.scopes().unwrap().into_iter().find(|other| other.id == scope(name)).unwrap()
}

#[test]
fn a_scope_shows_what_its_creator_said_until_a_period_is_in() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    ledger.set_metrics(&[metric("cpu")]).unwrap();
    let said = at(3) + chrono::TimeDelta::milliseconds(500);
    let created = NewScope {
        first_period: at(4),
        last_processed: Some(said),
        active: false,
        ..new_scope("ann")
    };
    ledger.add_scopes(&[created]).unwrap();
    assert_eq!(ledger.cursors().unwrap().next_begin_secs[&metric("cpu")], [at(4).timestamp()]);
    drop(ledger);

    let ledger = open(folder.path());

    assert_eq!(the_scope(&ledger, "ann").last_processed, Some(said));
    assert!(!the_scope(&ledger, "ann").active);
    ledger.set_metrics(&[metric("cpu"), metric("disk")]).unwrap();
    assert_eq!(the_scope(&ledger, "ann").last_processed, Some(said));
    for name in ["cpu", "disk"] {
        ledger.commit(vec![slice(name, hour(4), &["ann"], &[])]).unwrap();
    }
    assert_eq!(the_scope(&ledger, "ann").last_processed, Some(at(4)));
}

#[test]
fn a_change_of_a_scope_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    ledger.add_scopes(&[new_scope("ann"), new_scope("bob")]).unwrap();
    let change = ScopeChange {
        fetcher: Some("other".to_owned()),
        active: Some((false, at(7))),
        ..ScopeChange::default()
    };

    let changed = ledger.change_scope(&scope("bob"), &change).unwrap().unwrap();

    assert_eq!((changed.fetcher.as_str(), changed.active), ("other", false));
    assert_eq!(changed.activation_toggled, at(7));
    assert_eq!(changed.collector, "host");
    let again = ScopeChange { active: Some((false, at(9))), ..ScopeChange::default() };
    assert_eq!(ledger.change_scope(&scope("bob"), &again).unwrap(), Some(changed.clone()));
    assert_eq!(ledger.change_scope(&scope("eve"), &again).unwrap(), None);
    let before = ledger.scopes().unwrap();
    drop(ledger);
    let reopened = open(folder.path());
    assert_eq!(reopened.scopes().unwrap(), before);
    assert_eq!(the_scope(&reopened, "bob"), changed);
}
