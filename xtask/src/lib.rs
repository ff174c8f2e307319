//! Work on the tree that cargo doesn't do: packages of a release (`dist`), and tests of the tree itself.

pub mod dist;

#[cfg(test)]
mod generated;
#[cfg(test)]
mod imports;
#[cfg(test)]
mod source;
#[cfg(test)]
mod type_names;
#[cfg(test)]
mod wording;
