//! `#[derive(Module)]`: a struct is a module whose parts are its fields, under the fields' names.

use proc_macro::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Fields, parse_macro_input};

/// Makes a struct a `Module`: every field is visited under its name, so that parameters are found by field path
/// (`layer1.conv.weight`). Every field must itself be a module (numbers, strings and options count as modules without
/// parameters); `#[module(skip)]` leaves one out.
#[proc_macro_derive(Module, attributes(module))]
pub fn derive_module(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let name = &input.ident;
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    let visits = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => fields.named.iter().filter(|field| !skipped(field)).map(visit_named).collect(),
            Fields::Unnamed(fields) => fields.unnamed.iter().enumerate().map(visit_numbered).collect::<Vec<_>>(),
            Fields::Unit => Vec::new(),
        },
        _ => {
            let message = "a Module is a struct; for an enum of layers, implement Module by hand";
            return syn::Error::new_spanned(name, message).to_compile_error().into();
        }
    };
    quote! {
        impl #impl_generics ::etude_nn::Module for #name #type_generics #where_clause {
            fn visit(&self, walk: &mut ::etude_nn::Walk) {
                #(#visits)*
            }
        }
    }
    .into()
}

fn visit_named(field: &syn::Field) -> proc_macro2::TokenStream {
    let name = field.ident.as_ref().expect("a named field has a name");
    let text = name.to_string();
    let text = text.trim_start_matches("r#");
    quote! { walk.field(#text, &self.#name); }
}

fn visit_numbered((index, field): (usize, &syn::Field)) -> proc_macro2::TokenStream {
    if skipped(field) {
        return quote! {};
    }
    let (position, text) = (syn::Index::from(index), index.to_string());
    quote! { walk.field(#text, &self.#position); }
}

fn skipped(field: &syn::Field) -> bool {
    field.attrs.iter().any(|attribute| {
        attribute.path().is_ident("module") && attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "skip")
    })
}
