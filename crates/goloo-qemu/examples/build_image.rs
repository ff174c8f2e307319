//! Builds a Debian image into a cache folder: `build_image FOLDER [debian-12]`.

use goloo_core::events::Event;
use goloo_qemu::image::{Cache, ImageError, Watch, build};

struct Plain;

impl Watch for Plain {
    fn event(&self, event: Event) {
        match event {
            Event::Step { what } | Event::Note(what) => eprintln!("{what}"),
            _ => {}
        }
    }

    fn stopped(&self) -> bool {
        false
    }
}

fn main() -> Result<(), ImageError> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "images".to_owned());
    let name = std::env::args().nth(2).unwrap_or_else(|| "debian-12".to_owned());
    let image = build::build(&Cache::new(folder), &name, &Plain)?;
    println!("{}", image.path.display());
    Ok(())
}
