//! From the data sets' own category names to [`Category`], and what each set labels exhaustively.

use crate::sample::Category;

/// The category behind a data set's own name; `Ok(None)` for regions that the set asks to ignore.
///
/// Case, blanks, hyphens and underscores do not matter: `Storage-Tank`, `storage tank` and `storagetank` are one name.
///
/// # Errors
/// The unknown name itself.
pub fn category(name: &str) -> Result<Option<Category>, String> {
    let bare: String = name.chars().filter(|c| !matches!(c, ' ' | '-' | '_')).flat_map(char::to_lowercase).collect();
    Ok(Some(match bare.as_str() {
        "car" => Category::Car,
        "van" | "minibus" => Category::Van,
        "truck" => Category::Truck,
        "bus" => Category::Bus,
        // DOTA's and VSAI's two sizes hold several kinds each.
        "vehicle" | "othervehicle" | "smallvehicle" | "largevehicle" => Category::Vehicle,
        "ship" | "boat" => Category::Boat,
        "airplane" | "plane" | "aeroplane" => Category::Airplane,
        "storagetank" => Category::StorageTank,
        "building" => Category::Building,
        "tree" | "alive" | "dead" => Category::Tree,
        "pool" | "swimmingpool" => Category::Pool,
        "tenniscourt" => Category::TennisCourt,
        "basketballcourt" => Category::BasketballCourt,
        "baseballdiamond" | "baseballfield" => Category::BaseballDiamond,
        "groundtrackfield" => Category::GroundTrackField,
        "harbor" | "harbour" => Category::Harbor,
        "bridge" => Category::Bridge,
        "person" | "human" | "pedestrian" | "people" => Category::Person,
        "bicycle" => Category::Bicycle,
        "trailer" => Category::Trailer,
        "dontcare" | "ignoredregions" => return Ok(None),
        _ => return Err(name.to_owned()),
    }))
}

/// Categories of which one may say "there is none", per data set.
///
/// `present` are the categories labelled in this picture, `anywhere` those of the whole annotation file.
/// NWPU labels vehicles only in its low-flown pictures: elsewhere parked cars are unlabelled, so `Vehicle` counts
/// there only where some are labelled.
/// Sets without labels still show surely no airplane and no sports ground.
pub fn exhaustive(dataset: &str, present: &[Category], anywhere: &[Category]) -> Vec<Category> {
    use Category as C;
    let nine = [
        C::Airplane,
        C::Boat,
        C::StorageTank,
        C::BaseballDiamond,
        C::TennisCourt,
        C::BasketballCourt,
        C::GroundTrackField,
        C::Harbor,
        C::Bridge,
    ];
    let surely_not = [C::Airplane, C::StorageTank, C::TennisCourt, C::BasketballCourt, C::BaseballDiamond];
    let with_surely_not = |own: &[C]| {
        let mut all = own.to_vec();
        all.extend(surely_not);
        all
    };
    match dataset {
        d if d.starts_with("nwpu") => {
            let mut all = nine.to_vec();
            if present.contains(&C::Vehicle) {
                all.push(C::Vehicle);
            }
            all
        }
        d if d.starts_with("kit") => with_surely_not(&[C::Car, C::Bus, C::Van, C::Boat, C::Harbor]),
        d if d.starts_with("auair") => {
            with_surely_not(&[C::Car, C::Van, C::Truck, C::Bus, C::Trailer, C::Person, C::Bicycle, C::Boat, C::Harbor])
        }
        d if d.starts_with("oam_kampala") => with_surely_not(&[C::Building, C::Boat, C::Harbor, C::Bridge]),
        d if d.starts_with("deepforest") => with_surely_not(&[C::Tree, C::Harbor]),
        d if d.starts_with("brighton") || d.starts_with("odm_") => with_surely_not(&[C::Harbor]),
        _ => anywhere.to_vec(),
    }
}

/// Things of one colour: a court's lines, a harbour's water or a crown's shadows are not its colour.
pub fn coloured(category: Category) -> bool {
    use Category as C;
    matches!(
        category,
        C::Car
            | C::Van
            | C::Truck
            | C::Bus
            | C::Vehicle
            | C::Trailer
            | C::Boat
            | C::Airplane
            | C::StorageTank
            | C::Building
    )
}
