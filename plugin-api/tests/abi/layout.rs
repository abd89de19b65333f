//! Every field of every struct of the interface stands where it stood.
//!
//! `UPDATE_HEADER=1 cargo nextest run -p rated-plugin` rewrites the table. A line may be added for
//! an appended field; a changed line breaks every plugin there is.
use std::fmt::Write;
use std::mem::offset_of;

use crate::support::committed;
use rated_plugin::raw::*;

struct Layout {
    rust: &'static str,
    c: &'static str,
    size: usize,
    fields: Vec<(&'static str, usize)>,
}

macro_rules! layouts {
    ($($name:ident as $c:ident { $($field:ident),* })*) => {
        vec![$({
            // A field that the list lacks does not compile.
            let _ = |value: $name| { let $name { $($field: _),* } = value; };
            Layout {
                rust: stringify!($name),
                c: stringify!($c),
                size: size_of::<$name>(),
                fields: vec![$((stringify!($field), offset_of!($name, $field))),*],
            }
        }),*]
    };
}

fn layouts() -> Vec<Layout> {
    layouts! {
        Bytes as RatedBytes { ptr, len }
        Buffer as RatedBuffer { ptr, len, release, private_data }
        RawError as RatedError { status, flags, message }
        RawCall as RatedCall { struct_size, deadline_ns, trace_id, span_id, cancel }
        PluginDecl as RatedPluginDecl {
            magic, struct_size, abi_major, abi_minor, features_required, flags, name,
            version, built_with, components, components_len, start
        }
        ComponentDecl as RatedComponentDecl {
            struct_size, kind, flags, name, summary, sample_config, config_schema,
            api_schema, vtable
        }
        CollectorVTable as RatedCollectorVTable { struct_size, create, destroy, check, collect }
        FetcherVTable as RatedFetcherVTable { struct_size, create, destroy, check, scopes }
        RatingVTable as RatedRatingVTable {
            struct_size, create, destroy, check, prepare, release_rater, rate, handle,
            explain
        }
        RawBatches as RatedBatches { schema, next, release, private_data }
        RawCollect as RatedCollect {
            struct_size, metric, scope_key, scopes, scopes_len, begin_ns, end_ns
        }
        RawRate as RatedRate { struct_size, purpose, reserved, metric, begin_ns, end_ns }
        RawRequest as RatedRequest {
            struct_size, method, reserved, path, query, content_type, body, principal
        }
        RawResponse as RatedResponse { struct_size, status, reserved, content_type, location, body }
        RawHttpRequest as RatedHttpRequest {
            struct_size, method, reserved, url, headers, body, options
        }
        RawHttpResponse as RatedHttpResponse { struct_size, status, reserved, headers, body }
        RawEdit as RatedEdit { key, value }
        HostApi as RatedHostApi {
            struct_size, abi_minor, reserved, features, log_enabled, log, now_ns,
            is_cancelled, kv_get, kv_scan, kv_apply, count, observe, http_send
        }
    }
}

#[test]
fn the_layout_is_the_committed_one() {
    let mut table = String::from("# struct field offset; `=` is the size\n");
    for layout in layouts() {
        for (field, offset) in &layout.fields {
            writeln!(table, "{} {field} {offset}", layout.rust).unwrap();
        }
        writeln!(table, "{} = {}", layout.rust, layout.size).unwrap();
    }

    committed("tests/data/layout.txt", &table);
}

#[test]
fn the_layout_in_c_is_the_committed_one() {
    let mut text = String::from(
        "/* Written by tests/abi/layout.rs: what Rust sees, for a C compiler to agree with. */\n\
         #include <rated_plugin.h>\n\n\
         #ifdef __cplusplus\n#define _Static_assert static_assert\n#endif\n\n",
    );
    for Layout { c, size, fields, .. } in layouts() {
        for (field, offset) in fields {
            writeln!(text, "_Static_assert(offsetof({c}, {field}) == {offset}, \"{c}.{field}\");")
                .unwrap();
        }
        writeln!(text, "_Static_assert(sizeof({c}) == {size}, \"{c}\");\n").unwrap();
    }

    committed("tests/data/layout.c", &text);
}
