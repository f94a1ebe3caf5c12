//! What a kernel's signature may be, and what is wrong with one that is none.

use syn::spanned::Spanned;
use syn::{Error, FnArg, GenericArgument, PathArguments, ReturnType, Type, TypeReference, parse_quote};

/// A kernel's signature, taken apart.
pub(crate) struct Signature {
    /// The first parameter's type.
    pub(crate) input: Type,
    /// The owned type of the shared parameters, if it has any.
    pub(crate) parameters: Option<Type>,
    /// What follows the input, in order.
    pub(crate) references: Vec<Reference>,
    /// What it returns; `()` if nothing is written.
    pub(crate) returns: Type,
    /// Whether that is a `Result`.
    pub(crate) fallible: bool,
}

/// A parameter behind the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reference {
    /// What all tasks of a job share.
    Parameters,
    /// The task's context.
    Context,
}

impl Signature {
    /// Takes a function's signature apart.
    pub(crate) fn parse(signature: &syn::Signature) -> syn::Result<Self> {
        refuse_kinds(signature)?;
        let mut inputs = signature.inputs.iter();
        let input = match inputs.next() {
            Some(first) => input_type(first)?,
            None => {
                let message = "a kernel needs an input as its first parameter, such as `index: u64`";
                return Err(Error::new(signature.paren_token.span.join(), message));
            }
        };
        let mut parameters = None;
        let mut references = Vec::new();
        for input in inputs {
            let (reference, element) = reference(input)?;
            if references.contains(&reference) {
                return Err(Error::new(input.span(), twice(reference)));
            }
            references.push(reference);
            if reference == Reference::Parameters {
                parameters = Some(owned(element));
            }
        }
        let returns: Type = match &signature.output {
            ReturnType::Default => parse_quote!(()),
            ReturnType::Type(_, returns) => (**returns).clone(),
        };
        let fallible = last_segment(&returns).is_some_and(|segment| segment.ident == "Result");
        Ok(Self {
            input,
            parameters,
            references,
            returns,
            fallible,
        })
    }
}

/// Functions that cannot be called with an input alone, or not from safe code.
pub(crate) fn refuse_kinds(signature: &syn::Signature) -> syn::Result<()> {
    let refuse = |span, message| Err(Error::new(span, message));
    if let Some(token) = &signature.asyncness {
        return refuse(
            token.span(),
            "a kernel runs to its end on a slot: it cannot be `async`",
        );
    }
    if let Some(token) = &signature.unsafety {
        return refuse(
            token.span(),
            "a kernel is called by the host: it cannot be `unsafe`",
        );
    }
    if let Some(abi) = &signature.abi {
        return refuse(abi.span(), "a kernel is a Rust function: it cannot be `extern`");
    }
    if let Some(variadic) = &signature.variadic {
        return refuse(variadic.span(), "a kernel has a fixed list of parameters");
    }
    if !signature.generics.params.is_empty() {
        let message = "a kernel is found by its name: it cannot be generic or name lifetimes";
        return refuse(signature.generics.params.span(), message);
    }
    match &signature.generics.where_clause {
        Some(clause) => refuse(
            clause.span(),
            "a kernel is found by its name: it has no `where` clause",
        ),
        None => Ok(()),
    }
}

fn input_type(argument: &FnArg) -> syn::Result<Type> {
    let typed = typed(argument)?;
    if let Type::Reference(reference) = &*typed.ty {
        let message = "the first parameter is the task's own input and is passed by value; \
                       what all tasks share comes behind it";
        return Err(Error::new(reference.span(), message));
    }
    Ok((*typed.ty).clone())
}

/// A parameter behind the input, with what it refers to.
fn reference(argument: &FnArg) -> syn::Result<(Reference, &Type)> {
    let typed = typed(argument)?;
    let Type::Reference(TypeReference {
        lifetime,
        mutability,
        elem,
        ..
    }) = &*typed.ty
    else {
        let message = "only the first parameter is passed by value; \
                       what all tasks share is taken by reference, as `&T`";
        return Err(Error::new(typed.ty.span(), message));
    };
    if let Some(token) = mutability {
        return Err(Error::new(
            token.span(),
            "tasks share this at the same time: it cannot be `mut`",
        ));
    }
    if let Some(lifetime) = lifetime {
        return Err(Error::new(
            lifetime.span(),
            "this lives as long as its job: leave the lifetime out",
        ));
    }
    match last_segment(elem) {
        Some(segment) if segment.ident == "TaskContext" => Ok((Reference::Context, elem)),
        Some(_) | None => Ok((Reference::Parameters, elem)),
    }
}

fn typed(argument: &FnArg) -> syn::Result<&syn::PatType> {
    match argument {
        FnArg::Receiver(receiver) => Err(Error::new(
            receiver.span(),
            "a kernel is a free function: it has no `self`",
        )),
        FnArg::Typed(typed) => match find_impl(&typed.ty) {
            Some(span) => Err(Error::new(
                span,
                "a kernel is found by its name: it cannot be generic",
            )),
            None => Ok(typed),
        },
    }
}

/// An `impl Trait`, directly, behind a reference or as an argument of a path.
fn find_impl(ty: &Type) -> Option<proc_macro2::Span> {
    if let Type::ImplTrait(found) = ty {
        return Some(found.span());
    }
    if let Type::Reference(reference) = ty {
        return find_impl(&reference.elem);
    }
    let PathArguments::AngleBracketed(arguments) = &last_segment(ty)?.arguments else {
        return None;
    };
    arguments.args.iter().find_map(|argument| {
        if let GenericArgument::Type(ty) = argument {
            find_impl(ty)
        } else {
            None
        }
    })
}

fn twice(reference: Reference) -> &'static str {
    match reference {
        Reference::Parameters => {
            "a kernel has one shared parameter: put several values into a struct or a tuple `&(A, B)`"
        }
        Reference::Context => "one `&TaskContext` is enough",
    }
}

/// What is sent for a shared parameter: `String` for `&str`, `Vec<T>` for `&[T]`, else what is written.
fn owned(referred: &Type) -> Type {
    if let Type::Slice(slice) = referred {
        let element = &slice.elem;
        return parse_quote!(::std::vec::Vec<#element>);
    }
    match last_segment(referred) {
        Some(segment) if segment.ident == "str" => parse_quote!(::std::string::String),
        Some(_) | None => referred.clone(),
    }
}

/// The last word of a path; none for other types.
pub(crate) fn last_segment(ty: &Type) -> Option<&syn::PathSegment> {
    if let Type::Paren(inner) = ty {
        return last_segment(&inner.elem);
    }
    // what a macro's `$ty:ty` passes on
    if let Type::Group(inner) = ty {
        return last_segment(&inner.elem);
    }
    if let Type::Path(path) = ty {
        path.path.segments.last()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use quote::ToTokens;

    use super::*;

    fn parse(function: syn::ItemFn) -> Signature {
        Signature::parse(&function.sig).unwrap()
    }

    #[track_caller]
    fn refused(function: syn::ItemFn, part: &str) {
        let error = Signature::parse(&function.sig).err().expect("it is refused");
        assert!(error.to_string().contains(part), "{error}");
    }

    #[test]
    fn parts_are_told_apart_in_any_order() {
        let found = parse(parse_quote! {
            fn render(row: u64, context: &phalanx::TaskContext, scene: &Scene) -> std::io::Result<Vec<u8>> {}
        });
        assert_eq!(found.references, [Reference::Context, Reference::Parameters]);
        assert_eq!(found.input.to_token_stream().to_string(), "u64");
        assert_eq!(found.parameters.to_token_stream().to_string(), "Scene");
        assert!(found.fallible);
    }

    #[test]
    fn a_kernel_may_take_only_its_input_and_return_nothing() {
        let found = parse(parse_quote!(
            fn touch((a, b): (u64, u64)) {}
        ));
        assert!(found.references.is_empty() && found.parameters.is_none() && !found.fallible);
        assert_eq!(found.returns.to_token_stream().to_string(), "()");
    }

    #[test]
    fn borrowed_texts_and_slices_are_sent_owned() {
        let found = parse(parse_quote!(
            fn count(index: u64, text: &str) {}
        ));
        assert_eq!(
            found.parameters.to_token_stream().to_string(),
            ":: std :: string :: String"
        );
        let found = parse(parse_quote!(
            fn sum(index: u64, table: &[f64]) {}
        ));
        assert_eq!(
            found.parameters.to_token_stream().to_string(),
            ":: std :: vec :: Vec < f64 >"
        );
    }

    #[test]
    fn what_is_no_kernel_is_refused_with_the_reason() {
        refused(
            parse_quote!(
                async fn k(i: u64) {}
            ),
            "async",
        );
        refused(
            parse_quote!(
                unsafe fn k(i: u64) {}
            ),
            "unsafe",
        );
        refused(
            parse_quote!(
                extern "C" fn k(i: u64) {}
            ),
            "extern",
        );
        refused(
            parse_quote!(
                fn k<T>(i: T) {}
            ),
            "generic",
        );
        refused(
            parse_quote!(
                fn k<'a>(i: u64, p: &'a P) {}
            ),
            "generic",
        );
        refused(
            parse_quote!(
                fn k(i: u64)
                where
                    u64: Copy,
                {
                }
            ),
            "where",
        );
        refused(
            parse_quote!(
                fn k(i: impl Copy) {}
            ),
            "generic",
        );
        refused(
            parse_quote!(
                fn k(i: Vec<impl Copy>) {}
            ),
            "generic",
        );
        refused(
            parse_quote!(
                fn k(&self, i: u64) {}
            ),
            "self",
        );
        refused(
            parse_quote!(
                fn k() {}
            ),
            "needs an input",
        );
        refused(
            parse_quote!(
                fn k(scene: &Scene) {}
            ),
            "by value",
        );
        refused(
            parse_quote!(
                fn k(i: u64, scene: Scene) {}
            ),
            "by reference",
        );
        refused(
            parse_quote!(
                fn k(i: u64, scene: &mut Scene) {}
            ),
            "mut",
        );
        refused(
            parse_quote!(
                fn k(i: u64, scene: &'static Scene) {}
            ),
            "lifetime",
        );
        refused(
            parse_quote!(
                fn k(i: u64, a: &A, b: &B) {}
            ),
            "one shared parameter",
        );
        refused(
            parse_quote!(
                fn k(i: u64, a: &TaskContext, b: &TaskContext) {}
            ),
            "enough",
        );
    }
}
