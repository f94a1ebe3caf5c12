//! What a function that ranks run gets beside it: a type of its name, its implementation, its registration.

use proc_macro2::{Literal, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, ReturnType, Type, parse_quote};

use crate::expand::{KERNELS_SECTION, type_text};
use crate::signature::{last_segment, refuse_kinds};

/// Expands `#[phalanx::ranks]`.
pub(crate) fn ranks(arguments: &TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    if !arguments.is_empty() {
        let message = "#[phalanx::ranks] takes no arguments";
        return Err(Error::new(arguments.span(), message));
    }
    let function: ItemFn = syn::parse2(item).map_err(|error| {
        let message = format!("#[phalanx::ranks] stands before a function: {error}");
        Error::new(error.span(), message)
    })?;
    let input = input(&function.sig)?;
    let visibility = &function.vis;
    let name = &function.sig.ident;
    let text = name.to_string();
    let argument = input.iter().map(|_| quote!(input));
    let call = quote!(#name(communicator, #(#argument)*));
    let returns: Type = match &function.sig.output {
        ReturnType::Default => parse_quote!(()),
        ReturnType::Type(_, returns) => (**returns).clone(),
    };
    let (output, result) = output(&returns, &call);
    let listing = listing(&text, input.as_ref(), &returns);
    let (bytes, length) = (Literal::byte_string(listing.as_bytes()), listing.len());
    let input = input.unwrap_or_else(|| parse_quote!(()));
    let docs = format!("The ranks of [`{name}`](fn@{name}), as a job names them.");
    Ok(quote! {
        #function

        #[doc = #docs]
        #[allow(non_camel_case_types, dead_code, reason = "the type has the name of its function")]
        #[derive(Debug, Clone, Copy)]
        #visibility enum #name {}

        const _: () = {
            #[automatically_derived]
            impl ::phalanx::RankKernel for #name {
                type Input = #input;
                type Output = #output;
                const NAME: &'static str = #text;

                #[allow(unused_variables, clippy::all, reason = "not every function takes an input")]
                fn call(
                    communicator: &::phalanx::Communicator,
                    input: Self::Input,
                ) -> ::core::result::Result<Self::Output, ::std::string::String> {
                    #result
                }
            }

            #[used]
            #[cfg_attr(target_os = "linux", unsafe(link_section = #KERNELS_SECTION))]
            static LISTING: [u8; #length] = *#bytes;

            #[::phalanx::__private::linkme::distributed_slice(::phalanx::__private::KERNELS)]
            #[linkme(crate = ::phalanx::__private::linkme)]
            static ENTRY: ::phalanx::__private::KernelEntry =
                ::phalanx::__private::KernelEntry::ranking::<#name>(&LISTING);
        };
    })
}

/// The type of what ranks return, and the call with its error as a text.
fn output(returns: &Type, call: &TokenStream) -> (TokenStream, TokenStream) {
    if last_segment(returns).is_some_and(|segment| segment.ident == "Result") {
        let fallible = quote_spanned!(returns.span()=> <#returns as ::phalanx::__private::Fallible>);
        let result = quote!(::phalanx::__private::Fallible::into_value(#call));
        return (quote!(#fallible::Value), result);
    }
    (
        returns.to_token_stream(),
        quote!(::core::result::Result::Ok(#call)),
    )
}

/// A line like that of a kernel, whose input is the communicator and whose parameters are what ranks are given.
fn listing(name: &str, input: Option<&Type>, returns: &Type) -> String {
    let input = input.map_or_else(|| "-".to_owned(), type_text);
    format!("{name}\t&Communicator\t{}\t{input}\t-\n", type_text(returns))
}

/// Checks the signature; the type of the input, if there is one.
fn input(signature: &syn::Signature) -> syn::Result<Option<Type>> {
    refuse_kinds(signature)?;
    let needed = "ranks need a `&Communicator` as their first parameter";
    let mut inputs = signature.inputs.iter();
    let first = match inputs.next() {
        Some(FnArg::Typed(first)) => &first.ty,
        Some(FnArg::Receiver(receiver)) => return Err(Error::new(receiver.span(), needed)),
        None => return Err(Error::new(signature.paren_token.span.join(), needed)),
    };
    let is_communicator = matches!(&**first, Type::Reference(reference)
        if reference.mutability.is_none()
            && last_segment(&reference.elem).is_some_and(|segment| segment.ident == "Communicator"));
    if !is_communicator {
        return Err(Error::new(first.span(), needed));
    }
    let input = match inputs.next() {
        Some(FnArg::Typed(second)) => &second.ty,
        Some(FnArg::Receiver(_)) | None => return Ok(None),
    };
    if let Type::Reference(_) | Type::ImplTrait(_) = &**input {
        let message = "what ranks are given is passed by value, and has one type";
        return Err(Error::new(input.span(), message));
    }
    match inputs.next() {
        Some(third) => {
            let message = "ranks are given one value: put several into a struct or a tuple";
            Err(Error::new(third.span(), message))
        }
        None => Ok(Some((**input).clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(item: TokenStream, part: &str) {
        let error = ranks(&quote!(), item).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }

    #[test]
    fn ranks_take_a_communicator_and_at_most_one_value() {
        for item in [
            quote!(
                fn f(comm: &Communicator) {}
            ),
            quote!(
                fn f(comm: &phalanx::Communicator, input: Vec<u8>) -> Result<(), String> {}
            ),
        ] {
            ranks(&quote!(), item).unwrap();
        }
    }

    #[test]
    fn what_ranks_cannot_run_is_refused_with_the_reason() {
        refused(
            quote!(
                fn f() {}
            ),
            "need a `&Communicator`",
        );
        refused(
            quote!(
                fn f(input: u64, comm: &Communicator) {}
            ),
            "need a `&Communicator`",
        );
        refused(
            quote!(
                fn f(comm: &Communicator, input: &str) {}
            ),
            "by value",
        );
        refused(
            quote!(
                fn f(comm: &Communicator, a: u64, b: u64) {}
            ),
            "one value",
        );
        refused(
            quote!(
                struct S;
            ),
            "before a function",
        );
    }
}
