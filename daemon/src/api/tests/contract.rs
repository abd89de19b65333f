//! The recorded examples, area by area. Where the files differ from the record, a remark says why.

use super::replay::replay;
use super::setup::{
    empty, empty_on_disk, with_rows, with_rows_on_disk, with_scopes, with_scopes_on_disk,
};

macro_rules! contract {
    ($name:ident, $api:ident) => {
        #[tokio::test]
        async fn $name() {
            let file = concat!(stringify!($name), ".md");
            let text = include_str!(concat!("contract/", stringify!($name), ".md"));
            replay(&$api(), file, text).await;
        }
    };
}

contract!(collector, empty);
contract!(cors, empty);
contract!(dataframes, with_rows_on_disk);
contract!(dataframes_push, empty_on_disk);
contract!(info, empty);
contract!(modules, empty);
contract!(modules_v2, empty);
contract!(negotiation, empty);
contract!(quote, empty);
contract!(report, with_rows);
contract!(reprocess, with_scopes_on_disk);
contract!(root, empty);
contract!(scope, with_scopes);
contract!(scope_change, with_scopes_on_disk);
contract!(scope_create, with_scopes_on_disk);
contract!(scope_reset, with_scopes_on_disk);
contract!(summary, with_rows);

#[tokio::test]
async fn the_ledger_on_disk_gives_the_same_figures() {
    replay(&with_rows_on_disk(), "report.md", include_str!("contract/report.md")).await;
    replay(&with_rows_on_disk(), "summary.md", include_str!("contract/summary.md")).await;
}
