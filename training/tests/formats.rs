//! The field's formats: on real annotation files where they lie beside the checkout, and on small ones made here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod formats {
    pub(crate) mod attacks;
    pub(crate) mod made;
    pub(crate) mod real;
    pub(crate) mod spoken;
}
