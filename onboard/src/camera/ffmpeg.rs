//! Video files and streams, decoded by an ffmpeg of the system in a process of its own.
//!
//! A decoder that crashes on a broken stream takes its own process down and not the drone's, and no C library is linked.
//! The child writes portable pixmaps into a pipe (see [`super::ppm`]), two threads read what it says and shows, and it is
//! killed with the source. A pixmap carries no time, so a frame's stamp is the drone's wall clock at its arrival.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use image::RgbImage;

use super::slot::{Slot, Taken};
use super::{CameraError, Captured, Next, Source, ppm, unix_nanos};

/// Connecting to a camera takes longer than the next frame.
const FIRST_FRAME: Duration = Duration::from_secs(15);
/// How long a child that has closed its pipe may take to end.
const ENDING: Duration = Duration::from_millis(500);
/// Most lines of one child that go into the log, and most characters of each.
const MOST_LINES: u32 = 20;
const MOST_CHARACTERS: usize = 300;
/// Room for reading from the pipe.
const PIPE_BYTES: usize = 256 * 1024;

/// What ffmpeg is to play.
#[derive(Debug, Clone)]
pub(super) struct Input {
    /// What stands behind `-i`.
    pub(super) address: String,
    /// The address without password.
    pub(super) shown: String,
    /// Whether it is a file, which is played at its own speed and has an end.
    pub(super) is_file: bool,
    /// Whether a file starts again at its end.
    pub(super) repeat: bool,
    /// Frames per second at most.
    pub(super) frames_per_second: f64,
}

impl Input {
    /// The command line behind the program's name.
    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<&str> = vec!["-nostdin", "-hide_banner", "-loglevel", "warning"];
        match (self.is_file, self.repeat) {
            (true, true) => arguments.extend(["-re", "-stream_loop", "-1"]),
            (true, false) => arguments.push("-re"),
            (false, _) => arguments.extend(["-fflags", "nobuffer"]),
        }
        if self.address.starts_with("rtsp") {
            // Over UDP a lost packet is a torn picture.
            arguments.extend(["-rtsp_transport", "tcp"]);
        }
        // Never more than the stream's own rate: a frame that is shown twice would look like a frozen camera.
        let rate = format!("fps=fps='min(source_fps,{})'", self.frames_per_second);
        arguments.extend(["-i", &self.address, "-map", "0:v:0", "-an", "-sn", "-vf", &rate]);
        arguments.extend(["-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe", "pipe:1"]);
        arguments.into_iter().map(str::to_owned).collect()
    }
}

/// A running ffmpeg.
pub(super) struct Ffmpeg {
    child: Child,
    input: Input,
    frames: Arc<Slot<(RgbImage, u64)>>,
    /// The last line that the child said.
    said: Arc<Mutex<String>>,
    stall: Duration,
    /// When it must have given a frame.
    due: Instant,
}

impl Ffmpeg {
    /// Starts the program.
    pub(super) fn start(program: &Path, input: Input, stall: Duration) -> Result<Self, CameraError> {
        let mut command = Command::new(program);
        command.args(input.arguments()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // An interrupt at the terminal is for the drone, which ends its camera itself.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => CameraError::NoFfmpeg { wanted: program.display().to_string() },
            _ => CameraError::Open { source_name: input.shown.clone(), why: format!("{}: {error}", program.display()) },
        })?;
        let due = Instant::now() + stall.max(FIRST_FRAME);
        // From here on the child is killed whatever happens.
        let mut source = Self { child, input, frames: Arc::new(Slot::new()), said: Arc::default(), stall, due };
        source.listen()?;
        Ok(source)
    }

    fn listen(&mut self) -> Result<(), CameraError> {
        let failed = |error: std::io::Error, name: &str| CameraError::Open {
            source_name: self.input.shown.clone(),
            why: format!("starting thread {name}: {error}"),
        };
        if let Some(pipe) = self.child.stdout.take() {
            let frames = Arc::clone(&self.frames);
            let reading = move || read(pipe, &frames);
            std::thread::Builder::new()
                .name("camera-pipe".into())
                .spawn(reading)
                .map_err(|error| failed(error, "camera-pipe"))?;
        }
        if let Some(pipe) = self.child.stderr.take() {
            let (said, input) = (Arc::clone(&self.said), self.input.clone());
            let logging = move || log(pipe, &said, &input);
            std::thread::Builder::new()
                .name("camera-log".into())
                .spawn(logging)
                .map_err(|error| failed(error, "camera-log"))?;
        }
        Ok(())
    }

    /// The pipe is closed: whether that was the end of a file, or why not.
    fn end(&mut self, why: String) -> Result<Next, CameraError> {
        let source_name = self.input.shown.clone();
        let Some(status) = self.exit_status() else {
            return Err(CameraError::Ended { source_name, why });
        };
        if status.success() && why == END && self.input.is_file && !self.input.repeat {
            return Ok(Next::Ended);
        }
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let why = if why == END { format!("ffmpeg ended with {status}") } else { why };
        let why = if said.is_empty() { why } else { format!("{why}: {said}") };
        Err(CameraError::Ended { source_name, why })
    }

    /// What the child ended with; `None` when it did not end by itself.
    fn exit_status(&mut self) -> Option<ExitStatus> {
        let patience = Instant::now() + ENDING;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < patience => std::thread::sleep(Duration::from_millis(10)),
                _ => return None,
            }
        }
    }
}

impl Source for Ffmpeg {
    fn next(&mut self, wait: Duration) -> Result<Next, CameraError> {
        match self.frames.take(wait) {
            Taken::Item((image, capture_unix_nanos)) => {
                self.due = Instant::now() + self.stall;
                Ok(Next::Frame(Captured { image, capture_unix_nanos, pose: None }))
            }
            Taken::Closed(why) => self.end(why),
            Taken::Nothing if Instant::now() >= self.due => {
                Err(CameraError::Stalled { source_name: self.input.shown.clone(), patience: self.stall })
            }
            Taken::Nothing => Ok(Next::Nothing),
        }
    }

    fn replaced(&self) -> u64 {
        self.frames.replaced()
    }
}

impl Drop for Ffmpeg {
    fn drop(&mut self) {
        // Its threads end when its pipes are closed; nobody waits for them.
        if let Err(error) = self.child.kill() {
            tracing::warn!("ffmpeg could not be killed: {error}");
        }
        if let Err(error) = self.child.wait() {
            tracing::warn!("ffmpeg could not be waited for: {error}");
        }
        self.frames.close("the camera was stopped");
    }
}

/// How a pipe ends between two pictures.
const END: &str = "the stream has ended";

/// Reads pictures until the pipe ends or nobody wants them.
fn read(pipe: ChildStdout, frames: &Slot<(RgbImage, u64)>) {
    let mut pipe = BufReader::with_capacity(PIPE_BYTES, pipe);
    loop {
        match ppm::read(&mut pipe) {
            Ok(Some(picture)) => {
                if !frames.put((picture, unix_nanos())) {
                    return;
                }
            }
            Ok(None) => return frames.close(END),
            Err(error) => return frames.close(error.to_string()),
        }
    }
}

/// Logs what the child says, up to a bound, and keeps the last line.
fn log(pipe: ChildStderr, said: &Mutex<String>, input: &Input) {
    let mut pipe = BufReader::new(pipe);
    let mut lines = 0;
    while let Some(line) = line(&mut pipe) {
        // The address may hold a password.
        let line: String = line.replace(&input.address, &input.shown).chars().take(MOST_CHARACTERS).collect();
        if line.trim().is_empty() {
            continue;
        }
        lines += 1;
        match lines {
            ..MOST_LINES => tracing::warn!("ffmpeg: {line}"),
            MOST_LINES => tracing::warn!("ffmpeg: {line}; what else it says is left out"),
            _ => lines = MOST_LINES + 1,
        }
        *said.lock().unwrap_or_else(PoisonError::into_inner) = line;
    }
}

/// The next line, or a part of one that has no end; `None` at the end.
fn line(pipe: &mut impl BufRead) -> Option<String> {
    let mut bytes = Vec::new();
    pipe.take(16 * MOST_CHARACTERS as u64).read_until(b'\n', &mut bytes).ok()?;
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// The ffmpeg that is configured, or else the first in `PATH`.
///
/// # Errors
/// When there is none.
pub fn find(configured: Option<&Path>) -> Result<PathBuf, CameraError> {
    if let Some(program) = configured {
        return match program.is_file() {
            true => Ok(program.to_owned()),
            false => Err(CameraError::NoFfmpeg { wanted: program.display().to_string() }),
        };
    }
    let name = format!("ffmpeg{}", std::env::consts::EXE_SUFFIX);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path);
    folders
        .find_map(|folder| Some(folder.join(&name)).filter(|program| program.is_file()))
        .ok_or_else(|| CameraError::NoFfmpeg { wanted: format!("{name} in a folder of PATH") })
}

/// The first line of what the program says of its version.
#[must_use]
pub fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("-version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first = text.lines().next()?.chars().take(MOST_CHARACTERS).collect();
    output.status.success().then_some(first)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn input(address: &str, is_file: bool, repeat: bool) -> Input {
        Input { address: address.into(), shown: "shown".into(), is_file, repeat, frames_per_second: 2.5 }
    }

    #[test]
    fn files_play_at_their_own_speed_and_streams_come_over_tcp() {
        let file = input("file:a.mp4", true, true).arguments().join(" ");
        assert!(file.contains("-re -stream_loop -1 -i file:a.mp4"), "{file}");
        assert!(file.contains("fps=fps='min(source_fps,2.5)'") && file.ends_with("-f image2pipe pipe:1"), "{file}");
        let once = input("file:a.mp4", true, false).arguments().join(" ");
        assert!(once.contains("-re -i") && !once.contains("loop"), "{once}");
        let stream = input("rtsp://camera/1", false, true).arguments().join(" ");
        assert!(stream.contains("-rtsp_transport tcp -i rtsp://camera/1") && !stream.contains("-re "), "{stream}");
    }

    /// Promise: P5
    #[test]
    fn what_is_said_comes_in_lines_of_bounded_length() {
        let mut said = b"one\n\xff two\r\n".to_vec();
        said.resize(said.len() + 10_000, b'x');
        let mut pipe = said.as_slice();
        assert_eq!(line(&mut pipe).unwrap(), "one");
        assert_eq!(line(&mut pipe).unwrap(), "\u{fffd} two");
        assert_eq!(line(&mut pipe).unwrap().len(), 4800);
        assert_eq!(line(&mut pipe).unwrap().len(), 4800);
        assert_eq!(line(&mut pipe).unwrap().len(), 400);
        assert_eq!(line(&mut pipe), None);
    }

    #[test]
    fn an_ffmpeg_that_is_not_there_is_told_with_what_to_do() {
        let error = find(Some(Path::new("/nowhere/ffmpeg"))).unwrap_err();
        assert!(error.to_string().contains("/nowhere/ffmpeg") && error.hint().contains("camera.ffmpeg"), "{error}");
    }
}
