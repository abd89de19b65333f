use super::actions::SHARED_RULES;
use super::*;
use crate::api::caller::Identity;

fn policy(text: &str) -> Policy {
    let rules = Rules::parse(text).unwrap();
    Policy { default: Arc::new(rules), file: None }
}

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
    let policy = policy("");
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
    let open = policy("\"summary:get_summary\" = \"@\"");

    let admitted = |caller: &Caller| open.admit(caller, &GET_SUMMARY);
    let own = Sight::Own(ScopeId::new("p1").unwrap());
    assert_eq!(admitted(&known(Some("p1"), &[])).unwrap(), own);
    assert!(matches!(admitted(&known(None, &[])), Err(Failure::Forbidden(_))));
}

#[test]
fn without_a_rule_nobody_is_let_in() {
    let none = Policy { default: Arc::new(Rules(BTreeMap::new())), file: None };

    assert!(none.admit(&known(Some("p1"), &["admin"]), &GET_CONFIG).is_err());
}

#[test]
fn a_file_is_read_again() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |text: &str| std::fs::write(file.path(), text).unwrap();
    write("\"info:get_config\" = \"role:admin\"");
    let policy = Policy::load(Some(file.path())).unwrap();
    let is_admitted = || policy.admit(&known(Some("p1"), &[]), &GET_CONFIG).is_ok();
    assert!(!is_admitted());

    write("\"info:get_config\" = ");
    policy.reread();
    assert!(!is_admitted());
    write("");
    policy.reread();

    assert!(is_admitted());
}

/// The sample shows every rule with its default.
#[test]
fn the_sample_file_is_what_holds_without_it() {
    let sample = include_str!("../../../../config/policy.toml");
    let shown: Vec<&str> = sample
        .lines()
        .filter_map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')))
        .collect();
    let shown = shown.join("\n");
    let table: toml::Table = shown.parse().unwrap();

    let shown: BTreeMap<&str, &str> =
        table.iter().map(|(name, text)| (name.as_str(), text.as_str().unwrap())).collect();
    let known = ACTIONS.iter().map(|action| (action.name, action.rule)).chain(SHARED_RULES);
    assert_eq!(shown, known.collect());
    assert_eq!(Rules::parse(sample).unwrap(), Rules::default());
}
