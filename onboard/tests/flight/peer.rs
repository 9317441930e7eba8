//! What the benchmark beside a Python peer makes of what it measured.

#[path = "../../benches/peer/figures.rs"]
mod figures;

use std::path::Path;
use std::process::Command;

use figures::{Agreement, Round, compare, most_bytes_of, percentile, ticks_of};

fn round(latency: f64, frames_per_second: f64, cpu_millis: f64) -> Round {
    Round { latency_millis: vec![latency, latency * 2.0, latency], frames_per_second, cpu_millis }
}

/// What would break: a ratio whose direction depends on the figure, or one round that decides all.
#[test]
fn above_one_is_better_in_every_figure_and_the_middle_round_counts() {
    let ours = [round(10.0, 40.0, 20.0), round(10.0, 40.0, 20.0), round(100.0, 4.0, 200.0)];
    let peer = [round(20.0, 20.0, 60.0), round(20.0, 20.0, 60.0), round(20.0, 20.0, 60.0)];
    let compared = compare(&ours, &peer, [100_000_000, 250_000_000]);
    let middles: Vec<f64> = compared.iter().map(|figure| figure.ratio[1]).collect();
    assert_eq!(middles, [2.0, 2.0, 2.0, 3.0, 2.5]);
    let [least, _, most] = compared[0].ratio;
    assert_eq!([least, most], [0.2, 2.0]);
    assert_eq!((compared[1].ours, compared[1].peer), (20.0, 40.0), "the 95th percentile is the slow frame");
    assert_eq!(compared[4].ours, 100.0);
}

#[test]
fn percentiles_are_values_that_were_measured() {
    let values: Vec<f64> = (1..=20).map(f64::from).collect();
    assert_eq!([0.0, 0.5, 0.95, 1.0].map(|share| percentile(&values, share)), [1.0, 10.0, 19.0, 20.0]);
    assert_eq!(percentile(&[], 0.5), 0.0);
}

/// What would break: a comparison of different work that looks like one of the same.
#[test]
fn a_comparison_of_different_answers_is_void() {
    let good = Agreement { frames: 3, disagreed: 0, overlaps: vec![0.99, 0.98] };
    assert_eq!(good.fault(), None);
    let refused = Agreement { overlaps: Vec::new(), ..good.clone() };
    assert!(refused.fault().unwrap().contains("no mask"));
    let other = Agreement { disagreed: 1, ..good.clone() };
    assert!(other.fault().unwrap().contains("1 of 3"));
    let apart = Agreement { overlaps: vec![0.99, 0.5], ..good };
    assert!(apart.fault().unwrap().contains("0.745"));
}

#[test]
fn processor_time_and_memory_are_read_from_proc() {
    let stat = "42 (a b) c) S 1 42 42 0 -1 4194304 900 0 0 0 250 50 0 0 20 0 5 0 100 1 2 3";
    assert_eq!(ticks_of(stat), Some(300));
    assert_eq!(ticks_of("42 (onboard"), None);
    assert_eq!(most_bytes_of("Name:\tonboard\nVmHWM:\t  204800 kB\nVmRSS:\t 1 kB\n"), Some(204_800 * 1024));
    assert_eq!(most_bytes_of("VmRSS:\t 1 kB\n"), None);
    #[cfg(target_os = "linux")]
    {
        assert!(ticks_of(&std::fs::read_to_string("/proc/self/stat").unwrap()).is_some());
        assert!(most_bytes_of(&std::fs::read_to_string("/proc/self/status").unwrap()).unwrap() > 1_000_000);
    }
}

/// What would break: a benchmark that is run once in a while, against a program that no longer parses.
#[test]
fn the_peer_is_a_python_program_and_its_packages_are_pinned() {
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("benches/peer");
    let requirements = std::fs::read_to_string(folder.join("requirements.txt")).unwrap();
    assert!(requirements.lines().all(|line| line.contains("==")), "{requirements}");
    let script = folder.join("peer.py");
    let parse = "import ast, sys; ast.parse(open(sys.argv[1]).read())";
    match Command::new("python3").args(["-c", parse]).arg(&script).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => eprintln!("SKIPPED: parsing peer.py: no python3: {error}"),
    }
}
