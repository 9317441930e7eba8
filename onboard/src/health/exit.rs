//! What the process ends with, so that a service manager knows what to do next.
//!
//! 0 is a stop that was asked for, 2 wrong usage of the command line.

use std::time::Duration;

/// Any error that has no code of its own. A restart may help.
pub const FAILURE: u8 = 1;
/// A fault of this program: one of its threads panicked. A restart helps.
pub const INTERNAL_FAULT: u8 = 70;
/// The engine did not answer within the hard limit. A call into a driver cannot be cancelled from within the process that
/// made it, so only the end of the process frees it. A restart helps.
pub const ENGINE_HUNG: u8 = 71;
/// The engine that was asked for cannot be had at the start, or was lost in flight and could not be had again, and no
/// fallback is allowed or works. A restart may help: a new process has a new context in the driver.
pub const ENGINE_LOST: u8 = 72;
/// The configuration is wrong. A restart does not help.
pub const CONFIGURATION: u8 = 78;

/// What the clean-up of the process may take before it is ended without one.
const CLEAN_UP: Duration = Duration::from_secs(5);

/// Ends the process with `code`.
///
/// Libraries clean up when a process ends, and a library whose driver hangs may never finish with that: after five seconds
/// the process is aborted instead, which no library can hold up.
pub fn leave(code: u8) -> ! {
    let guard = std::thread::Builder::new().name("exit-guard".into()).spawn(abort_after_clean_up);
    // Without a thread to guard it the clean-up is not worth its risk.
    if guard.is_err() {
        std::process::abort();
    }
    std::process::exit(i32::from(code))
}

fn abort_after_clean_up() {
    std::thread::sleep(CLEAN_UP);
    std::process::abort();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// What would break: a unit file that restarts on codes which nothing documents.
    #[test]
    fn every_code_is_documented() {
        let page = include_str!("../../../docs/reference/exit-codes.md");
        for code in [FAILURE, INTERNAL_FAULT, ENGINE_HUNG, ENGINE_LOST, CONFIGURATION] {
            assert!(page.contains(&format!("| {code} |")), "{code}");
        }
        let unit = include_str!("../../kestrel-onboard.service");
        assert!(unit.contains(&format!("RestartPreventExitStatus=2 {CONFIGURATION}\n")));
    }
}
