//! How much memory this process holds, as Linux counts it.

/// Starts the peak anew, so that [`peak_mebibytes`] tells of what is done from now on.
///
/// Where the kernel does not know this, the peak stays that of the whole process.
pub fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Memory that is resident now, in MiB; `None` where the kernel does not tell.
pub fn mebibytes() -> Option<f64> {
    of(&status()?, "VmRSS:")
}

/// The most that was resident at once, in MiB; `None` where the kernel does not tell.
pub fn peak_mebibytes() -> Option<f64> {
    of(&status()?, "VmHWM:")
}

fn status() -> Option<String> {
    std::fs::read_to_string("/proc/self/status").ok()
}

/// A line of proc_pid_status(5), which counts in KiB and writes kB.
fn of(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What would break: memory of another line or in another unit, or a crash where there is none.
    #[test]
    fn the_named_line_is_read_in_mebibytes() {
        let status = "Name:\tground\nVmHWM:\t  204800 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!((of(status, "VmHWM:"), of(status, "VmRSS:")), (Some(200.0), Some(1.0)));
        assert_eq!((of(status, "VmSwap:"), of("VmHWM:\n", "VmHWM:")), (None, None));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells_both() {
        assert!(mebibytes().is_some_and(|now| now > 0.0) && peak_mebibytes().is_some_and(|peak| peak > 0.0));
    }
}
