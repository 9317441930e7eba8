//! `ground simulate`: a drawn scene as the camera of a drone.

use crate::session::{Link, block_on};
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use kestrel_link::DroneId;
use kestrel_onboard::camera::{CameraError, Captured, Network, unix_nanos};
use kestrel_perception::geo::{Attitude, Camera, Distortion, Geodetic, GimbalReference, Ground, Pose, PoseSigma};
use kestrel_training::scenes::{Viewpoint, render_moment};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Where the origin of every scene lies: in the sea off Aarhus, where nobody will look for it.
const ORIGIN: Geodetic = Geodetic { latitude_degrees: 56.2, longitude_degrees: 10.4, height_metres: 0.0 };

/// How often is looked whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Arguments of `ground simulate`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Id of the drone, which is to fly with camera.source = "zenoh:".
    drone: String,
    /// Names the scene: the same number is the same place.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Side of the square pictures in pixels.
    #[arg(long, default_value_t = 640, value_parser = clap::value_parser!(u32).range(32..=4096))]
    size: u32,
    /// Pictures per second, as far as they can be drawn as fast.
    #[arg(long, default_value_t = 2.0)]
    frames_per_second: f64,
    /// End after this many pictures; 0 goes on until interrupted.
    #[arg(long, default_value_t = 0)]
    frames: u64,
    /// Seconds of the scene, played forwards and backwards.
    #[arg(long, default_value_t = 10.0)]
    span_seconds: f64,
    /// Send PNG instead of raw pixels: fewer bytes for more work at both ends.
    #[arg(long)]
    png: bool,
    /// Publish each pose on a key of its own, as a bridge to an autopilot does, instead of with its picture.
    #[arg(long)]
    poses_apart: bool,
    /// Write the calibration of the scene's camera into this file, for position.camera of the drone.
    #[arg(long)]
    calibration: Option<PathBuf>,
    /// Print one JSON object at the end.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    link: Link,
}

/// Runs `ground simulate`.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let drone = DroneId::new(&arguments.drone)?;
    let film = Film::new(arguments)?;
    if let Some(path) = &arguments.calibration {
        write_calibration(path, &film)?;
    }
    let frames = block_on(async {
        let session = arguments.link.open().await?;
        if !arguments.json {
            let Film { seed, size, frames_per_second, .. } = film;
            let key = drone.camera();
            println!("scene {seed} on {key}: {size}x{size} pixels, {frames_per_second} times a second");
        }
        let network = Network { session: session.clone(), drone };
        let stopping = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stopping);
        // Drawing takes the whole of a core, which no task of the runtime may.
        let mut playing = tokio::task::spawn_blocking(move || film.play(&network, &told));
        let played = tokio::select! {
            played = &mut playing => played,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.context("waiting for an interrupt")?;
                stopping.store(true, Ordering::Relaxed);
                playing.await
            }
        };
        session.close().await.map_err(|error| anyhow!("leaving the link: {error}"))?;
        played.context("drawing")?
    })?;
    if arguments.json {
        println!("{}", serde_json::json!({ "drone": arguments.drone, "scene": arguments.seed, "frames": frames }));
    } else {
        println!("{frames} frames");
    }
    Ok(ExitCode::SUCCESS)
}

/// A scene, and how it is played.
#[derive(Debug, Clone, Copy)]
struct Film {
    seed: u64,
    size: u32,
    frames_per_second: f64,
    frames: u64,
    span_seconds: f64,
    png: bool,
    poses_apart: bool,
}

impl Film {
    fn new(arguments: &Arguments) -> Result<Self> {
        let Arguments { seed, size, frames_per_second, frames, span_seconds, png, poses_apart, .. } = *arguments;
        for (name, value, most) in
            [("--frames-per-second", frames_per_second, 1000.0), ("--span-seconds", span_seconds, 3600.0)]
        {
            // Written so that NaN fails too.
            if !(value > 0.0 && value <= most) {
                bail!("{name}: expected above 0 and at most {most}, got {value}");
            }
        }
        Ok(Self { seed, size, frames_per_second, frames, span_seconds, png, poses_apart })
    }

    /// Draws and publishes one frame after the other; gives how many.
    fn play(&self, network: &Network, stopping: &AtomicBool) -> Result<u64> {
        let start = Instant::now();
        let mut is_slow = false;
        for number in 0.. {
            let is_over = self.frames > 0 && number >= self.frames;
            if is_over || stopping.load(Ordering::Relaxed) {
                return Ok(number);
            }
            let (image, view) = self.draw(number);
            let due = start + Duration::try_from_secs_f64(number as f64 / self.frames_per_second)?;
            let late = Instant::now().saturating_duration_since(due);
            if late.as_secs_f64() * self.frames_per_second > 1.0 && !is_slow {
                is_slow = true;
                tracing::warn!("pictures are drawn more slowly than asked for: time in the scene runs slower too");
            }
            while !stopping.load(Ordering::Relaxed) && Instant::now() < due {
                std::thread::sleep(due.saturating_duration_since(Instant::now()).min(LOOK_EVERY));
            }
            let mut frame = Captured { image, capture_unix_nanos: unix_nanos(), pose: Some(pose(&view)) };
            let hinted = |error: CameraError| anyhow!("{error}\nhint: {}", error.hint());
            if let Some(pose) = frame.pose.take_if(|_| self.poses_apart) {
                network.publish_pose(frame.capture_unix_nanos, &pose).map_err(hinted)?;
            }
            network.publish(None, &frame, self.png).map_err(hinted)?;
        }
        Ok(0)
    }

    fn draw(&self, number: u64) -> (image::RgbImage, Viewpoint) {
        let seconds = swing(number as f64 / self.frames_per_second, self.span_seconds);
        render_moment(self.seed, self.size, seconds as f32, number as u32)
    }
}

/// Time in a scene of `span` seconds that is played forwards and backwards, `passed` seconds after its start.
fn swing(passed: f64, span: f64) -> f64 {
    let phase = passed.rem_euclid(2.0 * span);
    phase.min(2.0 * span - phase)
}

/// The pose of a scene's camera. It is exact, so its errors are 0.
fn pose(view: &Viewpoint) -> Pose {
    let place = ORIGIN.offset([view.north_metres, view.east_metres, 0.0]);
    Pose {
        latitude_degrees: place.latitude_degrees,
        longitude_degrees: place.longitude_degrees,
        height_above_ground_metres: view.height_metres,
        vehicle: Attitude::new(view.heading_degrees, 0.0, 0.0),
        gimbal: Attitude::new(0.0, view.pitch_degrees, 0.0),
        gimbal_reference: GimbalReference::Horizon,
        sigma: PoseSigma {
            position_metres: 0.0,
            height_metres: 0.0,
            vehicle: Attitude::default(),
            gimbal: Attitude::default(),
        },
        ground: Ground::default(),
    }
}

/// The calibration of a scene's camera, which keeps its focal length.
fn calibration(film: &Film) -> Camera {
    // A small picture is drawn in no time and has the same camera.
    let (_, view) = render_moment(film.seed, 32, 0.0, 0);
    let side = f64::from(film.size);
    Camera {
        width_pixels: film.size,
        height_pixels: film.size,
        focal_pixels: [view.focal_sides * side; 2],
        centre_pixels: [side / 2.0; 2],
        distortion: Distortion::default(),
        focal_sigma: 0.0,
        centre_sigma_pixels: 0.0,
    }
}

fn write_calibration(path: &Path, film: &Film) -> Result<()> {
    let text = serde_json::to_string_pretty(&calibration(film))?;
    std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use kestrel_onboard::camera::{CameraOptions, Next, Origin};
    use kestrel_onboard::loopback::free_address;
    use kestrel_onboard::node::LinkOptions;
    use kestrel_perception::geo::{Bounds, Georeferencer};

    fn film() -> Film {
        Film { seed: 3, size: 64, frames_per_second: 4.0, frames: 2, span_seconds: 1.0, png: false, poses_apart: false }
    }

    #[test]
    fn a_scene_swings_between_its_ends() {
        let at = |passed| swing(passed, 2.0);
        assert_eq!([0.0, 1.5, 2.0, 3.0, 4.0, 5.0].map(at), [0.0, 1.5, 2.0, 1.0, 0.0, 1.0]);
    }

    /// What would break: a simulated camera whose calibration or poses no drone takes.
    #[test]
    fn calibration_and_poses_of_a_scene_can_be_used() {
        let film = film();
        let georeferencer = Georeferencer::new(calibration(&film), Bounds::default()).unwrap();
        for number in [0, 3] {
            let (image, view) = film.draw(number);
            let pose = pose(&view);
            pose.check().unwrap();
            assert!(georeferencer.sight(image.width(), image.height(), Some(&pose)).is_ok());
        }
        assert_ne!(film.draw(0).0, film.draw(3).0, "a camera that stands still is refused as frozen");
    }

    /// What would break: a simulator that speaks another language than the drone's camera.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_drone_takes_what_is_simulated() {
        let address = free_address().unwrap();
        let endpoint = format!("tcp/{address}");
        let drone = DroneId::new(&format!("drone-{}", address.port())).unwrap();
        let listening = LinkOptions { listen: vec![endpoint.clone()], ..LinkOptions::default() };
        let flying = zenoh::open(listening.config().unwrap()).await.unwrap();
        let taking = Network { session: flying.clone(), drone: drone.clone() };
        let link = Link { connect: vec![endpoint], timeout_seconds: 60 };
        let session = link.open().await.unwrap();
        let sending = Network { session: session.clone(), drone };

        let stopping = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stopping);
        let film = Film { frames: 0, png: true, ..film() };
        let playing = tokio::task::spawn_blocking(move || film.play(&sending, &told));
        let captured = tokio::task::spawn_blocking(move || {
            let mut source = CameraOptions::of(Origin::Zenoh(None)).open(&taking).unwrap();
            let patience = Instant::now() + Duration::from_secs(60);
            loop {
                match source.next(LOOK_EVERY).unwrap() {
                    Next::Frame(captured) => return captured,
                    Next::Nothing if Instant::now() < patience => {}
                    other => panic!("{other:?}"),
                }
            }
        });
        let captured = captured.await.unwrap();
        stopping.store(true, Ordering::Relaxed);
        assert!(playing.await.unwrap().unwrap() > 0);
        assert_eq!(captured.image.dimensions(), (64, 64));
        assert!(captured.capture_unix_nanos > 0 && captured.capture_unix_nanos <= unix_nanos());
        captured.pose.unwrap().check().unwrap();
        session.close().await.unwrap();
        flying.close().await.unwrap();
    }
}
