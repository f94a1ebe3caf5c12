//! What a kernel's function gets beside it: a type of its name, its implementation, its registration, its listing. The
//! function itself stays as it is; the type lives in the other namespace, so no variable can clash with it.

use proc_macro2::{Literal, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Expr, ItemFn, Token, Type};

use crate::signature::{Reference, Signature};

/// The section in which the command line finds a program's kernels without running it. The same text is in the
/// protocol crate, which a macro crate should not have to build; a test of the SDK compares them.
pub(crate) const KERNELS_SECTION: &str = ".phalanx.kernels";

/// What stands in the attribute's parentheses.
#[derive(Default)]
struct Arguments {
    reduce: Option<Expr>,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut arguments = Self::default();
        while !input.is_empty() {
            let name: syn::Ident = input.parse()?;
            if name != "reduce" {
                let message = format!("`{name}` is unknown here; there is `reduce = function`");
                return Err(syn::Error::new(name.span(), message));
            }
            if arguments.reduce.is_some() {
                return Err(syn::Error::new(name.span(), "`reduce` is given twice"));
            }
            input.parse::<Token![=]>()?;
            arguments.reduce = Some(input.parse()?);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(arguments)
    }
}

/// Expands `#[phalanx::kernel]`.
pub(crate) fn kernel(arguments: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let arguments: Arguments = syn::parse2(arguments)?;
    let function: ItemFn = syn::parse2(item).map_err(|error| {
        syn::Error::new(
            error.span(),
            format!("#[phalanx::kernel] stands before a function: {error}"),
        )
    })?;
    let signature = Signature::parse(&function.sig)?;
    let visibility = &function.vis;
    let name = &function.sig.ident;
    let text = name.to_string();
    let implementation = implementation(&function, &signature);
    let reduction = arguments.reduce.as_ref().map(|merge| reduction(name, merge));
    let registration = registration(
        name,
        &listing(&text, &signature, arguments.reduce.is_some()),
        &arguments,
    );
    let docs = format!("The kernel [`{name}`](fn@{name}), as a job names it.");
    Ok(quote! {
        #function

        #[doc = #docs]
        #[allow(non_camel_case_types, dead_code, reason = "a kernel's type has the name of its function")]
        #[derive(Debug, Clone, Copy)]
        #visibility enum #name {}

        const _: () = {
            #implementation
            #reduction
            #registration
        };
    })
}

/// The implementation of `Kernel`.
fn implementation(function: &ItemFn, signature: &Signature) -> TokenStream {
    let name = &function.sig.ident;
    let text = name.to_string();
    let Signature {
        input,
        references,
        returns,
        fallible,
        ..
    } = signature;
    let parameters = signature
        .parameters
        .as_ref()
        .map_or_else(|| quote!(()), ToTokens::to_token_stream);
    let arguments = references.iter().map(|reference| match reference {
        Reference::Parameters => quote!(parameters),
        Reference::Context => quote!(context),
    });
    let call = quote!(#name(input, #(#arguments),*));
    let (output, result) = if *fallible {
        let fallible = quote_spanned!(returns.span()=> <#returns as ::phalanx::__private::Fallible>);
        (
            quote!(#fallible::Value),
            quote!(::phalanx::__private::Fallible::into_value(#call)),
        )
    } else {
        (
            returns.to_token_stream(),
            quote!(::core::result::Result::Ok(#call)),
        )
    };
    quote! {
        #[automatically_derived]
        impl ::phalanx::Kernel for #name {
            type Input = #input;
            type Parameters = #parameters;
            type Output = #output;
            const NAME: &'static str = #text;

            #[inline]
            #[allow(unused_variables, clippy::all, reason = "not every kernel takes everything")]
            fn call(
                input: Self::Input,
                parameters: &Self::Parameters,
                context: &::phalanx::TaskContext,
            ) -> ::core::result::Result<Self::Output, ::std::string::String> {
                #result
            }
        }
    }
}

fn reduction(name: &syn::Ident, merge: &Expr) -> TokenStream {
    let merged = quote_spanned!(merge.span()=> (#merge)(left, right));
    quote! {
        #[automatically_derived]
        impl ::phalanx::ReduceKernel for #name {
            #[inline]
            #[allow(clippy::all, reason = "the function may be a path, a method or a closure")]
            fn merge(left: Self::Output, right: Self::Output) -> Self::Output {
                #merged
            }
        }
    }
}

/// The entry by which a host finds the kernel, and the line by which the command line does.
fn registration(name: &syn::Ident, listing: &str, arguments: &Arguments) -> TokenStream {
    let constructor = match arguments.reduce {
        Some(_) => quote!(reducing),
        None => quote!(mapping),
    };
    let bytes = Literal::byte_string(listing.as_bytes());
    let length = listing.len();
    quote! {
        #[used]
        #[cfg_attr(target_os = "linux", unsafe(link_section = #KERNELS_SECTION))]
        static LISTING: [u8; #length] = *#bytes;

        #[::phalanx::__private::linkme::distributed_slice(::phalanx::__private::KERNELS)]
        #[linkme(crate = ::phalanx::__private::linkme)]
        static ENTRY: ::phalanx::__private::KernelEntry =
            ::phalanx::__private::KernelEntry::#constructor::<#name>(&LISTING);
    }
}

/// `name<TAB>input<TAB>output<TAB>parameters or -<TAB>reduce or -`, and a line end.
fn listing(name: &str, signature: &Signature, reduces: bool) -> String {
    let parameters = signature
        .parameters
        .as_ref()
        .map_or_else(|| "-".to_owned(), type_text);
    let (input, output) = (type_text(&signature.input), type_text(&signature.returns));
    let reduces = if reduces { "reduce" } else { "-" };
    format!("{name}\t{input}\t{output}\t{parameters}\t{reduces}\n")
}

/// A type as people write it: spaces only between words and behind separators.
pub(crate) fn type_text(ty: &Type) -> String {
    let tokens = ty.to_token_stream().to_string();
    let words: Vec<&str> = tokens.split_whitespace().collect();
    let mut text = String::new();
    for word in words {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let between_words = text.ends_with(is_word) && word.starts_with(is_word);
        if between_words || text.ends_with([',', ';']) {
            text.push(' ');
        }
        text.push_str(word);
    }
    text.replace("::std::vec::", "").replace("::std::string::", "")
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn types_read_as_they_were_written() {
        assert_eq!(
            type_text(&parse_quote!(Result<Vec<u8>, (u64, String)>)),
            "Result<Vec<u8>, (u64, String)>"
        );
        assert_eq!(type_text(&parse_quote!([f64; 3])), "[f64; 3]");
        assert_eq!(
            type_text(&parse_quote!(std::collections::HashMap<u32, ()>)),
            "std::collections::HashMap<u32, ()>"
        );
        assert_eq!(type_text(&parse_quote!(Box<dyn Error>)), "Box<dyn Error>");
    }

    #[test]
    fn a_listing_is_one_line_of_five_fields() {
        let function: ItemFn = parse_quote!(
            fn hits(start: u64, table: &[u32]) -> Result<u64, String> {}
        );
        let signature = Signature::parse(&function.sig).unwrap();
        assert_eq!(
            listing("hits", &signature, true),
            "hits\tu64\tResult<u64, String>\tVec<u32>\treduce\n"
        );
    }

    #[test]
    fn unknown_arguments_are_refused_by_name() {
        let error = kernel(
            quote!(merge = f),
            quote!(
                fn k(i: u64) {}
            ),
        )
        .unwrap_err();
        assert!(error.to_string().contains("`merge` is unknown"), "{error}");
        let error = kernel(
            quote!(reduce = f, reduce = g),
            quote!(
                fn k(i: u64) {}
            ),
        )
        .unwrap_err();
        assert!(error.to_string().contains("twice"), "{error}");
        let error = kernel(
            quote!(),
            quote!(
                struct K;
            ),
        )
        .unwrap_err();
        assert!(error.to_string().contains("before a function"), "{error}");
    }
}
