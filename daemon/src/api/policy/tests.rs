use super::*;
use crate::api::caller::Identity;

fn known(project_id: Option<&str>, roles: &[&str]) -> Caller {
    Caller::Known(Identity {
        user_id: "u".to_owned(),
        project_id: project_id.map(str::to_owned),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
    })
}

#[test]
fn every_action_has_a_name_of_its_own() {
    let mut names: Vec<&str> = ACTIONS.iter().map(|action| action.name).collect();
    names.sort_unstable();
    names.dedup();

    assert_eq!(names.len(), ACTIONS.len());
}

#[test]
fn a_caller_sees_what_is_theirs() {
    let policy = Policy::default();
    let own = |id: &str| Sight::Own(ScopeId::new(id).unwrap());

    assert_eq!(policy.sight(&Caller::Everybody), Sight::Everything);
    assert_eq!(policy.sight(&Caller::Anonymous), Sight::Nothing);
    assert_eq!(policy.sight(&known(None, &["reader"])), Sight::Nothing);
    assert_eq!(policy.sight(&known(Some("p1"), &["reader"])), own("p1"));
    assert_eq!(policy.sight(&known(Some("p1"), &["ADMIN"])), Sight::Everything);
    // No scope has such an id, and one without a name must not stand for all.
    assert_eq!(policy.sight(&known(Some(""), &["reader"])), Sight::Nothing);
}

#[test]
fn a_rule_that_lets_all_in_shows_nobody_what_others_pay() {
    let open = Policy::load_text("\"summary:get_summary\" = \"@\"");

    let admitted = |caller: &Caller| open.admit(caller, &GET_SUMMARY);
    let own = Sight::Own(ScopeId::new("p1").unwrap());
    assert_eq!(admitted(&known(Some("p1"), &[])).unwrap(), own);
    assert!(matches!(admitted(&known(None, &[])), Err(Failure::Forbidden(_))));
}

#[test]
fn without_a_rule_nobody_is_let_in() {
    let none = Policy { rules: BTreeMap::new() };

    assert!(none.admit(&known(Some("p1"), &["admin"]), &GET_CONFIG).is_err());
}
