//! The cues of a request and their one spelling in chains: the commonest words, so that "lorry" is thought of as "truck".

use crate::expressions::meaning::{Expression, Extreme, ROAD};
use crate::expressions::phrase::word_list;
use crate::expressions::space::{POSITIONS, Position, RELATIONS, Relation, Side};
use crate::expressions::words;
use crate::sample::{Category, Colour};

/// One thing that words ask of their target.
#[derive(Debug, Clone, PartialEq)]
pub enum Cue {
    /// What the noun may mean.
    Kind(Vec<Category>),
    /// A thing no picture holds: index into [`words::FOREIGN`].
    Foreign(usize),
    /// "this", without a noun.
    This,
    /// "white".
    Colour(Colour),
    /// "top left".
    Position(Position),
    /// "right of white bus"; the anchor has a noun and perhaps a colour.
    Related(Relation, Option<Colour>, Vec<Category>),
    /// "here": the place pointed at.
    Here,
    /// "largest".
    Size(Extreme),
    /// "second from left".
    Ordinal(usize, Side),
    /// "all".
    All,
}

const COUNTED: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];
const SIDES: [(Side, &str); 4] =
    [(Side::Left, "left"), (Side::Right, "right"), (Side::Top, "top"), (Side::Bottom, "bottom")];
const COURTS: [Category; 2] = [Category::TennisCourt, Category::BasketballCourt];

impl Cue {
    /// Whether it keeps one of many by comparing them.
    pub fn compares(&self) -> bool {
        matches!(self, Self::Size(_) | Self::Ordinal(..) | Self::Related(Relation::Closest, ..))
    }

    /// Whether it says what the thing is.
    pub fn names(&self) -> bool {
        matches!(self, Self::Kind(_) | Self::Foreign(_) | Self::This)
    }

    /// Its words.
    pub fn phrase(&self) -> String {
        match self {
            Self::Kind(categories) => kind(categories).to_owned(),
            Self::Foreign(index) => words::FOREIGN[*index].singular.to_owned(),
            Self::This => "this".to_owned(),
            Self::Colour(colour) => colour_word(*colour).to_owned(),
            Self::Position(position) => place(*position).to_owned(),
            Self::Related(relation, colour, categories) => {
                let colour = colour.map_or(String::new(), |c| format!("{} ", colour_word(c)));
                format!("{} {colour}{}", link(*relation), kind(categories))
            }
            Self::Here => "here".to_owned(),
            Self::Size(Extreme::Largest) => "largest".to_owned(),
            Self::Size(Extreme::Smallest) => "smallest".to_owned(),
            Self::Ordinal(number, side) => {
                let side = SIDES.iter().find(|s| s.0 == *side).map_or("", |s| s.1);
                let counted = number.checked_sub(1).and_then(|n| COUNTED.get(n));
                format!("{} from {side}", counted.copied().unwrap_or("last"))
            }
            Self::All => "all".to_owned(),
        }
    }

    /// The cue that has these words.
    pub fn read(phrase: &str) -> Option<Self> {
        for relation in RELATIONS {
            if let Some(anchor) = phrase.strip_prefix(link(relation)).and_then(|rest| rest.strip_prefix(' ')) {
                let (colour, noun) = Self::read_noun(anchor)?;
                let Self::Kind(categories) = noun else { return None };
                return Some(Self::Related(relation, colour, categories));
            }
        }
        let plain = Self::nouns().chain(Colour::ALL.map(Self::Colour)).chain(POSITIONS.map(Self::Position));
        let counted = (1..=COUNTED.len()).flat_map(|number| SIDES.map(|(side, _)| Self::Ordinal(number, side)));
        let others = [Self::Here, Self::All, Self::Size(Extreme::Largest), Self::Size(Extreme::Smallest)];
        plain.chain(counted).chain(others).find(|cue| cue.phrase() == phrase)
    }

    /// A noun, and the colour before it if there is one.
    pub fn read_noun(phrase: &str) -> Option<(Option<Colour>, Self)> {
        let coloured = phrase.split_once(' ').and_then(|(first, rest)| {
            let colour = Colour::ALL.into_iter().find(|c| colour_word(*c) == first)?;
            Some((Some(colour), rest))
        });
        let (colour, noun) = coloured.unwrap_or((None, phrase));
        Some((colour, Self::nouns().find(|cue| cue.phrase() == noun)?))
    }

    fn nouns() -> impl Iterator<Item = Self> {
        let single = Category::ALL.into_iter().filter(|c| *c != Category::Vehicle).map(|c| vec![c]);
        let kinds = single.chain([ROAD.to_vec(), COURTS.to_vec()]).map(Self::Kind);
        kinds.chain((0..words::FOREIGN.len()).map(Self::Foreign)).chain([Self::This])
    }

    /// Adds the cue to an expression; `hint` of `whole` is the place that "here" means.
    pub fn add(&self, to: &mut Expression, whole: &Expression) {
        match self {
            Self::Kind(categories) => to.categories.clone_from(categories),
            Self::Foreign(index) => to.foreign = Some(*index),
            Self::This => {}
            Self::Colour(colour) => to.colour = Some(*colour),
            Self::Position(position) => to.position = Some(*position),
            Self::Related(relation, colour, categories) => {
                let anchor = Expression { categories: categories.clone(), colour: *colour, ..Expression::default() };
                to.relation = Some((*relation, Box::new(anchor)));
            }
            Self::Here => to.hint = whole.hint,
            Self::Size(extreme) => to.size = Some(*extreme),
            Self::Ordinal(number, side) => to.ordinal = Some((*number, *side)),
            Self::All => to.plural = true,
        }
    }
}

/// The cues of an expression in the order of their use: the noun, what filters, what compares, whether all are meant.
/// `None` for combinations that chains have no words for.
pub fn cues(expression: &Expression) -> Option<Vec<Cue>> {
    let Expression { categories, foreign, colour, size, position, relation, ordinal, plural, hint, .. } = expression;
    let mut cues = vec![match (foreign, &categories[..]) {
        (Some(index), _) => Cue::Foreign(*index),
        (None, []) => Cue::This,
        (None, named) => Cue::Kind(spoken(named)),
    }];
    cues.extend(colour.map(Cue::Colour));
    cues.extend(position.map(Cue::Position));
    if let Some((relation, anchor)) = relation {
        let Expression { categories, colour, .. } = &**anchor;
        let plain = Expression { categories: categories.clone(), colour: *colour, ..Expression::default() };
        if plain != **anchor || categories.is_empty() {
            return None;
        }
        cues.push(Cue::Related(*relation, *colour, spoken(categories)));
    }
    cues.extend(hint.map(|_| Cue::Here));
    cues.extend(size.map(Cue::Size));
    cues.extend(ordinal.map(|(number, side)| Cue::Ordinal(number, side)));
    // The relation "closest" stands among the filters; comparing is done last.
    cues.sort_by_key(Cue::compares);
    cues.extend(plural.then_some(Cue::All));
    // What is counted too far, say, has no words that would be read back.
    let said = cues.iter().all(|cue| Cue::read(&cue.phrase()).as_ref() == Some(cue));
    (said && cues.iter().filter(|cue| cue.compares()).count() <= 1).then_some(cues)
}

/// "Vehicle" means any kind of road vehicle, wherever it is labelled without its kind.
fn spoken(categories: &[Category]) -> Vec<Category> {
    if categories == [Category::Vehicle] { ROAD.to_vec() } else { categories.to_vec() }
}

fn kind(categories: &[Category]) -> &'static str {
    word_list(categories).first().map_or("thing", |word| word.singular)
}

fn colour_word(colour: Colour) -> &'static str {
    words::colour_words(colour).first().copied().unwrap_or_default()
}

fn link(relation: Relation) -> &'static str {
    match relation {
        Relation::NextTo => "next to",
        Relation::LeftOf => "left of",
        Relation::RightOf => "right of",
        Relation::Above => "above",
        Relation::Below => "below",
        Relation::Closest => "closest to",
    }
}

fn place(position: Position) -> &'static str {
    match position {
        Position::Left => "left",
        Position::Right => "right",
        Position::Top => "top",
        Position::Bottom => "bottom",
        Position::Centre => "middle",
        Position::TopLeft => "top left",
        Position::TopRight => "top right",
        Position::BottomLeft => "bottom left",
        Position::BottomRight => "bottom right",
    }
}
