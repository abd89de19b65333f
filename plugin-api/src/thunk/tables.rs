//! The tables of a plugin, as constants: what [`crate::declare!`] is made of.

use std::ffi::c_void;
use std::marker::PhantomData;

use super::component::{self, Instance};
use super::guard::{drop_box, start};
use super::rating::{self, Prepared};
use crate::raw::{
    ABI_MAJOR, ABI_MINOR, Bytes, COMPONENT_ALWAYS_ON, COMPONENT_HOT_CONFIG, CollectorVTable,
    ComponentDecl, FLAG_UNWINDS, FetcherVTable, KIND_COLLECTOR, KIND_FETCHER, KIND_RATING, MAGIC,
    PluginDecl, RatingVTable,
};
use crate::{Collector, Component, Fetcher, RatingModule};

/// The tables of one component type.
#[derive(Debug)]
pub struct Tables<C>(PhantomData<C>);

impl<C: Collector> Tables<C> {
    const COLLECTOR_VTABLE: &'static CollectorVTable = &CollectorVTable {
        struct_size: size_of::<CollectorVTable>(),
        create: component::create::<C>,
        destroy: drop_box::<Instance<C>>,
        check: component::check::<C>,
        collect: component::collect::<C>,
    };
    /// Its declaration as a collector.
    pub const COLLECTOR: &'static ComponentDecl = &component_decl::<C>(
        KIND_COLLECTOR,
        0,
        "",
        std::ptr::from_ref(Self::COLLECTOR_VTABLE).cast(),
    );
}

impl<C: Fetcher> Tables<C> {
    const FETCHER_VTABLE: &'static FetcherVTable = &FetcherVTable {
        struct_size: size_of::<FetcherVTable>(),
        create: component::create::<C>,
        destroy: drop_box::<Instance<C>>,
        check: component::check::<C>,
        scopes: component::scopes::<C>,
    };
    /// Its declaration as a fetcher.
    pub const FETCHER: &'static ComponentDecl =
        &component_decl::<C>(KIND_FETCHER, 0, "", std::ptr::from_ref(Self::FETCHER_VTABLE).cast());
}

impl<C: RatingModule> Tables<C> {
    const RATING_VTABLE: &'static RatingVTable = &RatingVTable {
        struct_size: size_of::<RatingVTable>(),
        create: component::create::<C>,
        destroy: drop_box::<Instance<C>>,
        check: component::check::<C>,
        prepare: rating::prepare::<C>,
        release_rater: drop_box::<Prepared<C::Rater>>,
        rate: rating::rate::<C::Rater>,
        handle: rating::handle::<C>,
        explain: Some(rating::explain::<C::Rater>),
    };
    /// Its declaration as a rating module.
    pub const RATING: &'static ComponentDecl = &component_decl::<C>(
        KIND_RATING,
        if C::HOT_CONFIG { COMPONENT_HOT_CONFIG } else { 0 }
            | if C::ALWAYS_ON { COMPONENT_ALWAYS_ON } else { 0 },
        C::API_SCHEMA,
        std::ptr::from_ref(Self::RATING_VTABLE).cast(),
    );
}

const fn component_decl<C: Component>(
    kind: u32,
    flags: u32,
    api_schema: &'static str,
    vtable: *const c_void,
) -> ComponentDecl {
    assert!(is_component_name(C::NAME), "a component's NAME must match [a-z][a-z0-9-]{{0,31}}");
    ComponentDecl {
        struct_size: size_of::<ComponentDecl>(),
        kind,
        flags,
        name: Bytes::from_static(C::NAME),
        summary: Bytes::from_static(C::SUMMARY),
        sample_config: Bytes::from_static(C::SAMPLE_CONFIG),
        config_schema: Bytes::from_static(C::CONFIG_SCHEMA),
        api_schema: Bytes::from_static(api_schema),
        vtable,
    }
}

/// Does `name` match `[a-z][a-z0-9-]{0,31}`?
pub const fn is_component_name(name: &str) -> bool {
    let name = name.as_bytes();
    if name.is_empty() || name.len() > 32 || !name[0].is_ascii_lowercase() {
        return false;
    }
    let mut index = 1;
    while index < name.len() {
        let byte = name[index];
        if !(byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
            return false;
        }
        index += 1;
    }
    true
}

/// The declaration of a plugin whose crate unwinds.
pub const fn plugin_decl(
    name: &'static str,
    version: &'static str,
    features_required: u64,
    components: &'static [*const ComponentDecl],
) -> PluginDecl {
    #[expect(clippy::cast_possible_truncation, reason = "a constant of about a hundred")]
    let struct_size = size_of::<PluginDecl>() as u32;
    PluginDecl {
        magic: MAGIC,
        struct_size,
        abi_major: ABI_MAJOR,
        abi_minor: ABI_MINOR,
        features_required,
        flags: FLAG_UNWINDS,
        name: Bytes::from_static(name),
        version: Bytes::from_static(version),
        built_with: Bytes::from_static(BUILT_WITH),
        components: components.as_ptr(),
        components_len: components.len(),
        start,
    }
}

const BUILT_WITH: &str =
    concat!("rustc ", env!("RATED_PLUGIN_RUSTC"), ", rated-plugin ", env!("CARGO_PKG_VERSION"));
