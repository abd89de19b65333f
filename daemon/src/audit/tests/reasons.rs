//! What is told of the way to a price.

use rust_decimal::Decimal;

use super::support::*;
use crate::rating::Told;

#[test]
fn steps_are_told_with_the_rules_of_their_time() {
    let fixture = Fixture::new();
    fixture.set_price("0.1");
    fixture.store(0, TWO, "0");
    fixture.set_price("0.2");
    fixture.store(1, TWO, "0");

    let page = fixture.explain("a", 1, 2);

    assert_eq!((page.total, page.groups.len()), (4, 2));
    let told: Vec<(usize, u64, Decimal)> = page
        .groups
        .iter()
        .flat_map(|group| group.rows.iter().map(move |row| (group, row)))
        .map(|(group, row)| {
            assert_eq!(row.computed(), row.stored);
            let Told::Steps(steps) = &row.reasons[0].told else { panic!("{row:?}") };
            let rule = &steps[0].operands[1];
            (group.first_row, group.group.rated_by[0].revision, rule.value)
        })
        .collect();
    assert_eq!(told, [(1, 1, decimal("0.1")), (0, 2, decimal("0.2"))]);
}

#[test]
fn reasons_that_do_not_lead_to_the_price_are_not_told() {
    let fixture = Fixture::new();
    fixture.set_price("0.1");
    fixture.store(0, TWO, "0");
    fixture.change(|module| module.lies = true);

    let page = fixture.explain("a", 0, 10);

    let row = &page.groups[0].rows[1];
    assert_eq!(row.computed(), decimal("0.3"));
    assert_eq!(row.reasons[0].told, Told::Wrong("the steps lead to 3".to_owned()));
}
