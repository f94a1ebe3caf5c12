//! Panics of tasks: kept quiet on the slots' threads, with their place noted for the failure's message.

use std::any::Any;
use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, Once};

use super::lock;

/// Where the last panic on one of a slot's threads happened.
pub(super) type PanicSite = Arc<Mutex<Option<String>>>;

thread_local! {
    /// Set on all threads of a slot's pool, so that a panic in a task's own parallel part is placed, too.
    static SITE: RefCell<Option<PanicSite>> = const { RefCell::new(None) };
}

/// Makes the current thread one of a slot's: panics on it are noted in `site` and print nothing.
pub(super) fn watch_thread(site: PanicSite) {
    SITE.set(Some(site));
}

/// Puts a hook before the present one that keeps slots' threads quiet.
pub(super) fn install_hook() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !note(info) {
                previous(info);
            }
        }));
    });
}

/// Notes the place if this is a slot's thread.
fn note(info: &PanicHookInfo<'_>) -> bool {
    let noted = SITE.try_with(|site| {
        let site = site.try_borrow().ok()?;
        let place = info.location().map(ToString::to_string);
        *lock(site.as_ref()?) = place;
        Some(())
    });
    matches!(noted, Ok(Some(())))
}

/// The text of a panic that was caught on this thread: what it said and where.
pub(crate) fn message(payload: &(dyn Any + Send)) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text.as_str(),
        (None, None) => "a panic without a message",
    };
    let site = SITE.with_borrow(|site| site.as_ref().and_then(|site| lock(site).take()));
    match site {
        Some(site) => format!("{text}, at {site}"),
        None => text.to_owned(),
    }
}
