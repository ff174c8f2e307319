//! Base images of machines: names and publishers, downloads, images built here, and the cache that keeps them. No
//! knowledge of machines beyond the folders whose disks build on an image.

pub mod alias;
mod arch;
pub mod build;
mod cache;
pub mod digest;
pub mod download;
mod entry;
mod error;
mod file;
mod gc;
pub mod header;
pub mod intake;
pub mod qemu_img;
mod sources;
mod watch;
mod workshop;

pub use arch::Arch;
pub use cache::{Cache, CachedImage, NewMemory};
pub use entry::{Format, ImageEntry, ImageOrigin, MemoryEntry};
pub use error::ImageError;
pub use gc::{Freed, ListedImage, UnknownUses};
pub use watch::{Unwatched, Watch};
