//! ONNX Runtime, loaded at run time.

use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use ort::environment::Environment;
use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider as _, ExecutionProvider as _};
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::TensorRef;

use super::prepared::{self, Place};
use super::{
    Engine, EngineError, EngineOptions, Graph, GraphBytes, Input, Provider, Tensor, check_inputs, each, library,
};

/// Views of one run on CUDA. On a processor, one at a time is as fast (two cores, kestrel-s: 54, 54 and 65 ms a view in runs
/// of one, two and four), and TensorRT builds its engine for one shape.
const CUDA_VIEWS: usize = 8;

/// The option of ONNX Runtime without which a processor that has AVX2 and no VNNI adds products of integers in 16 bits and
/// saturates without a word; where nothing can saturate it costs nothing.
pub const EXACT_INTEGERS: (&str, &str) = ("session.x64quantprecision", "1");

/// What a plugin of the TensorRT RTX provider is registered as, and what its devices say that they belong to.
const RTX: &str = "NvTensorRTRTXExecutionProvider";

/// One session per graph, all with the same provider.
pub struct RuntimeEngine {
    name: String,
    sessions: [Option<Session>; 4],
    views_per_run: usize,
}

/// A process can hold one environment only, and the first library that was loaded stays.
static ENVIRONMENT: OnceLock<(Environment, String)> = OnceLock::new();
static OPENING: Mutex<()> = Mutex::new(());

/// What the loaded library says of itself; `None` before one was loaded.
#[must_use]
pub fn runtime_version() -> Option<String> {
    ENVIRONMENT.get().map(|(_, origin)| format!("{origin}, {}", ort::info()))
}

fn environment(options: &EngineOptions) -> Result<&'static Environment, EngineError> {
    if let Some((environment, _)) = ENVIRONMENT.get() {
        return Ok(environment);
    }
    let _one_at_a_time = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((environment, _)) = ENVIRONMENT.get() {
        return Ok(environment);
    }
    let mut tried = Vec::new();
    for candidate in library::candidates(options.library.as_deref()) {
        match load(&candidate.path) {
            Ok(environment) => return Ok(keep(environment, &candidate.path, candidate.origin)),
            Err(why) => tried.push(why),
        }
    }
    if options.library.is_none() && options.fetch {
        match library::fetch(options.progress) {
            Ok(path) => match load(&path) {
                Ok(environment) => return Ok(keep(environment, &path, "fetched")),
                Err(why) => tried.push(why),
            },
            Err(error) => tried.push(error.to_string()),
        }
    }
    if tried.is_empty() {
        tried.push("none found, and fetching one is switched off".into());
    }
    Err(EngineError::NoLibrary { why: tried.join("; ") })
}

fn keep(environment: Environment, path: &Path, origin: &str) -> &'static Environment {
    tracing::info!("ONNX Runtime from {} ({origin})", path.display());
    let described = format!("{} ({origin})", path.display());
    &ENVIRONMENT.get_or_init(|| (environment, described)).0
}

fn load(path: &Path) -> Result<Environment, String> {
    let builder = ort::init_from(path).map_err(|error| error.to_string())?;
    // A drone tells nobody what it does but its operator.
    builder.with_name("kestrel").with_telemetry(false).build().map_err(|error| error.to_string())
}

impl RuntimeEngine {
    /// Loads the library if that has not happened yet and opens a session per graph.
    ///
    /// # Errors
    /// When there is no usable library, a graph is not taken, or the provider is not really active.
    pub fn load(graphs: &GraphBytes<'_>, provider: Provider, options: &EngineOptions) -> Result<Self, EngineError> {
        let environment = environment(options)?;
        let name = format!("ort/{}", provider.name());
        let place_of = match provider {
            Provider::Cpu | Provider::Cuda => None,
            Provider::TensorRt | Provider::NvTensorRtRtx => Some(prepared::ready(graphs, provider, options)?),
        };
        let sessions = each(graphs, |graph, bytes| {
            let place = place_of.as_ref().map(|of| of(graph));
            let how = How { place: place.as_ref(), ..How::of(provider, options) };
            let session = session(environment, graph, bytes, &how)?;
            check_names(&name, graph, &session)?;
            if provider != Provider::Cpu {
                prove(environment, graph, bytes, &how)?;
            }
            Ok(session)
        })?;
        if let Some(of) = place_of {
            prepared::unchanged(&of(Graph::Vision).folder, provider)?;
        }
        let vision = sessions[Graph::Vision.index()].as_ref();
        let views_per_run = if provider == Provider::Cuda && vision.is_some_and(opens_batch) { CUDA_VIEWS } else { 1 };
        Ok(Self { name, sessions, views_per_run })
    }
}

/// Whether the graph takes any number of views.
fn opens_batch(vision: &Session) -> bool {
    let shapes = vision.inputs().iter().filter_map(|input| input.dtype().tensor_shape());
    shapes.filter_map(|shape| shape.first()).any(|&side| side < 0)
}

/// Why there is no session.
enum Fault {
    /// The provider asked for is not there.
    NotActive(String),
    /// The runtime does not take the graph.
    NotTaken(String),
}

/// How a session is opened.
#[derive(Clone, Copy)]
struct How<'a> {
    provider: Provider,
    options: &'a EngineOptions,
    /// Where engines that were built before lie.
    place: Option<&'a Place>,
    /// Where a profile is written.
    profile: Option<&'a Path>,
}

impl<'a> How<'a> {
    fn of(provider: Provider, options: &'a EngineOptions) -> Self {
        Self { provider, options, place: None, profile: None }
    }
}

fn session(environment: &Environment, graph: Graph, bytes: &[u8], how: &How<'_>) -> Result<Session, EngineError> {
    let provider = how.provider.name();
    commit(environment, bytes, how).map_err(|fault| match fault {
        Fault::NotActive(why) => EngineError::Provider { provider, why },
        Fault::NotTaken(why) => EngineError::Load { engine: format!("ort/{provider}"), graph, why },
    })
}

/// A session of a graph outside the contract, see [`super::PlainGraph`].
pub(super) fn plain(bytes: &[u8], provider: Provider, options: &EngineOptions) -> Result<Session, EngineError> {
    let how = How::of(provider, options);
    commit(environment(options)?, bytes, &how).map_err(|fault| match fault {
        Fault::NotActive(why) => EngineError::Provider { provider: provider.name(), why },
        Fault::NotTaken(why) => EngineError::Plain { engine: format!("ort/{}", provider.name()), why },
    })
}

/// Opens a graph once and runs it on zeros, so that what its provider builds lies in `place`.
pub(super) fn prepare(
    graph: Graph,
    bytes: &[u8],
    provider: Provider,
    options: &EngineOptions,
    place: &Place,
) -> Result<(), EngineError> {
    let how = How { place: Some(place), ..How::of(provider, options) };
    let mut session = session(environment(options)?, graph, bytes, &how)?;
    let engine = || format!("ort/{}", provider.name());
    run_on_zeros(graph, &mut session).map_err(|why| EngineError::Run { engine: engine(), graph, why })
}

/// Whether the library has a provider at all; gives the library's version.
///
/// That a library was built with a provider does not mean that the provider works; that it was not means that it never will.
pub(super) fn available(provider: Provider, options: &EngineOptions) -> Result<String, EngineError> {
    let environment = environment(options)?;
    let not_active = |why: String| EngineError::Provider { provider: provider.name(), why };
    let built_in = match provider {
        Provider::Cpu => true,
        Provider::Cuda => ep::CUDA::is_available().map_err(|error| not_active(error.to_string()))?,
        Provider::TensorRt => ep::TensorRT::is_available().map_err(|error| not_active(error.to_string()))?,
        Provider::NvTensorRtRtx => {
            register(environment, options).map_err(not_active)?;
            environment.devices().any(|device| device.ep().is_ok_and(|name| name == RTX))
        }
    };
    if !built_in {
        let why = match provider {
            Provider::NvTensorRtRtx => "its plugin knows no device here",
            _ => "this library was built without it",
        };
        return Err(not_active(why.into()));
    }
    // Branch and commit; flags of the compiler follow.
    Ok(ort::info().split(", ").take(2).collect::<Vec<_>>().join(", "))
}

/// Registers the plugin that was named, once a process: a second time would be an error of the runtime.
fn register(environment: &Environment, options: &EngineOptions) -> Result<(), String> {
    static REGISTERED: Mutex<Option<std::path::PathBuf>> = Mutex::new(None);
    let Some(path) = &options.accelerator.plugin else {
        return Err("no plugin library was named".into());
    };
    let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    match registered.as_ref() {
        Some(known) if known == path => return Ok(()),
        Some(known) => return Err(format!("{} is loaded already", known.display())),
        None => {}
    }
    // The runtime would look for a relative path beside its own library.
    let absolute = std::fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()))?;
    environment.register_ep_library(RTX, &absolute).map_err(|error| format!("{}: {error}", path.display()))?;
    *registered = Some(path.clone());
    Ok(())
}

fn commit(environment: &Environment, bytes: &[u8], how: &How<'_>) -> Result<Session, Fault> {
    let How { provider, options, place, profile } = *how;
    let failed = Fault::NotTaken;
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let mut builder = Session::builder(environment)
        .map_err(|error| failed(error.to_string()))?
        .with_optimization_level(GraphOptimizationLevel::All)
        .map_err(|error| failed(error.to_string()))?
        .with_intra_threads(threads)
        .map_err(|error| failed(error.to_string()))?
        // The sessions take turns: a pool that spins for work would hold the cores of the next one.
        .with_intra_op_spinning(false)
        .map_err(|error| failed(error.to_string()))?
        .with_config_entry(EXACT_INTEGERS.0, EXACT_INTEGERS.1)
        .map_err(|error| failed(error.to_string()))?;
    if let Some(profile) = profile {
        builder = builder.with_profiling(profile).map_err(|error| failed(error.to_string()))?;
    }
    let not_active = Fault::NotActive;
    if provider == Provider::NvTensorRtRtx {
        register(environment, options).map_err(not_active)?;
        let devices: Vec<_> =
            environment.devices().filter(|device| device.ep().is_ok_and(|name| name == RTX)).collect();
        if devices.is_empty() {
            return Err(not_active("its plugin knows no device here".into()));
        }
        let told = prepared::plugin(RTX, place);
        builder =
            builder.with_devices(devices, Some(told.as_slice())).map_err(|error| not_active(error.to_string()))?;
    }
    let providers = match provider {
        Provider::Cpu | Provider::NvTensorRtRtx => vec![],
        Provider::Cuda => vec![ep::CUDA::default().build().error_on_failure()],
        Provider::TensorRt => {
            let told = prepared::tensorrt(place);
            let with =
                |made: ep::TensorRT, (key, value): (&'static str, String)| made.with_arbitrary_config(key, value);
            let tensorrt = told.into_iter().fold(ep::TensorRT::default(), with);
            vec![tensorrt.build().error_on_failure(), ep::CUDA::default().build().error_on_failure()]
        }
    };
    if !providers.is_empty() {
        builder = builder.with_execution_providers(providers).map_err(|error| not_active(error.to_string()))?;
    }
    builder.commit_from_memory(bytes).map_err(|error| failed(error.to_string()))
}

fn check_names(engine: &str, graph: Graph, session: &Session) -> Result<(), EngineError> {
    let check = |expected: &[&str], got: Vec<&str>| {
        if got.len() == expected.len() && expected.iter().all(|name| got.contains(name)) {
            return Ok(());
        }
        Err(EngineError::Names { engine: engine.to_owned(), graph, expected: expected.join(", "), got: got.join(", ") })
    };
    check(graph.inputs(), session.inputs().iter().map(|input| input.name()).collect())?;
    let outputs: Vec<&str> = session.outputs().iter().map(|output| output.name()).collect();
    check(graph.outputs(), outputs)
}

/// Proves from the profile of one run on zeros that `provider` takes most of the graph's time.
///
/// What the runtime lists as available is what it was compiled with, not what it does.
fn prove(environment: &Environment, graph: Graph, bytes: &[u8], how: &How<'_>) -> Result<(), EngineError> {
    let provider = how.provider;
    let not_active = |why: String| EngineError::Provider { provider: provider.name(), why };
    let prefix = std::env::temp_dir().join(format!("kestrel-profile-{}-{graph}", std::process::id()));
    let mut profiled = session(environment, graph, bytes, &How { profile: Some(&prefix), ..*how })?;
    run_on_zeros(graph, &mut profiled).map_err(not_active)?;
    let path = profiled.end_profiling().map_err(|error| not_active(error.to_string()))?;
    let text = std::fs::read_to_string(&path).map_err(|error| not_active(format!("reading {path}: {error}")))?;
    // Best effort: a profile left in the temporary folder harms nobody.
    let _ = std::fs::remove_file(&path);
    let events: Vec<serde_json::Value> =
        serde_json::from_str(&text).map_err(|error| not_active(format!("profile {path}: {error}")))?;
    let share = share_of(provider, &events);
    if share > 0.5 {
        return Ok(());
    }
    Err(not_active(format!("it took {:.0} % of the time of the {graph} graph in a warm-up", share * 100.0)))
}

/// Share of the operations' time that a profile gives to a provider, 0 when it holds no operation.
fn share_of(provider: Provider, events: &[serde_json::Value]) -> f64 {
    let (mut ours, mut all) = (0.0, 0.0);
    for event in events {
        let Some(name) = event.pointer("/args/provider").and_then(serde_json::Value::as_str) else { continue };
        let time = event.get("dur").and_then(serde_json::Value::as_f64).unwrap_or(0.0);
        all += time;
        // CUDAExecutionProvider, TensorrtExecutionProvider, NvTensorRTRTXExecutionProvider, CPUExecutionProvider.
        if name.to_ascii_lowercase().starts_with(&provider.name().replace('_', "")) {
            ours += time;
        }
    }
    if all > 0.0 { ours / all } else { 0.0 }
}

fn run_on_zeros(graph: Graph, session: &mut Session) -> Result<(), String> {
    let shapes = input_shapes(graph, session)?;
    let sizes: Vec<usize> = shapes.iter().map(|shape| shape.iter().product()).collect();
    let most = sizes.iter().copied().max().unwrap_or(0);
    let (floats, integers) = (vec![0.0_f32; most], vec![0_i64; most]);
    let inputs: Vec<Input<'_>> = graph
        .inputs()
        .iter()
        .zip(shapes.iter().zip(&sizes))
        .map(|(name, (shape, &size))| match *name {
            "ids" | "index" | "positions" => Input::I64(shape, &integers[..size]),
            _ => Input::F32(shape, &floats[..size]),
        })
        .collect();
    session.run(values(graph, &inputs).map_err(|error| error.to_string())?).map(drop).map_err(|error| error.to_string())
}

/// Shapes of a graph's inputs; a side that the graph leaves open counts as 1.
fn input_shapes(graph: Graph, session: &Session) -> Result<Vec<Vec<usize>>, String> {
    let mut shapes = Vec::new();
    for name in graph.inputs() {
        let input = session.inputs().iter().find(|input| input.name() == *name).ok_or("an input is missing")?;
        let shape = input.dtype().tensor_shape().ok_or_else(|| format!("`{name}` is no tensor"))?;
        shapes.push(shape.iter().map(|&side| usize::try_from(side).unwrap_or(1)).collect::<Vec<_>>());
    }
    Ok(shapes)
}

type Named<'a> = Vec<(&'static str, SessionInputValue<'a>)>;

fn values<'a>(graph: Graph, inputs: &[Input<'a>]) -> Result<Named<'a>, ort::Error> {
    graph
        .inputs()
        .iter()
        .zip(inputs)
        .map(|(&name, input)| {
            let value: SessionInputValue<'a> = match *input {
                Input::F32(shape, data) => TensorRef::from_array_view((shape.to_vec(), data))?.into(),
                Input::I64(shape, data) => TensorRef::from_array_view((shape.to_vec(), data))?.into(),
            };
            Ok((name, value))
        })
        .collect()
}

impl Engine for RuntimeEngine {
    fn name(&self) -> &str {
        &self.name
    }

    fn input_shapes(&self, graph: Graph) -> Result<Vec<Vec<usize>>, EngineError> {
        let Some(session) = &self.sessions[graph.index()] else {
            return Err(EngineError::Missing { engine: self.name.clone(), graph });
        };
        input_shapes(graph, session).map_err(|why| EngineError::Load { engine: self.name.clone(), graph, why })
    }

    fn views_per_run(&self) -> usize {
        self.views_per_run
    }

    fn run(&mut self, graph: Graph, inputs: &[Input<'_>], outputs: &mut [Tensor]) -> Result<(), EngineError> {
        check_inputs(graph, inputs)?;
        let Self { name, sessions, .. } = self;
        let Some(session) = &mut sessions[graph.index()] else {
            return Err(EngineError::Missing { engine: name.clone(), graph });
        };
        let failed = |error: ort::Error| EngineError::Run { engine: name.clone(), graph, why: error.to_string() };
        let results = session.run(values(graph, inputs).map_err(failed)?).map_err(failed)?;
        for (output, name) in outputs.iter_mut().zip(graph.outputs()) {
            let (shape, data) = results[*name].try_extract_tensor::<f32>().map_err(failed)?;
            output.fill(shape.iter().map(|&side| usize::try_from(side).unwrap_or(0)), data);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// Promise: P3
    #[test]
    fn a_profile_tells_who_really_computed() {
        let event = |provider: &str, dur: u32| serde_json::json!({ "dur": dur, "args": { "provider": provider } });
        let other = serde_json::json!({ "name": "model_run", "dur": 1000 });
        let events = [event("CUDAExecutionProvider", 10), event("CPUExecutionProvider", 30), other];
        assert_eq!(share_of(Provider::Cuda, &events), 0.25);
        assert_eq!(share_of(Provider::TensorRt, &events), 0.0, "CUDA is not TensorRT");
        assert_eq!(share_of(Provider::Cuda, &[]), 0.0);
        let rtx = [event(RTX, 30), event("CPUExecutionProvider", 10)];
        assert_eq!(share_of(Provider::NvTensorRtRtx, &rtx), 0.75);
        assert_eq!(share_of(Provider::TensorRt, &rtx), 0.0);
    }
}
