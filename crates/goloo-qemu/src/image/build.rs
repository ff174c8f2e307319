//! Images from Debian's packages alone, for machines with no way to a published image.
pub fn build(_: &super::Cache, _: Option<&str>, _: &dyn super::Watch) -> Result<super::CachedImage, super::ImageError> { todo!() }
