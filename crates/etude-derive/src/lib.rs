//! `#[derive(Module)]`: a struct is a module whose parts are its fields, under the fields' names.

use proc_macro::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{Data, DeriveInput, parse_macro_input};

/// Makes a struct a `Module`: every field is visited under its name, so that parameters are found by field path
/// (`layer1.conv.weight`). Every field must itself be a module (numbers, strings and options count as modules without
/// parameters); `#[module(skip)]` leaves one out, `#[module(name = "LayerNorm")]` gives it a name that public weights use
/// and Rust would not.
///
/// This one names the crate `etude_nn`; `etude` exports [`macro@EtudeModule`] under the same name.
#[proc_macro_derive(Module, attributes(module))]
pub fn derive_module(input: TokenStream) -> TokenStream {
    derive(&parse_macro_input!(input as DeriveInput), &quote! { ::etude_nn })
}

/// The same for a crate that depends on `etude` alone, which knows `etude_nn` as `etude::nn`.
#[proc_macro_derive(EtudeModule, attributes(module))]
pub fn derive_etude_module(input: TokenStream) -> TokenStream {
    derive(&parse_macro_input!(input as DeriveInput), &quote! { ::etude::nn })
}

/// The implementation for `input`, with `Module` and `Walk` found in the crate or module `home`.
fn derive(input: &DeriveInput, home: &proc_macro2::TokenStream) -> TokenStream {
    let name = &input.ident;
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    let fields = match &input.data {
        Data::Struct(data) => &data.fields,
        _ => {
            let message = "a Module is a struct; for an enum of layers, implement Module by hand";
            return syn::Error::new_spanned(name, message).to_compile_error().into();
        }
    };
    let visits = fields.iter().enumerate().map(visit).collect::<syn::Result<Vec<_>>>();
    let visits = match visits {
        Ok(visits) => visits,
        Err(error) => return error.to_compile_error().into(),
    };
    quote! {
        impl #impl_generics #home::Module for #name #type_generics #where_clause {
            fn visit(&self, walk: &mut #home::Walk) {
                #(#visits)*
            }
        }
    }
    .into()
}

/// The visit of one field; nothing for one that is left out.
fn visit((index, field): (usize, &syn::Field)) -> syn::Result<proc_macro2::TokenStream> {
    let (mut skip, mut name) = (false, None);
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("module")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("skip") {
                skip = true;
            } else if meta.path.is_ident("name") {
                name = Some(meta.value()?.parse::<syn::LitStr>()?.value());
            } else {
                return Err(meta.error("a field of a Module takes `skip` or `name = \"…\"`"));
            }
            Ok(())
        })?;
    }
    if skip {
        return Ok(quote! {});
    }
    let (member, own) = match &field.ident {
        Some(ident) => (syn::Member::from(ident.clone()), ident.unraw().to_string()),
        None => (syn::Member::from(index), index.to_string()),
    };
    let name = name.unwrap_or(own);
    Ok(quote! { walk.field(#name, &self.#member); })
}
