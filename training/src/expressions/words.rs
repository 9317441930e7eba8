//! The words: nouns for every category, colours, ways of speaking, and which of them training never sees.
//!
//! Held-out nouns are near relatives of trained ones (another compound, another spelling): a language model that learns
//! from these pictures alone can be expected to carry over those, not words that it has no way to know.

use crate::sample::{Category, Colour};

/// A noun in both numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// One of them.
    pub singular: &'static str,
    /// Several of them.
    pub plural: &'static str,
    /// Kept out of all training.
    pub held_out: bool,
}

const fn word(singular: &'static str, plural: &'static str) -> Word {
    Word { singular, plural, held_out: false }
}

const fn kept(singular: &'static str, plural: &'static str) -> Word {
    Word { singular, plural, held_out: true }
}

/// Nouns of one category; the first is the commonest.
pub fn nouns(category: Category) -> &'static [Word] {
    match category {
        Category::Car => {
            const { &[word("car", "cars"), word("automobile", "automobiles"), kept("motorcar", "motorcars")] }
        }
        Category::Van => const { &[word("van", "vans"), word("minibus", "minibuses"), kept("minivan", "minivans")] },
        Category::Truck => {
            const { &[word("truck", "trucks"), word("lorry", "lorries"), kept("cargo truck", "cargo trucks")] }
        }
        Category::Bus => const { &[word("bus", "buses"), word("coach", "coaches"), kept("city bus", "city buses")] },
        Category::Vehicle => VEHICLE,
        Category::Boat => {
            const {
                &[
                    word("boat", "boats"),
                    word("ship", "ships"),
                    word("vessel", "vessels"),
                    kept("motor boat", "motor boats"),
                ]
            }
        }
        Category::Airplane => {
            const {
                &[
                    word("airplane", "airplanes"),
                    word("plane", "planes"),
                    word("aircraft", "aircraft"),
                    word("jet", "jets"),
                    kept("aeroplane", "aeroplanes"),
                ]
            }
        }
        Category::StorageTank => {
            const {
                &[
                    word("storage tank", "storage tanks"),
                    word("oil tank", "oil tanks"),
                    word("tank", "tanks"),
                    kept("fuel storage tank", "fuel storage tanks"),
                ]
            }
        }
        Category::Building => {
            const { &[word("building", "buildings"), word("house", "houses"), kept("town building", "town buildings")] }
        }
        Category::Tree => const { &[word("tree", "trees"), kept("treetop", "treetops")] },
        Category::Pool => {
            const { &[word("pool", "pools"), word("swimming pool", "swimming pools"), kept("swim pool", "swim pools")] }
        }
        Category::TennisCourt => {
            const { &[word("tennis court", "tennis courts"), kept("tennis field", "tennis fields")] }
        }
        Category::BasketballCourt => {
            const { &[word("basketball court", "basketball courts"), kept("basketball field", "basketball fields")] }
        }
        Category::BaseballDiamond => {
            const {
                &[
                    word("baseball diamond", "baseball diamonds"),
                    word("baseball field", "baseball fields"),
                    kept("baseball ground", "baseball grounds"),
                ]
            }
        }
        Category::GroundTrackField => {
            const {
                &[
                    word("ground track field", "ground track fields"),
                    word("running track", "running tracks"),
                    word("athletics track", "athletics tracks"),
                    kept("track field", "track fields"),
                ]
            }
        }
        Category::Harbor => {
            const {
                &[
                    word("harbor", "harbors"),
                    word("harbour", "harbours"),
                    word("pier", "piers"),
                    kept("harbour pier", "harbour piers"),
                ]
            }
        }
        Category::Bridge => const { &[word("bridge", "bridges"), kept("road bridge", "road bridges")] },
        Category::Person => {
            const {
                &[
                    word("person", "people"),
                    word("pedestrian", "pedestrians"),
                    word("human", "humans"),
                    kept("walking person", "walking people"),
                ]
            }
        }
        Category::Bicycle => {
            const { &[word("bicycle", "bicycles"), word("bike", "bikes"), kept("push bike", "push bikes")] }
        }
        Category::Trailer => const { &[word("trailer", "trailers"), kept("cargo trailer", "cargo trailers")] },
    }
}

/// Nouns for any road vehicle.
pub const VEHICLE: &[Word] =
    &[word("vehicle", "vehicles"), word("motor vehicle", "motor vehicles"), kept("road vehicle", "road vehicles")];

/// Nouns for any court.
pub const COURT: &[Word] = &[word("court", "courts"), kept("sports court", "sports courts")];

/// Things that no picture holds: their absence is certain everywhere.
pub const FOREIGN: &[Word] = &[
    word("elephant", "elephants"),
    word("helicopter", "helicopters"),
    word("giraffe", "giraffes"),
    word("camel", "camels"),
    word("wind turbine", "wind turbines"),
    word("lighthouse", "lighthouses"),
    word("submarine", "submarines"),
    word("igloo", "igloos"),
    word("pyramid", "pyramids"),
    word("windmill", "windmills"),
    word("volcano", "volcanoes"),
    word("zebra", "zebras"),
    word("ferris wheel", "ferris wheels"),
    word("snowman", "snowmen"),
    word("rocket", "rockets"),
    word("whale", "whales"),
    word("penguin", "penguins"),
    word("hot air balloon", "hot air balloons"),
    word("dinosaur", "dinosaurs"),
    word("castle", "castles"),
    kept("lion", "lions"),
    kept("kangaroo", "kangaroos"),
    kept("space shuttle", "space shuttles"),
    kept("glacier", "glaciers"),
];

/// The words of a colour.
pub fn colour_words(colour: Colour) -> &'static [&'static str] {
    match colour {
        Colour::White => &["white"],
        Colour::Black => &["black"],
        Colour::Grey => &["grey", "gray"],
        Colour::Red => &["red"],
        Colour::Orange => &["orange"],
        Colour::Yellow => &["yellow"],
        Colour::Green => &["green"],
        Colour::Blue => &["blue"],
        Colour::Brown => &["brown"],
    }
}

/// Ways of asking in training; `{}` is the noun phrase, `[is]` is "is" or "are".
pub const TEMPLATES: &[&str] = &[
    "{}",
    "{}",
    "{}",
    "show me {}",
    "show {}",
    "where [is] {}",
    "where [is] {}?",
    "find {}",
    "can you find {}?",
    "can you see {}",
    "segment {}",
    "please segment {}",
    "please segment {} in this image",
    "please mark {}",
    "mark {}",
    "target: {}",
    "target {}",
    "i am looking for {}",
    "i'm looking for {}",
    "look for {}",
    "look at {}",
    "outline {}",
    "highlight {}",
    "give me {}",
    "point out {}",
    "search for {}",
    "follow {}",
    "track {}",
    "locate {}",
    "locate {} in the image",
    "do you see {}?",
    "i need {}",
    "mask {}",
    "drone, find {}",
    "{} please",
    "{}, please",
    "keep an eye on {}",
    "stay on {}",
    "watch {}",
    "what about {}",
    "detect {}",
    "select {}",
    "please segment the specific vehicle: {}",
];

/// Ways of asking that training never sees.
pub const HELD_OUT_TEMPLATES: &[&str] = &[
    "could you show me where {} [is]",
    "spot {} for me",
    "i want to see {}",
    "identify {} in this picture",
    "tell me where {} [is]",
    "isolate {}",
    "pick out {}",
    "get eyes on {}",
    "cut out {}",
    "let me see {} now",
    "new target, {}",
    "would you mark {} for us",
];

/// Shares of speech slips: what was said and what was heard. Whole words only.
pub const MISHEARD: &[(&str, &str)] = &[
    ("red", "read"),
    ("blue", "blew"),
    ("plane", "plain"),
    ("court", "caught"),
    ("pool", "pull"),
    ("bus", "buss"),
    ("van", "fan"),
    ("truck", "trunk"),
    ("right", "write"),
    ("next", "necks"),
    ("tank", "thank"),
    ("harbour", "arbor"),
    ("left", "lift"),
    ("to", "two"),
    ("building", "bill ding"),
    ("airplane", "air plane"),
    ("grey", "great"),
    ("white", "wide"),
    ("black", "block"),
    ("yellow", "hello"),
    ("brown", "crown"),
    ("green", "grain"),
    ("tree", "tee"),
    ("boat", "bowed"),
    ("bridge", "breach"),
    ("car", "cart"),
    ("cars", "carts"),
    ("trees", "tease"),
];

/// Speech slips that training never sees.
pub const HELD_OUT_MISHEARD: &[(&str, &str)] = &[
    ("red", "rad"),
    ("white", "whyte"),
    ("truck", "truk"),
    ("plane", "playn"),
    ("building", "bilding"),
    ("boat", "bote"),
    ("car", "kar"),
    ("tree", "trea"),
    ("bridge", "brige"),
    ("blue", "bloo"),
    ("left", "laft"),
    ("right", "rite"),
];

/// Said while thinking.
pub const FILLERS: &[&str] = &["uh", "um", "er", "well", "okay"];
