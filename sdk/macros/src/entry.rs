//! What the driver's `main` becomes: an entry that decides whether this process is the driver or a kernel host.

use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, ReturnType};

use crate::signature::last_segment;

/// Expands `#[phalanx::main]`.
pub(crate) fn main(arguments: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    if !arguments.is_empty() {
        return Err(Error::new(
            arguments.span(),
            "#[phalanx::main] takes no arguments",
        ));
    }
    let function: ItemFn = syn::parse2(item)?;
    check(&function.sig)?;
    let name = &function.sig.ident;
    let (parameter, argument) = match function.sig.inputs.first() {
        Some(FnArg::Typed(typed)) => {
            let ty = &typed.ty;
            (quote!(cluster: #ty), quote!(cluster))
        }
        Some(FnArg::Receiver(_)) | None => (quote!((): ()), quote!()),
    };
    let call = quote!(#name(#argument));
    let report = if returns_result(&function.sig.output) {
        quote! {
            match #call {
                ::core::result::Result::Ok(value) => ::std::process::Termination::report(value),
                ::core::result::Result::Err(error) => {
                    #[allow(unused_imports, reason = "which of them prints the error depends on its type")]
                    use ::phalanx::__private::{PrintAsDebug as _, PrintAsError as _};
                    ::phalanx::__private::Failure(error).print()
                }
            }
        }
    } else {
        quote!(::std::process::Termination::report(#call))
    };
    Ok(quote! {
        fn main() -> ::std::process::ExitCode {
            #function
            ::phalanx::__private::start(|#parameter| #report)
        }
    })
}

fn check(signature: &syn::Signature) -> syn::Result<()> {
    let refuse = |span, message| Err(Error::new(span, message));
    if signature.ident != "main" {
        return refuse(signature.ident.span(), "#[phalanx::main] stands before `fn main`");
    }
    if let Some(token) = &signature.asyncness {
        return refuse(
            token.span(),
            "a driver is synchronous; the async client is `phalanx::client`",
        );
    }
    if !signature.generics.params.is_empty() {
        return refuse(signature.generics.params.span(), "`main` cannot be generic");
    }
    match signature.inputs.iter().nth(1) {
        Some(second) => refuse(second.span(), "`main` takes the cluster or nothing"),
        None => Ok(()),
    }
}

fn returns_result(output: &ReturnType) -> bool {
    let ReturnType::Type(_, returns) = output else {
        return false;
    };
    last_segment(returns).is_some_and(|segment| segment.ident == "Result")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(item: TokenStream, part: &str) {
        let error = main(quote!(), item).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }

    #[test]
    fn a_main_takes_one_cluster_or_nothing() {
        assert!(
            main(
                quote!(),
                quote!(
                    fn main(cluster: Cluster) -> Result<(), String> {}
                )
            )
            .is_ok()
        );
        assert!(
            main(
                quote!(),
                quote!(
                    fn main() {}
                )
            )
            .is_ok()
        );
        refused(
            quote!(
                fn main(a: Cluster, b: u32) {}
            ),
            "the cluster or nothing",
        );
    }

    #[test]
    fn what_is_no_main_is_refused_with_the_reason() {
        refused(
            quote!(
                fn start(cluster: Cluster) {}
            ),
            "before `fn main`",
        );
        refused(
            quote!(
                async fn main(cluster: Cluster) {}
            ),
            "synchronous",
        );
        refused(
            quote!(
                fn main<T>(cluster: T) {}
            ),
            "generic",
        );
        assert!(
            main(
                quote!(threads = 2),
                quote!(
                    fn main() {}
                )
            )
            .is_err()
        );
    }
}
