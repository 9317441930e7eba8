//! Cases of whole graphs: the four kinds, of one small random model.

use candle_core::{Device, Tensor};
use image::{ImageFormat, Rgb, RgbImage};
use kestrel_models::candle::{Candle, Params};
use kestrel_models::export::{Graphs, Room, explain, export};
use kestrel_models::kestrel::pack::{pack, rotary};
use kestrel_models::kestrel::{
    Config, KeyValue, Next, PackedTensors, Proposals, Seen, language, mask, rows, step, vision,
};
use kestrel_onboard::conformance::{Frame, Kind, Named, Tensors, Values};
use kestrel_perception::decoding;
use kestrel_perception::proposals::{CODE, MOST, NAMES, ProposalInputs};

use super::super::{moved, noises};
use super::Made;

/// A question of seven tokens, `<answer>` and `[SEG]` at its end.
const QUERY: [u32; 7] = [40, 41, 33, 7, 20, 1, 2];
const ROOM: Room = Room { question: 5, answer: 6, rows: 3 };
/// Rows that the decoded case has read before.
const USED: usize = 5;

fn config() -> Config {
    Config { vocabulary: 64, max_tokens: 12, ..Config::tiny() }
}

fn tensor(data: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(data, shape, &Device::Cpu).unwrap()
}

fn integers(data: &[u32]) -> Tensor {
    Tensor::from_slice(data, (1, data.len()), &Device::Cpu).unwrap()
}

fn floats(name: &str, shape: &[usize], data: &[f32]) -> Named {
    assert_eq!(shape.iter().product::<usize>(), data.len(), "{name}");
    Named { name: name.into(), shape: shape.to_vec(), values: Values::F32(data.to_vec()) }
}

fn ids(name: &str, data: &[u32]) -> Named {
    let data: Vec<i64> = data.iter().map(|&id| id.into()).collect();
    Named { name: name.into(), shape: vec![1, data.len()], values: Values::I64(data) }
}

/// What candle gave, in the shape that the graph gives it in.
fn given(name: &str, shape: &[usize], tensor: &Tensor) -> Named {
    floats(name, shape, &tensor.flatten_all().unwrap().to_vec1().unwrap())
}

/// A frame wider than high and odd on both sides, with edges at several scales.
fn frame() -> Vec<u8> {
    let picture = RgbImage::from_fn(75, 43, |x, y| {
        let cell = |side: u32| ((x / side).wrapping_mul(0x9E37_79B9) ^ (y / side).wrapping_mul(0x85EB_CA6B)) >> 24;
        Rgb([cell(5) as u8, cell(11) as u8, (cell(3) / 2 + cell(17) / 2) as u8])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn vision_case(config: &Config, params: &Params) -> (Frame, Vec<u8>, Tensors) {
    let side = config.image;
    let frame_of = Frame { file: "graphs/vision.png".into(), input: "image".into(), side: side as u32 };
    let png = frame();
    let input = frame_of.input("vision.png".as_ref(), &png).unwrap();
    let Values::F32(planes) = &input.values else { panic!("pixels are floats") };
    let image = tensor(planes, &[1, 3, side, side]).permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
    let seen = vision(&mut Candle::evaluating(params), config, &image).unwrap();
    let outputs = [("tokens", &seen.tokens), ("embed", &seen.embed), ("fine", &seen.fine), ("spots", &seen.spots)]
        .map(|(name, value)| given(name, value.dims(), value));
    (frame_of, png, Tensors { inputs: vec![input], outputs: outputs.into() })
}

fn language_case(config: &Config, params: &Params) -> Tensors {
    let (images, text, width) = (config.token_side().pow(2), config.max_tokens, config.language_width);
    let tokens = noises(3, images * width, 1.7);
    let mut query = QUERY.to_vec();
    query.resize(text, 0);
    let index = [QUERY.len() as u32 - 2];
    let whole = pack(&[vec![vec![0; text]]], images, 0, Some(text));
    let whole = whole.tensors(width / config.heads, &Device::Cpu).unwrap();
    let packed = PackedTensors { ids: integers(&query), index: integers(&index), ..whole };
    let said =
        language(&mut Candle::evaluating(params), config, &tensor(&tokens, &[1, images, width]), &packed).unwrap();
    Tensors {
        inputs: vec![floats("tokens", &[1, images, width], &tokens), ids("ids", &query), ids("index", &index)],
        outputs: vec![
            given("logits", &[1, config.vocabulary], &said.logits),
            given("seg", &[1, 1, config.mask_width], &said.seg),
            given("doubt", &[1, text], &said.doubt),
        ],
    }
}

fn mask_case(config: &Config, params: &Params) -> Tensors {
    let (embeds, side) = (config.embed_side().pow(2), config.mask_side());
    let mut proposed = ProposalInputs::default();
    let boxes = [[0.1, 0.2, 0.3, 0.6], [0.5, 0.5, 0.52, 0.55], [0.0, 0.7, 0.9, 1.0]];
    proposed.fill(&boxes, &[config.embed_side(), side]);
    let cells = proposed.extents.len() / MOST;
    let inputs = vec![
        floats("embed", &[1, embeds, config.mask_width], &noises(4, embeds * config.mask_width, 1.7)),
        floats("fine", &[1, side * side, config.fine_width], &noises(5, side * side * config.fine_width, 1.7)),
        floats("seg", &[1, 1, config.mask_width], &noises(6, config.mask_width, 2.0)),
        floats("names", &[1, MOST, NAMES], &noises(7, MOST * NAMES, 3.0)),
        floats("codes", &[1, MOST, CODE], &proposed.codes),
        floats("extents", &[1, cells, MOST], &proposed.extents),
        floats("attention", &[1, MOST + 1, MOST + 1], &proposed.attention),
    ];
    let [embed, fine, seg, names, codes, extents, attention] = [0, 1, 2, 3, 4, 5, 6].map(|at| {
        let named: &Named = &inputs[at];
        let Values::F32(data) = &named.values else { panic!("`{}` is floats", named.name) };
        tensor(data, &named.shape)
    });
    let seen = Seen { tokens: embed.clone(), spots: embed.clone(), embed, fine };
    let proposals = Proposals { names, codes, extents, attention };
    let masks = mask(&mut Candle::evaluating(params), config, &seen, &proposals, &seg, 1).unwrap();
    let outputs = vec![
        given("mask", &[1, side, side], &masks.mask),
        given("iou", &[1, 1], &masks.iou),
        given("object", &[1, 1], &masks.object),
    ];
    Tensors { inputs, outputs }
}

/// One run in the middle of an answer: an image token, a word, and a row that is not used.
fn explain_case(config: &Config, params: &Params) -> Tensors {
    let sizes = ROOM.sizes(config);
    let decoding::Sizes { rows: count, length, width, planes, kv_width, .. } = sizes;
    let (words, spoken, positions) = ([13_u32, 40, 0], [0.0_f32, 1.0, 0.0], [0_u32, 4, 0]);
    let tokens = noises(8, count * width, 1.7);
    let visible = decoding::mask(USED, length, 2, count);
    let mut past = noises(9, planes * length * kv_width, 1.0);
    for (at, value) in past.iter_mut().enumerate() {
        // What a place that was not written holds must not matter.
        if at / kv_width % length >= USED {
            *value = 9.0;
        }
    }
    let (cos, sin) = rotary(&positions, config.language_width / config.heads);
    let half = config.language_width / config.heads / 2;
    let mut ops = Candle::evaluating(params);
    let [said, seen] = [tensor(&spoken, &[1, count, 1]), tensor(&tokens, &[1, count, width])];
    let read = rows(&mut ops, config, &seen, &integers(&words), &said).unwrap();
    let kept = tensor(&past, &[planes, length, kv_width]);
    let plane = |at: usize| kept.narrow(0, at, 1).unwrap().contiguous().unwrap();
    let layers: Vec<KeyValue<Tensor>> = (0..config.language_layers)
        .map(|layer| KeyValue { keys: plane(2 * layer), values: plane(2 * layer + 1) })
        .collect();
    let next = Next {
        rows: read,
        mask: tensor(&visible, &[1, count, length + count]),
        cos: tensor(&cos, &[1, count, half]),
        sin: tensor(&sin, &[1, count, half]),
        places: None,
    };
    let stepped = step(&mut ops, config, &next, &layers).unwrap();
    let new: Vec<Tensor> = stepped.new.into_iter().flat_map(|layer| [layer.keys, layer.values]).collect();
    let new = Tensor::cat(&new, 0).unwrap();
    Tensors {
        inputs: vec![
            floats("tokens", &[1, count, width], &tokens),
            ids("ids", &words),
            floats("spoken", &[1, count, 1], &spoken),
            ids("positions", &positions),
            floats("mask", &[1, count, length + count], &visible),
            floats("past", &[planes, length, kv_width], &past),
        ],
        outputs: vec![
            given("logits", &[count, config.vocabulary], &stepped.logits),
            given("seg", &[count, config.mask_width], &stepped.seg),
            given("new", &[planes, count, kv_width], &new),
        ],
    }
}

pub(super) fn made() -> Vec<Made> {
    let config = config();
    let first = Params::new(&Device::Cpu, 11);
    vision_case(&config, &first);
    language_case(&config, &first);
    mask_case(&config, &first);
    let weights = moved(&first, 0.03);
    let params = weights.to_params(&Device::Cpu).unwrap();
    let Graphs { vision, language, mask } = export(&config, &weights).unwrap();
    let explain = explain(&config, &weights, &ROOM).unwrap();

    let (frame, png, tensors) = vision_case(&config, &params);
    let says = "a frame of 75×43 pixels, letterboxed to 64×64, to tokens, features and spots";
    let mut seen = Made::new(Kind::Vision, "vision", says, vision, tensors);
    // The trunk has its full widths in the smallest of models.
    seen.case.made = true;
    seen.case.frame = Some(frame);
    seen.frame = Some(png);
    vec![
        seen,
        Made::new(
            Kind::Language,
            "language",
            "a question of seven tokens in room for twelve, behind image tokens",
            language,
            language_case(&config, &params),
        ),
        Made::new(
            Kind::Mask,
            "mask",
            "three things that stand out, one of them smaller than a cell, and a `[SEG]` state",
            mask,
            mask_case(&config, &params),
        ),
        Made::new(
            Kind::Explain,
            "explain",
            "an image token, a word and an unused row behind five places of a cache of fifteen",
            explain,
            explain_case(&config, &params),
        ),
    ]
}
